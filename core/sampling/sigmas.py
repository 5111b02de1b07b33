"""The noise levels (sigmas) of sampler runs, and the ways in which samplers draw noise."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

# Samplers whose noise is a Brownian path over a range of sigmas.
_BROWNIAN = re.compile(r"dpmpp_(2m_|3m_)?sde(_heun)?(_gpu)?")

# Samplers that draw noise once in each step, from one generator.
_ONE_DRAW = re.compile(
    r"euler_ancestral|dpm_2_ancestral|dpmpp_2s_ancestral|ddpm|lcm|er_sde"
    r"|res_multistep_ancestral|(euler|dpmpp_2s|res_multistep)_ancestral_cfg_pp"
)

# Samplers for which ComfyUI's KSampler drops the penultimate sigma. Sampling with sigmas has to do
# the same.
DISCARD_PENULTIMATE = frozenset({"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"})


@dataclass(frozen=True)
class NodeScheduler:
    """A scheduler that ComfyUI has as a node: the node's id, and its inputs besides `steps`."""

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
        """Number of steps that are run."""
        return self.end - self.start


def denoise_window(steps: int, denoise: float) -> Window:
    """The last `steps` steps of a schedule of floor(steps / denoise) steps.

    Args:
        denoise: 0..1. With 0, which only a hook can set, the window has no steps.
    """
    if denoise <= 0:
        return Window(steps, steps, steps)
    total = max(steps, math.floor(steps / denoise))
    return Window(total, total - steps, total)


def split_for_refiner(window: Window, ratio: float) -> tuple[Window, Window]:
    """The window of the base model and that of the refiner, which gets the share `ratio` (0..1) of
    the steps at the end."""
    middle = window.start + math.floor(window.steps * (1.0 - ratio))
    return (
        Window(window.total, window.start, middle),
        Window(window.total, middle, window.end),
    )


def window_sigmas(sigmas: torch.Tensor, window: Window) -> torch.Tensor:
    """The noise levels of a window.

    Some schedulers give fewer or more steps than the window asks for. The window is counted from
    the end of a shorter schedule. A longer schedule is cut, and its last level is set to 0.

    Args:
        sigmas: [n+1], the levels of the whole schedule in falling order.

    Returns:
        [steps+1]; fewer than two levels if there are no steps to run.
    """
    missing = max(0, window.total + 1 - len(sigmas))
    start, end = max(0, window.start - missing), max(0, window.end - missing)
    part = sigmas[start : end + 1]
    if window.end == window.total and end < len(sigmas) - 1:
        part = torch.cat([part[:-1], torch.zeros_like(part[-1:])])
    return part


def is_brownian(sampler_name: str) -> bool:
    """Whether the noise of a sampler is one Brownian path over the whole schedule."""
    return _BROWNIAN.fullmatch(sampler_name) is not None


def draws_once_a_step(sampler_name: str) -> bool:
    """Whether a sampler draws noise once in each step that adds noise, from one generator."""
    return _ONE_DRAW.fullmatch(sampler_name) is not None


def unknown_scheduler(name: str, known: Sequence[str]) -> ValueError:
    """The error for a name of a scheduler that neither ComfyUI nor this pack has."""
    choices = ", ".join([*known, *EXTRA_SCHEDULERS])
    return ValueError(
        f"'scheduler' is {name!r}, which this ComfyUI does not have. Choose one of: {choices}."
    )
