"""Sampler runs that are a part of a whole run.

Between two parts the latent still holds noise. The second part continues from this latent. Outside
of the noise mask it uses the latent and the noise with which the whole run began. A soft mask opens
as it would in one run.
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
    """Give the model's mask function the noise levels of the whole run instead of this part's.

    Args:
        whole: [n+1], the noise levels of the whole run.
    """
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
    """The sampler, noise and latent for a run that continues from `run.start`.

    Args:
        sampler: the sampler of the run.
        latent, noise: [B,C,h,w] or [B,C,T,h,w], those with which the whole run began.
    """
    base = run.model.model
    level = run.sigmas[:1]
    if _hands_over_as_recorded(run, base, level):
        latent = _with_mixed_edge(latent.to(run.start), run.start, run.noise_mask)
    nothing = torch.zeros_like(packed(noise))
    state = _noised(base, level, nothing, packed(run.start), always=True)
    if isinstance(sampler, comfy.samplers.KSAMPLER):
        return _beginning_with(sampler, state, run.number), noise, latent
    # Another kind of sampler adds the noise itself. It gets a noise that leads to the same state.
    kept = _noised(base, level, nothing, packed(latent))
    unit = _noised(base, level, torch.ones_like(nothing), nothing)
    return sampler, _like(noise, (state - kept) / unit), latent


def _hands_over_as_recorded(run: SamplerRun, base: Any, level: torch.Tensor) -> bool:
    """Whether latent pixels on the edge of a mask are handed over as ComfyUI-Impact-Pack does it.

    Shared workflows with a refiner were made so. It is done only with hard masks, and with models
    that add noise to an unscaled latent. These pixels then keep some noise. With soft masks this
    would be a large part of the picture, and with flow models it would be far more noise.
    """
    if run.noise_mask is None or is_nested(run.start) or not run.is_hard:
        return False
    one = torch.ones(1, 1, 1, 1)
    scaled = base.model_sampling.noise_scaling(level.to(one), torch.zeros_like(one), one)
    return bool(torch.equal(scaled.to(one), one))


def _with_mixed_edge(latent: torch.Tensor, left: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The latent [B,C,h,w] of the beginning, mixed with `left` on the edge of a hard mask.

    Args:
        left: [B,C,h,w], the latent after the part before.
        mask: the noise mask.
    """
    share = for_latent(mask, left).to(left)
    return torch.where((share > 0) & (share < 1), torch.lerp(latent, left, share), latent)


def stopping_at_a_level(name: str) -> tuple[Any, list[torch.Tensor]]:
    """A sampler of ComfyUI that keeps its last state, and the list that gets this state [B,C,...].

    The state is in the form in which the model sees it. ComfyUI itself returns the state scaled to
    a picture without noise. At the highest noise levels of flow models this is meaningless, since
    the state holds almost nothing of the picture.
    """
    sampler = comfy.samplers.sampler_object(name)
    function, reached = sampler.sampler_function, []

    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **options: Any) -> torch.Tensor:
        reached.append(function(model, x, sigmas, **options))
        return torch.zeros_like(x)

    return comfy.samplers.KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options), reached


def draws_on_the_way(name: str) -> bool:
    """Whether a sampler of ComfyUI adds noise in its steps."""
    if name.startswith("res_multistep") and "ancestral" not in name:
        return False  # it has the option, but its default adds none
    return takes_noise_sampler(comfy.samplers.sampler_object(name))


def in_latent(state: torch.Tensor, model: Any, latent: Any) -> Any:
    """A state [B,C,...] of a sampler in the form of a LATENT's samples.

    Args:
        latent: samples with the wanted streams.
    """
    values = model.model.process_latent_out(state.to(torch.float32))
    device = comfy.model_management.intermediate_device()
    return _like(latent, values.to(device))


def _noised(
    base: Any, level: torch.Tensor, noise: torch.Tensor, latent: torch.Tensor, always: bool = False
) -> torch.Tensor:
    """A latent with noise of a level, in the form in which a sampler of this model sees it."""
    latent = latent.to(noise)
    if always or torch.count_nonzero(latent) > 0:  # ComfyUI does not scale an empty one
        latent = base.process_latent_in(latent)
    return base.model_sampling.noise_scaling(level.to(noise), noise, latent)


def packed(latent: Any) -> torch.Tensor:
    """The streams of a latent joined as ComfyUI's samplers see them: [B,1,n].

    A latent of one stream ([B,C,h,w] or [B,C,T,h,w]) stays as it is.
    """
    if not is_nested(latent):
        return latent
    return comfy.utils.pack_latents(latent.unbind())[0]


def _like(latent: Any, values: torch.Tensor) -> Any:
    """The reverse of `packed`: the values as the streams of this latent."""
    return type(latent)(_unpacked(values, latent)) if is_nested(latent) else values


def picture_in(values: Any, latent: Any) -> torch.Tensor:
    """The picture's stream, [B,C,h,w] or [B,C,T,h,w], of values that ComfyUI gives in a callback.

    Args:
        values: all streams, or all of them packed as one tensor.
        latent: samples with the same streams.
    """
    if is_nested(values) or not is_nested(latent):
        return picture(values)
    return _unpacked(values, latent)[0]


def _unpacked(values: torch.Tensor, latent: Any) -> list[torch.Tensor]:
    return comfy.utils.unpack_latents(values, [stream.shape for stream in streams(latent)])


def _beginning_with(sampler: Any, state: torch.Tensor, number: int) -> Any:
    """A sampler that begins with this state [B,C,...] and draws other noise than earlier parts."""
    function = sampler.sampler_function

    def sample(
        model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict, **options: Any
    ) -> torch.Tensor:
        if extra_args.get("seed") is not None:
            extra_args = {**extra_args, "seed": seed_for(extra_args["seed"], number)}
        return function(model, state.to(x), sigmas, extra_args=extra_args, **options)

    return comfy.samplers.KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options)
