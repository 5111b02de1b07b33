"""The PK_HOOKs of this pack: what steps into the iterations of an upscaler.

They follow the hook protocol, of which upscalers call, in each iteration, `set_steps`,
`pre_decode`, `post_decode`, `post_upscale`, `post_encode` and `pre_ksample`.
"""

from __future__ import annotations

from typing import Any

from ..hook_protocol import DetailerHook
from .builtin import CycleHook, NoiseInjectionHook, UnsamplerHook

# The settings' places among the values of `pre_ksample`.
_PLACES = {"steps": 2, "cfg": 3, "denoise": 9}


class ScheduleHook(CycleHook):
    """Moves a setting evenly from the sampler's own in the first iteration to another one.

    The last iteration has the other one, and so has an only one. Between whole numbers it stays
    whole, rounded down, as shared workflows were made.
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
    """Brings a hook that works on the latent of each cycle to each iteration's."""

    cycle_latent = DetailerHook.cycle_latent

    def post_encode(self, latent: dict) -> dict:
        return super().cycle_latent(latent)


class IterationNoiseHook(_AfterEncoding, NoiseInjectionHook):
    """Adds noise to the enlarged latent of each iteration."""


class IterationUnsamplerHook(_AfterEncoding, UnsamplerHook):
    """Samples the enlarged latent of each iteration backwards, into noise."""
