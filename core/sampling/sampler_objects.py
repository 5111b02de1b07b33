"""KSAMPLER and KSAMPLER_ADVANCED: samplers with all their settings, as one object over a link.

Packs that bring such objects of their own, or use these, call the public methods by these names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...utils.notes import note
from .. import checked_calls
from ..backend import Backend
from ..checked_calls import Source
from ..pixels.mask import for_latent
from ..settings import Conditioning
from ..streams import mask_for_streams, picture, with_picture
from .faults import check_samples
from .latent import (
    Denoising,
    SamplerSetup,
    SchedulePart,
    make_run,
    noise_for,
    sample_latent,
    with_samples,
    without_mask,
)
from .scheduler import Pipeline, Sample, run_pipelines
from .sigmas import Window

# Samplers that do nothing where each step is a run of its own; another one may take such steps.
_NOTHING_ALONE = frozenset({"uni_pc", "uni_pc_bh2"})
_STAND_IN = "dpmpp_2m"
# Samplers whose single steps add up to another picture, as they guide by the step before.
_OTHER_ALONE = frozenset({
    "dpmpp_2m_cfg_pp", "res_multistep_cfg_pp", "res_multistep_ancestral_cfg_pp",
    "gradient_estimation_cfg_pp",
})  # fmt: skip
RECOVERY_MODES = ("DISABLE", "ratio additional", "ratio between")
RECOVERY_SAMPLERS = (
    "AUTO", "euler", "heun", "heunpp2", "dpm_2", "dpm_fast", "dpmpp_2m", "ddpm",
)  # fmt: skip


class KSampler:
    """A KSAMPLER: samples a whole latent."""

    def __init__(
        self, recipe: SamplerSetup, denoising: Denoising, backend: Callable[[], Backend]
    ) -> None:
        """
        Args:
            backend: makes a Backend for each run.
        """
        self.recipe, self.denoising, self.backend = recipe, denoising, backend

    @property
    def params(self) -> tuple:
        """Model, seed, steps, cfg, sampler, scheduler, positive, negative and denoise."""
        how, part = self.recipe, self.denoising
        return (
            how.model, part.seed, part.steps, how.cfg, how.sampler_name, how.scheduler,
            how.positive, how.negative, part.denoise,
        )  # fmt: skip

    def sample(self, latent_image: dict, hook: Any = None, place: tuple[int, int] = (0, 1)) -> dict:
        """The latent sampled; `hook` is a PK_HOOK, `place` as in `sampling.sample_part`."""
        return sample_latent(self.recipe, self.denoising, latent_image, self.backend(), hook, place)

    def with_conditioning(self, positive: Conditioning, negative: Conditioning | str) -> KSampler:
        recipe = replace(self.recipe, positive=positive, negative=negative)
        return KSampler(recipe, self.denoising, self.backend)


@dataclass(frozen=True)
class Recovery:
    """What is done about samplers that cannot take single steps.

    A second sampler takes such steps in their place. Samplers of other packs are told all of it:
    theirs may lose noise in single steps, which the second sampler then makes up for at `ratio` of
    the noise levels.
    """

    mode: str = "ratio additional"  # one of RECOVERY_MODES
    sampler: str = "AUTO"  # one of RECOVERY_SAMPLERS
    ratio: float = 1.0  # 0..1

    def for_steps(self, sampler_name: str, steps: int) -> str:
        """The sampler that takes so many steps of a schedule in one go.

        Raises:
            ValueError: the sampler cannot, and the mode allows no other.
        """
        replaced = sampler_name in _NOTHING_ALONE
        if steps != 1 or not (replaced or sampler_name in _OTHER_ALONE):
            return sampler_name
        if self.mode == "DISABLE" or not replaced:
            names = ", ".join(sorted(_NOTHING_ALONE | _OTHER_ALONE))
            remedy = "set 'additional_mode' so that another sampler takes such steps, "
            raise ValueError(
                f"'sampler_name' is {sampler_name!r}, which cannot take steps one by one. Regions "
                "take them so where their samplers differ or they go one after another. Give the "
                "base and all regions the same sampler and schedule and enable 'restore_latent', "
                f"{remedy if replaced else ''}or choose a sampler that is none of: {names}."
            )
        other = _STAND_IN if self.sampler == "AUTO" else self.sampler
        note(
            "sampler",
            f"{sampler_name} cannot take steps one by one, so {other} takes them. Regions with one "
            "and the same sampler and schedule are sampled in one run and need no other.",
        )
        return other


class AdvancedKSampler:
    """A KSAMPLER_ADVANCED: samples from one step of a schedule to another."""

    def __init__(self, recipe: SamplerSetup, backend: Callable[[], Backend]) -> None:
        """`backend` makes a Backend for each run."""
        self.recipe, self.backend = recipe, backend

    @property
    def params(self) -> tuple:
        """Model, cfg, sampler, scheduler, positive and negative; other packs take it apart."""
        how = self.recipe
        return (
            how.model, how.cfg, how.sampler_name, how.scheduler, how.positive, how.negative
        )  # fmt: skip

    @property
    def sampler_opt(self) -> Any:
        return self.recipe.sampler

    @property
    def scheduler_func(self) -> Any:
        return self.recipe.scheduler_func

    def clone_with_conditionings(
        self, positive: Conditioning, negative: Conditioning | str
    ) -> AdvancedKSampler:
        recipe = replace(self.recipe, positive=positive, negative=negative)
        return AdvancedKSampler(recipe, self.backend)

    def sample_advanced(
        self,
        add_noise: bool | str,
        seed: int,
        steps: int,
        latent_image: dict,
        start_at_step: int,
        end_at_step: int,
        return_with_leftover_noise: bool | str,
        hook: Any = None,
        recovery_mode: str = "ratio additional",
        recovery_sampler: str = "AUTO",
        recovery_sigma_ratio: float = 1.0,
        noise: torch.Tensor | None = None,
    ) -> dict:
        """Sample a part of a schedule; on and off may also be "enable" and "disable".

        Args:
            hook: not used.
            noise: added instead of the seed's, where noise is added.
        """
        backend = self.backend()
        if not is_on(add_noise):
            noise = None
        elif noise is None:
            noise = noise_for(self.recipe, latent_image, seed, backend)
        window = Window(steps, start_at_step, min(end_at_step, steps))
        part = SchedulePart(window, seed, noise, is_on(return_with_leftover_noise))
        recovery = Recovery(recovery_mode, recovery_sampler, recovery_sigma_ratio)
        return run_pipelines([self.pipeline(latent_image, part, recovery, backend)], backend)[0]

    def pipeline(
        self, latent: dict, part: SchedulePart, recovery: Recovery, backend: Backend
    ) -> Pipeline[dict]:
        """The way of a latent through a part of the schedule; see `core/sampling/scheduler.py`."""
        recipe = self.recipe
        if recipe.sampler is None:
            name = recovery.for_steps(recipe.sampler_name, part.window.steps)
            recipe = replace(recipe, sampler_name=name)
        result = with_samples(latent, backend.fitted_latent(recipe.model, latent))
        run = make_run(recipe, result, part, backend)
        if run is None:
            return result
        samples = yield Sample(run, lambda step, total, denoised: None)
        check_samples(samples, "The sampled latent", run.latent)
        return with_samples(result, samples)


def is_on(value: bool | str) -> bool:
    """A switch of a sampler, which may also be "enable" or "disable"."""
    return value not in (False, "disable")


def sampled_by(sampler: Any, latent: dict, *hook: Any) -> dict:
    """A LATENT sampled by a KSAMPLER of any pack.

    Raises:
        ValueError, RuntimeError: it is none, it raised, or it gave no latent.
    """
    source = _source(sampler)
    sample = source.method(sampler, "sample")
    return checked_calls.sampled(source, source.call(sample, latent, *hook), latent)


def _source(sampler: Any) -> Source:
    return Source.of("The KSAMPLER", sampler, "sample", "Connect another one.")


def sample_in_mask(
    latent: dict, base: Any, inner: Any, mask: torch.Tensor, *, apart: bool = False
) -> dict:
    """Sample what a mask leaves out with one KSAMPLER, and then what it covers with another.

    Both work where the mask is neither 0 nor 1. Streams besides the picture are the first one's.

    Args:
        mask: [B,H,W] 0..1.
        apart: both begin with the latent as it is here, and the mask mixes their results; else the
            second one goes on from what the first one gives.
    """
    if apart:
        return _mixed(latent, base, inner, mask)
    outside = mask_for_streams((mask != 1).float(), latent["samples"], others=1.0)
    latent = sampled_by(base, {**latent, "noise_mask": outside})
    result = sampled_by(inner, {**latent, "noise_mask": mask})
    below, own = picture(latent["samples"]), picture(result["samples"])
    checked_calls.like(_source(inner), own, below)
    # Exactly as before outside of the mask: not every sampler ends without noise there.
    own = torch.where(for_latent(mask, own) == 0, below.to(own), own)
    return without_mask({**result, "samples": with_picture(result["samples"], own)})


def _mixed(latent: dict, base: Any, inner: Any, mask: torch.Tensor) -> dict:
    share = for_latent(mask, picture(latent["samples"])).clamp(0, 1)
    flat = share.reshape(-1, *share.shape[-2:])
    outside = mask_for_streams((flat != 1).float(), latent["samples"], others=1.0)
    below = sampled_by(base, {**latent, "noise_mask": outside})
    result = sampled_by(inner, {**latent, "noise_mask": (flat != 0).float()})
    own = picture(below["samples"])
    other = checked_calls.like(_source(inner), picture(result["samples"]), own)
    own = torch.lerp(own, other.to(own), share.to(own))
    return without_mask({**below, "samples": with_picture(below["samples"], own)})
