"""How strong a denoise is: the noise level at which sampling starts.

The same denoise means little noise with one model and much with another whose schedule is shifted.
The level, and how much of the latent is noise there, can be compared between models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backend import Backend
from ..sampling.sigmas import denoise_window, window_sigmas
from ..settings import Sampling


@dataclass(frozen=True)
class Strength:
    """The beginning of a sampler run."""

    sigma: float  # the noise level, in the model's own scale
    noise: float | None = None  # share of the latent's variance that is noise, 0..1; None: unknown

    def __str__(self) -> str:
        known = "" if self.noise is None else f" ({self.noise:.0%} noise)"
        return f"sigma {self.sigma:.3g}{known}"


def strength_of(backend: Backend, model: Any, sampling: Sampling) -> Strength | None:
    """Where a run with these settings starts; None where no step is run.

    Args:
        model: a MODEL. LoRAs make no difference, shifts of its schedule do.
    """
    window = denoise_window(sampling.steps, sampling.denoise)
    schedule = backend.sigmas(
        model, sampling.sampler_name, sampling.scheduler, window.total, sampling.scheduler_func
    )
    sigmas = window_sigmas(schedule, window)
    if window.steps < 1 or len(sigmas) < 2:
        return None
    first = float(sigmas[0])
    return Strength(first, backend.noise_share(model, first))
