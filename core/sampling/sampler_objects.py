"""KSAMPLER and KSAMPLER_ADVANCED: objects that hold a sampler and all its settings.

Other packs make objects with the same public methods, or call those of these objects. So the names
of these methods must not change.
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

# Samplers that do nothing in a run of a single step. Another sampler may run such steps.
_NOTHING_ALONE = frozenset({"uni_pc", "uni_pc_bh2"})
_STAND_IN = "dpmpp_2m"
# Samplers whose guidance uses the previous step, so that runs of single steps give another picture.
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
        self, setup: SamplerSetup, denoising: Denoising, backend: Callable[[], Backend]
    ) -> None:
        """
        Args:
            backend: makes a Backend for each run.
        """
        self.setup, self.denoising, self.backend = setup, denoising, backend

    @property
    def params(self) -> tuple:
        """Model, seed, steps, cfg, sampler, scheduler, positive, negative and denoise."""
        setup, part = self.setup, self.denoising
        return (
            setup.model, part.seed, part.steps, setup.cfg, setup.sampler_name, setup.scheduler,
            setup.positive, setup.negative, part.denoise,
        )  # fmt: skip

    def sample(self, latent_image: dict, hook: Any = None, place: tuple[int, int] = (0, 1)) -> dict:
        """Sample a LATENT. `hook` is a PK_HOOK; for `place` see `latent.sample_part`."""
        return sample_latent(self.setup, self.denoising, latent_image, self.backend(), hook, place)

    def with_conditioning(self, positive: Conditioning, negative: Conditioning | str) -> KSampler:
        """The same sampler with other conditionings."""
        setup = replace(self.setup, positive=positive, negative=negative)
        return KSampler(setup, self.denoising, self.backend)


@dataclass(frozen=True)
class Recovery:
    """How to sample single steps with samplers that cannot run them.

    A second sampler runs these steps instead. Samplers of other packs get all of these settings: if
    they lose noise in single steps, they restore it with the second sampler at `ratio` times the
    noise levels.
    """

    mode: str = "ratio additional"  # one of RECOVERY_MODES
    sampler: str = "AUTO"  # one of RECOVERY_SAMPLERS
    ratio: float = 1.0  # 0..1

    def for_steps(self, sampler_name: str, steps: int) -> str:
        """The name of the sampler for a run of this number of steps.

        Raises:
            ValueError: the sampler cannot run a single step, and no other one may replace it.
        """
        replaced = sampler_name in _NOTHING_ALONE
        if steps != 1 or not (replaced or sampler_name in _OTHER_ALONE):
            return sampler_name
        if self.mode == "DISABLE" or not replaced:
            names = ", ".join(sorted(_NOTHING_ALONE | _OTHER_ALONE))
            remedy = "set 'additional_mode' so that another sampler runs single steps, "
            raise ValueError(
                f"'sampler_name' is {sampler_name!r}, which cannot sample single steps. Regions "
                "are sampled in single steps if their samplers differ, or if they are sampled one "
                "after another. Give the base and all regions the same sampler and schedule and "
                f"turn 'restore_latent' on, {remedy if replaced else ''}or choose a sampler that "
                f"is not one of these: {names}."
            )
        other = _STAND_IN if self.sampler == "AUTO" else self.sampler
        note(
            "sampler",
            f"{sampler_name} cannot sample single steps, so {other} samples them instead. This is "
            "not needed if the base and all regions have the same sampler and schedule.",
        )
        return other


class AdvancedKSampler:
    """A KSAMPLER_ADVANCED: samples the steps of a schedule from a first one to a last one."""

    def __init__(self, setup: SamplerSetup, backend: Callable[[], Backend]) -> None:
        """`backend` makes a Backend for each run."""
        self.setup, self.backend = setup, backend

    @property
    def params(self) -> tuple:
        """Model, cfg, sampler, scheduler, positive and negative. Other packs unpack this tuple."""
        setup = self.setup
        return (
            setup.model, setup.cfg, setup.sampler_name, setup.scheduler, setup.positive,
            setup.negative,
        )  # fmt: skip

    @property
    def sampler_opt(self) -> Any:
        """The SAMPLER object that is used instead of the sampler's name, or None."""
        return self.setup.sampler

    @property
    def scheduler_func(self) -> Any:
        """The SCHEDULER_FUNC that is used instead of the scheduler's name, or None."""
        return self.setup.scheduler_func

    def clone_with_conditionings(
        self, positive: Conditioning, negative: Conditioning | str
    ) -> AdvancedKSampler:
        """The same sampler with other conditionings."""
        setup = replace(self.setup, positive=positive, negative=negative)
        return AdvancedKSampler(setup, self.backend)

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
        """Sample the steps of a schedule from `start_at_step` to `end_at_step`.

        Args:
            add_noise, return_with_leftover_noise: True or "enable", False or "disable".
            latent_image: a LATENT.
            hook: not used.
            noise: of the shape of the LATENT's samples ([B,C,h,w] or [B,C,T,h,w]). It is added
                instead of the noise of the seed.

        Raises:
            ValueError: the sampler cannot run a single step, or the result is not finite.
        """
        backend = self.backend()
        if not is_on(add_noise):
            noise = None
        elif noise is None:
            noise = noise_for(self.setup, latent_image, seed, backend)
        window = Window(steps, start_at_step, min(end_at_step, steps))
        part = SchedulePart(window, seed, noise, is_on(return_with_leftover_noise))
        recovery = Recovery(recovery_mode, recovery_sampler, recovery_sigma_ratio)
        return run_pipelines([self.pipeline(latent_image, part, recovery, backend)], backend)[0]

    def pipeline(
        self, latent: dict, part: SchedulePart, recovery: Recovery, backend: Backend
    ) -> Pipeline[dict]:
        """Sample a part of the schedule as a pipeline; see `core/sampling/scheduler.py`.

        Raises:
            ValueError: the sampler cannot run a single step, or the result is not finite.
        """
        setup = self.setup
        if setup.sampler is None:
            name = recovery.for_steps(setup.sampler_name, part.window.steps)
            setup = replace(setup, sampler_name=name)
        result = with_samples(latent, backend.fitted_latent(setup.model, latent))
        run = make_run(setup, result, part, backend)
        if run is None:
            return result
        samples = yield Sample(run, lambda step, total, denoised: None)
        check_samples(samples, "The sampled latent", run.latent)
        return with_samples(result, samples)


def is_on(value: bool | str) -> bool:
    """Whether a setting is on. It is True or "enable", False or "disable"."""
    return value not in (False, "disable")


def sampled_by(sampler: Any, latent: dict, *hook: Any) -> dict:
    """Sample a LATENT with a KSAMPLER of any pack.

    Raises:
        ValueError: the object is no KSAMPLER, or it gave no latent.
        RuntimeError: the KSAMPLER raised an error.
    """
    source = _source(sampler)
    sample = source.method(sampler, "sample")
    return checked_calls.sampled(source, source.call(sample, latent, *hook), latent)


def _source(sampler: Any) -> Source:
    return Source.of("The KSAMPLER", sampler, "sample", "Connect another one.")


def sample_in_mask(
    latent: dict, base: Any, inner: Any, mask: torch.Tensor, *, apart: bool = False
) -> dict:
    """Sample the part outside of a mask with one KSAMPLER, and the part inside with another.

    Where the mask is neither 0 nor 1, both sample. The first one also samples the streams besides
    the picture.

    Args:
        base: the KSAMPLER for the part outside.
        inner: the KSAMPLER for the part inside.
        mask: [B,H,W] 0..1.
        apart: True: both start from the same latent, and the mask mixes their results. False: the
            second one starts from the result of the first one.
    """
    if apart:
        return _mixed(latent, base, inner, mask)
    outside = mask_for_streams((mask != 1).float(), latent["samples"], others=1.0)
    latent = sampled_by(base, {**latent, "noise_mask": outside})
    result = sampled_by(inner, {**latent, "noise_mask": mask})
    below, own = picture(latent["samples"]), picture(result["samples"])
    checked_calls.like(_source(inner), own, below)
    # The latent stays exactly the same outside of the mask: some samplers leave noise there.
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
