"""What the training stages share: time, learning rate, optimizer, log and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .muon import make_optimizers
from .precision import autocast
from .team import Team

HERE = Path(__file__).resolve().parent
LOG = HERE / "train.log"
AVERAGE = 0.999  # decay, at most, of the running average of the weights, which is what is kept


@dataclass(frozen=True)
class Plan:
    """How a stage is to be trained.

    Attributes:
        minutes: how long.
        rate: peak learning rate.
        folder: where the checkpoint lies.
        resume: go on from the checkpoint or, where there is none, from the project's weights.
    """

    minutes: float
    rate: float
    device: str
    folder: Path
    resume: bool


class Session:
    """One run of a stage: ends after its time, and goes on from an earlier one if asked.

    The checkpoint holds weights and optimizer; it lies outside the project's history. Of several
    processes that train together only the leader writes it and the log.
    """

    def __init__(self, stage: str, plan: Plan, team: Team | None = None):
        self.stage = stage
        self.plan = plan
        self.team = team or Team()
        self.device = torch.device(plan.device)
        self.checkpoint = plan.folder / f"{stage}.pt"
        self.step = self.first = 0
        self.network: nn.Module | None = None
        self._noted: dict[str, list[float]] = {}
        plan.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(self.seed)

    @property
    def goes_on(self) -> bool:
        """Whether the stage is to go on from the project's weights."""
        return self.plan.resume and not self.checkpoint.is_file()

    @property
    def seed(self) -> int:
        """What random choices begin with: another in each process and after each step."""
        return self.step * self.team.parts + self.team.part

    def start(self, network: nn.Module) -> None:
        """Take the network to train, with what an earlier session left."""
        self.network = network
        self.average = {
            name: value.detach().clone() for name, value in network.state_dict().items()
        }
        self.optimizers = make_optimizers(network, self.plan.rate)
        self.peaks = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        if self.plan.resume and self.checkpoint.is_file():
            saved = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            network.load_state_dict(saved["network"])
            self.average = saved["average"]
            for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)
            self.step = saved["step"]
            torch.manual_seed(self.seed)
        count = sum(value.numel() for value in network.parameters())
        self.say(f"{count / 1e6:.2f} million weights, from step {self.step}, on {self.device}")

    def steps(self) -> Iterator[int]:
        """Numbers of steps until time is over; saves every two minutes and at the end."""
        seconds = self.plan.minutes * 60
        started = saved = time.monotonic()
        self.first = self.step
        while (gone := self.team.agreed(time.monotonic() - started)) < seconds:
            self._set_rate(gone / seconds, self.step - self.first)
            yield self.step
            self.step += 1
            if self.step % 50 == 0:
                self._write_notes(gone)
            if time.monotonic() - saved > 120:
                self.save()
                saved = time.monotonic()
        self.save()

    def autocast(self) -> AbstractContextManager:
        return autocast(self.device)

    def learn(self, loss: torch.Tensor) -> None:
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        self.team.share_gradients(self.network.parameters())
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        gone = self.step - self.first  # what the run began with is soon forgotten
        decay = min(AVERAGE, (1 + gone) / (20 + gone))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)

    def note(self, **values: torch.Tensor) -> None:
        for name, value in values.items():
            self._noted.setdefault(name, []).append(float(value.detach()))

    def say(self, text: str) -> None:
        if not self.team.leads:
            return
        line = f"{self.stage}: {text}"
        print(line, flush=True)
        with LOG.open("a") as file:
            file.write(line + "\n")

    def save(self) -> None:
        if not self.team.leads:
            return
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def _set_rate(self, share: float, steps: int) -> None:
        """Up within 50 steps, then down along a cosine to a fiftieth."""
        share = 0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share * min(1, (steps + 1) / 50)

    def _write_notes(self, seconds: float) -> None:
        means = {name: sum(values) / len(values) for name, values in self._noted.items()}
        text = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
        self.say(f"step {self.step}, {seconds:.0f} s: {text}")
        self._noted.clear()
