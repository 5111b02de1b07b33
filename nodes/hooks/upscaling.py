"""Nodes that make hooks for iterative upscaling."""

from __future__ import annotations

from ...core.hooks.builtin import CombinedHook, CycleRange
from ...core.hooks.upscaling import IterationNoiseHook, IterationUnsamplerHook, ScheduleHook
from ...core.host.hooks import Unsampling, compute_device, unsample
from .detailer import NoiseInjectionDetailerHookProvider, UnsamplerDetailerHookProvider

_SCHEDULE = (
    ["simple"],
    {"tooltip": "simple: the value changes evenly from iteration to iteration."},
)


def _of_iterations(provider: type) -> dict[str, tuple]:
    """The inputs of a detailer's hook provider, with iterations instead of cycles."""
    result = {}
    for name, (kind, options) in provider.INPUT_TYPES()["required"].items():
        if name == "schedule_for_cycle":
            result["schedule_for_iteration"] = _SCHEDULE
        else:
            tooltip = options["tooltip"].replace("cycle", "iteration")
            tooltip = tooltip.replace("the segments show", "the picture shows")
            result[name] = (kind, {**options, "tooltip": tooltip})
    return result


class _Provider:
    """Base class of the nodes that make a hook."""

    CATEGORY = "Detailers/Upscale"
    RETURN_TYPES = ("PK_HOOK",)
    OUTPUT_TOOLTIPS = ("The hook, for the pk_hook_opt input of an upscaler provider.",)
    FUNCTION = "run"


class _ScheduleProvider(_Provider):
    """Base class of the nodes whose hook changes a setting of the sampler over the iterations."""

    SETTING: str
    TARGET: tuple

    @classmethod
    def INPUT_TYPES(cls):
        kind, options = cls.TARGET
        tooltip = f"The {cls.SETTING} of the last iteration."
        target = (kind, {**options, "tooltip": tooltip})
        return {"required": {"schedule_for_iteration": _SCHEDULE, f"target_{cls.SETTING}": target}}

    def run(self, schedule_for_iteration, **target):
        return (ScheduleHook(self.SETTING, target[f"target_{self.SETTING}"]),)


class CfgScheduleHookProvider(_ScheduleProvider):
    DESCRIPTION = (
        "Changes the cfg from the sampler's own value in the first iteration to another value in "
        "the last."
    )
    SETTING = "cfg"
    TARGET = ("FLOAT", {"default": 3.0, "min": 0.0, "max": 100.0})


class DenoiseScheduleHookProvider(_ScheduleProvider):
    DESCRIPTION = (
        "Changes the denoise from the sampler's own value in the first iteration to another value "
        "in the last."
    )
    SETTING = "denoise"
    TARGET = ("FLOAT", {"default": 0.2, "min": 0.0, "max": 1.0, "step": 0.01})


class StepsScheduleHookProvider(_ScheduleProvider):
    DESCRIPTION = (
        "Changes the steps from the sampler's own number in the first iteration to another number "
        "in the last."
    )
    SETTING = "steps"
    TARGET = ("INT", {"default": 20, "min": 1, "max": 10000})


class NoiseInjectionHookProvider(_Provider):
    DESCRIPTION = (
        "Adds noise to the enlarged latent of each iteration before it is sampled, so that it "
        "gets more detail."
    )

    @classmethod
    def INPUT_TYPES(cls):
        required = _of_iterations(NoiseInjectionDetailerHookProvider)
        kind, options = required["start_strength"]
        required["start_strength"] = (kind, {**options, "default": 1.0})
        return {"required": required}

    def run(self, schedule_for_iteration, source, seed, start_strength, end_strength):
        strength = CycleRange(start_strength, end_strength, from_first=True)
        device = compute_device() if source == "GPU" else "cpu"
        return (IterationNoiseHook(strength, seed, device),)


class UnsamplerHookProvider(_Provider):
    DESCRIPTION = (
        "Samples the enlarged latent of each iteration backwards into noise. The result of "
        "sampling from this noise stays close to the picture."
    )

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": _of_iterations(UnsamplerDetailerHookProvider)}

    def run(
        self, start_end_at_step, end_end_at_step, normalize, schedule_for_iteration, **unsampling
    ):  # fmt: skip
        how = Unsampling(**unsampling)
        hook = IterationUnsamplerHook(
            CycleRange(start_end_at_step, end_end_at_step, from_first=True),
            lambda latent, step: unsample(how, latent, step),
            normalize == "enable",
        )
        return (hook,)


class PixelKSampleHookCombine(_Provider):
    DESCRIPTION = "Combines two hooks into one. The second hook works on the results of the first."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "hook1": ("PK_HOOK", {"tooltip": "The hook that comes first."}),
                "hook2": ("PK_HOOK", {"tooltip": "The hook that comes second."}),
            }
        }

    def run(self, hook1, hook2):
        return (CombinedHook(hook1, hook2),)


NODES = {
    node.__name__: (node, node.__name__)
    for node in (
        PixelKSampleHookCombine,
        DenoiseScheduleHookProvider,
        StepsScheduleHookProvider,
        CfgScheduleHookProvider,
        NoiseInjectionHookProvider,
        UnsamplerHookProvider,
    )
}
