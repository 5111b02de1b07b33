"""Processes that train one network together, each on rows of its own.

    python -m torch.distributed.run --nproc-per-node 2 -m dev.miniature.train --threads 1 ...

On a CPU two processes of one thread are faster than one process of two threads: the layers are
small, and threads that share one mostly wait for one another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class Team:
    """One process's place among those that train together.

    Attributes:
        part: its number; 0 leads: it keeps the time and writes what comes of the training.
        parts: how many there are.
    """

    part: int = 0
    parts: int = 1

    @classmethod
    def of_environment(cls) -> Team:
        """The place that torch's launcher gave to this process; alone where there was none."""
        parts = int(os.environ.get("WORLD_SIZE", "1"))
        if parts == 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")
        return cls(distributed.get_rank(), parts)

    @property
    def leads(self) -> bool:
        return self.part == 0

    def agreed(self, value: float) -> float:
        """The leader's value, for all."""
        if self.parts == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        distributed.broadcast(shared, 0)
        return float(shared)

    def share_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Put the mean of all processes' gradients in place of each one's own."""
        gradients = [value.grad for value in parameters if value.grad is not None]
        if self.parts == 1 or not gradients:
            return
        together = torch.cat([gradient.flatten() for gradient in gradients]).cpu()
        distributed.all_reduce(together)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, (together / self.parts).split(sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))
