"""What the host can do with several segments in one call of the sampler, and how much fits."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import comfy.utils
import torch

from .. import memory
from ..backend import ROWS, SAME, SamplerRun
from ..noise import seed_for
from . import alone
from . import memory as host_memory
from .row_by_row import EQUAL, STACKED

log = logging.getLogger(__name__)

_MARGIN = 1.5  # of its estimates, that the host itself keeps
_CONTROL_PLAIN = ("strength", "timestep_percent_range", "global_average_pooling",
                  "compression_ratio", "upscale_algorithm", "strength_type",
                  "concat_mask")  # fmt: skip


class HostRows:
    """The part of the ComfyUI backend that `core/sampling/batching.py` asks."""

    def __init__(self) -> None:
        super().__init__()
        self._replaced: dict[int, tuple[Any, str]] = {}

    def why_alone(self, run: SamplerRun) -> str | None:
        try:
            alone.check(run, self._method_replaced)
        except alone.Alone as reason:
            return str(reason)
        return None

    def _method_replaced(self, network: Any) -> str:
        if id(network) not in self._replaced:  # the network is kept too, so that its id stays
            self._replaced[id(network)] = network, alone.replaced_method(network)
        return self._replaced[id(network)][1]

    def entry_kind(self, name: str) -> str | None:
        if name in STACKED:
            return ROWS
        return SAME if name in EQUAL else None

    def share_a_latent(self, models: Sequence[Any]) -> bool:
        kinds = set()
        for model in models:
            form = model.get_model_object("latent_format")
            flow = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)
            scale = getattr(form, "scale_factor", 1.0)
            kinds.add((type(form), str(scale), form.latent_channels, flow))
        return len(kinds) == 1

    def repeats_texts(self, model: Any) -> bool:
        """Whether repeating a text's tokens changes nothing: so it is in a UNet's cross-attention,
        where they only serve as keys and values."""
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        return isinstance(getattr(model.model, "diffusion_model", None), UNetModel)

    def rows_that_fit(self, run: SamplerRun, rows: int) -> int:
        """How many of `rows` the free memory holds by the host's own estimate; at least 1."""
        free = _free_memory(run.model)
        for count in range(rows, 1, -1):
            if _memory_required(run, count) * _MARGIN < free:
                return count
        return 1

    def is_out_of_memory(self, error: BaseException) -> bool:
        return host_memory.is_out_of_memory(error)

    def free_memory(self, unload: bool = False) -> None:
        memory.free(unload)

    def control_signature(self, control: Any) -> Hashable | None:
        """What ControlNets have in common that may serve the rows of one batch; None: alone."""
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
            # Hints of several sizes are brought to one as `join_controls` does. That is what the
            # host does too, unless it encodes them or the network is an adapter.
            fixed = vae is not None or hasattr(control, "t2i_model")
            shape = tuple(hint.shape) if fixed else hint.shape[1]
            shape = (shape, hint.dtype, hint.device)
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
        if getattr(joined, "vae", None) is not None:
            joined.vae = self.encoding_by_rows(joined.vae, video=False)
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
        torch.Generator(device=x.device).manual_seed(seed_for(seed, offset)) for seed in seeds
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
                (1, *x.shape[1:]), generator=torch.Generator().manual_seed(seed_for(seed, 1))
            )
            for seed in seeds
        ]
        model.noise = torch.cat(rows).to(model.noise)
        return function(model, x, sigmas, **options)

    return comfy.samplers.KSAMPLER(sample, sampler.extra_options)


def _free_memory(model: Any) -> float:
    """Memory that a run of the model may use, with what the host can page out meanwhile."""
    device = model.load_device
    own = getattr(model, "get_free_memory", comfy.model_management.get_free_memory)
    free = own(device)
    if getattr(model, "is_dynamic", bool)():  # its weights make room by themselves
        return free
    return free - max(0, model.model_size() - model.loaded_size())  # what is still to be loaded


def _memory_required(run: SamplerRun, rows: int) -> float:
    """What the host says that so many rows like this run take, with and without the text."""
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
    """Whether a sampler object of the host can be given its noise."""
    function = getattr(sampler, "sampler_function", None)
    return function is not None and "noise_sampler" in inspect.signature(function).parameters
