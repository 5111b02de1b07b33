"""Options of the detailers that come over a separate link, so that the nodes stay small."""

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
    REGISTER_CHOICES,
    VAE_LOSS_CHOICES,
    CropOptions,
    Pasting,
    Upright,
)
from ..widgets import described

CATEGORY = "Detailers/Detailer"


def given(options: Any, kind: type, name: str) -> Any:
    """The options from an options link. Without a link, the default options, which change nothing.

    Raises:
        ValueError: the value is of another kind.
    """
    if options is None:
        return kind()
    if not isinstance(options, kind):
        raise ValueError(
            f"'{name}' should come from this pack's node with that name, but is a"
            f" {type(options).__name__}. Check the node that is connected to it."
        )
    return options


class DetailersPasteOptions:
    DESCRIPTION = (
        "How a detailer pastes the redrawn part into the image so that no edge is visible: the "
        "blending, the colours, and a separate mask for pasting."
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
                    "feather: everything fades over the width of the feather. multiband: fine "
                    "detail fades over that width, and coarse colours fade over a wider band "
                    "further inside.",
                    default=FEATHER,
                ),
                "color_match": described(
                    "FLOAT",
                    "How much of the colour difference between the redrawn part and the image, "
                    "measured at the edge of the mask, is removed: 1 all of it, 0 nothing.",
                    default=1.0, min=0.0, max=1.0, step=0.05,
                ),
                "restore_unmasked": described(
                    "BOOLEAN",
                    "Restore the pixels that were not redrawn, and remove the colour shift of "
                    "the VAE, which is measured on them, from the redrawn part. Needs "
                    "noise_mask.",
                    **on_off,
                ),
                "mask_grow": described(
                    "INT",
                    "Grow the mask by this many image pixels, only for pasting. A negative "
                    "value shrinks it.",
                    default=0, min=-512, max=512, step=1,
                ),
                "feather": described(
                    "INT",
                    "Width of the fade on each side of the edge, in image pixels. It is exact, "
                    "even if the mask is small. -1 uses the detailer's own feather.",
                    default=-1, min=-1, max=512, step=1,
                ),
                "fade_at_border": described(
                    "BOOLEAN",
                    "Where the mask touches the border of the crop, fade inside the crop "
                    "instead of leaving a straight edge. A mask that ends at the border of the "
                    "image does not fade there.",
                    **on_off,
                ),
            },
            "optional": {
                "register": described(
                    list(REGISTER_CHOICES),
                    "For edit models, which often shift, scale or rotate the picture slightly. "
                    "auto: the surroundings of the mask tell how far the result has moved; it is "
                    "moved back, or not pasted if the surroundings show something else. Frames of "
                    "a clip are not moved.",
                    default=OFF,
                ),
                "vae_loss": described(
                    list(VAE_LOSS_CHOICES),
                    "How to treat the detail and the colours that the VAE changes. off: paste the "
                    "decoded result. residual: add only the model's change to the image. auto: "
                    "like residual where the result resembles the image; elsewhere the result "
                    "gets back the tint, contrast and sharpness that the VAE has taken. The crop "
                    "is decoded twice.",
                    default=OFF,
                ),
            },
        }  # fmt: skip

    def run(
        self, blend, color_match, restore_unmasked, mask_grow, feather, fade_at_border,
        register=OFF, vae_loss=OFF,
    ):  # fmt: skip
        options = Pasting(
            blend=blend,
            colour_match=color_match,
            restore_kept=restore_unmasked,
            mask_grow=mask_grow,
            fade=None if feather < 0 else feather,
            fade_inside=fade_at_border,
            register=register,
            vae_loss=vae_loss,
        )
        return (options,)


class DetailersCropOptions:
    DESCRIPTION = (
        "The size at which a detailer draws its crops, whether tilted things are rotated "
        "upright first, and which part of its references an edit model sees."
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
                    "guide_size: the detailer's guide_size sets the size. model: every crop is "
                    "enlarged or shrunk to the area for which the model was trained; max_size "
                    "still limits it.",
                    default=GUIDE_SIZE,
                ),
                "native_size": described(
                    "INT",
                    "For the policy model: side, in pixels, of a square with the wanted area. "
                    "0 uses the area for which the model was trained.",
                    default=0, min=0, max=MAX_RESOLUTION, step=8,
                ),
                "upright": described(
                    [OFF, MASK, LANDMARKS, ANGLE],
                    "How to find the angle by which a crop is rotated upright before it is "
                    "drawn, and rotated back when it is pasted. off: no rotation. mask: the "
                    "long axis of the mask. landmarks: the eyes in face_landmarks. angle: the "
                    "angle below.",
                    default=OFF,
                ),
                "angle": described(
                    "FLOAT",
                    "If upright is set to angle: how far the things are tilted clockwise, in "
                    "degrees.",
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
                    "Which part of the references in positive and negative an edit model sees. "
                    "auto: a reference that shows this image is replaced by the crop, any "
                    "other stays whole. whole: all references stay whole. crop: each reference "
                    "is cut to the place of the crop.",
                    default=REFERENCES_AUTO,
                ),
            },
        }  # fmt: skip

    def run(
        self, size_policy, native_size, upright, angle, face_landmarks=None,
        references=REFERENCES_AUTO,
    ):  # fmt: skip
        tilt = Upright(upright, angle, face_landmarks)
        return (CropOptions(size_policy, native_size**2, tilt, references),)


NODES = {
    "DetailersPasteOptions": (DetailersPasteOptions, "Paste Options (Detailers)"),
    "DetailersCropOptions": (DetailersCropOptions, "Crop Options (Detailers)"),
}
