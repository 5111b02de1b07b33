"""Which noise levels a run visits, which model runs which of them, and how samplers draw noise."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# Samplers whose noise is Brownian over a range of sigmas.
_BROWNIAN = re.compile(r"dpmpp_(2m_|3m_)?sde(_heun)?(_gpu)?")

# Samplers that draw noise once a step, from one generator.
_ONE_DRAW = re.compile(
    r"euler_ancestral|dpm_2_ancestral|dpmpp_2s_ancestral|ddpm|lcm|er_sde"
    r"|res_multistep_ancestral|(euler|dpmpp_2s|res_multistep)_ancestral_cfg_pp"
)

# Samplers that drop the penultimate sigma, a fact of the host's KSampler that sampling by
# sigmas has to repeat.
DISCARD_PENULTIMATE = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})


@dataclass(frozen=True)
class NodeScheduler:
    """A scheduler that the host offers as a node: its id and the inputs besides `steps`."""

    node: str
    inputs: Mapping[str, Any]


_FULL = {"denoise": 1.0}
EXTRA_SCHEDULERS: Mapping[str, NodeScheduler] = {
    "AYS SDXL": NodeScheduler("AlignYourStepsScheduler", {"model_type": "SDXL", **_FULL}),
    "AYS SD1": NodeScheduler("AlignYourStepsScheduler", {"model_type": "SD1", **_FULL}),
    "AYS SVD": NodeScheduler("AlignYourStepsScheduler", {"model_type": "SVD", **_FULL}),
    "GITS[coeff=1.2]": NodeScheduler("GITSScheduler", {"coeff": 1.2, **_FULL}),
    "LTXV[default]": NodeScheduler(
        "LTXVScheduler", {"max_shift": 2.05, "base_shift": 0.95, "stretch": True, "terminal": 0.1}
    ),
    "OSS FLUX": NodeScheduler("OptimalStepsScheduler", {"model_type": "FLUX", **_FULL}),
    "OSS Wan": NodeScheduler("OptimalStepsScheduler", {"model_type": "Wan", **_FULL}),
    "OSS Chroma": NodeScheduler("OptimalStepsScheduler", {"model_type": "Chroma", **_FULL}),
}


@dataclass(frozen=True)
class Window:
    """The part of a schedule that is run: steps `start` to `end` of `total`."""

    total: int
    start: int
    end: int

    @property
    def steps(self) -> int:
        return self.end - self.start


def denoise_window(steps: int, denoise: float) -> Window:
    """The last `steps` of the floor(steps / denoise) steps that full denoising would take.

    Without any denoising, which only a hook can ask for, nothing is run.
    """
    if denoise <= 0:
        return Window(steps, steps, steps)
    total = max(steps, math.floor(steps / denoise))
    return Window(total, total - steps, total)


def split_for_refiner(window: Window, ratio: float) -> tuple[Window, Window]:
    """The base model's window and the refiner's, which runs the last `ratio` of the steps."""
    middle = window.start + math.floor(window.steps * (1.0 - ratio))
    return (
        Window(window.total, window.start, middle),
        Window(window.total, middle, window.end),
    )


def window_sigmas(sigmas: torch.Tensor, window: Window) -> torch.Tensor:
    """The noise levels of a window.

    Some schedulers give fewer or more steps than asked for. Of a shorter schedule the last steps
    are run; a longer one is cut, and ends without noise all the same.

    Args:
        sigmas: [n+1] of the whole schedule, falling.

    Returns:
        [steps+1]; a single level or none if nothing is left to run.
    """
    missing = max(0, window.total + 1 - len(sigmas))
    start, end = max(0, window.start - missing), max(0, window.end - missing)
    part = sigmas[start : end + 1]
    if window.end == window.total and end < len(sigmas) - 1:
        part = torch.cat([part[:-1], torch.zeros_like(part[-1:])])
    return part


def is_brownian(sampler_name: str) -> bool:
    """Whether a sampler's noise is one path over the whole schedule, drawn from one seed."""
    return _BROWNIAN.fullmatch(sampler_name) is not None


def draws_once_a_step(sampler_name: str) -> bool:
    """Whether a sampler draws noise once for each step that leaves some, from one generator."""
    return _ONE_DRAW.fullmatch(sampler_name) is not None


def unknown_scheduler(name: str, known: Sequence[str]) -> ValueError:
    """The error for a scheduler name that neither the host nor this pack has."""
    choices = ", ".join([*known, *EXTRA_SCHEDULERS])
    return ValueError(
        f"'scheduler' is {name!r}, which this ComfyUI does not have. Choose one of: {choices}."
    )
