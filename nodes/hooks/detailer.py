"""Nodes that make hooks for detailers and detectors."""

from __future__ import annotations

from ...core.geometry import Size
from ...core.hooks.builtin import (
    CombinedHook,
    CustomSamplerHook,
    CycleRange,
    DenoiseScheduleHook,
    FixedSizeHook,
    NoiseInjectionHook,
    PreviewHook,
    RemoverHook,
    RetryBlackHook,
    UnsamplerHook,
    VariationNoiseHook,
    label_filter_hook,
    ordered_filter_hook,
    range_filter_hook,
)
from ...core.host.hooks import Unsampling, compute_device, lama_remover, show_in_node, unsample
from ...core.host.samplers import schedulers
from ...core.segs.filter import MEASURES
from ..segs.filter import ImpactSEGSLabelFilter
from ..widgets import inputs

CATEGORY = "Detailers/Hooks"
_MOST = 2**63 - 1
_HOOK = ("The hook, for the detailer_hook input of a detailer.",)
_FILTER = ("The hook, for the detailer_hook input of a detector.",)
_ALL_MEASURES = list(MEASURES)
_PLACES = _ALL_MEASURES[: _ALL_MEASURES.index("y2") + 1]
_SCHEDULE = (
    ["skip_start", "from_start"],
    {
        "tooltip": "from_start: in every cycle. skip_start: from the second cycle on. Then the "
        "detailer's 'cycle' has to be at least 2."
    },
)
_NOISE_SEED = {"tooltip": "Seed of the noise."}


class _Provider:
    """Base class of the nodes that make a hook."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("DETAILER_HOOK",)
    OUTPUT_TOOLTIPS = _HOOK
    FUNCTION = "run"


class DetailerHookCombine(_Provider):
    DESCRIPTION = "Combines two hooks into one. The second hook works on the results of the first."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "hook1": ("DETAILER_HOOK", {"tooltip": "The hook that comes first."}),
                "hook2": ("DETAILER_HOOK", {"tooltip": "The hook that comes second."}),
            }
        }

    def run(self, hook1, hook2):
        return (CombinedHook(hook1, hook2),)


class NoiseInjectionDetailerHookProvider(_Provider):
    DESCRIPTION = (
        "Adds noise to each segment's latent at the start of its cycles, so that it gets more "
        "detail."
    )

    @classmethod
    def INPUT_TYPES(cls):
        strength = {"min": 0.0, "max": 200.0, "step": 0.01}
        source = {
            "tooltip": "Where the noise is generated. The same seed gives other noise on a GPU."
        }
        start = {"default": 2.0, "tooltip": "Strength of the noise in the first cycle."}
        end = {
            "default": 1.0,
            "tooltip": "The strength changes towards this value from cycle to cycle.",
        }
        return {
            "required": {
                "schedule_for_cycle": _SCHEDULE,
                "source": (["CPU", "GPU"], source),
                **inputs("seed", seed=_NOISE_SEED),
                "start_strength": ("FLOAT", {**strength, **start}),
                "end_strength": ("FLOAT", {**strength, **end}),
            }
        }

    def run(self, schedule_for_cycle, source, seed, start_strength, end_strength):
        strength = CycleRange(start_strength, end_strength, schedule_for_cycle == "from_start")
        device = compute_device() if source == "GPU" else "cpu"
        return (NoiseInjectionHook(strength, seed, device),)


class UnsamplerDetailerHookProvider(_Provider):
    DESCRIPTION = (
        "Samples each segment's latent backwards into noise at the start of its cycles. The "
        "result of sampling from this noise stays close to the original."
    )

    @classmethod
    def INPUT_TYPES(cls):
        step = {"min": 0, "max": 10000}
        first = {
            "default": 21,
            "tooltip": "The step of the schedule at which sampling backwards ends in the first "
            "cycle. A lower step means more noise.",
        }
        last = {
            "default": 24,
            "tooltip": "The step changes towards this value from cycle to cycle.",
        }
        steps = {"default": 25, "tooltip": "Steps of the whole schedule."}
        normalise = {"tooltip": "Bring the result to mean 0 and standard deviation 1."}
        shared = inputs(
            "model", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative",
            model="The model that samples backwards.", steps=steps, cfg={"default": 1.0},
            positive="The conditioning for what the segments show.", negative=
                "The conditioning for what they do not show.",
        )  # fmt: skip
        return {
            "required": {
                "model": shared["model"],
                "steps": shared["steps"],
                "start_end_at_step": ("INT", {**step, **first}),
                "end_end_at_step": ("INT", {**step, **last}),
                "cfg": shared["cfg"],
                "sampler_name": shared["sampler_name"],
                "scheduler": (schedulers(), shared["scheduler"][1]),
                "normalize": (["disable", "enable"], normalise),
                "positive": shared["positive"],
                "negative": shared["negative"],
                "schedule_for_cycle": _SCHEDULE,
            }
        }

    def run(
        self, start_end_at_step, end_end_at_step, normalize, schedule_for_cycle, **unsampling
    ):  # fmt: skip
        how = Unsampling(**unsampling)
        end_at_step = CycleRange(
            start_end_at_step, end_end_at_step, schedule_for_cycle == "from_start"
        )
        hook = UnsamplerHook(
            end_at_step, lambda latent, step: unsample(how, latent, step), normalize == "enable"
        )
        return (hook,)


class DenoiseSchedulerDetailerHookProvider(_Provider):
    DESCRIPTION = (
        "Changes the denoise from cycle to cycle: from the detailer's own value in the first "
        "cycle to another value in the last."
    )

    @classmethod
    def INPUT_TYPES(cls):
        target = {
            "default": 0.3, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "Denoise of the last cycle.",
        }  # fmt: skip
        schedule = {"tooltip": "simple: the value changes evenly from cycle to cycle."}
        return {
            "required": {
                "schedule_for_cycle": (["simple"], schedule),
                "target_denoise": ("FLOAT", target),
            }
        }

    def run(self, schedule_for_cycle, target_denoise):
        return (DenoiseScheduleHook(target_denoise),)


class CoreMLDetailerHookProvider(_Provider):
    DESCRIPTION = (
        "Samples every segment at one size and with two rows, which Core ML models need. "
        "Connect the hook to the detector as well, so that the crops get the proportions of "
        "this size."
    )

    @classmethod
    def INPUT_TYPES(cls):
        modes = ["512x512", "768x768", "512x768", "768x512"]
        tooltip = "The width and height for which the model was converted."
        return {"required": {"mode": (modes, {"tooltip": tooltip})}}

    def run(self, mode):
        width, height = mode.split("x")
        return (FixedSizeHook(Size(int(width), int(height))),)


class VariationNoiseDetailerHookProvider(_Provider):
    DESCRIPTION = "Mixes the start noise of sampling with the noise of another seed."

    @classmethod
    def INPUT_TYPES(cls):
        strength = {
            "default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "0 uses only the noise of the segment's seed, 1 only the noise of the "
            "other seed.",
        }  # fmt: skip
        return {
            "required": {
                **inputs("seed", seed="Seed of the noise that is mixed in."),
                "strength": ("FLOAT", strength),
            }
        }

    def run(self, seed, strength):
        return (VariationNoiseHook(seed, strength),)


class CustomSamplerDetailerHookProvider(_Provider):
    DESCRIPTION = "Samples with a sampler from another node instead of the detailer's sampler_name."

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = "The sampler. It is used instead of the detailer's sampler_name."
        return {"required": {"sampler": ("SAMPLER", {"tooltip": tooltip})}}

    def run(self, sampler):
        return (CustomSamplerHook(sampler),)


class SEGSOrderedFilterDetailerHookProvider(_Provider):
    DESCRIPTION = "Sorts the detections of a detector, and keeps only some of them."
    OUTPUT_TOOLTIPS = _FILTER

    @classmethod
    def INPUT_TYPES(cls):
        count = {"min": 0, "max": _MOST, "step": 1}
        order = {
            "default": True, "label_on": "descending", "label_off": "ascending",
            "tooltip": "Whether the largest or the smallest values come first.",
        }  # fmt: skip
        start = {"default": 0, "tooltip": "The number of the first one to keep, counted from 0."}
        take = {"default": 1, "tooltip": "How many to keep."}
        return {
            "required": {
                "target": (_PLACES, {"tooltip": "The value by which the detections are sorted."}),
                "order": ("BOOLEAN", order),
                "take_start": ("INT", {**count, **start}),
                "take_count": ("INT", {**count, **take}),
            }
        }

    def run(self, target, order, take_start, take_count):
        hook = ordered_filter_hook(target, descending=order, start=take_start, count=take_count)
        return (hook,)


class SEGSRangeFilterDetailerHookProvider(_Provider):
    DESCRIPTION = "Keeps only those detections of a detector whose size or place is in a range."
    OUTPUT_TOOLTIPS = _FILTER

    @classmethod
    def INPUT_TYPES(cls):
        value = {"min": 0, "max": _MOST, "step": 1}
        mode = {
            "default": True, "label_on": "inside", "label_off": "outside",
            "tooltip": "Keep the detections that are in the range, or those that are not.",
        }  # fmt: skip
        lowest = {"default": 0, "tooltip": "Lowest value of the range."}
        highest = {"default": 67108864, "tooltip": "Highest value of the range."}
        target = {
            "tooltip": "The value of the crop region that is measured. length_percent: its "
            "longer side in percent of its shorter side.",
        }
        return {
            "required": {
                "target": ([*_PLACES, "length_percent"], target),
                "mode": ("BOOLEAN", mode),
                "min_value": ("INT", {**value, **lowest}),
                "max_value": ("INT", {**value, **highest}),
            }
        }

    def run(self, target, mode, min_value, max_value):
        return (range_filter_hook(target, min_value, max_value, inside=mode),)


class SEGSLabelFilterDetailerHookProvider(_Provider):
    DESCRIPTION = "Keeps only those detections of a detector that have these labels."
    OUTPUT_TOOLTIPS = _FILTER

    @classmethod
    def INPUT_TYPES(cls):
        segs = {"tooltip": "It is not used. In older workflows it is connected."}
        presets, _ = ImpactSEGSLabelFilter.INPUT_TYPES()["required"]["preset"]
        preset = {"tooltip": "A label that detectors give. It is used if 'labels' is empty."}
        labels = {
            "multiline": True, "placeholder": "face, hand",
            "tooltip": "Labels separated by commas or line breaks; 'all' keeps everything. Empty: "
            "the preset's label.",
        }  # fmt: skip
        return {
            "required": {
                "segs": ("SEGS", segs),
                "preset": (presets, preset),
                "labels": ("STRING", labels),
            }
        }

    def run(self, segs, preset, labels):
        return (label_filter_hook(labels if labels.strip() else preset),)


class PreviewDetailerHookProvider(_Provider):
    DESCRIPTION = "Shows the image in this node after each segment, while the detailer runs."
    RETURN_TYPES = ("DETAILER_HOOK", "UPSCALER_HOOK")
    OUTPUT_TOOLTIPS = (*_HOOK, "The hook, for the upscaler_hook input of an upscaler.")

    @classmethod
    def INPUT_TYPES(cls):
        quality = {
            "default": 95, "min": 20, "max": 100,
            "tooltip": "Quality of the preview. A lower quality is sent faster.",
        }  # fmt: skip
        return {
            "required": {"quality": ("INT", quality)},
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, quality, unique_id):
        hook = PreviewHook(show_in_node(unique_id, quality))
        return (hook, hook)


class LamaRemoverDetailerHookProvider(_Provider):
    DESCRIPTION = (
        "Removes the masked parts of the segments, and fills them from their surroundings: "
        "with the LaMa model of the pack comfyui-lama-remover if it is installed, otherwise "
        "with OpenCV."
    )

    @classmethod
    def INPUT_TYPES(cls):
        slider = {"min": 0, "step": 1, "display": "slider"}
        threshold = {
            "default": 250, "max": 255,
            "tooltip": "How far the removal reaches beyond the mask. A higher value removes more.",
        }  # fmt: skip
        blur = {
            "default": 8, "max": 20,
            "tooltip": "Standard deviation of the blur that widens the mask, in pixels of the "
            "enlarged crop.",
        }  # fmt: skip
        skip = {
            "default": True,
            "tooltip": "On: the filled crop is pasted without sampling. Off: the filled crop is "
            "sampled as well.",
        }
        return {
            "required": {
                "mask_threshold": ("INT", {**slider, **threshold}),
                "gaussblur_radius": ("INT", {**slider, **blur}),
                "skip_sampling": ("BOOLEAN", skip),
            }
        }

    def run(self, mask_threshold, gaussblur_radius, skip_sampling):
        fill = lama_remover(mask_threshold, gaussblur_radius)
        return (RemoverHook(mask_threshold, gaussblur_radius, skip_sampling, fill),)


class BlackPatchRetryHookProvider(_Provider):
    DESCRIPTION = (
        "If the result of a segment is black, it is sampled again with the next seed. A "
        "segment that stays black keeps its original pixels."
    )

    @classmethod
    def INPUT_TYPES(cls):
        mean = {
            "default": 10, "min": 0, "max": 255,
            "tooltip": "The highest mean of a segment that counts as black, for pixel values of "
            "0 to 255.",
        }  # fmt: skip
        variance = {
            "default": 5, "min": 0, "max": 255,
            "tooltip": "The highest variance of a segment that counts as black, for pixel "
            "values of 0 to 255.",
        }  # fmt: skip
        return {"required": {"mean_thresh": ("INT", mean), "var_thresh": ("INT", variance)}}

    def run(self, mean_thresh, var_thresh):
        return (RetryBlackHook(mean_thresh / 255, var_thresh / 255),)


NODES = {
    "DetailerHookCombine": (DetailerHookCombine, "DetailerHookCombine"),
    "NoiseInjectionDetailerHookProvider": (
        NoiseInjectionDetailerHookProvider,
        "NoiseInjectionDetailerHookProvider",
    ),
    "UnsamplerDetailerHookProvider": (
        UnsamplerDetailerHookProvider,
        "UnsamplerDetailerHookProvider",
    ),
    "DenoiseSchedulerDetailerHookProvider": (
        DenoiseSchedulerDetailerHookProvider,
        "DenoiseSchedulerDetailerHookProvider",
    ),
    "CoreMLDetailerHookProvider": (CoreMLDetailerHookProvider, "CoreMLDetailerHookProvider"),
    "VariationNoiseDetailerHookProvider": (
        VariationNoiseDetailerHookProvider,
        "VariationNoiseDetailerHookProvider",
    ),
    "CustomSamplerDetailerHookProvider": (
        CustomSamplerDetailerHookProvider,
        "CustomSamplerDetailerHookProvider",
    ),
    "SEGSOrderedFilterDetailerHookProvider": (
        SEGSOrderedFilterDetailerHookProvider,
        "SEGSOrderedFilterDetailerHookProvider",
    ),
    "SEGSRangeFilterDetailerHookProvider": (
        SEGSRangeFilterDetailerHookProvider,
        "SEGSRangeFilterDetailerHookProvider",
    ),
    "SEGSLabelFilterDetailerHookProvider": (
        SEGSLabelFilterDetailerHookProvider,
        "SEGSLabelFilterDetailerHookProvider",
    ),
    "PreviewDetailerHookProvider": (PreviewDetailerHookProvider, "PreviewDetailerHookProvider"),
    "LamaRemoverDetailerHookProvider": (
        LamaRemoverDetailerHookProvider,
        "LamaRemoverDetailerHookProvider",
    ),
    "BlackPatchRetryHookProvider": (BlackPatchRetryHookProvider, "BlackPatchRetryHookProvider"),
}
