"""Waves on a GPU, with full-size networks; their weights are random, which does not change speed.

    python -m bench.gpu --comfyui DIR             SD 1.5 at 512 and SDXL at 1024, in fp16
    python -m bench.gpu --comfyui DIR --tiny      the same with a small network, on any CPU

Sixteen equal segments are detailed one by one and in waves, and the host's own KSampler samples
sixteen latents of that size as one batch, which is the limit. Nothing is read from or written to a
file; the interpreter must have the host's requirements.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PACK = "detailers_bench"
SEGMENTS = 16
ACROSS = 4


@dataclass(frozen=True)
class Architecture:
    """A UNet of the host, by the name of its class in comfy/supported_models.py."""

    name: str
    config: dict[str, Any]
    side: int  # pixels that a segment is sampled at
    pooled: int = 0  # length of the pooled text vector


_UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320,
    "use_checkpoint": False, "use_spatial_transformer": True, "legacy": False,
    "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip
SD15 = Architecture(
    "SD15",
    _UNET | {
        "adm_in_channels": None, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_middle": 1,
        "transformer_depth_output": [1] * 9 + [0] * 3, "use_linear_in_transformer": False,
        "context_dim": 768, "num_heads": 8,
    },
    side=512,
)  # fmt: skip
SDXL = Architecture(
    "SDXL",
    _UNET | {
        "num_classes": "sequential", "adm_in_channels": 2816, "num_res_blocks": [2] * 3,
        "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_middle": 10, "transformer_depth_output": [0] * 3 + [2] * 3 + [10] * 3,
        "use_linear_in_transformer": True, "context_dim": 2048, "num_head_channels": 64,
    },
    side=1024,
    pooled=1280,
)  # fmt: skip
TINY = Architecture(
    "SD15",
    SD15.config | {
        "num_res_blocks": [1, 1], "channel_mult": [1, 1], "transformer_depth": [1, 1],
        "transformer_depth_output": [1] * 4,
    },
    side=64,
)  # fmt: skip


@dataclass
class Clock:
    """Seconds spent in the stages of a run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + now() - start


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def load(tree: Path, cpu: bool) -> Any:
    """Import the host and this pack; the pack's module."""
    sys.path.insert(0, str(tree))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = cpu
    import comfy.utils
    import nodes  # noqa: F401 - the host's, which the pack expects to be imported

    comfy.utils.PROGRESS_BAR_ENABLED = False

    spec = importlib.util.spec_from_file_location(
        PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    pack = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = pack
    spec.loader.exec_module(pack)
    return pack


def part(name: str) -> Any:
    return importlib.import_module(f"{PACK}.core.{name}")


def part_of_nodes(name: str) -> Any:
    """A module of the pack's nodes, as `part` gives those of its core."""
    return importlib.import_module(f"{PACK}.nodes.{name}")


@torch.no_grad()
def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights that keep the size of a signal."""
    generator = torch.Generator().manual_seed(0)
    for value in network.parameters():
        if value.ndim > 1:
            std = value[0].numel() ** -0.5
            value.copy_(torch.randn(value.shape, generator=generator) * std)
        else:
            value.zero_()
    for module in network.modules():
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            module.weight.fill_(1.0)
    return network


def make_models(kind: Architecture, dtype: torch.dtype) -> Any:
    """The pack's Models with a network of this kind and random conditionings."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.ops
    import comfy.sd
    import comfy.supported_models
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = getattr(comfy.supported_models, kind.name)({**kind.config, "dtype": dtype})
    config.set_inference_dtype(dtype, None)
    network = config.get_model({}, "", device="cpu").eval()
    fill(network.diffusion_model)
    model = comfy.model_patcher.ModelPatcher(
        network,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    picture = {
        "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
        "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [],
        "dropout": 0.0,
    }  # fmt: skip
    vae = comfy.sd.VAE(sd=fill(AutoencoderKL(ddconfig=picture, embed_dim=4)).state_dict())

    def text(seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randn(1, 77, kind.config["context_dim"], generator=generator)
        options = {}
        if kind.pooled:
            options["pooled_output"] = torch.randn(1, kind.pooled, generator=generator)
        return [[tokens, options]]

    return part("settings").Models(model, None, vae, text(1), text(2))


def timed_backend(clock: Clock) -> Any:
    """The host as a backend that records the times of encoding, sampling and decoding."""

    class Timed(part("host.backend").ComfyBackend):
        def encode(self, *args: Any, **options: Any) -> torch.Tensor:
            with clock.stage("encode"):
                return super().encode(*args, **options)

        def sample(self, *args: Any, **options: Any) -> torch.Tensor:
            with clock.stage("sample"):
                return super().sample(*args, **options)

        def decode(self, *args: Any, **options: Any) -> torch.Tensor:
            with clock.stage("decode"):
                return super().decode(*args, **options)

    return Timed()


def segments(side: int) -> tuple[torch.Tensor, tuple]:
    """A picture, and its SEGS: a grid of separate boxes half as large as they are sampled."""
    import numpy as np

    half = side // 2
    image = torch.rand(1, ACROSS * half, ACROSS * half, 3)
    mask = np.ones((half, half), np.float32)
    regions = [
        (x, y, x + half, y + half)
        for y in range(0, ACROSS * half, half)
        for x in range(0, ACROSS * half, half)
    ]
    seg = part("segs.seg").SEG
    return image, (tuple(image.shape[1:3]), [
        seg(None, mask, 1.0, region, region, "A", None) for region in regions[:SEGMENTS]
    ])  # fmt: skip


def detailed(models: Any, kind: Architecture, steps: int, batch: int) -> Clock:
    """Detail all segments; return the time of each stage, and of the whole run as `all`."""
    settings, geometry = part("settings"), part("geometry")
    image, segs = segments(kind.side)
    detail = settings.Detail(
        models,
        geometry.Sizing(kind.side, True, kind.side, force_inpaint=True),
        settings.Sampling(0, steps, 7.0, "euler", "normal", denoise=0.5),
        batch=batch,
    )
    clock = Clock()
    with clock.stage("all"):
        part("detail.images").detail_image(image, segs, detail, timed_backend(clock))
    return clock


def bare(models: Any, kind: Architecture, steps: int) -> Clock:
    """The host's KSampler on as many latents of that size at once."""
    import nodes

    cell = kind.side // 8
    latent = {"samples": torch.zeros(SEGMENTS, 4, cell, cell)}
    clock = Clock()
    with clock.stage("sample"):
        nodes.common_ksampler(
            models.model, 0, steps, 7.0, "euler", "normal", models.positive, models.negative,
            latent, denoise=0.5,
        )  # fmt: skip
    return clock


def best(work: Callable[[], Clock], repeats: int, total: str) -> tuple[Clock, float]:
    """The quickest of some runs after one to warm up, and the peak of memory in MB."""
    work()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    clocks = [work() for _ in range(repeats)]
    peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return min(clocks, key=lambda clock: clock.seconds[total]), peak


@torch.inference_mode()
def measure(kind: Architecture, label: str, steps: int, repeats: int, dtype: torch.dtype) -> None:
    """Print the rows of one architecture."""
    models = make_models(kind, dtype)
    alone, alone_mb = best(lambda: detailed(models, kind, steps, 1), repeats, "all")
    waves, waves_mb = best(lambda: detailed(models, kind, steps, 0), repeats, "all")
    limit, limit_mb = best(lambda: bare(models, kind, steps), repeats, "sample")
    once = SEGMENTS / alone.seconds["sample"]
    for name, clock, peak in (
        ("one by one", alone, alone_mb), ("waves", waves, waves_mb),
        ("bare KSampler", limit, limit_mb),
    ):  # fmt: skip
        seconds = clock.seconds
        sampled = SEGMENTS / seconds["sample"]
        whole, outside = "", ""
        if "all" in seconds:
            stages = sum(seconds[stage] for stage in ("encode", "sample", "decode"))
            whole = f"{SEGMENTS / seconds['all']:.2f}"
            outside = f"{100 * (1 - stages / seconds['all']):.1f} %"
        print(f"| {label} | {name} | {whole} | {sampled:.2f} | {sampled / once:.2f} | {outside} "
              f"| {peak:.0f} |", flush=True)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="ComfyUI's folder")
    parser.add_argument("--arch", nargs="+", choices=["sd15", "sdxl"], default=["sd15", "sdxl"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each (3)")
    parser.add_argument("--tiny", action="store_true", help="a small network on the CPU, 2 steps")
    args = parser.parse_args()
    load(args.comfyui.resolve(), cpu=args.tiny)
    if not args.tiny and not torch.cuda.is_available():
        parser.error("this needs a GPU; --tiny tries the same on the CPU")
    device = "CPU" if args.tiny else torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}, {SEGMENTS} segments\n")
    print("| network | way | segments/s | segments/s in the sampler | times one by one "
          "| outside encode, sample, decode | peak MB |")  # fmt: skip
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    if args.tiny:
        measure(TINY, "tiny", 2, 1, torch.float32)
        return 0
    for name in args.arch:
        kind = {"sd15": SD15, "sdxl": SDXL}[name]
        label = f"{kind.name}, {kind.side}², {args.steps} steps"
        measure(kind, label, args.steps, args.repeats, torch.float16)
    return 0


if __name__ == "__main__":
    sys.exit(main())
