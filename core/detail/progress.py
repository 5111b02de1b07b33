"""How far a run is, for the progress bar of its node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..sampling.sigmas import Window


class Steps:
    """How far one job has gone, for the node's bar."""

    def __init__(self, advance: Callable[[int, Any, torch.Tensor | None], None]) -> None:
        self.advance = advance
        self.done = 0

    def reach(self, steps: int, model: Any, latent: torch.Tensor | None = None) -> None:
        gone, self.done = steps - self.done, steps
        self.advance(gone, model, latent)

    def within(self, base: int, shown: int, steps: int) -> Span:
        """A cycle: it begins at `base` and counts as `shown` steps, whatever number it runs."""
        return Span(self, base, shown / max(1, steps))


@dataclass(frozen=True)
class Span:
    """A cycle's place on the bar."""

    steps: Steps
    base: int
    scale: float

    def report(self, model: Any, window: Window, first: int) -> Callable:
        """What a sampler calls that runs a window of the schedule, which began at `first`."""

        def on_step(step: int, total: int, latent: torch.Tensor | None) -> None:
            done = window.start - first + window.steps * (step + 1) / max(1, total)
            self.steps.reach(self.base + int(done * self.scale), model, latent)

        return on_step
