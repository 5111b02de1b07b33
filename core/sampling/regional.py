"""Sample several regions of one latent, each with its own sampler and prompt.

If all regions have the same sampler and schedule, one run samples the whole latent: at every step
the predictions of the models are mixed by the masks. So the sampler remembers earlier steps and
draws noise as in any other run. Otherwise each sampler runs each step by itself, and their latents
are mixed after every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...utils.check import all_finite, described, is_array
from .. import checked_calls
from ..backend import Backend, Layer, SamplerRun
from ..checked_calls import Source
from ..noise import mix_noise, seed_for, start_noise
from ..pixels.mask import dilate, for_latent, shares_of, union
from ..streams import is_nested, picture, with_picture
from .faults import check_samples
from .latent import SchedulePart, make_run, sampled, with_samples, without_mask
from .random_state import seeded_globals
from .sampler_objects import AdvancedKSampler, Recovery
from .scheduler import Pipeline, run_pipelines
from .sigmas import Window

# The sum or difference of two seeds is brought into 0.._SEEDS. ComfyUI-Impact-Pack uses this
# number, and shared workflows have to get the same seeds.
_SEEDS = 1125899906842624
SECOND_SEED_MODES = (
    "ignore", "fixed", "seed+seed_2nd", "seed-seed_2nd", "increment", "decrement", "randomize",
)  # fmt: skip
_FROM = "Take entries of RegionalPrompt."
VARIATION_METHODS = ("linear", "slerp")


class RegionalPrompt:
    """An entry of REGIONAL_PROMPTS: a part of the picture, and the sampler for it.

    Other packs make objects with the same attributes and methods, or use those of these objects. So
    their names must not change.
    """

    def __init__(
        self,
        mask: torch.Tensor,
        sampler: Any,
        variation_seed: int = 0,
        variation_strength: float = 0.0,
        variation_method: str = "linear",
    ) -> None:
        """
        Args:
            mask: [B,H,W] 0..1. The masks of a batch are united.
            sampler: a KSAMPLER_ADVANCED.
            variation_seed, variation_strength, variation_method: seed, strength 0..1 and method
                with which a second noise is mixed into the noise of the region; see `mix_noise`.
        """
        self.mask, self.sampler = union(mask)[0], sampler
        self.variation_seed, self.variation_strength = variation_seed, variation_strength
        self.variation_method = variation_method

    def clone_with_sampler(self, sampler: Any) -> RegionalPrompt:
        """The same entry with another KSAMPLER_ADVANCED."""
        return RegionalPrompt(
            self.mask[None], sampler, self.variation_seed, self.variation_strength,
            self.variation_method,
        )  # fmt: skip

    def get_mask_erosion(self, factor: int) -> torch.Tensor:
        """The mask [1,1,H,W], rounded to 0 and 1, and grown by a window of `factor` pixels."""
        return dilate(self.mask[None].round(), factor)[None]

    def touch_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """The noise [B,C,h,w] with the noise of the variation seed mixed in, inside the mask."""
        if self.variation_strength <= 0:
            return noise
        own = picture(noise)
        other = start_noise(own, self.variation_seed).to(own)
        mixed = mix_noise(own, other, self.variation_strength, self.variation_method)
        inside = for_latent(self.mask[None], own) >= 0.5
        return with_picture(noise, torch.where(inside, mixed, own))


@dataclass(frozen=True)
class Region:
    """A part of the latent and its sampler."""

    sampler: Any  # a KSAMPLER_ADVANCED
    weight: torch.Tensor  # [1,1,h,w] or [1,1,T,h,w], 0..1, in the latent's resolution


@dataclass(frozen=True)
class Regional:
    """How a latent is sampled by regions."""

    base: Any  # the KSAMPLER_ADVANCED for the part outside of all regions
    regions: Sequence[Region]  # later ones lie on top of earlier ones
    recovery: Recovery
    # True: in each step all regions start from the same latent. False: they are sampled one after
    # another, and each one starts from the result of the one before.
    together: bool = True


def regions_of(prompts: Sequence[Any], samples: torch.Tensor, overlap: int) -> list[Region]:
    """The regions of REGIONAL_PROMPTS.

    Args:
        samples: [B,C,h,w] or [B,C,T,h,w] of the latent; the weights get its resolution.
        overlap: the masks are grown by a window of this many pixels.

    Raises:
        ValueError: an entry is no REGIONAL_PROMPTS entry, or gives no usable mask.
    """
    return [_region(prompt, samples, overlap) for prompt in prompts]


def _region(prompt: Any, samples: torch.Tensor, overlap: int) -> Region:
    """The region of an entry, which may come from another pack."""
    source = Source.of("An entry of 'regional_prompts',", prompt, "get_mask_erosion", _FROM)
    mask = source.call(source.method(prompt, "get_mask_erosion"), overlap)
    if not (isinstance(mask, torch.Tensor) and is_array(mask) and mask.ndim > 1 and mask.numel()):
        raise source.wrong(described(mask), "a mask [1,1,H,W]")
    if not all_finite(mask.float()):
        raise source.wrong("a mask with values that are not finite", "a mask within 0..1")
    sampler = getattr(prompt, "sampler", None)
    return Region(sampler, for_latent(_flat(mask.float()), samples).clamp(0, 1))


def _flat(mask: torch.Tensor) -> torch.Tensor:
    """A mask of any number of axes as [N,H,W]."""
    return mask.reshape(-1, *mask.shape[-2:])


def sample_regions(
    regional: Regional,
    latent: dict,
    part: SchedulePart,
    backend: Backend,
    base_steps: int = 0,
) -> dict:
    """Sample a part of a schedule by regions.

    Args:
        latent: a LATENT from `fitted`.
        base_steps: number of steps at the beginning that the base samples alone.

    Returns:
        The LATENT with the sampled latent.
    """
    run = _one_run(regional, latent, part, base_steps, backend)
    if run is None:
        return _step_by_step(regional, latent, part, base_steps, backend)
    bar = backend.progress(len(run.sigmas) - 1)
    samples = sampled(run, lambda step, _, denoised: bar(step + 1, run.model, denoised), backend)
    check_samples(samples, "The latent sampled by regions", run.latent)
    return with_samples(latent, samples)


def _one_run(
    regional: Regional, latent: dict, part: SchedulePart, base_steps: int, backend: Backend
) -> SamplerRun | None:
    """The run of the base with the regions as layers. None: they cannot be sampled in one run."""
    samplers = [regional.base, *(region.sampler for region in regional.regions)]
    if not all(isinstance(sampler, AdvancedKSampler) for sampler in samplers):
        return None
    if regional.regions and (not regional.together or is_nested(latent["samples"])):
        return None
    base, *others = (make_run(own.setup, latent, part, backend) for own in samplers)
    if base is None or not all(_alike(base, other) for other in others):
        return None
    if not backend.share_a_latent([base.model, *(other.model for other in others)]):
        return None
    begins = float(base.sigmas[min(base_steps, len(base.sigmas) - 1)])
    return replace(
        base,
        layers=tuple(
            Layer(run.model, run.positive, run.negative, run.cfg, region.weight, begins)
            for region, run in zip(regional.regions, others, strict=True)
        ),
    )


def _alike(run: SamplerRun, other: SamplerRun | None) -> bool:
    return (
        other is not None
        and (run.sampler_name, run.sampler) == (other.sampler_name, other.sampler)
        and torch.equal(run.sigmas, other.sigmas)
        and torch.equal(run.schedule, other.schedule)
    )


def _step_by_step(
    regional: Regional, latent: dict, part: SchedulePart, base_steps: int, backend: Backend
) -> dict:
    """Sample step by step: in each step every sampler runs by itself."""
    window, noise = part.window, part.noise
    alone = min(base_steps, window.steps)
    bar = backend.progress(max(1, window.steps))
    if alone > 0:
        first = replace(
            part,
            window=Window(window.total, window.start, window.start + alone),
            leftover=part.leftover or alone < window.steps,
        )
        (latent,) = run_pipelines(
            [_pipeline(regional.base, latent, first, regional.recovery, backend)], backend
        )
        noise = None
        bar(alone, None, None)
    for number in range(alone, window.steps):
        backend.check_interrupt()
        first = window.start + number
        step = replace(
            part,
            window=Window(window.total, first, first + 1),
            noise=noise,
            leftover=part.leftover or number < window.steps - 1,
            number=part.number + number,
        )
        # In the step that adds the noise all regions start from the same latent: each run adds it.
        one_by_one = not regional.together and noise is None
        latent = (_one_by_one if one_by_one else _side_by_side)(regional, latent, step, backend)
        noise = None
        bar(number + 1, None, None)
    return latent


def _side_by_side(regional: Regional, latent: dict, part: SchedulePart, backend: Backend) -> dict:
    samplers = [regional.base, *(region.sampler for region in regional.regions)]
    pipelines = [
        _pipeline(sampler, latent, part, regional.recovery, backend) for sampler in samplers
    ]
    base, *others = run_pipelines(pipelines, backend)
    samples = picture(base["samples"])
    for region, result in zip(regional.regions, others, strict=True):
        own = checked_calls.like(_source(region.sampler), picture(result["samples"]), samples).to(
            samples
        )
        samples = torch.lerp(samples, own, region.weight.to(samples))
    return with_samples(latent, with_picture(base["samples"], samples))


def _one_by_one(regional: Regional, latent: dict, part: SchedulePart, backend: Backend) -> dict:
    """Run the samplers one after another, each from the result of the one before.

    In total every place of the latent is sampled by one step.
    """
    samplers = [regional.base, *(region.sampler for region in regional.regions)]
    shares = shares_of([region.weight for region in regional.regions])
    for sampler, share in zip(samplers, shares, strict=True):
        before = latent["samples"]
        streams_too = sampler is regional.base and is_nested(before)  # the base samples them all
        if not (share.any() or streams_too):
            continue
        (result,) = run_pipelines(
            [_pipeline(sampler, latent, part, regional.recovery, backend)], backend
        )
        own = picture(before)
        other = checked_calls.like(_source(sampler), picture(result["samples"]), own)
        own = torch.lerp(own, other.to(own), share.to(own))
        latent = with_samples(
            latent, with_picture(result["samples"] if streams_too else before, own)
        )
    return latent


def _pipeline(
    sampler: Any, latent: dict, part: SchedulePart, recovery: Recovery, backend: Backend
) -> Pipeline[dict]:
    """The pipeline of one sampler. A sampler of another pack makes no request and runs alone."""
    if isinstance(sampler, AdvancedKSampler):
        return (yield from sampler.pipeline(latent, part, recovery, backend))
    source = _source(sampler)
    sample = source.method(sampler, "sample_advanced")
    with seeded_globals(seed_for(part.seed, part.number)):  # it may draw from any of them
        result = source.call(
            sample, part.noise is not None, part.seed, part.window.total, dict(latent),
            part.window.start, part.window.end, part.leftover, recovery_mode=recovery.mode,
            recovery_sampler=recovery.sampler, recovery_sigma_ratio=recovery.ratio,
        )  # fmt: skip
    return checked_calls.sampled(source, result, latent)


def _source(sampler: Any) -> Source:
    return Source.of("The KSAMPLER_ADVANCED", sampler, "sample_advanced", "Connect another one.")


# The nodes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seeds:
    """The seed of the steps that the base samples alone, and that of the steps by regions."""

    first: int
    second: int = 0
    mode: str = SECOND_SEED_MODES[0]

    @property
    def goes_on(self) -> bool:
        """Whether the regions continue with the noise that the base has left in the latent."""
        return self.mode == "ignore"

    @property
    def later(self) -> int:
        """The seed of the steps by regions."""
        if self.goes_on:
            return self.first
        if self.mode == "seed+seed_2nd":
            total = self.first + self.second
            return total - _SEEDS if total > _SEEDS else total
        if self.mode == "seed-seed_2nd":
            rest = self.first - self.second
            return rest + _SEEDS if rest < 0 else rest
        return self.second


def sample_base_then_regions(
    regional: Regional,
    prompts: Sequence[Any],
    latent: dict,
    window: Window,
    seeds: Seeds,
    base_steps: int,
    backend: Backend,
) -> dict:
    """Sample the first steps with the base alone, and the other steps by regions.

    Args:
        prompts: the REGIONAL_PROMPTS. They may vary the noise.
        latent: a LATENT from `fitted`.
        base_steps: number of steps that the base samples alone.
    """
    noise = region_noise(latent, seeds.first, prompts)
    if seeds.goes_on:
        part = SchedulePart(window, seeds.first, noise)
        return sample_regions(regional, latent, part, backend, base_steps)
    base_end = min(window.start + base_steps, window.end)
    if base_end > window.start:
        part = SchedulePart(Window(window.total, window.start, base_end), seeds.first, noise)
        latent = sample_regions(replace(regional, regions=()), latent, part, backend)
    noise = region_noise(latent, seeds.later, prompts)
    part = SchedulePart(Window(window.total, base_end, window.end), seeds.later, noise)
    return sample_regions(regional, latent, part, backend)


def region_noise(latent: dict, seed: int, prompts: Sequence[Any] = ()) -> torch.Tensor:
    """The noise from which sampling starts, in the shape of the latent's samples.

    Args:
        latent: a LATENT with samples [B,C,h,w] or [B,C,T,h,w].
        prompts: REGIONAL_PROMPTS; those with a variation change the noise inside their masks.
    """
    noise = start_noise(latent["samples"], seed, rows=latent.get("batch_index"))
    for prompt in prompts:
        if hasattr(prompt, "touch_noise"):
            source = Source.of("An entry of 'regional_prompts',", prompt, "touch_noise", _FROM)
            changed = source.call(prompt.touch_noise, noise)
            checked_calls.noise(source, picture(changed), picture(noise))
            noise = changed
    return noise


def sample_two(
    base: Any,
    inner: Any,
    mask: torch.Tensor,
    latent: dict,
    window: Window,
    seed: int,
    overlap: int,
    backend: Backend,
    *,
    together: bool = True,
) -> dict:
    """Sample the part outside of a mask with one KSAMPLER_ADVANCED, the part inside with another.

    Args:
        base: the KSAMPLER_ADVANCED for the part outside.
        inner: the KSAMPLER_ADVANCED for the part inside.
        mask: [B,H,W] 0..1. It is rounded to 0 and 1 in the latent's resolution.
        overlap: the mask is grown by a window of this many latent pixels.
        together: see `Regional`.
    """
    latent = fitted(base, latent, backend)
    samples = latent["samples"]
    weight = for_latent(mask, samples).round()
    weight = dilate(_flat(weight), overlap).view_as(weight)
    regional = Regional(base, [Region(inner, weight)], Recovery(), together)
    return sample_regions(
        regional, latent, SchedulePart(window, seed, region_noise(latent, seed)), backend
    )


def fitted(base: Any, latent: dict, backend: Backend) -> dict:
    """The LATENT in the form that the base sampler's model needs, without its noise mask.

    The regions replace the noise mask.
    """
    if isinstance(base, AdvancedKSampler):
        latent = with_samples(latent, backend.fitted_latent(base.setup.model, latent))
    return without_mask(latent)
