"""Values and decisions: numbers, comparisons, branches that run only where they are chosen."""

from __future__ import annotations

from ...core.graph.values import (
    COMPARISONS,
    OPERATORS,
    compare,
    converted,
    image_size,
    latent_size,
    least_or_most,
)
from ..widgets import described, inputs

CATEGORY = "Detailers/Logic"
_SIZE = ("INT", "INT", "INT", "INT")
_SIZE_NAMES = ("batch", "height", "width", "channel")


class ImpactInt:
    DESCRIPTION = "A whole number, to be used in several places."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    OUTPUT_TOOLTIPS = ("The number.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        span = {"default": 0, "min": 0, "max": 2**63 - 1, "step": 1}
        return {"required": {"value": described("INT", "The number.", **span)}}

    def run(self, value):
        return (value,)


class ImpactFloat(ImpactInt):
    DESCRIPTION = "A number, to be used in several places."
    RETURN_TYPES = ("FLOAT",)

    @classmethod
    def INPUT_TYPES(cls):
        span = {"default": 1.0, "min": -3.402823466e38, "max": 3.402823466e38}
        return {"required": {"value": described("FLOAT", "The number.", **span)}}


class ImpactBoolean(ImpactInt):
    DESCRIPTION = "True or false, to be used in several places."
    RETURN_TYPES = ("BOOLEAN",)
    OUTPUT_TOOLTIPS = ("True or false.",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": described("BOOLEAN", "True or false.", default=False)}}


class ImpactCompare:
    DESCRIPTION = "Compares two values: numbers, texts, or anything for = and <>."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BOOLEAN",)
    OUTPUT_TOOLTIPS = ("Whether the comparison holds.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        how = "How to compare; tt is always true, ff never."
        return {
            "required": {
                "cmp": (list(COMPARISONS), {"tooltip": how}),
                "a": described("*", "What stands left of the sign."),
                "b": described("*", "What stands right of the sign."),
            }
        }

    def run(self, cmp, a, b):
        return (compare(cmp, a, b),)


class ImpactLogicalOperators:
    DESCRIPTION = "And, or, either-or of two truths."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BOOLEAN",)
    OUTPUT_TOOLTIPS = ("Whether it holds.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        how = "and: both. or: at least one. xor: exactly one."
        return {
            "required": {
                "operator": (list(OPERATORS), {"tooltip": how}),
                "bool_a": described("BOOLEAN", "The first.", forceInput=True),
                "bool_b": described("BOOLEAN", "The second.", forceInput=True),
            }
        }

    def run(self, operator, bool_a, bool_b):
        return (OPERATORS[operator](bool_a, bool_b),)


class ImpactNeg:
    DESCRIPTION = "Makes true of false and false of true."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BOOLEAN",)
    OUTPUT_TOOLTIPS = ("The opposite.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": described("BOOLEAN", "True or false.", forceInput=True)}}

    def run(self, value):
        return (not value,)


class ImpactIfNone:
    DESCRIPTION = "Tells whether anything came in, for a branch or a switch to decide on."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*", "BOOLEAN")
    RETURN_NAMES = ("signal_opt", "bool")
    OUTPUT_TOOLTIPS = ("The signal.", "Whether any_input is there.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "optional": {
                "signal": described("*", "Anything; passed on."),
                "any_input": described(
                    "*", "What may be missing, such as an output of a muted node."
                ),
            }
        }

    def run(self, signal=None, any_input=None):
        return signal, any_input is not None


class ImpactConditionalBranch:
    DESCRIPTION = "Passes on one of two values. Only what leads to that one runs."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    OUTPUT_TOOLTIPS = ("The chosen value.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "cond": described("BOOLEAN", "Which value is chosen."),
                "tt_value": described("*", "Chosen where cond is true.", lazy=True),
                "ff_value": described("*", "Chosen where cond is false.", lazy=True),
            }
        }

    def check_lazy_status(self, cond, **values):
        chosen = "tt_value" if cond else "ff_value"
        return [chosen] if chosen in values else []

    def run(self, cond, tt_value=None, ff_value=None):
        return (tt_value if cond else ff_value,)


class ImpactConditionalBranchSelMode(ImpactConditionalBranch):
    DESCRIPTION = (
        "Passes on one of two values, of which either may be missing. Only what leads to the "
        "chosen one runs; where cond is no link, the other may even be incomplete."
    )

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"cond": described("BOOLEAN", "Which value is chosen.")},
            "optional": {
                "tt_value": described("*", "Chosen where cond is true.", lazy=True),
                "ff_value": described("*", "Chosen where cond is false.", lazy=True),
            },
        }


class ImpactConvertDataType:
    DESCRIPTION = "Gives a value as text, as numbers and as true or false."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("STRING", "FLOAT", "INT", "BOOLEAN")
    OUTPUT_TOOLTIPS = (
        "The value as text.",
        "The value as a number; what is no number is 1, the word false 0.",
        "The number without what follows the point.",
        "Whether the number is not 0.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": described("*", "Any value.")}}

    def run(self, value):
        return converted(value)


class ImpactMinMax:
    DESCRIPTION = "The larger or the smaller of two values."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    OUTPUT_TOOLTIPS = ("The chosen value.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        labels = {"default": True, "label_on": "max", "label_off": "min"}
        return {
            "required": {
                "mode": described("BOOLEAN", "max: the larger. min: the smaller.", **labels),
                "a": described("*", "A number."),
                "b": described("*", "Another number."),
            }
        }

    def run(self, mode, a, b):
        return (least_or_most(mode, a, b),)


class ImpactImageInfo:
    DESCRIPTION = "The size of an image."
    CATEGORY = CATEGORY
    RETURN_TYPES = _SIZE
    RETURN_NAMES = _SIZE_NAMES
    OUTPUT_TOOLTIPS = (
        "How many images.",
        "Height in pixels.",
        "Width in pixels.",
        "1 for grey, 3 for colour, 4 with alpha.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": described("IMAGE", "The image.")}}

    def run(self, value):
        return image_size(value)


class ImpactLatentInfo:
    DESCRIPTION = "The size of the image that a latent stands for."
    CATEGORY = CATEGORY
    RETURN_TYPES = _SIZE
    RETURN_NAMES = _SIZE_NAMES
    OUTPUT_TOOLTIPS = (
        "How many latents.",
        "Height in pixels.",
        "Width in pixels.",
        "Channels of the latent.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": described("LATENT", "The latent.")}}

    def run(self, value):
        return latent_size(value)


class ImpactIsNotEmptySEGS:
    DESCRIPTION = "Tells whether there is any segment."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BOOLEAN",)
    OUTPUT_TOOLTIPS = ("Whether there is a segment.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("segs", segs="The segments.")}

    def run(self, segs):
        return (len(segs[1]) > 0,)


NODES = {
    "ImpactInt": (ImpactInt, "ImpactInt"),
    "ImpactFloat": (ImpactFloat, "ImpactFloat"),
    "ImpactBoolean": (ImpactBoolean, "ImpactBoolean"),
    "ImpactCompare": (ImpactCompare, "ImpactCompare"),
    "ImpactLogicalOperators": (ImpactLogicalOperators, "ImpactLogicalOperators"),
    "ImpactNeg": (ImpactNeg, "ImpactNeg"),
    "ImpactIfNone": (ImpactIfNone, "ImpactIfNone"),
    "ImpactConditionalBranch": (ImpactConditionalBranch, "ImpactConditionalBranch"),
    "ImpactConditionalBranchSelMode": (
        ImpactConditionalBranchSelMode,
        "ImpactConditionalBranchSelMode",
    ),
    "ImpactConvertDataType": (ImpactConvertDataType, "ImpactConvertDataType"),
    "ImpactMinMax": (ImpactMinMax, "ImpactMinMax"),
    "ImpactImageInfo": (ImpactImageInfo, "ImpactImageInfo"),
    "ImpactLatentInfo": (ImpactLatentInfo, "ImpactLatentInfo"),
    "ImpactIsNotEmptySEGS": (ImpactIsNotEmptySEGS, "SEGS isn't Empty"),
}
