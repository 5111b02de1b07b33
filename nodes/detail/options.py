"""Options of the detailers that travel over a link of their own, so that their faces stay small."""

from __future__ import annotations

from typing import Any

from ...core.geometry import GUIDE_SIZE, SIZE_POLICIES
from ...core.host.backend import MAX_RESOLUTION
from ...core.settings import (
    ANGLE,
    BLENDS,
    FEATHER,
    LANDMARKS,
    MASK,
    OFF,
    REFERENCE_CHOICES,
    REFERENCES_AUTO,
    CropOptions,
    Pasting,
    Upright,
)
from ..widgets import described

CATEGORY = "Detailers/Detailer"


def given(options: Any, kind: type, name: str) -> Any:
    """What arrived over an options link; without one, the options that change nothing.

    Raises:
        ValueError: it is something else.
    """
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise ValueError(
            f"'{name}' should come from this pack's node of that name, but is a"
            f" {type(options).__name__}. Check what is connected to it."
        )
    return options


class DetailersPasteOptions:
    DESCRIPTION = (
        "How a detailer fits what it has redrawn into the image, so that no edge shows: the blend, "
        "the colours, and a mask of its own for pasting."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("PASTE_OPTIONS",)
    RETURN_NAMES = ("paste_options",)
    OUTPUT_TOOLTIPS = ("For paste_options of a detailer or of SEGSPaste.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        on_off = {"default": True, "label_on": "enabled", "label_off": "disabled"}
        return {
            "required": {
                "blend": described(
                    list(BLENDS),
                    "feather: everything fades over the feather. multiband: fine detail does, and "
                    "coarser colours over a wider band further inside.",
                    default=FEATHER,
                ),
                "color_match": described(
                    "FLOAT",
                    "How much of a tint that the redrawn part has against the image at the mask's "
                    "rim is taken off: 1 all, 0 nothing.",
                    default=1.0, min=0.0, max=1.0, step=0.05,
                ),
                "restore_unmasked": described(
                    "BOOLEAN",
                    "Put back the pixels that were not redrawn, and take the shift of colours that "
                    "the VAE made there off the redrawn part. Needs noise_mask.",
                    **on_off,
                ),
                "mask_grow": described(
                    "INT",
                    "Grow the mask by so many image pixels for pasting alone; below 0 shrinks it.",
                    default=0, min=-512, max=512, step=1,
                ),
                "feather": described(
                    "INT",
                    "Pixels of the image over which the edge fades to either side, exactly and "
                    "however small the mask is; -1 leaves it to the detailer's own feather.",
                    default=-1, min=-1, max=512, step=1,
                ),
                "fade_at_border": described(
                    "BOOLEAN",
                    "Where the mask runs into the border of the crop, fade inside the crop instead "
                    "of leaving a straight edge. What ends at the image's border stays whole.",
                    **on_off,
                ),
            }
        }  # fmt: skip

    def run(self, blend, color_match, restore_unmasked, mask_grow, feather, fade_at_border):
        options = Pasting(
            blend=blend,
            colour_match=color_match,
            restore_kept=restore_unmasked,
            mask_grow=mask_grow,
            fade=None if feather < 0 else feather,
            fade_inside=fade_at_border,
        )
        return (options,)


class DetailersCropOptions:
    DESCRIPTION = (
        "At which size a detailer draws its crops, whether tilted things are turned upright first, "
        "and what an edit model sees of its references."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("CROP_OPTIONS",)
    RETURN_NAMES = ("crop_options",)
    OUTPUT_TOOLTIPS = ("For crop_options of a detailer.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "size_policy": described(
                    list(SIZE_POLICIES),
                    "guide_size: as the detailer's guide_size says. model: every crop is enlarged "
                    "or shrunk to the area that the model was made for; max_size still holds.",
                    default=GUIDE_SIZE,
                ),
                "native_size": described(
                    "INT",
                    "With the policy model: side in pixels of the square whose area is taken; 0 "
                    "goes by the model.",
                    default=0, min=0, max=MAX_RESOLUTION, step=8,
                ),
                "upright": described(
                    [OFF, MASK, LANDMARKS, ANGLE],
                    "By what a crop is turned upright before it is drawn, and back when it is "
                    "pasted. off: not at all. mask: by the long axis of the mask. landmarks: by "
                    "the eyes in face_landmarks. angle: by the angle below.",
                    default=OFF,
                ),
                "angle": described(
                    "FLOAT",
                    "With upright angle: how far things lean clockwise, in degrees.",
                    default=0.0, min=-180.0, max=180.0, step=1.0,
                ),
            },
            "optional": {
                "face_landmarks": described(
                    "FACE_LANDMARKS",
                    "From Face Landmarks (MTCNN), or from ComfyUI's Detect Face Landmarks "
                    "(MediaPipe).",
                ),
                "references": described(
                    list(REFERENCE_CHOICES),
                    "What an edit model sees of the references in positive and negative. auto: one "
                    "that shows this image becomes the crop, any other stays whole. whole: all "
                    "stay whole. crop: each becomes the part that lies where the crop does.",
                    default=REFERENCES_AUTO,
                ),
            },
        }  # fmt: skip

    def run(
        self, size_policy, native_size, upright, angle, face_landmarks=None,
        references=REFERENCES_AUTO,
    ):  # fmt: skip
        turning = Upright(upright, angle, face_landmarks)
        return (CropOptions(size_policy, native_size**2, turning, references),)


NODES = {
    "DetailersPasteOptions": (DetailersPasteOptions, "Paste Options (Detailers)"),
    "DetailersCropOptions": (DetailersCropOptions, "Crop Options (Detailers)"),
}
