"""The PK_HOOKs of this pack: hooks for the iterations of an upscaler.

They follow the hook protocol. In each iteration an upscaler calls its methods `set_steps`,
`pre_decode`, `post_decode`, `post_upscale`, `post_encode` and `pre_ksample`.
"""

from __future__ import annotations

from typing import Any

from ..hook_protocol import DetailerHook
from .builtin import CycleHook, NoiseInjectionHook, UnsamplerHook

# The positions of the settings among the values of `pre_ksample`.
_PLACES = {"steps": 2, "cfg": 3, "denoise": 9}


class ScheduleHook(CycleHook):
    """Changes a setting evenly from the sampler's own in the first iteration to `target`.

    The last iteration has `target`; if there is only one iteration, it has `target` too. Between
    two whole numbers the value is rounded down, because shared workflows were made so.
    """

    def __init__(self, setting: str, target: float) -> None:
        """`setting`: "steps", "cfg" or "denoise"."""
        self.place, self.target = _PLACES[setting], target

    def pre_ksample(self, *values: Any) -> tuple:
        own = values[self.place]
        share = self.cycle / (self.cycles - 1) if self.cycles > 1 else 1.0
        value = own + (self.target - own) * share
        if float(own).is_integer() and float(self.target).is_integer():
            value = int(value + 1e-9)
        return (*values[: self.place], value, *values[self.place + 1 :])


class _AfterEncoding:
    """Uses a hook for the latent of each cycle on the latent of each iteration."""

    cycle_latent = DetailerHook.cycle_latent

    def post_encode(self, latent: dict) -> dict:
        return super().cycle_latent(latent)


class IterationNoiseHook(_AfterEncoding, NoiseInjectionHook):
    """Adds noise to the enlarged latent of each iteration."""


class IterationUnsamplerHook(_AfterEncoding, UnsamplerHook):
    """Samples the enlarged latent of each iteration backwards, into noise."""
