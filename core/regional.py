"""Sampling several regions of one latent, each with a sampler and a prompt of its own.

At every step of the schedule the base sampler and the regions' work from the same latent, as rows
of one batch where their settings allow it, and their results are put together by the masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .backend import Backend
from .mask import dilate, for_latent, union
from .random_state import seeded_globals
from .samplers import AdvancedKSampler, Recovery
from .sampling import Part, with_samples
from .schedule import Window, mix_noise, seed_for, start_noise
from .streams import mask_for_streams, picture, with_picture
from .waves import Road, walk

# Seeds that are added to one another stay below this: ComfyUI-Impact-Pack's figure, so that shared
# workflows go on from the same seed.
_SEEDS = 1125899906842624
SECOND_SEED_MODES = (
    "ignore", "fixed", "seed+seed_2nd", "seed-seed_2nd", "increment", "decrement", "randomize",
)  # fmt: skip
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
    return [
        Region(
            prompt.sampler,
            for_latent(_flat(prompt.get_mask_erosion(overlap)), samples).clamp(0, 1),
        )
        for prompt in prompts
    ]


def _flat(mask: torch.Tensor) -> torch.Tensor:
    """A mask of any number of axes as [N,H,W]."""
    return mask.reshape(-1, *mask.shape[-2:])


def sample_regions(
    regional: Regional,
    latent: dict,
    window: Window,
    seed: int,
    noise: torch.Tensor | None,
    backend: Backend,
    *,
    leftover: bool = False,
) -> dict:
    """Sample a part of a schedule step by step.

    Args:
        latent: as `fitted` gives it.
        noise: added to the latent before the first step; None adds none.
        leftover: leave the noise in that steps after the window would remove.
    """
    bar = backend.progress(max(1, window.steps))
    for number in range(window.steps):
        backend.check_interrupt()
        first = window.start + number
        is_last = number == window.steps - 1
        part = Part(
            Window(window.total, first, first + 1), seed, noise if number == 0 else None,
            leftover or not is_last, first,
        )  # fmt: skip
        step = _side_by_side if regional.together or not regional.regions else _in_turn
        latent = step(regional, latent, part, backend)
        bar(number + 1, None, None)
    return latent


def _without_mask(latent: dict) -> dict:
    return {key: value for key, value in latent.items() if key != "noise_mask"}


def _side_by_side(regional: Regional, latent: dict, part: Part, backend: Backend) -> dict:
    samplers = [regional.base, *(region.sampler for region in regional.regions)]
    roads = [_road(sampler, latent, part, regional.recovery, backend) for sampler in samplers]
    base, *others = walk(roads, backend)
    samples = picture(base["samples"])
    for region, result in zip(regional.regions, others, strict=True):
        own = picture(result["samples"]).to(samples)
        samples = torch.lerp(samples, own, region.weight.to(samples))
    return with_samples(latent, with_picture(base["samples"], samples))


def _in_turn(regional: Regional, latent: dict, part: Part, backend: Backend) -> dict:
    covered = torch.zeros(())
    for region in regional.regions:
        covered = torch.maximum(covered.to(region.weight), region.weight)
    turns = [(regional.base, (covered < 1).float())]
    turns += [(region.sampler, region.weight) for region in regional.regions]
    for sampler, weight in turns:
        if weight.any():
            others = 1.0 if sampler is regional.base else 0.0  # whose the other streams are
            mask = mask_for_streams(_flat(weight), latent["samples"], others)
            before, masked = latent, {**latent, "noise_mask": mask}
            (latent,) = walk([_road(sampler, masked, part, regional.recovery, backend)], backend)
            if part.noise is None:  # exactly as before outside, whatever the sampler
                kept = picture(before["samples"])
                own = picture(latent["samples"]).to(kept)
                samples = torch.where(weight.to(kept) > 0, own, kept)
                latent = with_samples(latent, with_picture(latent["samples"], samples))
            latent, part = _without_mask(latent), replace(part, noise=None)
    return latent


def _road(
    sampler: Any, latent: dict, part: Part, recovery: Recovery, backend: Backend
) -> Road[dict]:
    """The way of one sampler; one of another pack samples at once, by itself."""
    if isinstance(sampler, AdvancedKSampler):
        return (yield from sampler.road(latent, part, recovery, backend))
    with seeded_globals(seed_for(part.seed, part.number)):  # whatever it may draw from
        return sampler.sample_advanced(
            part.noise is not None, part.seed, part.window.total, dict(latent), part.window.start,
            part.window.end, part.leftover, recovery_mode=recovery.mode,
            recovery_sampler=recovery.sampler, recovery_sigma_ratio=recovery.ratio,
        )  # fmt: skip


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
    base_end = min(window.start + base_steps, window.end)
    noise = region_noise(latent, seeds.first, prompts)
    if base_end > window.start:
        part = Part(Window(window.total, window.start, base_end), seeds.first, noise, seeds.goes_on)
        road = _road(regional.base, latent, part, Recovery("DISABLE"), backend)
        (latent,) = walk([road], backend)
        noise = None
    if not seeds.goes_on:
        noise = region_noise(latent, seeds.later, prompts)
    rest = Window(window.total, base_end, window.end)
    return sample_regions(regional, latent, rest, seeds.later, noise, backend)


def region_noise(latent: dict, seed: int, prompts: Sequence[Any] = ()) -> torch.Tensor:
    """The noise that sampling starts from, varied inside the regions that ask for that."""
    noise = start_noise(latent["samples"], seed, rows=latent.get("batch_index"))
    for prompt in prompts:
        if hasattr(prompt, "touch_noise"):
            noise = prompt.touch_noise(noise)
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
) -> dict:
    """Sample what a mask leaves out with one KSAMPLER_ADVANCED, what it covers with another.

    Args:
        mask: [B,H,W] 0..1; it is made hard in the latent's resolution.
        overlap: by how many latent pixels the window is wide that the mask grows by.
    """
    latent = fitted(base, latent, backend)
    samples = latent["samples"]
    weight = for_latent(mask, samples).round()
    weight = dilate(_flat(weight), overlap).view_as(weight)
    regional = Regional(base, [Region(inner, weight)], Recovery())
    return sample_regions(regional, latent, window, seed, region_noise(latent, seed), backend)


def fitted(base: Any, latent: dict, backend: Backend) -> dict:
    """The LATENT as the base sampler's model wants it, without the noise mask, which regions take
    the place of."""
    if isinstance(base, AdvancedKSampler):
        latent = with_samples(latent, backend.fitted_latent(base.recipe.model, latent))
    return _without_mask(latent)
