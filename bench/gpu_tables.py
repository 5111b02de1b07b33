"""The tables of `bench.gpu`, in a process in which the host has set itself up."""

from __future__ import annotations

import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .gpu import verdict
from .in_host import part, part_of_utils

SEGMENTS = 16
ACROSS = 4
# Pixels that a segment of the tables `places` and `modes` is sampled at.
SIDE_OF_CPU, SIDE_OF_GPU = 64, 256
OVERFLOWS = 3e4  # a factor of weights with which float16 overflows and float32 does not
SPARE = 1.25  # memory that the device may have, over what one crop takes


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
NETWORKS = {"sd15": SD15, "sdxl": SDXL, "tiny": TINY}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def accelerator() -> torch.device:
    """The device on which the host computes."""
    import comfy.model_management

    return torch.device(comfy.model_management.get_torch_device())


def small_side() -> int:
    """The side in pixels of a segment where speed is not measured."""
    return SIDE_OF_CPU if accelerator().type == "cpu" else SIDE_OF_GPU


def pages_weights() -> bool:
    """Whether the host's dynamic loading of weights is on."""
    import comfy.memory_management

    return bool(getattr(comfy.memory_management, "aimdo_enabled", False))


# Networks ------------------------------------------------------------------------------------


@torch.no_grad()
def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights that keep the size of a signal; large ones repeat their numbers."""
    numbers = torch.randn(2**22, generator=torch.Generator().manual_seed(0))
    for value in network.parameters():
        if value.ndim > 1:
            count, std = value.numel(), value[0].numel() ** -0.5
            own = numbers.repeat(-(-count // len(numbers)))[:count]
            value.copy_(own.view(value.shape) * std)
        else:
            value.zero_()
    for module in network.modules():
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            module.weight.fill_(1.0)
    return network


def make_vae(dtype: torch.dtype | None = None, overflows: bool = False) -> Any:
    """The host's VAE of Stable Diffusion with random weights.

    Args:
        dtype: in which it computes; None: as the host chooses.
        overflows: its decoder gives infinite numbers in float16.
    """
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    picture = {
        "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
        "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [],
        "dropout": 0.0,
    }  # fmt: skip
    weights = fill(AutoencoderKL(ddconfig=picture, embed_dim=4)).state_dict()
    if overflows:
        weights["decoder.conv_in.weight"] = weights["decoder.conv_in.weight"] * OVERFLOWS
    return comfy.sd.VAE(sd=weights, dtype=dtype)


def make_models(kind: Architecture, dtype: torch.dtype) -> Any:
    """The pack's Models with a network of this kind and random conditionings."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    config = getattr(comfy.supported_models, kind.name)({**kind.config, "dtype": dtype})
    config.set_inference_dtype(dtype, None)
    network = config.get_model({}, "", device="cpu").eval()
    fill(network.diffusion_model)
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    model = patcher(
        network,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )

    def text(seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randn(1, 77, kind.config["context_dim"], generator=generator)
        options = {}
        if kind.pooled:
            options["pooled_output"] = torch.randn(1, kind.pooled, generator=generator)
        return [[tokens, options]]

    return part("settings").Models(model, None, make_vae(), text(1), text(2))


# Runs ----------------------------------------------------------------------------------------


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
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed_backend(clock: Clock, saw: Callable[[str, Any], None] = lambda name, value: None) -> Any:
    """The host as a backend that records the times of encoding, sampling and decoding.

    Args:
        saw: is told of every tensor that goes in or comes out, with its name.
    """

    class Timed(part("host.backend").ComfyBackend):
        def encode(self, vae: Any, pixels: torch.Tensor, **options: Any) -> torch.Tensor:
            with clock.stage("encode"):
                latent = super().encode(vae, pixels, **options)
            saw("encode: pixels", pixels)
            saw("encode: latent", latent)
            return latent

        def sample(self, run: Any, on_step: Any) -> torch.Tensor:
            with clock.stage("sample"):
                latent = super().sample(run, on_step)
            for name in ("latent", "noise", "noise_mask", "sigmas"):
                saw(f"sample: {name}", getattr(run, name))
            saw("sample: text", run.positive[0][0])
            saw("sample: result", latent)
            return latent

        def decode(self, vae: Any, latent: torch.Tensor, **options: Any) -> torch.Tensor:
            with clock.stage("decode"):
                pixels = super().decode(vae, latent, **options)
            saw("decode: latent", latent)
            saw("decode: pixels", pixels)
            return pixels

    return Timed()


def segments(side: int) -> tuple[torch.Tensor, tuple]:
    """A picture, and its SEGS: a grid of separate boxes half as large as they are sampled."""
    half = side // 2
    image = torch.rand(
        1, ACROSS * half, ACROSS * half, 3, generator=torch.Generator().manual_seed(3)
    )
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


@dataclass
class Done:
    """What one run took and gave."""

    clock: Clock
    image: torch.Tensor | None = None  # [1,H,W,3]
    told: tuple[str, ...] = ()  # kinds of notes, with how many there were


def detailed(
    models: Any, side: int, steps: int, batch: int,
    saw: Callable[[str, Any], None] = lambda name, value: None,
    device: torch.device | str = "cpu",
) -> Done:  # fmt: skip
    """Detail all segments of a picture that is on a device."""
    settings, geometry = part("settings"), part("geometry")
    notes = part_of_utils("notes")
    image, segs = segments(side)
    detail = settings.Detail(
        models,
        geometry.Sizing(side, True, side, force_inpaint=True),
        settings.Sampling(0, steps, 7.0, "euler", "normal", denoise=0.5),
        batch=batch,
    )
    clock = Clock()
    with clock.stage("all"), notes.collected_notes() as told:
        result = part("detail.images").detail_image(
            image.to(device), segs, detail, timed_backend(clock, saw)
        )
    kinds = [note.kind for note in told]
    return Done(
        clock, result.image, tuple(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    )


def bare(models: Any, kind: Architecture, steps: int) -> Done:
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
    return Done(clock)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two tensors; NaN where one of them is not finite."""
    return float((one.cpu().float() - other.cpu().float()).abs().max())


# Memory --------------------------------------------------------------------------------------


class DevicePeak:
    """The most memory in use on the device while the context is open, by whoever uses it.

    PyTorch does not count what the host's dynamic loading holds.
    """

    def __init__(self) -> None:
        self.most = 0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> DevicePeak:
        if accelerator().type == "cuda":
            self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._watcher.ident is not None:
            self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            free, total = torch.cuda.mem_get_info()
            self.most = max(self.most, total - free)


@dataclass(frozen=True)
class Best:
    """The quickest of some runs, and the peaks of memory in MB."""

    done: Done
    of_torch: float
    of_device: float


def best(work: Callable[[], Done], repeats: int, total: str) -> Best:
    """Do work some times, after once to warm up, in which the device is watched.

    Args:
        total: the stage whose time counts.
    """
    is_cuda = accelerator().type == "cuda"
    with DevicePeak() as device:
        work()
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    runs = [work() for _ in range(repeats)]
    peak = torch.cuda.max_memory_allocated() / 2**20 if is_cuda else 0.0
    quickest = min(runs, key=lambda done: done.clock.seconds[total])
    return Best(quickest, peak, device.most / 2**20)


@contextmanager
def memory_limit(most: int) -> Iterator[None]:
    """PyTorch gets no more than so many bytes of the device."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.mem_get_info()[1])
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


# The tables ----------------------------------------------------------------------------------


@torch.inference_mode()
def waves(args: Namespace) -> Iterator[list[str]]:
    """One by one, in waves, and the sampler alone: the rows of one network."""
    kind, is_cpu = NETWORKS[args.network], accelerator().type == "cpu"
    models = make_models(kind, torch.float32 if is_cpu else DTYPES[args.dtype])
    side, steps = kind.side, args.steps
    alone = best(lambda: detailed(models, side, steps, 1), args.repeats, "all")
    together = best(lambda: detailed(models, side, steps, 0), args.repeats, "all")
    limit = best(lambda: bare(models, kind, steps), args.repeats, "sample")
    once = {name: alone.done.clock.seconds[name] for name in ("all", "sample")}
    for name, own in (("one by one", alone), ("waves", together), ("bare KSampler", limit)):
        seconds, told = own.done.clock.seconds, ", ".join(own.done.told)
        stage = "all" if "all" in seconds else "sample"
        times = once[stage] / seconds[stage]
        whole, outside, apart = "", "", ""
        if stage == "all":
            inside = sum(seconds[stage] for stage in ("encode", "sample", "decode"))
            whole = f"{SEGMENTS / seconds['all']:.2f}"
            outside = f"{100 * (1 - inside / seconds['all']):.1f} %"
            apart = f"{difference(own.done.image, alone.done.image):.1e}"
        if own is together:
            said = verdict(times, once["sample"] / limit.done.clock.seconds["sample"])
            told = f"{said} {told}".rstrip()
        yield [
            f"{args.network}, {side}², {steps} steps", "fp32" if is_cpu else args.dtype,
            "on" if pages_weights() else "off", name, whole,
            f"{SEGMENTS / seconds['sample']:.2f}", f"{times:.2f}", outside,
            f"{own.of_torch:.0f}", f"{own.of_device:.0f}", apart, told,
        ]  # fmt: skip


def described(value: Any) -> str:
    """Device, dtype and shape of a tensor."""
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{value.device} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


@torch.inference_mode()
def places(args: Namespace) -> Iterator[list[str]]:
    """Where each tensor is, and what the device makes of the pixel code."""
    device = accelerator()
    models = make_models(TINY, torch.float32 if device.type == "cpu" else DTYPES[args.dtype])
    options = " ".join(args.host) or "no options"
    seen: dict[str, str] = {}

    def saw(name: str, value: Any) -> None:
        seen.setdefault(name, described(value))

    def called(network: torch.nn.Module, given: tuple) -> None:
        saw("network: latent", given[0])
        saw("network: weights", next(network.parameters()))

    network = models.model.model.diffusion_model
    hook = network.register_forward_pre_hook(called)
    for own in dict.fromkeys(("cpu", str(device))):
        seen.clear()
        done = detailed(models, small_side(), 2, 1, saw, own)
        saw("result", done.image)
        if done.image.device.type != torch.device(own).type:
            raise RuntimeError(f"A picture on {own} came back on {done.image.device}.")
        for name, place in seen.items():
            yield [f"{options}, picture on {own}: {name}", place]
    hook.remove()
    yield from ([f"{options}: {name}", text] for name, text in _parts(device))


def _parts(device: torch.device) -> Iterator[tuple[str, str]]:
    """Each part of the pixel code on the device, against the CPU."""
    given = _pictures()
    for name, work in _pixel_code().items():
        told = []
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            own = [picture.to(dtype) for picture in given]
            here, there = work(*own), work(*(picture.to(device) for picture in own))
            if there.device.type != device.type:
                raise RuntimeError(f"{name} left the device: {described(there)}")
            told.append(f"{str(dtype).removeprefix('torch.')} {difference(here, there):.1e}")
        yield name, "; ".join(told)


def _pictures() -> tuple[torch.Tensor, ...]:
    """A picture [1,h,w,3], a redrawn and shifted one, another one, and a mask [1,h,w]."""
    generator = torch.Generator().manual_seed(1)

    def scene(side: int = 192) -> torch.Tensor:
        layers = [
            torch.nn.functional.interpolate(
                torch.rand(1, 3, cells, cells, generator=generator), size=(side, side)
            )
            for cells in (5, 11, 23, 47)
        ]
        return (0.1 + 0.8 * sum(layers) / 4).movedim(1, -1)

    image, other, drawn = scene(), scene(), scene()
    mask = torch.zeros(1, 192, 192)
    mask[:, 40:150, 40:150] = 1
    redrawn = torch.roll(torch.where(mask[..., None] > 0, drawn, image), 2, dims=2)
    return image, redrawn, other, mask


def _pixel_code() -> dict[str, Callable[..., torch.Tensor]]:
    """Functions of a picture, a redrawn one, another one, and a mask."""
    geometry, settings = part("geometry"), part("settings")
    size, box = geometry.Size, geometry.Box(0, 0, 192, 192)
    masks, registration = part("pixels.mask"), part("pixels.registration")
    motion, flow = part("tracks.motion"), part("pixels.flow")
    rotated = part("pixels.rotated_crop").RotatedCrop(
        size(192, 192), (96.0, 90.0), (80.0, 60.0), 0.4
    )
    window = part("pixels.window").Window(size(192, 192), (96.3, 90.4), (80.5, 60.2))
    options = settings.Pasting(blend=settings.MULTIBAND, colour_match=1.0, fade=6)
    blending = part("pixels.blend").Blending(4, options)

    def pasted(x: torch.Tensor, y: torch.Tensor, _: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        result = x.clone()
        blending.paste(result, y, blending.weight(m, box, size(192, 192)), box)
        return result

    def registered(
        x: torch.Tensor, y: torch.Tensor, _: torch.Tensor, m: torch.Tensor
    ) -> torch.Tensor:
        found = registration.register(y, x, m).similarity or registration.Similarity()
        return registration.moved_back(y, x, found)

    def followed(x: torch.Tensor, y: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        rect, held = geometry.Rect(96.0, 96.0, 60.0, 60.0), part("clips").HeldFrame
        patches = [motion.patch_of(held(own), rect) for own in (x, y)]
        (found,) = motion.motions([motion.Pair(*patches, motion.expected(rect, rect))])
        where = found.at(96 + 96j)
        return x.new_tensor([where.real, where.imag])

    def moved(x: torch.Tensor, y: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        grey = [own.float().mean(dim=-1, keepdim=True) for own in (x, y)]
        return flow.motion_between(*grey, torch.ones_like(grey[0]))

    return {
        "resize": lambda x, *_: part("pixels.resample").resize(x, size(90, 61)),
        "feather": lambda x, y, z, m: masks.feather(m, 9),
        "grow": lambda x, y, z, m: masks.grow(m, 5),
        "paste by bands": pasted,
        "register": registered,
        "rotated crop": lambda x, y, *_: rotated.put_back(rotated.extract(x, size(96, 72)), y),
        "window": lambda x, y, *_: window.put_back(window.extract(x, size(96, 72)), y),
        "restore kept": lambda x, y, z, m: part("pixels.vae_shift").restore_kept(x, y, m, 8.0),
        "VAE's loss": lambda x, y, z, m: part("pixels.vae_loss").compensated(
            x, y, z, settings.AUTO, 8.0
        ),
        "motion of a box": followed,
        "motion of pixels": moved,
    }


@torch.inference_mode()
def modes(args: Namespace) -> Iterator[list[str]]:
    """With some options of the host: a picture, a VAE that fails, and little memory."""
    is_cuda = accelerator().type == "cuda"
    models = make_models(TINY, DTYPES[args.dtype] if is_cuda else torch.float32)
    name = " ".join(args.host) or "none"
    done = detailed(models, small_side(), args.steps, 0)
    kept = args.kept / "picture.pt"
    if not kept.exists():
        torch.save(done.image.cpu(), kept)
    first = torch.load(kept, weights_only=True)
    yield _mode(name, done, first)
    sure = detailed(models._replace(vae=make_vae(torch.float32, True)), small_side(), args.steps, 0)
    yield _mode(
        f"{name}, the VAE overflows",
        detailed(models._replace(vae=make_vae(torch.float16, True)), small_side(), args.steps, 0),
        sure.image,
    )
    if is_cuda and not pages_weights():
        yield _in_little_memory(name, models, args.steps, first)


def _mode(name: str, done: Done, wanted: torch.Tensor) -> list[str]:
    return [
        name, str(done.image.device), f"{difference(done.image, wanted):.1e}", ", ".join(done.told)
    ]  # fmt: skip


def _in_little_memory(name: str, models: Any, steps: int, wanted: torch.Tensor) -> list[str]:
    """The same where the device has little more memory than one crop takes."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    detailed(models, small_side(), steps, 1)
    with memory_limit(int(SPARE * torch.cuda.max_memory_reserved())):
        done = detailed(models, small_side(), steps, 0)
    return _mode(f"{name}, little memory", done, wanted)


ROWS = {"waves": waves, "places": places, "modes": modes}
