"""Nodes that show, paste, set and remove the pictures of segments."""

from __future__ import annotations

from typing import Any

import torch

from ...core.host.folders import save_previews
from ...core.pixels.blend import Blending
from ...core.segs.edit import set_pictures, without_pictures
from ...core.segs.pictures import control_pictures, paste_segs, segment_pictures
from ...core.segs.seg import SEGS, empty
from ...core.settings import Pasting
from ...utils.check import check_segs
from ..detail.options import given
from ..widgets import inputs

CATEGORY = "Detailers/SEGS"
_FALLBACK = (
    "IMAGE",
    {"tooltip": "If a segment has no picture of its own, its region of this image is shown."},
)


def given_segs(segs: Any, name: str = "segs") -> SEGS:
    """The SEGS from a link, after a check. None counts as SEGS without segments."""
    if segs is None:
        return empty((0, 0))
    check_segs(segs, name)
    return segs


class SEGSPaste:
    DESCRIPTION = (
        "Pastes the pictures of segments into an image, through their masks. In a batch a segment "
        "goes into its own image, and picture i of a video's segment into image i."
    )
    CATEGORY = "Detailers/Detailer"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The image with the segments pasted.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        alpha = {
            "default": 255, "min": 0, "max": 255, "step": 1,
            "tooltip": "How strongly the pictures cover the image: 255 fully, 0 not at all.",
        }  # fmt: skip
        reference = {
            "tooltip": "Paste the segments' regions of this image instead of their own pictures."
        }
        return {
            "required": {**inputs("image", "segs", "feather"), "alpha": ("INT", alpha)},
            "optional": {"ref_image_opt": ("IMAGE", reference), **inputs("paste_options")},
        }

    def run(self, image, segs, feather, alpha=255, ref_image_opt=None, paste_options=None):
        segs = given_segs(segs)
        blending = Blending(feather, given(paste_options, Pasting, "paste_options"))
        return (paste_segs(image, segs, blending, alpha / 255, ref_image_opt),)


class SEGSToImageList:
    DESCRIPTION = "Gives the picture of each segment as a list."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = (
        "One picture for each segment. A black picture of 64x64 pixels if there is none.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": inputs("segs"),
            "optional": {"fallback_image_opt": _FALLBACK},
        }

    def run(self, segs, fallback_image_opt=None):
        blank = torch.zeros(1, 64, 64, 3)
        pictures = segment_pictures(given_segs(segs), fallback_image_opt)
        return ([blank if picture is None else picture for picture in pictures] or [blank],)


class SEGSPreview:
    DESCRIPTION = "Shows the picture of each segment and gives them as a list."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = (
        "The pictures that are shown. A black picture of 64x64 pixels if there is none.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        alpha_mode = {
            "default": True, "label_on": "enable", "label_off": "disable",
            "tooltip": "Show the part outside of the mask as transparent.",
        }  # fmt: skip
        min_alpha = {
            "default": 0.2, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "How visible the part outside of the mask is.",
        }  # fmt: skip
        return {
            "required": {
                **inputs("segs"),
                "alpha_mode": ("BOOLEAN", alpha_mode),
                "min_alpha": ("FLOAT", min_alpha),
            },
            "optional": {"fallback_image_opt": _FALLBACK},
        }

    def run(self, segs, alpha_mode=True, min_alpha=0.0, fallback_image_opt=None):
        least = min_alpha if alpha_mode else None
        pictures = segment_pictures(given_segs(segs), fallback_image_opt, least)
        shown = [picture for picture in pictures if picture is not None]
        frames = [frame for picture in shown for frame in picture.split(1)]
        previews = save_previews(frames, "segs_preview")
        return {"ui": {"images": previews}, "result": (shown or [torch.zeros(1, 64, 64, 3)],)}


class SEGSPreviewCNet:
    DESCRIPTION = (
        "Shows the pictures that the ControlNets of the segments get, and gives them as a list."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = (
        "The control pictures of all segments. A black picture of 64x64 pixels if there is "
        "none. A picture that is made from the crop exists only while the segment is redrawn.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("segs")}

    def run(self, segs):
        shown = control_pictures(given_segs(segs))
        frames = [frame for picture in shown for frame in picture.split(1)]
        previews = save_previews(frames, "segs_cnet")
        return {"ui": {"images": previews}, "result": (shown or [torch.zeros(1, 64, 64, 3)],)}


class SetDefaultImageForSEGS:
    DESCRIPTION = "Gives each segment its region of an image as its own picture."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("The segments with their pictures, scaled to the size of the image.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        override = {
            "default": True,
            "tooltip": "Also replace pictures that the segments already have.",
        }
        return {
            "required": {
                **inputs("segs", "image", image="The image from which the pictures are cut. For "
                "a batch, each segment gets a picture from "
                "every image to which it belongs."),
                "override": ("BOOLEAN", override),
            }
        }  # fmt: skip

    def run(self, segs, image, override=True):
        return (set_pictures(given_segs(segs), image, override=override),)


class RemoveImageFromSEGS:
    DESCRIPTION = "Removes the pictures from segments, so that nodes crop them from the image."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("The segments without pictures.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("segs")}

    def run(self, segs):
        return (without_pictures(given_segs(segs)),)


NODES = {
    "SEGSPaste": (SEGSPaste, "SEGSPaste"),
    "SEGSPreview": (SEGSPreview, "SEGSPreview"),
    "SEGSPreviewCNet": (SEGSPreviewCNet, "SEGSPreview (CNET Image)"),
    "SEGSToImageList": (SEGSToImageList, "SEGSToImageList"),
    "SetDefaultImageForSEGS": (SetDefaultImageForSEGS, "Set Default Image for SEGS"),
    "RemoveImageFromSEGS": (RemoveImageFromSEGS, "Remove Image from SEGS"),
}
