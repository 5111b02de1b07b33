"""Runs that are a part of a whole one, as ComfyUI's samplers do them.

Between two parts of a run its latent holds the noise that is still to be removed. The second part
goes on from that, while the noise mask keeps the latent that the whole run began with, under the
noise that it began with, and opens as it would have in one run.
"""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import comfy.utils
import torch

from ..backend import SamplerRun
from ..noise import seed_for
from ..pixels.mask import for_latent
from ..streams import is_nested, picture, streams
from .batching import takes_noise_sampler

_MASK_FUNCTION = "denoise_mask_function"


def opening_with_the_whole(guider: comfy.samplers.CFGGuider, whole: torch.Tensor) -> None:
    """Have the model's mask function see the levels of the whole run and not those of this part."""
    function = guider.model_options.get(_MASK_FUNCTION)
    if function is None:
        return

    def opened(sigma: Any, mask: torch.Tensor, extra_options: dict, **others: Any) -> torch.Tensor:
        options = {**extra_options, "sigmas": whole.to(sigma.device)}
        return function(sigma, mask, extra_options=options, **others)

    options = comfy.model_patcher.create_model_options_clone(guider.model_options)
    guider.model_options = {**options, _MASK_FUNCTION: opened}


def going_on(
    run: SamplerRun, sampler: Any, latent: torch.Tensor, noise: torch.Tensor
) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The sampler, noise and latent of a run that goes on from `run.start`.

    Args:
        latent, noise: what the whole run began with.
    """
    base = run.model.model
    level = run.sigmas[:1]
    if _hands_over_as_recorded(run, base, level):
        latent = _with_mixed_edge(latent.to(run.start), run.start, run.noise_mask)
    nothing = torch.zeros_like(packed(noise))
    state = _noised(base, level, nothing, packed(run.start), always=True)
    if isinstance(sampler, comfy.samplers.KSAMPLER):
        return _beginning_with(sampler, state, run.number), noise, latent
    # A sampler of another kind adds the noise itself: give it what leads to the same state.
    kept = _noised(base, level, nothing, packed(latent))
    unit = _noised(base, level, torch.ones_like(nothing), nothing)
    return sampler, _like(noise, (state - kept) / unit), latent


def _hands_over_as_recorded(run: SamplerRun, base: Any, level: torch.Tensor) -> bool:
    """Whether the cells that a mask's edge goes through are handed over as by ComfyUI-Impact-Pack.

    Shared workflows with a refiner were made so, with models that add noise to an unscaled latent
    and hard masks. Such cells then keep some noise; under soft masks that would be much of the
    picture, and with flow models it is far more.
    """
    if run.noise_mask is None or is_nested(run.start) or not run.is_hard:
        return False
    one = torch.ones(1, 1, 1, 1)
    scaled = base.model_sampling.noise_scaling(level.to(one), torch.zeros_like(one), one)
    return bool(torch.equal(scaled.to(one), one))


def _with_mixed_edge(latent: torch.Tensor, left: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The latent of before, mixed with what a part left where a hard mask's edge is."""
    share = for_latent(mask, left).to(left)
    return torch.where((share > 0) & (share < 1), torch.lerp(latent, left, share), latent)


def stopping_at_a_level(name: str) -> tuple[Any, list[torch.Tensor]]:
    """A sampler of the host, and a list that gets its last state as the model would see it.

    The host itself gives what the state shows of the picture, brought to full strength. That has no
    meaning where next to nothing of it is left: at the highest levels of flow models.
    """
    sampler = comfy.samplers.sampler_object(name)
    function, reached = sampler.sampler_function, []

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **options: Any) -> torch.Tensor:
        reached.append(function(model, x, sigmas, **options))
        return torch.zeros_like(x)

    return comfy.samplers.KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options), reached


def draws_on_the_way(name: str) -> bool:
    """Whether a sampler of the host adds noise of its own."""
    if name.startswith("res_multistep") and "ancestral" not in name:
        return False  # it could, but does not
    return takes_noise_sampler(comfy.samplers.sampler_object(name))


def in_latent(state: torch.Tensor, model: Any, latent: Any) -> Any:
    """A state of a sampler in the form of a LATENT's samples, where `latent` is."""
    values = model.model.process_latent_out(state.to(torch.float32))
    device = comfy.model_management.intermediate_device()
    return _like(latent, values.to(device))


def _noised(
    base: Any, level: torch.Tensor, noise: torch.Tensor, latent: torch.Tensor, always: bool = False
) -> torch.Tensor:
    """A latent under noise of a level, as a sampler of this model sees it."""
    latent = latent.to(noise)
    if always or torch.count_nonzero(latent) > 0:  # the host does not scale an empty one
        latent = base.process_latent_in(latent)
    return base.model_sampling.noise_scaling(level.to(noise), noise, latent)


def packed(latent: Any) -> torch.Tensor:
    """The streams of a latent as the host's samplers see them: one after the other."""
    if not is_nested(latent):
        return latent
    return comfy.utils.pack_latents(latent.unbind())[0]


def _like(latent: Any, values: torch.Tensor) -> Any:
    """What `packed` gave, as the streams of this latent."""
    return type(latent)(_unpacked(values, latent)) if is_nested(latent) else values


def picture_in(values: Any, latent: Any) -> torch.Tensor:
    """The picture's stream of what the host tells on the way: of all streams, or packed as one."""
    if is_nested(values) or not is_nested(latent):
        return picture(values)
    return _unpacked(values, latent)[0]


def _unpacked(values: torch.Tensor, latent: Any) -> list[torch.Tensor]:
    return comfy.utils.unpack_latents(values, [stream.shape for stream in streams(latent)])


def _beginning_with(sampler: Any, state: torch.Tensor, number: int) -> Any:
    """The sampler, which begins with this state and draws the noise of another part."""
    function = sampler.sampler_function

    def sample(
        model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict, **options: Any
    ) -> torch.Tensor:
        if extra_args.get("seed") is not None:
            extra_args = {**extra_args, "seed": seed_for(extra_args["seed"], number)}
        return function(model, state.to(x), sigmas, extra_args=extra_args, **options)

    return comfy.samplers.KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options)
