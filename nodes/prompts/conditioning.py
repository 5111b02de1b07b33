"""Nodes for conditionings, schedulers, noise masks and texts."""

from __future__ import annotations

from ...core.graph.choices import Choices, LiveType
from ...core.host.call_node import call_node
from ...core.host.samplers import schedulers
from ...core.prompts.join_conditioning import concat_text
from ...core.prompts.text_lists import join_texts, select_text
from ...core.sampling.sigmas import EXTRA_SCHEDULERS
from ...core.settings import NEGATIVE_PLACEHOLDER
from ..widgets import Numbered

CATEGORY = "Detailers/Conditioning"


def numbered(inputs: dict, stem: str) -> list:
    """The values of the inputs stem1, stem2, ... in the order of their numbers, without gaps."""
    found = {
        int(name[len(stem) :]): value
        for name, value in inputs.items()
        if name.startswith(stem) and name[len(stem) :].isdigit() and value is not None
    }
    return [found[number] for number in sorted(found)]


class ImpactCombineConditionings:
    DESCRIPTION = "Combines any number of conditionings, as 'Conditioning (Combine)' does with two."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("CONDITIONING",)
    OUTPUT_TOOLTIPS = ("All conditionings. The model follows each of them.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        first = {"tooltip": "The first one. When it is connected, the next input appears."}
        return {
            "required": {"conditioning1": ("CONDITIONING", first)},
            "optional": Numbered("conditioning", "CONDITIONING", "A further one."),
        }

    def run(self, **conditionings):
        return ([entry for part in numbered(conditionings, "conditioning") for entry in part],)


class ImpactConcatConditionings(ImpactCombineConditionings):
    DESCRIPTION = (
        "Puts the tokens of any number of conditionings one after another, as 'Conditioning "
        "(Concat)' does with two."
    )
    OUTPUT_TOOLTIPS = ("The first conditioning, with the tokens of all others after its own.",)

    def run(self, **conditionings):
        first, *rest = numbered(conditionings, "conditioning")
        for conditioning in rest:
            first = concat_text(first, conditioning)
        return (first,)


class ImpactNegativeConditioningPlaceholder:
    DESCRIPTION = (
        "A placeholder for the negative conditioning, for models that use guidance instead of "
        "a negative, such as FLUX. The detailers then pass cfg to the model as its guidance."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("CONDITIONING",)
    OUTPUT_TOOLTIPS = ("Connect it as the negative of a detailer or a pipe.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (NEGATIVE_PLACEHOLDER,)


class RemoveNoiseMask:
    DESCRIPTION = "Removes the noise mask from a latent, so that the whole latent is sampled."
    CATEGORY = "Detailers/Mask"
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The latent without a noise mask.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT", {"tooltip": "A latent."})}}

    def run(self, samples):
        return ({key: value for key, value in samples.items() if key != "noise_mask"},)


class ImpactSchedulerAdapter:
    DESCRIPTION = (
        "Converts a scheduler of ComfyUI's list for the detailers' longer list, or replaces it "
        "by one that only the detailers have."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = LiveType(lambda: (Choices([*schedulers(), *EXTRA_SCHEDULERS]),))
    RETURN_NAMES = ("scheduler",)
    OUTPUT_TOOLTIPS = ("Connect it to a detailer's 'scheduler'.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        plain = {"tooltip": "A scheduler of ComfyUI's own list."}
        extra = {"tooltip": "Any choice except None is used instead of 'scheduler'."}
        return {
            "required": {
                "scheduler": (schedulers(), plain),
                "extra_scheduler": (["None", *EXTRA_SCHEDULERS], extra),
            }
        }

    def run(self, scheduler, extra_scheduler):
        return (scheduler if extra_scheduler == "None" else extra_scheduler,)


class GITSSchedulerFuncProvider:
    DESCRIPTION = "A GITS schedule with a coefficient of your own, for 'scheduler_func_opt'."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SCHEDULER_FUNC",)
    OUTPUT_TOOLTIPS = ("Connect it to a detailer's 'scheduler_func_opt'.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        coeff = {
            "default": 1.2, "min": 0.8, "max": 1.5, "step": 0.05,
            "tooltip": "GITS's coefficient.",
        }  # fmt: skip
        denoise = {
            "default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "The share of the schedule that is used, in addition to the detailer's "
            "own denoise.",
        }  # fmt: skip
        return {"required": {"coeff": ("FLOAT", coeff), "denoise": ("FLOAT", denoise)}}

    def run(self, coeff, denoise):
        def schedule(_model, _sampler_name, steps):
            return call_node("GITSScheduler", coeff=coeff, steps=steps, denoise=denoise)[0]

        return (schedule,)


class StringListToString:
    DESCRIPTION = "Joins a list of texts into one."
    CATEGORY = "Detailers/Text"
    RETURN_TYPES = ("STRING",)
    OUTPUT_TOOLTIPS = ("The texts in one.",)
    INPUT_IS_LIST = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        join_with = {
            "default": "\\n",
            "tooltip": "The text between two entries. \\n is a line break.",
        }
        texts = {"forceInput": True, "tooltip": "The texts."}
        return {"required": {"join_with": ("STRING", join_with), "string_list": ("STRING", texts)}}

    def run(self, join_with, string_list):
        return (join_texts(string_list, join_with[0]),)


class ImpactStringSelector:
    DESCRIPTION = "Chooses one line, or one block, of a text by its number."
    CATEGORY = "Detailers/Text"
    RETURN_TYPES = ("STRING",)
    OUTPUT_TOOLTIPS = ("The chosen text.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        strings = {"multiline": True, "tooltip": "The choices: one in each line."}
        multiline = {
            "default": False, "label_on": "enabled", "label_off": "disabled",
            "tooltip": "Enabled: a choice is a block of lines. Each block begins with a line "
            "that starts with #.",
        }  # fmt: skip
        select = {
            "min": 0, "max": 2**63 - 1, "step": 1, "default": 0,
            "tooltip": "Number of the choice, from 0. After the last one it starts again with "
            "the first.",
        }  # fmt: skip
        return {
            "required": {
                "strings": ("STRING", strings),
                "multiline": ("BOOLEAN", multiline),
                "select": ("INT", select),
            }
        }

    def run(self, strings, multiline, select):
        return (select_text(strings, select, blocks=multiline),)


NODES = {
    "ImpactCombineConditionings": (ImpactCombineConditionings, "Combine Conditionings"),
    "ImpactConcatConditionings": (ImpactConcatConditionings, "Concat Conditionings"),
    "ImpactNegativeConditioningPlaceholder": (
        ImpactNegativeConditioningPlaceholder,
        "Negative Cond Placeholder",
    ),
    "RemoveNoiseMask": (RemoveNoiseMask, "Remove Noise Mask"),
    "ImpactSchedulerAdapter": (ImpactSchedulerAdapter, "Scheduler Adapter"),
    "GITSSchedulerFuncProvider": (GITSSchedulerFuncProvider, "GITSScheduler Func Provider"),
    "StringListToString": (StringListToString, "String List to String"),
    "ImpactStringSelector": (ImpactStringSelector, "String Selector"),
}
