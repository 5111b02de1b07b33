"""The Backend for ComfyUI. It implements the protocol of `core/backend.py`.

If versions of ComfyUI differ, the code checks for abilities and not for version numbers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.sd
import comfy.utils
import latent_preview
import nodes as host_nodes
import torch

from ...utils.notes import note
from ...wildcards.grammar import Lora
from ...wildcards.library import Library
from .. import checked_calls
from ..backend import OF_EMPTY_LATENTS, MemoryUse, OnStep, SamplerRun, Viewer
from ..detectors.safe_weights import expect_plain
from ..memory import persist
from ..noise import seed_for
from ..pixels.crop_view import Cut
from ..prompts.join_conditioning import with_values
from ..prompts.lora_blocks import BlockWeights
from ..prompts.pictured import Pictured
from ..sampling.random_state import seeded_globals
from ..settings import NEGATIVE_PLACEHOLDER, Conditioning
from ..streams import Latent, mask_for_streams, picture, with_kept_streams
from .batching import HostRows
from .call_node import call_node
from .clip_models import HostClips
from .encoded_pictures import pictured
from .folders import find_file, wildcard_library
from .loras import load_by_blocks
from .measures import MemoryWatch, about_host, counting_calls
from .memory import models_in_use
from .model_fit import check_fit, completed, telling
from .model_patches import cut_patches
from .native_size import native_area, takes_references_of_one_size
from .partial_runs import going_on, opening_with_the_whole, picture_in
from .run_view import editor_view
from .samplers import draw_as_the_host_does, given_sampler, sampler_of, schedule_of
from .tiled import guider_of
from .user_folder import lora_presets
from .vae import HostVae

log = logging.getLogger(__name__)
MAX_RESOLUTION: int = host_nodes.MAX_RESOLUTION


class ComfyBackend(HostVae, HostRows, HostClips):
    """The Backend for ComfyUI. A new object is made for each run of a node."""

    def __init__(self) -> None:
        super().__init__()
        self._loras: dict[str, dict] = {}
        self._softened: dict[int, tuple[Any, Any]] = {}
        self._schedules: dict[tuple, tuple[Any, torch.Tensor]] = {}
        self.model_calls = 0
        self._memory = MemoryWatch()

    # VAE

    def ratio(self, vae: Any) -> int:
        source = checked_calls.vae(vae, "spacial_compression_encode")
        wanted = "a number of pixels, 1 or more"
        ratio = checked_calls.whole(source, source.call(super().ratio, vae), wanted)
        if ratio < 1:
            raise source.wrong(str(ratio), wanted)
        return ratio

    def encode(self, vae: Any, pixels: torch.Tensor, **how: Any) -> torch.Tensor:
        source = checked_calls.vae(vae, "encode")
        return checked_calls.made_samples(source, source.call(super().encode, vae, pixels, **how))

    def decode(self, vae: Any, latent: torch.Tensor, **how: Any) -> torch.Tensor:
        source = checked_calls.vae(vae, "decode")
        pixels = source.call(super().decode, vae, latent, **how)
        self._memory.look()
        return checked_calls.made_pixels(source, pixels, 1)

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

    def pictured(self, result: Any) -> Pictured | None:
        """See `RememberingBackend.pictured`."""
        return pictured(result)

    def apply_loras(self, model: Any, clip: Any, loras: tuple[Lora, ...]) -> tuple[Any, Any]:
        """Patch the models with LoRAs. A missing or broken LoRA is left out, with a note."""
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
                model, clip = load_by_blocks(model, clip, weights, lora, blocks)
        return model, clip

    def _read_lora(self, name: str) -> dict | None:
        path = find_file("loras", name)
        if path is None:
            note(
                "lora",
                f"ComfyUI has no LoRA {name!r}, which a text names. It is left out.",
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
        if id(model) not in self._softened:  # segments can share a batch only with one model
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
            source = checked_calls.Source.of("The scheduler function", func)
            return checked_calls.sigmas(
                source, source.call(func, model, sampler_name, steps), steps
            )
        sampling = model.get_model_object("model_sampling")
        key = (id(sampling), sampler_name, scheduler, steps)
        if key not in self._schedules:  # it is kept, so that no other gets its id
            source = checked_calls.Source(
                f"The scheduler {scheduler!r}", "Choose another 'scheduler'."
            )
            levels = source.call(schedule_of, sampling, sampler_name, scheduler, steps)
            self._schedules[key] = sampling, checked_calls.sigmas(source, levels, steps)
        return self._schedules[key][1]

    def noise_share(self, model: Any, sigma: float) -> float | None:
        sampling = model.get_model_object("model_sampling")
        level, one, nothing = torch.tensor([sigma]), torch.ones(1, 1), torch.zeros(1, 1)
        try:
            noise, latent = (
                float(sampling.noise_scaling(level, *parts))
                for parts in ((one.clone(), nothing), (nothing.clone(), one))
            )
        except Exception as error:  # a model of another pack may mix them in its own way
            log.debug("it is not known how a model mixes noise and latent: %s", error)
            return None
        whole = noise**2 + latent**2
        return noise**2 / whole if 0 < whole < math.inf else None

    def sample(self, run: SamplerRun, on_step: OnStep) -> torch.Tensor:
        with models_in_use(), seeded_globals(seed_for(run.seed, run.number)):
            draw_as_the_host_does(run)
            return self._sample(run, on_step)

    def _sample(self, run: SamplerRun, on_step: OnStep) -> torch.Tensor:
        latent = comfy.sample.fix_empty_latent_channels(run.model, run.latent)
        check_fit(run, latent)
        mask = mask_for_streams(run.noise_mask, latent)
        noise = run.noise if run.noise.ndim == latent.ndim else run.noise.unsqueeze(2)
        guider = guider_of(run, self)
        with telling(run, latent, self.is_out_of_memory):
            _guide(guider, run)
        sampler = given_sampler(run.sampler) or sampler_of(run, latent)
        if run.start is not None:
            sampler, noise, latent = going_on(run, sampler, latent, noise)
        if run.whole is not None:
            opening_with_the_whole(guider, run.whole)

        counting_calls(guider, self._count_call)

        def on_sampled(step: int, denoised: Any, x: Any, total: int) -> None:
            self._memory.look()
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
            source = checked_calls.Source.of("The SAMPLER", run.sampler, "sample")
            checked_calls.like(source, picture(samples), picture(latent))
        if run.sigmas[-1] == 0:
            samples = with_kept_streams(samples, latent, mask)
        return samples.to(comfy.model_management.intermediate_device())

    def _count_call(self) -> None:
        self.model_calls += 1

    def watched_memory(self) -> Callable[[], MemoryUse]:
        return self._memory.begin()

    def about(self) -> Mapping[str, str]:
        return about_host()

    # Progress and interruption

    def progress(self, total: int) -> Callable[[int, Any, torch.Tensor | None], None]:
        bar = comfy.utils.ProgressBar(max(1, total))
        previewers: dict[tuple[int, Any], tuple[Any, Any]] = {}

        def update(done: int, model: Any, latent: torch.Tensor | None) -> None:
            preview = None if latent is None else _preview(model, latent, previewers)
            bar.update_absolute(done, total, preview)

        return update

    def viewer(self) -> Viewer | None:
        return editor_view()

    def check_interrupt(self) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()


def _preview(
    model: Any, latent: torch.Tensor, previewers: dict[tuple[int, Any], tuple[Any, Any]]
) -> Any:
    """A preview of a latent for ComfyUI's progress bar. None: previews are off.

    Args:
        previewers: the previewers that have been made, by latent format and device.
    """
    form, device = model.model.latent_format, model.load_device
    key = id(form), device
    if key not in previewers:  # it is kept, so that no other gets its id
        previewers[key] = form, latent_preview.get_previewer(device, form)
    previewer = previewers[key][1]
    if previewer is None:
        return None
    return previewer.decode_latent_to_preview_image("JPEG", picture(latent).to(device))


def _guide(guider: Any, run: SamplerRun) -> None:
    """Give a guider the conditionings of a run."""
    if run.negative == NEGATIVE_PLACEHOLDER:
        positive = with_values(run.positive, guidance=run.cfg)
        guider.inner_set_conds({"positive": positive})
    else:
        guider.set_conds(run.positive, run.negative)
        guider.set_cfg(run.cfg)
