"""Values and decisions: numbers, comparisons, and branches that only run if they are chosen."""

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
    DESCRIPTION = "A whole number that can be used in several places."
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
    DESCRIPTION = "A number that can be used in several places."
    RETURN_TYPES = ("FLOAT",)

    @classmethod
    def INPUT_TYPES(cls):
        span = {"default": 1.0, "min": -3.402823466e38, "max": 3.402823466e38}
        return {"required": {"value": described("FLOAT", "The number.", **span)}}


class ImpactBoolean(ImpactInt):
    DESCRIPTION = "A boolean that can be used in several places."
    RETURN_TYPES = ("BOOLEAN",)
    OUTPUT_TOOLTIPS = ("True or false.",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": described("BOOLEAN", "True or false.", default=False)}}


class ImpactCompare:
    DESCRIPTION = "Compares two values: numbers, texts, or anything for = and <>."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BOOLEAN",)
    OUTPUT_TOOLTIPS = ("Whether the comparison is true.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        how = "How to compare. tt is always true, ff is always false."
        return {
            "required": {
                "cmp": (list(COMPARISONS), {"tooltip": how}),
                "a": described("*", "The value on the left side of the comparison."),
                "b": described("*", "The value on the right side of the comparison."),
            }
        }

    def run(self, cmp, a, b):
        return (compare(cmp, a, b),)


class ImpactLogicalOperators:
    DESCRIPTION = "Combines two booleans with and, or, or xor."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BOOLEAN",)
    OUTPUT_TOOLTIPS = ("The result: true or false.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        how = "and: both are true. or: at least one is true. xor: exactly one is true."
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
    DESCRIPTION = "Changes true to false and false to true."
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
    DESCRIPTION = "Tells whether an input has a value, so that a branch or a switch can use it."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*", "BOOLEAN")
    RETURN_NAMES = ("signal_opt", "bool")
    OUTPUT_TOOLTIPS = ("The signal.", "Whether any_input has a value.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "optional": {
                "signal": described("*", "Any value. It is passed on."),
                "any_input": described(
                    "*", "A value that may be missing, such as an output of a muted node."
                ),
            }
        }

    def run(self, signal=None, any_input=None):
        return signal, any_input is not None


class ImpactConditionalBranch:
    DESCRIPTION = "Passes on one of two values. Only the nodes before the chosen value run."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    OUTPUT_TOOLTIPS = ("The chosen value.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "cond": described("BOOLEAN", "Which value is chosen."),
                "tt_value": described("*", "It is chosen if cond is true.", lazy=True),
                "ff_value": described("*", "It is chosen if cond is false.", lazy=True),
            }
        }

    def check_lazy_status(self, cond, **values):
        chosen = "tt_value" if cond else "ff_value"
        return [chosen] if chosen in values else []

    def run(self, cond, tt_value=None, ff_value=None):
        return (tt_value if cond else ff_value,)


class ImpactConditionalBranchSelMode(ImpactConditionalBranch):
    DESCRIPTION = (
        "Passes on one of two values. Either of them may be missing. Only the nodes before the "
        "chosen value run. If cond has no link, the nodes before the other value may be "
        "incomplete."
    )

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"cond": described("BOOLEAN", "Which value is chosen.")},
            "optional": {
                "tt_value": described("*", "It is chosen if cond is true.", lazy=True),
                "ff_value": described("*", "It is chosen if cond is false.", lazy=True),
            },
        }


class ImpactConvertDataType:
    DESCRIPTION = "Converts a value to text, to numbers and to true or false."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("STRING", "FLOAT", "INT", "BOOLEAN")
    OUTPUT_TOOLTIPS = (
        "The value as text.",
        "The value as a number. A value that is no number gives 1; the word false gives 0.",
        "The number without its decimals.",
        "Whether the number is not 0.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": described("*", "Any value.")}}

    def run(self, value):
        return converted(value)


class ImpactMinMax:
    DESCRIPTION = "Gives the larger or the smaller of two values."
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
    DESCRIPTION = "Gives the size of an image."
    CATEGORY = CATEGORY
    RETURN_TYPES = _SIZE
    RETURN_NAMES = _SIZE_NAMES
    OUTPUT_TOOLTIPS = (
        "The number of images.",
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
    DESCRIPTION = "Gives the size of the image that a latent holds."
    CATEGORY = CATEGORY
    RETURN_TYPES = _SIZE
    RETURN_NAMES = _SIZE_NAMES
    OUTPUT_TOOLTIPS = (
        "The number of latents.",
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
    DESCRIPTION = "Tells whether there is at least one segment."
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
