"""Sampling several regions of one latent, each with a sampler and a prompt of its own.

Where all have the same sampler and schedule, one run of it makes the whole picture: at every step
what the models make of the latent is put together by the masks. So the sampler's memory of earlier
steps and the noise that it draws are those of any run. Otherwise each step of each sampler is a run
of its own, and the latents are put together.
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

# Seeds that are added to one another stay below this: ComfyUI-Impact-Pack's figure, so that shared
# workflows go on from the same seed.
_SEEDS = 1125899906842624
SECOND_SEED_MODES = (
    "ignore", "fixed", "seed+seed_2nd", "seed-seed_2nd", "increment", "decrement", "randomize",
)  # fmt: skip
_FROM = "Take entries of RegionalPrompt."
VARIATION_METHODS = ("linear", "slerp")


class RegionalPrompt:
    """An entry of REGIONAL_PROMPTS: what a part of the picture is sampled with.

    Packs that bring such entries of their own, or change these, use these attributes and methods.
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
            mask: [B,H,W] 0..1; several are united.
            sampler: a KSAMPLER_ADVANCED.
            variation_seed, variation_strength, variation_method: of the noise that is mixed into
                the region's, as in `mix_noise`.
        """
        self.mask, self.sampler = union(mask)[0], sampler
        self.variation_seed, self.variation_strength = variation_seed, variation_strength
        self.variation_method = variation_method

    def clone_with_sampler(self, sampler: Any) -> RegionalPrompt:
        return RegionalPrompt(
            self.mask[None], sampler, self.variation_seed, self.variation_strength,
            self.variation_method,
        )  # fmt: skip

    def get_mask_erosion(self, factor: int) -> torch.Tensor:
        """The mask [1,1,H,W], hard, and grown by a window of `factor` pixels."""
        return dilate(self.mask[None].round(), factor)[None]

    def touch_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """The latent's noise with that of the variation seed mixed in, inside the mask."""
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
    weight: torch.Tensor  # [1,1,(T),h,w] 0..1 in the latent's resolution


@dataclass(frozen=True)
class Regional:
    """How a latent is sampled by regions."""

    base: Any  # the KSAMPLER_ADVANCED of what lies outside of all regions
    regions: Sequence[Region]  # later ones lie on top of earlier ones
    recovery: Recovery
    together: bool = True  # False: one region after another, each seeing what was done before


def regions_of(prompts: Sequence[Any], samples: torch.Tensor, overlap: int) -> list[Region]:
    """The regions of REGIONAL_PROMPTS, grown by a window of `overlap` pixels of their masks."""
    return [_region(prompt, samples, overlap) for prompt in prompts]


def _region(prompt: Any, samples: torch.Tensor, overlap: int) -> Region:
    """One of the regions; an entry may be another pack's."""
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
        latent: as `fitted` gives it.
        base_steps: how many steps the base does alone first.
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
    """The base's run with the regions as layers; None where they cannot be of one run."""
    samplers = [regional.base, *(region.sampler for region in regional.regions)]
    if not all(isinstance(sampler, AdvancedKSampler) for sampler in samplers):
        return None
    if regional.regions and (not regional.together or is_nested(latent["samples"])):
        return None
    base, *others = (make_run(own.recipe, latent, part, backend) for own in samplers)
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
    """Each step of each sampler by itself."""
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
        # Without its noise a latent cannot be told from one that has gone a step on.
        in_turn = not regional.together and noise is None
        latent = (_in_turn if in_turn else _side_by_side)(regional, latent, step, backend)
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


def _in_turn(regional: Regional, latent: dict, part: SchedulePart, backend: Backend) -> dict:
    """One after another, each from what was done before; every place goes on by one step."""
    samplers = [regional.base, *(region.sampler for region in regional.regions)]
    shares = shares_of([region.weight for region in regional.regions])
    for sampler, share in zip(samplers, shares, strict=True):
        before = latent["samples"]
        streams_too = sampler is regional.base and is_nested(before)  # the base's are the others
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
    """The way of one sampler; one of another pack samples at once, by itself."""
    if isinstance(sampler, AdvancedKSampler):
        return (yield from sampler.pipeline(latent, part, recovery, backend))
    source = _source(sampler)
    sample = source.method(sampler, "sample_advanced")
    with seeded_globals(seed_for(part.seed, part.number)):  # whatever it may draw from
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
    """The seed of the base's own steps, and what the regions' steps go on from."""

    first: int
    second: int = 0
    mode: str = SECOND_SEED_MODES[0]

    @property
    def goes_on(self) -> bool:
        """Whether the regions go on from the noise that the base's steps leave."""
        return self.mode == "ignore"

    @property
    def later(self) -> int:
        """The seed of the regions' steps."""
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
    """Sample the first steps with the base alone, and the others by regions.

    Args:
        prompts: the REGIONAL_PROMPTS, for the variation of the noise.
        latent: as `fitted` gives it.
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
    """The noise that sampling starts from, varied inside the regions that ask for that."""
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
    """Sample what a mask leaves out with one KSAMPLER_ADVANCED, what it covers with another.

    Args:
        mask: [B,H,W] 0..1; it is made hard in the latent's resolution.
        overlap: by how many latent pixels the window is wide that the mask grows by.
        together: as of `Regional`.
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
    """The LATENT as the base sampler's model wants it, without the noise mask, which regions take
    the place of."""
    if isinstance(base, AdvancedKSampler):
        latent = with_samples(latent, backend.fitted_latent(base.recipe.model, latent))
    return without_mask(latent)
