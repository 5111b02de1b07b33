"""The progress of a run, for the progress bar of its node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..sampling.sigmas import Window


class Steps:
    """The progress of one job, for the node's progress bar."""

    def __init__(self, advance: Callable[[int, Any, torch.Tensor | None], None]) -> None:
        """`advance`: takes the number of new steps, the model, and the denoised latent [N,C,h,w]
        for a preview, or None."""
        self.advance = advance
        self.done = 0

    def reach(self, steps: int, model: Any, latent: torch.Tensor | None = None) -> None:
        """Say that the job has done this many steps in all; `latent` [N,C,h,w] is for a preview."""
        gone, self.done = steps - self.done, steps
        self.advance(gone, model, latent)

    def within(self, base: int, shown: int, steps: int) -> Span:
        """The part of the bar that belongs to one cycle.

        Args:
            base: steps of the job before the cycle.
            shown: steps of the bar that the cycle takes.
            steps: steps that the cycle really runs, which a hook may have changed.
        """
        return Span(self, base, shown / max(1, steps))


@dataclass(frozen=True)
class Span:
    """The part of the progress bar that belongs to one cycle."""

    steps: Steps
    base: int
    scale: float

    def report(self, model: Any, window: Window, first: int) -> Callable:
        """The callback for a sampler that runs a window of the schedule.

        Args:
            first: the step of the schedule at which the cycle began.
        """

        def on_step(step: int, total: int, latent: torch.Tensor | None) -> None:
            done = window.start - first + window.steps * (step + 1) / max(1, total)
            self.steps.reach(self.base + int(done * self.scale), model, latent)

        return on_step
