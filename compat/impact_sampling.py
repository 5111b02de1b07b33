"""Sampling, as packs call it that know ComfyUI-Impact-Pack's `impact_sampling`."""

from __future__ import annotations

from typing import Any

import torch

from ..core.host.backend import ComfyBackend
from ..core.sampling.latent import Denoising, SamplerSetup
from ..core.sampling.sampler_objects import AdvancedKSampler, KSampler
from ..core.settings import Conditioning
from ..nodes.sampling.samplers import ksampler_wrapper, separated_sample

__all__ = [
    "KSamplerAdvancedWrapper", "KSamplerWrapper", "calculate_sigmas", "ksampler_wrapper",
    "separated_sample",
]  # fmt: skip


def calculate_sigmas(model: Any, sampler: str, scheduler: str, steps: int) -> torch.Tensor:
    """The noise levels [steps+1] of a schedule."""
    return ComfyBackend().sigmas(model, sampler, scheduler, steps, None)


class KSamplerWrapper(KSampler):
    """A KSAMPLER made from its settings."""

    def __init__(
        self, model: Any, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str,
        positive: Conditioning, negative: Conditioning | str, denoise: float,
        scheduler_func: Any = None,
    ) -> None:  # fmt: skip
        setup = SamplerSetup(
            model, positive, negative, cfg, sampler_name, scheduler, scheduler_func
        )
        super().__init__(setup, Denoising(seed, steps, denoise), ComfyBackend)


class KSamplerAdvancedWrapper(AdvancedKSampler):
    """A KSAMPLER_ADVANCED made from its settings."""

    def __init__(
        self, model: Any, cfg: float, sampler_name: str, scheduler: str, positive: Conditioning,
        negative: Conditioning | str, sampler_opt: Any = None, sigma_factor: float = 1.0,
        scheduler_func: Any = None,
    ) -> None:  # fmt: skip
        setup = SamplerSetup(
            model, positive, negative, cfg, sampler_name, scheduler, scheduler_func, sampler_opt,
            sigma_factor,
        )  # fmt: skip
        super().__init__(setup, ComfyBackend)
