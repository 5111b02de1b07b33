"""KSAMPLER and KSAMPLER_ADVANCED: samplers with all their settings, as one object over a link.

Packs that bring such objects of their own, or use these, call the public methods by these names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from .backend import Backend
from .sampling import Part, Recipe, make_run, noise_for, sample_latent, with_samples
from .schedule import Window
from .settings import Conditioning, Sampling
from .streams import mask_for_streams
from .waves import Road, Sample, walk

# Samplers that single steps leave with too little of the noise that they take from their own past.
_RECOVERED = frozenset({
    "uni_pc", "uni_pc_bh2", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu",
    "dpmpp_3m_sde", "dpmpp_3m_sde_gpu",
})  # fmt: skip
_RECOVERED_FAST = frozenset({"uni_pc", "uni_pc_bh2", "dpmpp_sde", "dpmpp_sde_gpu"})
RECOVERY_MODES = ("DISABLE", "ratio additional", "ratio between")
RECOVERY_SAMPLERS = (
    "AUTO", "euler", "heun", "heunpp2", "dpm_2", "dpm_fast", "dpmpp_2m", "ddpm",
)  # fmt: skip


class KSampler:
    """A KSAMPLER: samples a whole latent."""

    def __init__(self, recipe: Recipe, sampling: Sampling, backend: Callable[[], Backend]) -> None:
        """
        Args:
            sampling: seed, steps and denoise; the rest is the recipe's.
            backend: makes a Backend for each run.
        """
        self.recipe, self.sampling, self.backend = recipe, sampling, backend

    def sample(self, latent_image: dict, hook: Any = None, place: tuple[int, int] = (0, 1)) -> dict:
        """The latent sampled; `hook` is a PK_HOOK, `place` as in `sampling.sample_part`."""
        return sample_latent(self.recipe, self.sampling, latent_image, self.backend(), hook, place)

    def with_conditioning(self, positive: Conditioning, negative: Conditioning | str) -> KSampler:
        recipe = replace(self.recipe, positive=positive, negative=negative)
        return KSampler(recipe, self.sampling, self.backend)


@dataclass(frozen=True)
class Recovery:
    """What is done about samplers that single steps take some of their noise from.

    A second sampler runs the same step at `ratio` of its noise levels: in addition to the first
    ("ratio additional"), or with the first at the rest of them ("ratio between").
    """

    mode: str = "ratio additional"
    sampler: str = "AUTO"
    ratio: float = 1.0  # 0..1

    def factors(self, sampler_name: str) -> tuple[float, float]:
        """By what the noise levels of the first sampler and of the second are multiplied."""
        if self.mode == "DISABLE" or sampler_name not in _RECOVERED:
            return 1.0, 0.0
        return (1.0 - self.ratio if self.mode == "ratio between" else 1.0), self.ratio

    def second(self, sampler_name: str) -> str:
        """The second sampler's name."""
        if self.sampler != "AUTO":
            return self.sampler
        return "dpm_fast" if sampler_name in _RECOVERED_FAST else "dpmpp_2m"


class AdvancedKSampler:
    """A KSAMPLER_ADVANCED: samples from one step of a schedule to another."""

    def __init__(self, recipe: Recipe, backend: Callable[[], Backend]) -> None:
        """`backend` makes a Backend for each run."""
        self.recipe, self.backend = recipe, backend

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
        if not _is_on(add_noise):
            noise = None
        elif noise is None:
            noise = noise_for(self.recipe, latent_image, seed, backend)
        window = Window(steps, start_at_step, min(end_at_step, steps))
        part = Part(window, seed, noise, _is_on(return_with_leftover_noise))
        recovery = Recovery(recovery_mode, recovery_sampler, recovery_sigma_ratio)
        return walk([self.road(latent_image, part, recovery, backend)], backend)[0]

    def road(self, latent: dict, part: Part, recovery: Recovery, backend: Backend) -> Road[dict]:
        """The way of a latent through a part of the schedule; see `core/waves.py`."""
        name = self.recipe.sampler_name
        first, second = recovery.factors(name)
        result = with_samples(latent, backend.fitted_latent(self.recipe.model, latent))
        for factor, sampler_name in ((first, name), (second, recovery.second(name))):
            recipe = replace(
                self.recipe,
                sampler_name=sampler_name,
                sigma_factor=self.recipe.sigma_factor * factor,
            )
            run = make_run(recipe, result, part, backend) if factor > 0 else None
            if run is not None:
                samples = yield Sample(run, lambda step, total, denoised: None)
                result = with_samples(result, samples)
        return result


def _is_on(value: bool | str) -> bool:
    return value not in (False, "disable")


def sample_in_mask(latent: dict, base: Any, inner: Any, mask: torch.Tensor) -> dict:
    """Sample what a mask leaves out with one KSAMPLER, and then what it covers with another.

    Both work where the mask is neither 0 nor 1. Streams besides the picture are the first one's.

    Args:
        mask: [B,H,W] 0..1.
    """
    outside = mask_for_streams((mask != 1).float(), latent["samples"], others=1.0)
    latent = base.sample({**latent, "noise_mask": outside})
    latent = inner.sample({**latent, "noise_mask": mask})
    return {key: value for key, value in latent.items() if key != "noise_mask"}
