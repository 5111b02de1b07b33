"""ComfyUI: the one module that talks to it.

What differs between versions is asked for by ability, here and once.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import folder_paths
import latent_preview
import nodes as host_nodes
import torch
from comfy.k_diffusion.sampling import BrownianTreeNoiseSampler

from ..utils.check import quoted
from ..utils.files import is_file
from ..utils.notes import note
from ..utils.paths import expect_path, path_fault
from ..wildcards.grammar import Lora
from ..wildcards.library import Library
from . import called
from .backend import OF_EMPTY_LATENTS, OnStep, SamplerRun
from .conditioning import with_values
from .detectors.weights import expect_plain
from .host_call import call_node
from .host_fit import check_fit, completed, telling
from .host_memory import models_in_use
from .host_parts import going_on, opening_with_the_whole, packed, picture_in
from .host_patches import cut_patches
from .host_rows import HostRows, drawn_noise, takes_noise_sampler, with_mask_noise_by_row
from .host_sizes import native_area, takes_references_of_one_size
from .host_tiled import guider_of
from .host_user import lora_presets
from .host_vae import HostVae
from .latent_file import to_bytes
from .lora import BlockWeights
from .memory import persist
from .picture_file import read_rgba
from .planes import Cut
from .random_state import seeded_globals
from .registry import OlderPack
from .schedule import (
    DISCARD_PENULTIMATE,
    EXTRA_SCHEDULERS,
    NodeScheduler,
    draws_once_a_step,
    is_brownian,
    seed_for,
    unknown_scheduler,
)
from .settings import NEGATIVE_PLACEHOLDER, Conditioning
from .streams import Latent, mask_for_streams, picture, with_kept_streams

log = logging.getLogger(__name__)

PACK_ROOT = Path(__file__).resolve().parent.parent
MAX_RESOLUTION: int = host_nodes.MAX_RESOLUTION


def samplers() -> list[str]:
    """The samplers that the host has by now: packs add theirs, or put lists of their own in."""
    return _listed("SAMPLERS", "SAMPLER_NAMES")


def schedulers() -> list[str]:
    """The host's schedulers, likewise."""
    return _listed("SCHEDULERS", "SCHEDULER_NAMES")


def _listed(of_node: str, of_module: str) -> list[str]:
    of_samplers = getattr(comfy.samplers.KSampler, of_node)
    return list(dict.fromkeys([*of_samplers, *getattr(comfy.samplers, of_module, ())]))


# Models ------------------------------------------------------------------------------------


class ComfyBackend(HostVae, HostRows):
    """The Backend that is ComfyUI. Made anew for each run of a node."""

    def __init__(self) -> None:
        super().__init__()
        self._loras: dict[str, dict] = {}
        self._softened: dict[int, tuple[Any, Any]] = {}
        self._schedules: dict[tuple, tuple[Any, torch.Tensor]] = {}

    # VAE

    def ratio(self, vae: Any) -> int:
        source = called.vae(vae, "spacial_compression_encode")
        wanted = "a number of pixels, 1 or more"
        ratio = called.whole(source, source.call(super().ratio, vae), wanted)
        if ratio < 1:
            raise source.wrong(str(ratio), wanted)
        return ratio

    def encode(self, vae: Any, pixels: torch.Tensor, **how: Any) -> torch.Tensor:
        source = called.vae(vae, "encode")
        return called.made_samples(source, source.call(super().encode, vae, pixels, **how))

    def decode(self, vae: Any, latent: torch.Tensor, **how: Any) -> torch.Tensor:
        source = called.vae(vae, "decode")
        return called.made_pixels(source, source.call(super().decode, vae, latent, **how), 1)

    def grid(self, model: Any, vae: Any) -> int:
        network = getattr(getattr(model, "model", None), "diffusion_model", None)
        patch = getattr(network, "patch_size", 1)
        patch = patch[-1] if isinstance(patch, list | tuple) else patch
        return self.ratio(vae) * (patch if isinstance(patch, int) and patch > 0 else 1)

    def native_area(self, model: Any) -> int:
        return native_area(model)

    def inpaint_conditioning(
        self,
        positive: Conditioning,
        negative: Conditioning | str,
        pixels: torch.Tensor,
        vae: Any,
        mask: torch.Tensor,
    ) -> tuple[Conditioning, Conditioning | str, dict]:
        has_negative = negative != NEGATIVE_PLACEHOLDER
        positive, conditioned, latent = call_node(
            "InpaintModelConditioning", positive=positive,
            negative=negative if has_negative else [], pixels=pixels,
            vae=self.encoding_by_rows(vae, video=True), mask=mask, noise_mask=True,
        )  # fmt: skip
        return positive, conditioned if has_negative else negative, latent

    # Text

    def encode_text(self, clip: Any, text: str) -> Conditioning:
        if clip is None:
            raise ValueError(
                "'clip' is missing, so the segment text cannot be encoded. Connect a CLIP, or "
                "leave 'wildcard' empty."
            )
        return persist(
            lambda: clip.encode_from_tokens_scheduled(clip.tokenize(text)), "a text", "encoded"
        )

    def apply_loras(self, model: Any, clip: Any, loras: tuple[Lora, ...]) -> tuple[Any, Any]:
        """Patch the models; a LoRA that is missing or broken is left out with a warning."""
        for lora in loras:
            weights = self._read_lora(lora.name)
            if weights is None:
                continue
            blocks = None
            if lora.lbw:
                blocks = BlockWeights.parse(lora.lbw, lora.lbw_a, lora.lbw_b, lora_presets)
            if blocks is None:
                model, clip = comfy.sd.load_lora_for_models(
                    model, clip, weights, lora.model_strength, lora.clip_strength
                )
            else:
                model, clip = _load_by_blocks(model, clip, weights, lora, blocks)
        return model, clip

    def _read_lora(self, name: str) -> dict | None:
        path = find_file("loras", name)
        if path is None:
            note(
                "lora",
                f"The LoRA {name!r} of a text is not among ComfyUI's LoRAs, so it is left out.",
            )
            return None
        if path not in self._loras:
            try:
                expect_plain(path)
                self._loras[path] = comfy.utils.load_torch_file(path, safe_load=True)
            except Exception as error:  # whatever a broken file raises, the run goes on
                note("lora", f"The LoRA {name!r} cannot be read, so it is left out: {error}")
                return None
        return self._loras[path]

    def wildcard_library(self) -> Library:
        return wildcard_library()

    # Sampling

    def cut_patches(self, model: Any, cut: Cut) -> Any:
        return cut_patches(model, cut)

    def takes_references_of_one_size(self, model: Any) -> bool:
        return takes_references_of_one_size(model)

    def differential_diffusion(self, model: Any) -> Any:
        if "denoise_mask_function" in model.model_options:
            return model
        if id(model) not in self._softened:  # one patched model for all: they can share a batch
            self._softened[id(model)] = model, call_node("DifferentialDiffusion", model=model)[0]
        return self._softened[id(model)][1]

    def fitted_latent(self, model: Any, latent: dict) -> Latent:
        of_empty = {name: latent[name] for name in OF_EMPTY_LATENTS if name in latent}
        samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"], **of_empty)
        return completed(model, samples)

    def completed(self, model: Any, samples: Latent) -> Latent:
        return completed(model, samples)

    def sigmas(
        self, model: Any, sampler_name: str, scheduler: str, steps: int, func: Callable | None
    ) -> torch.Tensor:
        if func is not None:
            source = called.Source.of("The scheduler function", func)
            return called.sigmas(source, source.call(func, model, sampler_name, steps), steps)
        sampling = model.get_model_object("model_sampling")
        key = (id(sampling), sampler_name, scheduler, steps)
        if key not in self._schedules:  # the model is kept too, so that its id stays its own
            source = called.Source(f"The scheduler {scheduler!r}", "Choose another 'scheduler'.")
            levels = source.call(_sigmas, sampling, sampler_name, scheduler, steps)
            self._schedules[key] = sampling, called.sigmas(source, levels, steps)
        return self._schedules[key][1]

    def sample(self, run: SamplerRun, on_step: OnStep) -> torch.Tensor:
        with models_in_use(), seeded_globals(seed_for(run.seed, run.number)):
            _draw_as_the_host_does(run)
            return self._sample(run, on_step)

    def _sample(self, run: SamplerRun, on_step: OnStep) -> torch.Tensor:
        latent = comfy.sample.fix_empty_latent_channels(run.model, run.latent)
        check_fit(run, latent)
        mask = mask_for_streams(run.noise_mask, latent)
        noise = run.noise if run.noise.ndim == latent.ndim else run.noise.unsqueeze(2)
        guider = guider_of(run, self)
        with telling(run, latent, self.is_out_of_memory):
            _guide(guider, run)
        sampler = _given_sampler(run.sampler) or _sampler(run, latent)
        if run.start is not None:
            sampler, noise, latent = going_on(run, sampler, latent, noise)
        if run.whole is not None:
            opening_with_the_whole(guider, run.whole)

        def on_sampled(step: int, denoised: Any, x: Any, total: int) -> None:
            on_step(step, total, picture_in(denoised, latent))
            if run.watch is not None:
                run.watch(step, denoised, x, total)

        with telling(run, latent, self.is_out_of_memory):
            samples = guider.sample(
                noise, latent, sampler, run.sigmas,
                denoise_mask=mask,
                callback=on_sampled,
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=run.seed,
            )  # fmt: skip
        if run.sampler is not None:
            source = called.Source.of("The SAMPLER", run.sampler, "sample")
            called.like(source, picture(samples), picture(latent))
        if run.sigmas[-1] == 0:
            samples = with_kept_streams(samples, latent, mask)
        return samples.to(comfy.model_management.intermediate_device())

    # The person at the screen

    def progress(self, total: int) -> Callable[[int, Any, torch.Tensor | None], None]:
        bar = comfy.utils.ProgressBar(max(1, total))
        previewers: dict[tuple[int, Any], tuple[Any, Any]] = {}

        def update(done: int, model: Any, latent: torch.Tensor | None) -> None:
            preview = None if latent is None else _preview(model, latent, previewers)
            bar.update_absolute(done, total, preview)

        return update

    def check_interrupt(self) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()


def _preview(
    model: Any, latent: torch.Tensor, previewers: dict[tuple[int, Any], tuple[Any, Any]]
) -> Any:
    """What the host's progress bar takes as a picture of a latent; None without previews.

    Args:
        previewers: made so far, by the latent format and device that they are for.
    """
    form, device = model.model.latent_format, model.load_device
    key = id(form), device
    if key not in previewers:  # the format is kept too, so that its id stays its own
        previewers[key] = form, latent_preview.get_previewer(device, form)
    previewer = previewers[key][1]
    if previewer is None:
        return None
    return previewer.decode_latent_to_preview_image("JPEG", picture(latent).to(device))


def _sigmas(sampling: Any, sampler_name: str, scheduler: str, steps: int) -> torch.Tensor:
    discard = sampler_name in DISCARD_PENULTIMATE
    steps += discard
    extra = EXTRA_SCHEDULERS.get(scheduler)
    if extra is not None:
        sigmas = _node_sigmas(scheduler, extra, steps)
    elif scheduler in schedulers():
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
    else:
        raise called.told(unknown_scheduler(scheduler, schedulers()))
    return torch.cat([sigmas[:-2], sigmas[-1:]]) if discard else sigmas


def _node_sigmas(name: str, scheduler: NodeScheduler, steps: int) -> torch.Tensor:
    try:
        return call_node(scheduler.node, steps=steps, **scheduler.inputs)[0]
    except (KeyError, TypeError) as error:
        raise RuntimeError(
            f"'scheduler' is {name!r}, but ComfyUI's {scheduler.node} of this version does not "
            f"take it ({type(error).__name__}: {error}). Update ComfyUI, or choose another one."
        ) from error


def _draw_as_the_host_does(run: SamplerRun) -> None:
    """Bring torch's global generator to where the host's KSampler leaves it for what samples.

    It seeds that generator and draws the noise to start from out of it.
    """
    noises = run.noise.unbind() if run.noise.is_nested else [run.noise]
    for noise in noises:
        if run.batch_index is None:
            torch.randn(noise.shape)
            continue
        for _ in range(max(run.batch_index) + 1):
            torch.randn(1, *noise.shape[1:])


def _guide(guider: Any, run: SamplerRun) -> None:
    """Give a guider the conditionings of a run."""
    if run.negative == NEGATIVE_PLACEHOLDER:
        positive = with_values(run.positive, guidance=run.cfg)
        guider.inner_set_conds({"positive": positive})
    else:
        guider.set_conds(run.positive, run.negative)
        guider.set_cfg(run.cfg)


def _given_sampler(sampler: Any) -> Any:
    """A SAMPLER object that may be called as one; None for none."""
    if sampler is not None:
        called.Source.of("The SAMPLER", sampler).method(sampler, "sample")
    return sampler


def _sampler(run: SamplerRun, latent: torch.Tensor) -> Any:
    """The host's sampler of that name with the noise that each row would draw alone.

    Brownian noise spans the whole schedule, or a partial run would draw other noise than the tail
    of a full one.
    """
    if run.sampler_name not in samplers():
        raise ValueError(
            f"'sampler_name' is {run.sampler_name!r}, which this ComfyUI does not have. "
            f"Choose one of: {', '.join(samplers())}."
        )
    sampler = comfy.samplers.sampler_object(run.sampler_name)
    if run.seeds and sampler.inpaint_options.get("random"):
        sampler = with_mask_noise_by_row(sampler, run.seeds)
    if not takes_noise_sampler(sampler):
        return sampler
    brownian = is_brownian(run.sampler_name)
    if not run.seeds and not brownian and not run.number:
        return sampler
    x = torch.zeros_like(packed(latent), device=run.model.load_device, dtype=torch.float32)
    if brownian:
        positive = run.schedule[run.schedule > 0]
        noise = BrownianTreeNoiseSampler(
            x, positive.min(), positive.max(), seed=list(run.seeds) or run.seed,
            cpu=not run.sampler_name.endswith("_gpu"),
        )  # fmt: skip
    elif draws_once_a_step(run.sampler_name):
        noise = drawn_noise(run.seeds or (run.seed,), x, skipped=run.number)
    else:
        seeds = [seed_for(seed, run.number) for seed in run.seeds or (run.seed,)]
        noise = drawn_noise(seeds, x)
    sampler.extra_options = {**sampler.extra_options, "noise_sampler": noise}
    return sampler


def _load_by_blocks(
    model: Any, clip: Any, weights: dict, lora: Lora, blocks: BlockWeights
) -> tuple[Any, Any]:
    """Patch model and CLIP with a strength that depends on the block of each weight."""
    keys: dict = {}
    if model is not None:
        keys = comfy.lora.model_lora_keys_unet(model.model, keys)
    if clip is not None:
        keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, keys)
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(weights), keys)
    by_factor: dict[float, dict] = {}
    for key, patch in patches.items():
        name = key if isinstance(key, str) else key[0]
        by_factor.setdefault(blocks.factor(name), {})[key] = patch
    model = None if model is None else model.clone()
    clip = None if clip is None else clip.clone()
    for factor, group in by_factor.items():
        if model is not None:
            model.add_patches(group, lora.model_strength * factor)
        if clip is not None:
            clip.add_patches(group, lora.clip_strength * factor)
    return model, clip


def scheduled_lora(
    clip: Any,
    lora_name: str,
    points: Sequence[tuple[float, float]],
    clip_strength: float,
    to_conditioning: bool,
) -> Any:
    """A CLIP whose conditionings carry a LoRA with a strength that changes while sampling.

    Args:
        points: (share of the run 0..1, strength), by share; each holds until the next.
        clip_strength: strength of the LoRA on the text encoder, which has no schedule.
        to_conditioning: False applies the LoRA to the text encoder alone.
    """
    expect_path(lora_name, "lora_name")
    path = folder_paths.get_full_path("loras", lora_name)
    if path is not None:
        expect_plain(path)
    hooks = call_node(
        "CreateHookLora", lora_name=lora_name, strength_model=1.0, strength_clip=clip_strength
    )[0]
    keyframes = None
    for share, strength in points:
        keyframes = call_node(
            "CreateHookKeyframe", strength_mult=strength, start_percent=share,
            prev_hook_kf=keyframes,
        )[0]  # fmt: skip
    hooks = call_node("SetHookKeyframes", hooks=hooks, hook_kf=keyframes)[0]
    return call_node(
        "SetClipHooks", clip=clip, hooks=hooks, apply_to_conds=to_conditioning, schedule_clip=False
    )[0]


# Folders -----------------------------------------------------------------------------------


def find_file(kind: str, name: str) -> str | None:
    """The path of a model file by its name as people write it: with or without extension or
    folder, in any case; None if there is none."""
    files = folder_paths.get_filename_list(kind)
    wanted = name.strip().replace("\\", "/").lower()
    forms: Sequence[Callable[[str], str]] = (
        lambda file: file,
        lambda file: os.path.splitext(file)[0],
        lambda file: os.path.basename(file),
        lambda file: os.path.splitext(os.path.basename(file))[0],
    )
    for form in forms:
        for file in files:
            if form(file.replace("\\", "/").lower()) == wanted:
                return folder_paths.get_full_path(kind, file)
    return None


def file_names(kind: str) -> list[str]:
    """The files of a model folder, as its widgets list them."""
    return folder_paths.get_filename_list(kind)


@lru_cache(maxsize=1)
def _library(folders: tuple[str, ...]) -> Library:
    return Library(folders, samples=Library([PACK_ROOT / "wildcards" / "samples"]))


def wildcard_library() -> Library:
    """The user's lists in ComfyUI's `wildcards` model folders, and this pack's samples."""
    default = os.path.join(folder_paths.models_dir, "wildcards")
    known = folder_paths.folder_names_and_paths.get("wildcards")
    folders = [default, *(known[0] if known else [])]
    return _library(tuple(dict.fromkeys(folders)))


# Living beside the older pack ----------------------------------------------------------------

_PEER_FOLDER = re.compile(r"comfyui[-_ ]impact[-_ ]pack", re.IGNORECASE)


def older_pack(ours: Collection[type]) -> OlderPack | None:
    """ComfyUI-Impact-Pack as it is installed by now; None where no folder of it can be loaded.

    Args:
        ours: this pack's classes, as its own folder may have any name.
    """
    folder = _peer_folder()
    if folder is None:
        return None
    module = f"custom_nodes.{os.path.basename(folder)}"
    loaded = any(
        getattr(node, "RELATIVE_PYTHON_MODULE", None) == module and node not in ours
        for node in host_nodes.NODE_CLASS_MAPPINGS.values()
    )
    return OlderPack(folder, loaded)


def _peer_folder() -> str | None:
    for base in folder_paths.get_folder_paths("custom_nodes"):
        if not os.path.isdir(base):
            continue
        for entry in sorted(os.listdir(base)):
            path = os.path.join(base, entry)
            if (
                _PEER_FOLDER.match(entry)
                and not entry.endswith(".disabled")
                and os.path.isdir(path)
                and Path(path).resolve() != PACK_ROOT
            ):
                return path
    return None


def registered_nodes() -> tuple[dict[str, type], dict[str, str]]:
    """Every node that the host knows by now, and its display name, by id."""
    return host_nodes.NODE_CLASS_MAPPINGS, host_nodes.NODE_DISPLAY_NAME_MAPPINGS


def after_all_packs(action: Callable[[], None]) -> None:
    """Run `action` once all packs are loaded and before the server answers."""
    server = prompt_server()
    if server is None:
        return

    async def run_action() -> None:
        action()

    at_startup(server, run_action)


def at_startup(server: Any, action: Callable[[], Awaitable[None]]) -> None:
    """Run `action` when the server starts. An error is logged, as it would end the whole host."""

    async def on_startup(_app: Any) -> None:
        try:
            await action()
        except Exception:
            log.exception("starting up went wrong; the nodes are there all the same")

    server.app.on_startup.append(on_startup)


def prompt_server() -> Any:
    """The server; None where a script imports the pack without one."""
    server = sys.modules.get("server")  # of the host's program, which imports it first
    return getattr(getattr(server, "PromptServer", None), "instance", None)


def web_framework() -> Any:
    """What ComfyUI's server makes its answers with."""
    import server

    return server.web


def place_for(prefix: str, folder: str, width: int, height: int) -> tuple[str, str, int, str]:
    """Where ComfyUI puts the next file of a prefix: folder, name, number and subfolder.

    Raises:
        ValueError: that is outside of `folder`.
    """
    try:
        return folder_paths.get_save_image_path(prefix, folder, width, height)[:4]
    except Exception as error:  # ComfyUI raises no narrower one
        raise ValueError(
            f"'filename_prefix' is {quoted(prefix)}, which names no place inside of ComfyUI's "
            "folder for such files. Write a name, or a folder and a name such as faces/face."
        ) from error


def save_previews(images: Sequence[torch.Tensor], prefix: str) -> list[dict[str, str]]:
    """Write images [1,h,w,1, 3 or 4] to the temporary folder, for a node to show.

    Returns:
        The entries that a node puts under `ui`/`images`.
    """
    from PIL import Image

    expect_path(prefix, "filename_prefix")
    folder = folder_paths.get_temp_directory()
    entries = []
    for image in images:
        height, width = image.shape[1:3]
        target, name, counter, subfolder = place_for(prefix, folder, width, height)
        file = f"{name}_{counter:05}_.png"
        pixels = to_bytes(image)
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        Image.fromarray(pixels).save(os.path.join(target, file), compress_level=1)
        entries.append({"filename": file, "subfolder": subfolder, "type": "temp"})
    return entries


def painted_mask(entry: Any) -> torch.Tensor | None:
    """The mask that was painted into a saved picture, kept in its alpha.

    Args:
        entry: {"filename", "subfolder", "type"}, as a node shows pictures.

    Returns:
        [1,H,W] 0..1; None if there is no such file in the folder that the entry's type names.
    """
    path = file_of(entry)
    return None if path is None else 1 - torch.from_numpy(read_rgba(path)[..., 3])[None]


def file_of(entry: Any) -> Path | None:
    """The file that an entry {"filename", "subfolder", "type"} names.

    Such entries come from whoever sends a prompt: links and `..` that lead out of the folder of
    that type are followed to nothing.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
        return None
    folder = folder_paths.get_directory_by_type(entry.get("type") or "input")
    if folder is None:
        return None
    try:
        parts = [str(entry.get("subfolder") or ""), entry["filename"]]
        if any(path_fault(part) is not None for part in parts):
            return None
        base = Path(folder).resolve()
        path = base.joinpath(*parts).resolve()
        return path if path.is_relative_to(base) and is_file(path) else None
    except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte, links in a circle
        return None
