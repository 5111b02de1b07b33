"""Check the values that come over links, by the type of the link.

Objects of other packs are recognised by their methods, never by their class. For a wrong value the
error says what it should be, and which node gives it. Values of types that are not listed here are
not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from ...utils.check import (  # fmt: skip
    all_finite,
    check_computable,
    check_finite,
    check_image,
    check_latent,
    check_mask_layout,
    check_seg,
    check_segs,
    described,
    is_numbers,
    quoted,
)
from ..detail.segment_plan import SegmentPlan, fault_of_plan
from ..settings import NEGATIVE_PLACEHOLDER, CropOptions, Pasting
from ..tracks.track import SEGS_TRACKS, Tracks
from .validate_values import Check, Input, real_number, text

_DATA = (
    str, bytes, bytearray, bool, int, float, complex, list, tuple, dict, set, frozenset,
    np.ndarray, np.generic, torch.Tensor, type, FunctionType, ModuleType,
)  # fmt: skip


def _object(what: str, remedy: str, *methods: str) -> Callable[[Input], Check]:
    """The check for types whose values are objects with certain methods."""

    def for_input(declared: Input) -> Check:
        def check(value: Any) -> Any:
            if isinstance(value, _DATA):
                raise declared.error(what, value, remedy)
            lacks = [name for name in methods if not callable(getattr(value, name, None))]
            if lacks:
                raise declared.error(f"{what} with {', '.join(lacks)}()", value, remedy)
            return value

        return check

    return for_input


def _function(what: str, remedy: str) -> Callable[[Input], Check]:
    def for_input(declared: Input) -> Check:
        def check(value: Any) -> Any:
            if not callable(value) or isinstance(value, type):
                raise declared.error(what, value, remedy)
            return value

        return check

    return for_input


# Tensors


def image(declared: Input) -> Check:
    """The check for IMAGE: a float tensor [B,H,W,C] with finite values.

    Its errors are ValueErrors, as those of all checks here.
    """

    def check(value: Any) -> torch.Tensor:
        value = _detached(value)
        check_image(value, declared.name)
        return value.resolve_neg() if value.is_neg() else value

    return check


def mask(declared: Input) -> Check:
    """The check for MASK: a tensor [B,H,W] or [H,W] with finite values.

    Booleans, and whole numbers that are all 0 or 1, become floats.
    """

    def check(value: Any) -> torch.Tensor:
        value = _detached(value)
        if isinstance(value, torch.Tensor) and not value.is_floating_point():
            check_computable(value, declared.name)
            if value.numel() and (value.dtype == torch.bool or _is_zeros_and_ones(value)):
                value = value.float()
        check_mask_layout(value, declared.name)
        check_finite(value, declared.name)
        return value.resolve_neg() if value.is_neg() else value

    return check


def _is_zeros_and_ones(values: torch.Tensor) -> bool:
    low, high = values.aminmax()
    return int(low) >= 0 and int(high) <= 1


def _detached(value: Any) -> Any:
    """A tensor without its gradient graph, so that it can be converted to NumPy."""
    if isinstance(value, torch.Tensor) and value.requires_grad:
        return value.detach()
    return value


def latent(declared: Input) -> Check:
    """The check for LATENT: a dict whose "samples" are one or several streams of finite values."""

    def check(value: Any) -> dict:
        for stream in check_latent(value, declared.name):
            check_finite(stream, declared.name)
        return value

    return check


# SEGS


_PARTS_REMEDY = "Connect an output of 'Decompose (SEGS)' or of 'From SEG_ELT'."


def segs(declared: Input) -> Check:
    """The check for SEGS: (image size, list of SEG)."""

    def check(value: Any) -> Any:
        check_segs(value, declared.name)
        return value

    return check


def seg(declared: Input) -> Check:
    """The check for SEG_ELT: one SEG."""

    def check(value: Any) -> Any:
        check_seg(value, declared.name, "the SEG", _PARTS_REMEDY)
        return value

    return check


def _numbers(count: int, what: str, remedy: str) -> Callable[[Input], Check]:
    """The check for types that consist of `count` numbers."""

    def for_input(declared: Input) -> Check:
        each = real_number(Input(declared.name, {"min": -(2**31), "max": 2**31}))

        def check(value: Any) -> Any:
            if isinstance(value, (str, bytes, dict, set)) or not hasattr(value, "__len__"):
                raise declared.error(what, value, remedy)
            try:
                found = [each(number) for number in value]
            except (ValueError, TypeError, RuntimeError) as error:
                raise ValueError(
                    f"'{declared.name}' should be {what} but is {quoted(value)}. {remedy}"
                ) from error
            if len(found) != count:
                raise declared.error(what, value, remedy)
            return value

        return check

    return for_input


# Conditionings and pipes


def conditioning(declared: Input) -> Check:
    """The check for CONDITIONING: a list of [tensor, dict].

    The placeholder for a negative conditioning is only accepted by inputs with "negative" in their
    name.
    """
    takes_placeholder = "negative" in declared.name
    remedy = "Connect the CONDITIONING output of 'CLIP Text Encode' or a similar node."

    def check(value: Any) -> Any:
        if isinstance(value, str) and value == NEGATIVE_PLACEHOLDER:
            if takes_placeholder:
                return value
            raise ValueError(
                f"'{declared.name}' is the placeholder for a negative conditioning, which holds no "
                "prompt. Connect it only to inputs 'negative'. Connect a conditioning here."
            )
        if not isinstance(value, (list, tuple)):
            raise declared.error("a conditioning, a list of [tensor, dict]", value, remedy)
        if not value:
            raise ValueError(
                f"'{declared.name}' is a conditioning without entries. Connect one that has a "
                "prompt. For an empty prompt, encode an empty text."
            )
        for number, entry in enumerate(value):
            problem = _entry_problem(entry)
            if problem:
                raise ValueError(
                    f"'{declared.name}' should be a conditioning, a list of [tensor, dict]. But in "
                    f"its entry {number} {problem}. {remedy}"
                )
        return value

    return check


def no_placeholder(declared: Input) -> Check:
    """The check for a conditioning that is passed on: only a misplaced placeholder is an error."""
    whole = conditioning(declared)

    def check(value: Any) -> Any:
        return whole(value) if isinstance(value, str) and value == NEGATIVE_PLACEHOLDER else value

    return check


def _entry_problem(entry: Any) -> str:
    """What is wrong with an entry of a conditioning. "": nothing is."""
    if not isinstance(entry, (list, tuple)) or len(entry) != 2:
        return f"there is {described(entry)}"
    tensor, options = entry
    problem = _plane_problem(tensor, 2)
    if problem:
        return f"the tensor {problem}"
    if not isinstance(options, dict):
        return f"the dict is {described(options)}"
    for name, find in _OPTIONS.items():
        if name in options:
            problem = find(options[name])
            if problem:
                return f"'{name}' {problem}"
    return ""


def _plane_problem(value: Any, axes: int) -> str:
    """What is wrong with a tensor that needs at least this number of axes. "": nothing is."""
    if not isinstance(value, torch.Tensor):
        return f"should be a tensor but is {described(value)}"
    try:
        check_computable(value, "tensor")
    except ValueError as error:
        return f"cannot be used: {error}"
    if value.ndim < axes or not value.numel():
        return f"should have at least {axes} axes and not be empty but is {described(value)}"
    return ""


def _planes_problem(value: Any) -> str:
    if not isinstance(value, (list, tuple)):
        return f"should be a list of tensors but is {described(value)}"
    return next(filter(None, (_plane_problem(plane, 3) for plane in value)), "")


def _finite_problem(plane: torch.Tensor) -> str:
    return "" if all_finite(plane) else "holds values that are not finite"


def _number_problem(value: Any) -> str:
    return "" if _is_finite(value) else f"should be a number but is {described(value)}"


def _area_problem(area: Any) -> str:
    """An area is (height, width, y, x), the area of a clip, or ("percentage", shares...)."""
    in_shares = isinstance(area, (list, tuple)) and len(area) > 0 and area[0] == "percentage"
    sides = area[1:] if in_shares else area
    if isinstance(sides, (list, tuple)) and len(sides) in (4, 6) and all(map(_is_finite, sides)):
        return ""
    return f"should be (height, width, y, x) but is {quoted(area)}"


def _gligen_problem(value: Any) -> str:
    if isinstance(value, (list, tuple)) and len(value) == 3 and not isinstance(
        value[1], (*_DATA, type(None))
    ):  # fmt: skip
        return ""
    return f"should be (kind, model, boxes) but is {described(value)}"


def _able(*methods: str) -> Callable[[Any], str]:
    def problem(value: Any) -> str:
        if isinstance(value, _DATA) or not all(hasattr(value, name) for name in methods):
            return f"should have {', '.join(methods)} but is {described(value)}"
        return ""

    return problem


def _or_none(problem: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "" if value is None else problem(value)


# Options of a conditioning's entry that ComfyUI reads, and functions that find problems in them.
# Options of other packs are not checked.
_OPTIONS: dict[str, Callable[[Any], str]] = {
    "mask": lambda value: _plane_problem(value, 2) or _finite_problem(value),
    "pooled_output": _or_none(lambda value: _plane_problem(value, 1)),
    "concat_mask": _or_none(lambda value: _plane_problem(value, 2)),
    "concat_latent_image": _or_none(lambda value: _plane_problem(value, 3)),
    "attention_mask": _or_none(lambda value: _plane_problem(value, 1)),
    "reference_latents": _or_none(_planes_problem),
    "vace_frames": _or_none(_planes_problem),
    "vace_mask": _or_none(_planes_problem),
    "strength": _number_problem,
    "mask_strength": _number_problem,
    "start_percent": _number_problem,
    "end_percent": _number_problem,
    "guidance": _or_none(_number_problem),
    "area": _or_none(_area_problem),
    "control": _or_none(_able("copy", "get_control")),
    "gligen": _or_none(_gligen_problem),
    "hooks": _or_none(_able("hooks")),
}


def _is_finite(value: Any) -> bool:
    return not isinstance(value, str) and is_numbers([value], 1)


_BASIC = {
    "model": "MODEL", "clip": "CLIP", "vae": "VAE", "positive": "CONDITIONING",
    "negative": "CONDITIONING",
}  # fmt: skip
_DETAILER = {
    **_BASIC, "wildcard": "STRING", "bbox_detector": "BBOX_DETECTOR",
    "segm_detector": "SEGM_DETECTOR", "sam_model": "SAM_MODEL", "detailer_hook": "DETAILER_HOOK",
    "refiner_model": "MODEL", "refiner_clip": "CLIP", "refiner_positive": "CONDITIONING",
    "refiner_negative": "CONDITIONING",
}  # fmt: skip


def _pipe(
    kind: str, parts: Mapping[str, str], counted: str, remedy: str, handed_on: bool = False
) -> Callable[[Input], Check]:
    """The check for a tuple of parts. Parts may be None; the node that needs one raises an error.

    Args:
        handed_on: only the number of parts is checked, and whether a placeholder is misplaced.
    """

    def for_input(declared: Input) -> Check:
        checks = []
        for name, part in parts.items():
            make = HANDED_ON.get(part) if handed_on else KINDS[part]
            used = declared.parts is None or name in declared.parts
            checks.append(make(Input(name, {})) if used and make else None)

        def check(value: Any) -> Any:
            if not isinstance(value, (tuple, list)) or len(value) != len(parts):
                count = f" of {len(value)} parts" if isinstance(value, (tuple, list)) else ""
                shown = f"a {type(value).__name__}{count}" if count else described(value)
                raise ValueError(
                    f"'{declared.name}' should be a {kind} of {counted}, but is {shown}. {remedy}"
                )
            for part, check_part in zip(value, checks, strict=True):
                if part is not None and check_part is not None:
                    try:
                        check_part(part)
                    except ValueError as error:
                        raise ValueError(f"In '{declared.name}', {error}") from error
            return value

        return check

    return for_input


# Others


def _instance(kind: type, what: str, remedy: str) -> Callable[[Input], Check]:
    def for_input(declared: Input) -> Check:
        def check(value: Any) -> Any:
            if not isinstance(value, kind):
                raise declared.error(what, value, remedy)
            return value

        return check

    return for_input


def sam(declared: Input) -> Check:
    """The check for SAM_MODEL. The methods of another pack's SAM are checked when they are used."""

    def check(value: Any) -> Any:
        if isinstance(value, _DATA):
            raise ValueError(
                f"'{declared.name}' is {described(value)}, which cannot be asked for masks. Connect"
                " the output of 'SAMLoader (Impact)'."
            )
        return value

    return check


def regional_prompts(declared: Input) -> Check:
    """The check for REGIONAL_PROMPTS: a list of objects with the methods of `RegionalPrompt`."""
    methods = ("get_mask_erosion", "touch_noise")
    entry = _object("regional prompts", "Connect 'RegionalPrompt'.", *methods)(declared)

    def check(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            remedy = "Connect 'RegionalPrompt' or 'CombineRegionalPrompts'."
            raise declared.error("a list of regional prompts", value, remedy)
        for prompt in value:
            entry(prompt)
        return value

    return check


def boxes(declared: Input) -> Check:
    """The check for BOUNDING_BOX: a box, a list of boxes, or such a list for each image."""
    remedy = "Connect a BOUNDING_BOX output, such as that of a detection node of ComfyUI."

    def check(value: Any) -> Any:
        _check_boxes(value, 2)
        return value

    def _check_boxes(value: Any, depth: int) -> None:
        if isinstance(value, dict):
            sides = [value.get(name) for name in ("x", "y", "width", "height")]
            if all(_is_finite(side) for side in sides) and _is_finite(value.get("score", 1.0)):
                return
        elif isinstance(value, (list, tuple)) and depth:
            for entry in value:
                if entry is not None:
                    _check_boxes(entry, depth - 1)
            return
        raise ValueError(
            f"'{declared.name}' should hold boxes with x, y, width and height, but one is "
            f"{quoted(value)}. {remedy}"
        )

    return check


def landmarks(declared: Input) -> Check:
    """The check for FACE_LANDMARKS."""
    remedy = "Connect a FACE_LANDMARKS output, such as that of 'Face Landmarks (MTCNN)'."
    size = _numbers(2, "face landmarks with an 'image_size' (height, width)", remedy)(declared)

    def check(value: Any) -> Any:
        fields = {"frames": (list, tuple), "connection_sets": dict}
        for name, kinds in fields.items():
            if not (isinstance(value, dict) and isinstance(value.get(name), kinds)):
                raise declared.error(f"face landmarks with {', '.join(fields)}", value, remedy)
        size(value.get("image_size"))
        return value

    return check


def segment_plan(declared: Input) -> Check:
    """A check for segment plans."""
    remedy = "Connect 'Segment Rule' or 'Segment Plan'."

    def check(value: Any) -> Any:
        if not isinstance(value, SegmentPlan):
            raise declared.error("a segment plan", value, remedy)
        fault = fault_of_plan(value)
        if fault:
            raise ValueError(f"'{declared.name}' is a segment plan, but {fault}. {remedy}")
        return value

    return check


def file_entry(declared: Input) -> Check:
    """The check for a file: its name, or an entry with filename, subfolder and type."""
    name = text(declared)

    def check(value: Any) -> Any:
        if isinstance(value, dict):
            for part in ("filename", "subfolder", "type"):
                name(value.get(part) or "")
            return value
        return name(value)

    return check


def _connected(what: str) -> str:
    return f"Connect the {what} output of a node that makes one."


_HOOK = "Connect the output of a hook provider."
_CLASS_OF_OURS = "Connect the output of '{}'."

KINDS: dict[str, Callable[[Input], Check]] = {
    "IMAGE": image,
    "MASK": mask,
    "LATENT": latent,
    "SEGS": segs,
    "SEG_ELT": seg,
    "SEGS_HEADER": _numbers(2, "a size (height, width)", _PARTS_REMEDY),
    "SEG_ELT_bbox": _numbers(4, "a box (x1, y1, x2, y2)", _PARTS_REMEDY),
    "SEG_ELT_control_net_wrapper": _object(
        "an object that applies a ControlNet", "Connect that output of 'From SEG_ELT'.", "apply"
    ),
    "SEG_ELT_crop_region": _numbers(4, "a box (x1, y1, x2, y2)", _PARTS_REMEDY),
    "CONDITIONING": conditioning,
    "REGIONAL_PROMPTS": regional_prompts,
    "BOUNDING_BOX": boxes,
    "FACE_LANDMARKS": landmarks,
    "IMAGE_PATH": file_entry,
    "MODEL": _object(
        "a diffusion model", "Connect the MODEL output of a loader.", "clone", "get_model_object"
    ),
    "CLIP": _object("a text encoder", "Connect the CLIP output of a loader.", "tokenize", "clone"),
    "VAE": _object(
        "a VAE",
        "Connect the VAE output of a loader.",
        "encode",
        "decode",
        "spacial_compression_encode",
    ),
    "UPSCALE_MODEL": _object("an upscale model", _connected("UPSCALE_MODEL")),
    "CONTROL_NET": _object("a ControlNet", _connected("CONTROL_NET"), "copy"),
    "SAMPLER": _object("a sampler", _connected("SAMPLER"), "sample"),
    "KSAMPLER": _object("a KSAMPLER", "Connect 'KSamplerProvider' or a similar node.", "sample"),
    "KSAMPLER_ADVANCED": _object(
        "a KSAMPLER_ADVANCED", "Connect 'KSamplerAdvancedProvider'.", "sample_advanced"
    ),
    "UPSCALER": _object(
        "an upscaler", "Connect 'PixelKSampleUpscalerProvider' or a similar node.", "upscale_shape"
    ),
    "BBOX_DETECTOR": _object("a detector", _connected("BBOX_DETECTOR"), "detect"),
    "SEGM_DETECTOR": _object("a detector", _connected("SEGM_DETECTOR"), "detect"),
    "SAM_MODEL": sam,
    "SEGS_PREPROCESSOR": _object("a preprocessor", _connected("SEGS_PREPROCESSOR"), "apply"),
    "TRANSFORMERS_CLASSIFIER": _object("an image classifier", _connected("classifier")),
    "CLIP_VISION": _object("a CLIP vision model", _connected("CLIP_VISION"), "encode_image"),
    "PERSON_EMBEDDER": _object(
        "a network that tells persons apart", "Connect 'Person Embedder Loader'.", "embed"
    ),
    "SCHEDULER_FUNC": _function(
        "a function (model, sampler_name, steps)", _connected("SCHEDULER_FUNC")
    ),
    "DETAILER_HOOK": _object("a hook", _HOOK),
    "PK_HOOK": _object("a hook", _HOOK),
    "UPSCALER_HOOK": _object("a hook", _HOOK),
    "PASTE_OPTIONS": _instance(Pasting, "paste options", _CLASS_OF_OURS.format("Paste Options")),
    "CROP_OPTIONS": _instance(CropOptions, "crop options", _CLASS_OF_OURS.format("Crop Options")),
    "SEGMENT_PLAN": segment_plan,
    "VIDEO": _object("a video", "Connect 'Load Video' or 'Create Video'.", "get_components"),
    SEGS_TRACKS: _instance(Tracks, "tracks", _CLASS_OF_OURS.format("Track Segments")),
    "STRING": text,
}
_BASIC_PIPE = (
    "BASIC_PIPE", _BASIC, f"the five parts {', '.join(_BASIC)}",
    "Connect the output of ToBasicPipe.",
)  # fmt: skip
_DETAILER_PIPE = (
    "DETAILER_PIPE", _DETAILER, f"{len(_DETAILER)} parts",
    "Connect the output of ToDetailerPipe or of 'BasicPipe -> DetailerPipe'.",
)  # fmt: skip
KINDS["BASIC_PIPE"] = _pipe(*_BASIC_PIPE)
KINDS["DETAILER_PIPE"] = _pipe(*_DETAILER_PIPE)

# The checks of nodes that only pass parts on, by type. None: no check.
HANDED_ON: dict[str, Callable[[Input], Check] | None] = {
    **dict.fromkeys(
        ("MODEL", "CLIP", "VAE", "BBOX_DETECTOR", "SEGM_DETECTOR", "SAM_MODEL", "DETAILER_HOOK")
    ),
    "CONDITIONING": no_placeholder,
    "BASIC_PIPE": _pipe(*_BASIC_PIPE, handed_on=True),
    "DETAILER_PIPE": _pipe(*_DETAILER_PIPE, handed_on=True),
}
