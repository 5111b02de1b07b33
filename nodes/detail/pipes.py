"""BASIC_PIPE and DETAILER_PIPE: everything that a sampler or a face detailer needs, in one link."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...core.settings import Models
from ..prompts.wildcards import lora_choices, wildcard_choices
from ..widgets import inputs

CATEGORY = "Detailers/Pipe"
_PARTS = ("model", "clip", "vae", "positive", "negative")
_PART_TYPES = ("MODEL", "CLIP", "VAE", "CONDITIONING", "CONDITIONING")
_PIPE_TOOLTIP = "All five parts in one link."
_PART_TOOLTIPS = (
    "The diffusion model.", "The text encoder.", "The VAE.", "The positive conditioning.",
    "The negative conditioning.",
)  # fmt: skip


def read_pipe(pipe: Any, name: str = "basic_pipe") -> Models:
    """The parts of a BASIC_PIPE. Some of them may be None.

    Raises:
        ValueError: the value is no pipe of five parts.
    """
    if not isinstance(pipe, tuple | list) or len(pipe) != len(_PARTS):
        count = f" of {len(pipe)} parts" if isinstance(pipe, tuple | list) else ""
        raise ValueError(
            f"'{name}' should be a BASIC_PIPE of the five parts {', '.join(_PARTS)}, but is a "
            f"{type(pipe).__name__}{count}. Connect the output of ToBasicPipe."
        )
    return Models(*pipe)


def pipe_models(
    pipe: Any,
    name: str = "basic_pipe",
    needed: tuple[str, ...] = ("model", "vae", "positive", "negative"),
) -> Models:
    """The parts of a BASIC_PIPE, after a check that none of the needed parts is None.

    A detailer needs all parts except the CLIP, which only segment texts need.

    Raises:
        ValueError: the value is no pipe of five parts, or a needed part is None.
    """
    models = read_pipe(pipe, name)
    for part in needed:
        if getattr(models, part) is None:
            raise ValueError(
                f"'{part}' of '{name}' is missing (None), so there is nothing to sample with. "
                f"Connect a {part} where the pipe is made (ToBasicPipe, EditBasicPipe)."
            )
    return models


class ToBasicPipe:
    DESCRIPTION = "Bundles model, CLIP, VAE, positive and negative into one link."
    CATEGORY = CATEGORY
    HANDS_ON = True
    RETURN_TYPES = ("BASIC_PIPE",)
    RETURN_NAMES = ("basic_pipe",)
    OUTPUT_TOOLTIPS = (_PIPE_TOOLTIP,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs(*_PARTS)}

    def run(self, model, clip, vae, positive, negative):
        return ((model, clip, vae, positive, negative),)


class FromBasicPipe:
    DESCRIPTION = "Splits a pipe into model, CLIP, VAE, positive and negative."
    CATEGORY = CATEGORY
    HANDS_ON = True
    RETURN_TYPES = _PART_TYPES
    RETURN_NAMES = _PARTS
    OUTPUT_TOOLTIPS = _PART_TOOLTIPS
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("basic_pipe")}

    def run(self, basic_pipe):
        return tuple(read_pipe(basic_pipe))


class FromBasicPipe_v2(FromBasicPipe):
    DESCRIPTION = "Splits a pipe into its parts and also passes it on."
    RETURN_TYPES = ("BASIC_PIPE", *_PART_TYPES)
    RETURN_NAMES = ("basic_pipe", *_PARTS)
    OUTPUT_TOOLTIPS = ("The same pipe that is connected to the input.", *_PART_TOOLTIPS)

    def run(self, basic_pipe):
        return (basic_pipe, *read_pipe(basic_pipe))


class EditBasicPipe:
    DESCRIPTION = "Replaces parts of a pipe. Parts that are not connected stay as they are."
    CATEGORY = CATEGORY
    HANDS_ON = True
    RETURN_TYPES = ("BASIC_PIPE",)
    RETURN_NAMES = ("basic_pipe",)
    OUTPUT_TOOLTIPS = (_PIPE_TOOLTIP,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("basic_pipe"), "optional": inputs(*_PARTS)}

    def run(self, basic_pipe, **parts):
        given = {name: part for name, part in parts.items() if part is not None}
        return (tuple(read_pipe(basic_pipe)._replace(**given)),)


# DETAILER_PIPE -------------------------------------------------------------------------------


class DetailerPipe(NamedTuple):
    """The parts of a DETAILER_PIPE, in the order of the tuple that is passed over a link."""

    model: Any
    clip: Any
    vae: Any
    positive: Any
    negative: Any
    wildcard: str
    bbox_detector: Any
    segm_detector: Any
    sam_model: Any
    detailer_hook: Any
    refiner_model: Any = None
    refiner_clip: Any = None
    refiner_positive: Any = None
    refiner_negative: Any = None

    @property
    def basic(self) -> Models:
        """The models of the base."""
        return Models(*self[: len(_PARTS)])

    @property
    def refiner(self) -> Models:
        """The refiner's models with the pipe's VAE. Without a refiner, all but the VAE are None."""
        return Models(
            self.refiner_model, self.refiner_clip, self.vae, self.refiner_positive,
            self.refiner_negative,
        )  # fmt: skip


def read_detailer_pipe(pipe: Any, name: str = "detailer_pipe") -> DetailerPipe:
    """The parts of a DETAILER_PIPE. Some of them may be None.

    Raises:
        ValueError: the value is no pipe of fourteen parts.
    """
    if not isinstance(pipe, tuple | list) or len(pipe) != len(DetailerPipe._fields):
        count = f" of {len(pipe)} parts" if isinstance(pipe, tuple | list) else ""
        raise ValueError(
            f"'{name}' should be a DETAILER_PIPE of {len(DetailerPipe._fields)} parts, but is a "
            f"{type(pipe).__name__}{count}. Connect the output of ToDetailerPipe or of "
            "'BasicPipe -> DetailerPipe'."
        )
    return DetailerPipe(*pipe)


_PIPE_MADE = "All that a detailer needs, in one link."
_DETAILER_PIPE = {"tooltip": "Models, detectors and segment text in one link (ToDetailerPipe)."}
_BASE_PARTS = dict(zip(_PARTS, zip(_PART_TYPES, _PART_TOOLTIPS, strict=True), strict=True))
_REFINER_PARTS = {
    "refiner_model": ("MODEL", "The diffusion model that runs the last part of the steps."),
    "refiner_clip": ("CLIP", "The refiner's text encoder."),
    "refiner_positive": ("CONDITIONING", "The refiner's positive conditioning."),
    "refiner_negative": ("CONDITIONING", "The refiner's negative conditioning."),
}
_BBOX_DETECTOR = ("BBOX_DETECTOR", "The detector that finds the things.")
_SAM_MODEL = ("SAM_MODEL", "Finds the exact outline of the things that the detector finds.")
_SEGM_DETECTOR = (
    "SEGM_DETECTOR",
    "Limits the masks of the detector to the outlines that this detector finds. It is not used "
    "if a SAM is connected.",
)
_HOOK = (
    "DETAILER_HOOK",
    "A hook changes the run at certain points, for instance to vary the denoise.",
)
_EXTRAS_OPT = {
    "sam_model_opt": _SAM_MODEL,
    "segm_detector_opt": _SEGM_DETECTOR,
    "detailer_hook": _HOOK,
}
_EXTRAS = {
    "bbox_detector": _BBOX_DETECTOR,
    "sam_model": _SAM_MODEL,
    "segm_detector": _SEGM_DETECTOR,
    "detailer_hook": _HOOK,
}


def _links(parts: dict[str, tuple[str, str]]) -> dict[str, tuple[str, dict]]:
    """Inputs from their types and tooltips."""
    return {name: (kind, {"tooltip": tooltip}) for name, (kind, tooltip) in parts.items()}


def _text_inputs() -> dict[str, tuple]:
    """The segment text, and the two lists that help to write it."""
    return {
        **inputs("wildcard"),
        "Select to add LoRA": (
            lora_choices(),
            {"tooltip": "Choosing a LoRA adds it to the text above."},
        ),
        "Select to add Wildcard": (
            wildcard_choices(),
            {"tooltip": "Choosing a list adds it to the text above."},
        ),
    }


class _MakesDetailerPipe:
    CATEGORY = CATEGORY
    HANDS_ON = True
    RETURN_TYPES = ("DETAILER_PIPE",)
    RETURN_NAMES = ("detailer_pipe",)
    OUTPUT_TOOLTIPS = (_PIPE_MADE,)
    FUNCTION = "run"

    @classmethod
    def VALIDATE_INPUTS(cls, **chosen):
        return True  # the two lists only help to write the text, and their files may change


class ToDetailerPipe(_MakesDetailerPipe):
    DESCRIPTION = "Bundles models, detectors and the segment text into one link."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs(*_PARTS),
                **_links({"bbox_detector": _BBOX_DETECTOR}),
                **_text_inputs(),
            },
            "optional": _links(_EXTRAS_OPT),
        }

    def run(self, sam_model_opt=None, segm_detector_opt=None, detailer_hook=None, **parts):
        given = {name: part for name, part in parts.items() if name in DetailerPipe._fields}
        pipe = DetailerPipe(
            **given,
            sam_model=sam_model_opt,
            segm_detector=segm_detector_opt,
            detailer_hook=detailer_hook,
        )
        return (tuple(pipe),)


class ToDetailerPipeSDXL(ToDetailerPipe):
    DESCRIPTION = (
        "Bundles models, the models of a refiner, detectors and the segment text into one link."
    )

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs(*_PARTS),
                **_links(_REFINER_PARTS),
                **_links({"bbox_detector": _BBOX_DETECTOR}),
                **_text_inputs(),
            },
            "optional": _links(_EXTRAS_OPT),
        }


class BasicPipeToDetailerPipe(ToDetailerPipe):
    DESCRIPTION = "Adds detectors and the segment text to a BASIC_PIPE."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs("basic_pipe"),
                **_links({"bbox_detector": _BBOX_DETECTOR}),
                **_text_inputs(),
            },
            "optional": _links(_EXTRAS_OPT),
        }

    def run(self, basic_pipe, **parts):
        return super().run(**read_pipe(basic_pipe)._asdict(), **parts)


class BasicPipeToDetailerPipeSDXL(ToDetailerPipe):
    DESCRIPTION = "Adds detectors and the segment text to the BASIC_PIPEs of base and refiner."

    @classmethod
    def INPUT_TYPES(cls):
        refiner = {
            "tooltip": "The model that runs the last part of the steps; its VAE is not used."
        }
        return {
            "required": {
                "base_basic_pipe": inputs("basic_pipe")["basic_pipe"],
                "refiner_basic_pipe": ("BASIC_PIPE", refiner),
                **_links({"bbox_detector": _BBOX_DETECTOR}),
                **_text_inputs(),
            },
            "optional": _links(_EXTRAS_OPT),
        }

    def run(self, base_basic_pipe, refiner_basic_pipe, **parts):
        base = read_pipe(base_basic_pipe, "base_basic_pipe")
        refiner = read_pipe(refiner_basic_pipe, "refiner_basic_pipe")
        return super().run(
            **base._asdict(),
            refiner_model=refiner.model,
            refiner_clip=refiner.clip,
            refiner_positive=refiner.positive,
            refiner_negative=refiner.negative,
            **parts,
        )


class EditDetailerPipe(_MakesDetailerPipe):
    DESCRIPTION = (
        "Replaces parts of a detailer pipe. Parts that are not connected stay as they are, and "
        "the text stays if none is written here."
    )
    _replaceable = {**_BASE_PARTS, **_EXTRAS}

    @classmethod
    def INPUT_TYPES(cls):
        text = _text_inputs()
        kind, options = text["wildcard"]
        text["wildcard"] = (kind, {**options, "tooltip": "The new segment text; empty keeps it."})
        return {
            "required": {"detailer_pipe": ("DETAILER_PIPE", _DETAILER_PIPE), **text},
            "optional": _links(cls._replaceable),
        }

    def run(self, detailer_pipe, wildcard="", **parts):
        given = {
            name: part
            for name, part in parts.items()
            if name in DetailerPipe._fields and part is not None
        }
        if wildcard:
            given["wildcard"] = wildcard
        return (tuple(read_detailer_pipe(detailer_pipe)._replace(**given)),)


class EditDetailerPipeSDXL(EditDetailerPipe):
    """As `EditDetailerPipe`, with the parts of a refiner."""

    _replaceable = {**_BASE_PARTS, **_REFINER_PARTS, **_EXTRAS}


_DETAILER_PARTS = {  # output of FromDetailerPipe -> field
    **{name: name for name in _PARTS},
    "bbox_detector": "bbox_detector",
    "sam_model_opt": "sam_model",
    "segm_detector_opt": "segm_detector",
    "detailer_hook": "detailer_hook",
}
_DETAILER_TYPES = (
    *_PART_TYPES, "BBOX_DETECTOR", "SAM_MODEL", "SEGM_DETECTOR", "DETAILER_HOOK",
)  # fmt: skip
_DETAILER_TOOLTIPS = (
    *_PART_TOOLTIPS, "The detector.", "The SAM model, if there is one.",
    "The detector of outlines, if there is one.", "The hook, if there is one.",
)  # fmt: skip


class FromDetailerPipe:
    DESCRIPTION = "Splits a detailer pipe into its parts."
    CATEGORY = CATEGORY
    HANDS_ON = True
    RETURN_TYPES = _DETAILER_TYPES
    RETURN_NAMES = tuple(_DETAILER_PARTS)
    OUTPUT_TOOLTIPS = _DETAILER_TOOLTIPS
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"detailer_pipe": ("DETAILER_PIPE", _DETAILER_PIPE)}}

    def run(self, detailer_pipe):
        pipe = read_detailer_pipe(detailer_pipe)
        return tuple(getattr(pipe, field) for field in _DETAILER_PARTS.values())


class FromDetailerPipe_v2(FromDetailerPipe):
    DESCRIPTION = "Splits a detailer pipe into its parts and also passes it on."
    RETURN_TYPES = ("DETAILER_PIPE", *_DETAILER_TYPES)
    RETURN_NAMES = ("detailer_pipe", *_DETAILER_PARTS)
    OUTPUT_TOOLTIPS = ("The same pipe that is connected to the input.", *_DETAILER_TOOLTIPS)

    def run(self, detailer_pipe):
        return (detailer_pipe, *super().run(detailer_pipe))


class FromDetailerPipeSDXL(FromDetailerPipe_v2):
    DESCRIPTION = (
        "Splits a detailer pipe into its parts, including those of the refiner, and also passes "
        "it on."
    )
    RETURN_TYPES = (
        *FromDetailerPipe_v2.RETURN_TYPES, *(kind for kind, _ in _REFINER_PARTS.values()),
    )  # fmt: skip
    RETURN_NAMES = (*FromDetailerPipe_v2.RETURN_NAMES, *_REFINER_PARTS)
    OUTPUT_TOOLTIPS = (
        *FromDetailerPipe_v2.OUTPUT_TOOLTIPS, *(tooltip for _, tooltip in _REFINER_PARTS.values()),
    )  # fmt: skip

    def run(self, detailer_pipe):
        pipe = read_detailer_pipe(detailer_pipe)
        return (*super().run(detailer_pipe), *(getattr(pipe, name) for name in _REFINER_PARTS))


class FromDetailerPipe_SDXL(FromDetailerPipeSDXL):
    DESCRIPTION = "The same as FromDetailer (SDXL/pipe), under the id that old files use."
    DEPRECATED = True


class DetailerPipeToBasicPipe:
    DESCRIPTION = "Takes the BASIC_PIPEs of base and refiner out of a detailer pipe."
    CATEGORY = CATEGORY
    HANDS_ON = True
    RETURN_TYPES = ("BASIC_PIPE", "BASIC_PIPE")
    RETURN_NAMES = ("base_basic_pipe", "refiner_basic_pipe")
    OUTPUT_TOOLTIPS = (
        "Model, CLIP, VAE, positive and negative.",
        "The same parts of the refiner, with the VAE of the base. If the detailer pipe has no "
        "refiner, the detailers use none.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"detailer_pipe": ("DETAILER_PIPE", _DETAILER_PIPE)}}

    def run(self, detailer_pipe):
        pipe = read_detailer_pipe(detailer_pipe)
        return (tuple(pipe.basic), tuple(pipe.refiner))


class AnyPipeToBasic:
    DESCRIPTION = "Makes a BASIC_PIPE from any pipe that begins with the same five parts."
    CATEGORY = CATEGORY
    HANDS_ON = True
    RETURN_TYPES = ("BASIC_PIPE",)
    RETURN_NAMES = ("basic_pipe",)
    OUTPUT_TOOLTIPS = (_PIPE_TOOLTIP,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        pipe = {"tooltip": "A pipe that begins with model, CLIP, VAE, positive and negative."}
        return {"required": {"any_pipe": ("*", pipe)}}

    def run(self, any_pipe):
        first = any_pipe[: len(_PARTS)] if isinstance(any_pipe, tuple | list) else any_pipe
        return (tuple(read_pipe(first, "any_pipe")),)


NODES = {
    "ToBasicPipe": (ToBasicPipe, "ToBasicPipe"),
    "FromBasicPipe": (FromBasicPipe, "FromBasicPipe"),
    "FromBasicPipe_v2": (FromBasicPipe_v2, "FromBasicPipe_v2"),
    "EditBasicPipe": (EditBasicPipe, "Edit BasicPipe"),
    "ToDetailerPipe": (ToDetailerPipe, "ToDetailerPipe"),
    "ToDetailerPipeSDXL": (ToDetailerPipeSDXL, "ToDetailerPipeSDXL"),
    "FromDetailerPipe": (FromDetailerPipe, "FromDetailerPipe"),
    "FromDetailerPipe_v2": (FromDetailerPipe_v2, "FromDetailerPipe_v2"),
    "FromDetailerPipeSDXL": (FromDetailerPipeSDXL, "FromDetailer (SDXL/pipe)"),
    "FromDetailerPipe_SDXL": (FromDetailerPipe_SDXL, "FromDetailer (SDXL/pipe, old)"),
    "BasicPipeToDetailerPipe": (BasicPipeToDetailerPipe, "BasicPipe -> DetailerPipe"),
    "BasicPipeToDetailerPipeSDXL": (
        BasicPipeToDetailerPipeSDXL,
        "BasicPipe -> DetailerPipe (SDXL)",
    ),
    "DetailerPipeToBasicPipe": (DetailerPipeToBasicPipe, "DetailerPipe -> BasicPipe"),
    "EditDetailerPipe": (EditDetailerPipe, "Edit DetailerPipe"),
    "EditDetailerPipeSDXL": (EditDetailerPipeSDXL, "Edit DetailerPipe (SDXL)"),
    "AnyPipeToBasic": (AnyPipeToBasic, "Any PIPE -> BasicPipe"),
}
