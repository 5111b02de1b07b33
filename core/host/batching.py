"""Which sampler runs ComfyUI can do as rows of one run, and how many rows fit into memory."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import comfy.model_sampling
import comfy.samplers
import comfy.utils
import torch

from .. import memory
from ..backend import ROWS, SAME, SamplerRun
from ..noise import seed_for
from . import alone, device_memory
from . import memory as host_memory
from .row_by_row import EQUAL, STACKED

log = logging.getLogger(__name__)

_MARGIN = 1.5  # ComfyUI multiplies its own estimates of memory by this
_CONTROL_PLAIN = ("strength", "timestep_percent_range", "global_average_pooling",
                  "compression_ratio", "upscale_algorithm", "strength_type",
                  "concat_mask")  # fmt: skip


class HostRows:
    """The part of the ComfyUI backend that `core/sampling/batching.py` uses."""

    def __init__(self) -> None:
        super().__init__()
        self._replaced: dict[int, tuple[Any, str]] = {}

    def why_alone(self, run: SamplerRun) -> str | None:
        """See `Backend.why_alone`."""
        try:
            alone.check(run, self._method_replaced)
        except alone.Alone as reason:
            return str(reason)
        return None

    def _method_replaced(self, network: Any) -> str:
        if id(network) not in self._replaced:  # it is kept, so that no other gets its id
            self._replaced[id(network)] = network, alone.replaced_method(network)
        return self._replaced[id(network)][1]

    def entry_kind(self, name: str) -> str | None:
        """See `Backend.entry_kind`."""
        if name in STACKED:
            return ROWS
        return SAME if name in EQUAL else None

    def share_a_latent(self, models: Sequence[Any]) -> bool:
        """See `Backend.share_a_latent`."""
        kinds = set()
        for model in models:
            form = model.get_model_object("latent_format")
            flow = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)
            scale = getattr(form, "scale_factor", 1.0)
            kinds.add((type(form), str(scale), form.latent_channels, flow))
        return len(kinds) == 1

    def repeats_texts(self, model: Any) -> bool:
        """Whether the tokens of a text may be repeated without changing the result.

        This holds for the cross-attention of a UNet, where tokens are only keys and values.
        """
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        return isinstance(getattr(model.model, "diffusion_model", None), UNetModel)

    def rows_that_fit(self, run: SamplerRun, rows: int) -> int:
        """How many of `rows` fit into memory by ComfyUI's own estimate; at least 1."""
        free = device_memory.for_rows(run, _memory_required(run, 1) * _MARGIN)
        for count in range(rows, 1, -1):
            if _memory_required(run, count) * _MARGIN < free:
                return count
        return 1

    def is_out_of_memory(self, error: BaseException) -> bool:
        """See `Backend.is_out_of_memory`."""
        return host_memory.is_out_of_memory(error)

    def free_memory(self, unload: bool = False) -> None:
        """See `Backend.free_memory`."""
        memory.free(unload)

    def control_signature(self, control: Any) -> Hashable | None:
        """The key of a ControlNet: those with equal keys can be joined. None: it must be alone."""
        links = []
        while control is not None:
            try:
                alone.check_control(control)
            except alone.Alone as reason:
                log.debug("%s", reason)
                return None
            hint = getattr(control, "cond_hint_original", None)
            if not isinstance(hint, torch.Tensor) or len(hint) != 1 or hint.ndim != 4:
                return None
            if getattr(control, "extra_concat_orig", None) or not hasattr(control, "copy"):
                return None
            network = getattr(control, "control_model", None) or getattr(control, "t2i_model", None)
            plain = tuple(repr(getattr(control, name, None)) for name in _CONTROL_PLAIN)
            extra = repr(sorted(getattr(control, "extra_args", {}).items()))
            vae = getattr(control, "vae", None)
            # `join_controls` resizes hints of several sizes to one size. ComfyUI does the same with
            # a single hint, unless it encodes the hint or the network is an adapter.
            fixed = vae is not None or hasattr(control, "t2i_model")
            shape = tuple(hint.shape) if fixed else hint.shape[1]
            shape = (shape, hint.dtype, hint.device)
            links.append((type(control), id(network), plain, extra, id(vae), shape))
            control = control.previous_controlnet
        return tuple(links)

    def join_controls(self, controls: Sequence[Any], latent: torch.Tensor) -> Any:
        """One chain of ControlNets whose hints have a row for each of these chains.

        Args:
            latent: [1,C,h,w] or [1,C,T,h,w] of one run; hints of several sizes get its size.
        """
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
        if getattr(joined, "vae", None) is not None:
            joined.vae = self.encoding_by_rows(joined.vae, video=False)
        if first.previous_controlnet is not None:
            previous = [control.previous_controlnet for control in controls]
            joined.set_previous_controlnet(self.join_controls(previous, latent))
        return joined


def drawn_noise(seeds: Sequence[int], x: torch.Tensor, skipped: int = 0) -> Callable:
    """A noise sampler that gives each row the noise that it would get if it were sampled alone.

    Args:
        seeds: one for each row, or for each latent step of a clip, or one for all.
        x: [N,...], a tensor with the shape, device and dtype of the sampler's state.
        skipped: the number of draws in an earlier part of the run.
    """
    offset = 1 if x.device.type == "cpu" else 0  # as ComfyUI's default noise sampler
    generators = [
        torch.Generator(device=x.device).manual_seed(seed_for(seed, offset)) for seed in seeds
    ]
    axis = axis_of_seeds(seeds, x)
    shape = list(x.shape)
    shape[axis] //= len(seeds)

    def draw(_sigma: Any, _next_sigma: Any) -> torch.Tensor:
        parts = [
            torch.randn(shape, dtype=x.dtype, device=x.device, generator=generator)
            for generator in generators
        ]
        return torch.cat(parts, dim=axis)

    for _ in range(skipped):
        draw(None, None)
    return draw


def axis_of_seeds(seeds: Sequence[int], x: torch.Tensor) -> int:
    """The axis of a latent [N,C,h,w] or [N,C,T,h,w] that the seeds are for: rows or steps."""
    return 2 if x.ndim == 5 and len(seeds) > len(x) else 0


def with_mask_noise_by_row(sampler: Any, seeds: Sequence[int]) -> Any:
    """The sampler with the noise outside of the mask that each row would get alone.

    Some samplers (ddim) do not use the start noise outside of a noise mask. ComfyUI draws other
    noise for that part, on the CPU and in one draw for all rows.
    """
    function = sampler.sampler_function

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **options: Any) -> torch.Tensor:
        axis = axis_of_seeds(seeds, x)
        shape = [*x.shape[:axis], 1, *x.shape[axis + 1 :]]
        parts = [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed_for(seed, 1)))
            for seed in seeds
        ]
        model.noise = torch.cat(parts, dim=axis).to(model.noise)
        return function(model, x, sigmas, **options)

    return comfy.samplers.KSAMPLER(sample, sampler.extra_options)


def _memory_required(run: SamplerRun, rows: int) -> float:
    """ComfyUI's estimate of the memory, in bytes, for a run with this number of rows."""
    network = run.model.model
    sides = [side for side in (run.positive, run.negative) if not isinstance(side, str)]
    both = run.model.model_options.get("disable_cfg1_optimization", False)
    if math.isclose(run.cfg, 1.0) and not both:
        del sides[1:]
    shape = [rows * max(1, len(sides)), *run.latent.shape[1:]]
    if "cond_shapes" not in inspect.signature(network.memory_required).parameters:
        return network.memory_required(shape)
    shapes: dict[str, list] = {}
    for embedding, options in (entry for side in sides for entry in side):
        own = network.extra_conds_shapes(**{**options, "cross_attn": embedding})
        for name, (first, *rest) in own.items():
            shapes.setdefault(name, []).append([first * rows, *rest])
    return network.memory_required(shape, cond_shapes=shapes)


def takes_noise_sampler(sampler: Any) -> bool:
    """Whether a sampler object of ComfyUI accepts a noise sampler."""
    function = getattr(sampler, "sampler_function", None)
    return function is not None and "noise_sampler" in inspect.signature(function).parameters
