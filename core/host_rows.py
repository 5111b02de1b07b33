"""What the host can do with several segments in one call of the sampler, and how much fits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP

from .backend import SamplerRun
from .settings import MAX_SEED

# Samplers whose step size depends on an error measured over the whole batch.
WHOLE_BATCH = frozenset({"dpm_adaptive"})
# Files of the host whose guidance functions treat each row by itself. Others of it do not (Mahiro,
# PerpNeg and the rescaled SkipLayerGuidance take one mean over all), and who knows other packs'.
_ROWWISE_GUIDANCE = frozenset({"nodes_model_advanced.py", "nodes_pag.py", "nodes_cfg.py"})
_GUIDANCE = ("sampler_cfg_function", "sampler_post_cfg_function", "sampler_pre_cfg_function")
# Options of a conditioning that the host adds noise to, by the seed, in one draw for all rows.
_DRAWS = frozenset({"unclip_conditioning", "noise_augmentation"})
_CONTROL_PLAIN = ("strength", "timestep_percent_range", "global_average_pooling",
                  "compression_ratio", "upscale_algorithm", "strength_type",
                  "concat_mask")  # fmt: skip


class HostRows:
    """The part of the ComfyUI backend that `core/rows.py` asks."""

    def sampled_alone(self, run: SamplerRun) -> bool:
        """Whether a run must not share a batch.

        So it is with samplers that steer by the whole batch or are not the host's, models that
        take a batch for a clip (motion modules of other packs, SVD), conditioning that the host
        adds noise to, guidance that may look at the whole batch, and what keeps a state for it
        (context windows, caches that skip steps).
        """
        if run.sampler is not None or run.tiles is not None or run.sampler_name in WHOLE_BATCH:
            return True
        model = run.model
        if not type(model).__module__.startswith("comfy."):
            return True
        if isinstance(model.model, comfy.model_base.SVD_img2vid):
            return True
        sides = [side for side in (run.positive, run.negative) if not isinstance(side, str)]
        if any(_DRAWS & options.keys() for side in sides for _, options in side):
            return True
        return not _rowwise(model)

    def repeats_texts(self, model: Any) -> bool:
        """Whether repeating a text's tokens changes nothing: so it is in a UNet's cross-attention,
        where they only serve as keys and values."""
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        return isinstance(getattr(model.model, "diffusion_model", None), UNetModel)

    def rows_that_fit(self, run: SamplerRun, rows: int) -> int:
        """How many of `rows` the free memory holds by the host's own estimate; at least 1."""
        model = run.model
        device = model.load_device
        free = comfy.model_management.get_free_memory(device)
        free -= max(0, model.model_size() - model.loaded_size())  # what is still to be loaded
        sides = 1 if isinstance(run.negative, str) or run.cfg == 1 else 2
        for count in range(rows, 1, -1):
            need = model.memory_required([count * sides, *run.latent.shape[1:]])
            if need * 1.5 < free:  # the margin that the host itself keeps
                return count
        return 1

    def is_out_of_memory(self, error: BaseException) -> bool:
        check = getattr(comfy.model_management, "is_oom", None)
        if check is not None:
            return bool(check(error))
        kind = comfy.model_management.OOM_EXCEPTION
        return kind is not Exception and isinstance(error, kind)

    def free_memory(self) -> None:
        comfy.model_management.soft_empty_cache()

    def control_signature(self, control: Any) -> Hashable | None:
        """What ControlNets have in common that may serve the rows of one batch; None: alone."""
        links = []
        while control is not None:
            hint = getattr(control, "cond_hint_original", None)
            if not isinstance(hint, torch.Tensor) or len(hint) != 1 or hint.ndim != 4:
                return None
            if getattr(control, "extra_concat_orig", None) or not hasattr(control, "copy"):
                return None
            network = getattr(control, "control_model", None) or getattr(control, "t2i_model", None)
            if network is None:
                return None
            plain = tuple(repr(getattr(control, name, None)) for name in _CONTROL_PLAIN)
            extra = repr(sorted(getattr(control, "extra_args", {}).items()))
            vae = getattr(control, "vae", None)
            # Hints of several sizes are brought to one as `join_controls` does. That is what the
            # host does too, unless it encodes them or the network is an adapter.
            fixed = vae is not None or hasattr(control, "t2i_model")
            shape = tuple(hint.shape) if fixed else hint.shape[1]
            links.append((type(control), id(network), plain, extra, id(vae), shape))
            control = control.previous_controlnet
        return tuple(links)

    def join_controls(self, controls: Sequence[Any], latent: torch.Tensor) -> Any:
        """One ControlNet chain whose hint has a row for each of these."""
        first = controls[0]
        hints = [control.cond_hint_original for control in controls]
        if len({hint.shape for hint in hints}) > 1:
            height, width = (side * first.compression_ratio for side in latent.shape[-2:])
            hints = [
                comfy.utils.common_upscale(hint, width, height, first.upscale_algorithm, "center")
                for hint in hints
            ]
        joined = first.copy()
        joined.cond_hint_original = torch.cat(hints)
        if first.previous_controlnet is not None:
            previous = [control.previous_controlnet for control in controls]
            joined.set_previous_controlnet(self.join_controls(previous, latent))
        return joined


def drawn_noise(seeds: Sequence[int], x: torch.Tensor, skipped: int = 0) -> Callable:
    """A noise sampler that draws for each row what the host's default draws for it alone.

    Args:
        seeds: one for each row, or one for all of them.
        x: [N,...] as the sampler sees it: its device and dtype.
        skipped: how many draws an earlier part of the run has had.
    """
    offset = 1 if x.device.type == "cpu" else 0  # as the host's default does
    generators = [
        torch.Generator(device=x.device).manual_seed((seed + offset) & MAX_SEED) for seed in seeds
    ]
    shape = (len(x) // len(seeds), *x.shape[1:])

    def draw(_sigma: Any, _next_sigma: Any) -> torch.Tensor:
        rows = [
            torch.randn(shape, dtype=x.dtype, device=x.device, generator=generator)
            for generator in generators
        ]
        return torch.cat(rows)

    for _ in range(skipped):
        draw(None, None)
    return draw


def with_mask_noise_by_row(sampler: Any, seeds: Sequence[int]) -> Any:
    """The sampler with noise around the mask that is what each row gets alone.

    For samplers (ddim) that do not keep what lies outside of a noise mask at the start noise, but
    at noise that the host draws for it, on the CPU and in one draw for all rows.
    """
    function = sampler.sampler_function

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **options: Any) -> torch.Tensor:
        rows = [
            torch.randn(
                (1, *x.shape[1:]), generator=torch.Generator().manual_seed((seed + 1) & MAX_SEED)
            )
            for seed in seeds
        ]
        model.noise = torch.cat(rows).to(model.noise)
        return function(model, x, sigmas, **options)

    return comfy.samplers.KSAMPLER(sample, sampler.extra_options)


def _rowwise(model: Any) -> bool:
    """Whether what a model was patched with treats every row of a batch by itself."""
    options = model.model_options
    if options.get("context_handler") is not None:
        return False
    added = options.get("transformer_options", {}).get("wrappers", {})
    for wrappers in (model.wrappers, added):  # around a whole run is what keeps a state for it
        if any(wrappers.get(WrappersMP.OUTER_SAMPLE, {}).values()):
            return False
    functions = []
    for name in _GUIDANCE:
        value = options.get(name) or []
        functions += value if isinstance(value, list) else [value]
    return all(_source(function) in _ROWWISE_GUIDANCE for function in functions)


def _source(function: Callable) -> str:
    """The file of the host's nodes that a function is from; "" for any other."""
    code = getattr(function, "__code__", None)
    path = Path(code.co_filename) if code is not None else Path()
    return path.name if path.parent.name == "comfy_extras" else ""


def takes_noise_sampler(sampler: Any) -> bool:
    """Whether a sampler object of the host can be given its noise."""
    function = getattr(sampler, "sampler_function", None)
    return function is not None and "noise_sampler" in inspect.signature(function).parameters
