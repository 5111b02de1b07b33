"""Masks: conversions to and from SEGS, mask algebra, drawn and painted masks."""

from __future__ import annotations

from typing import Any

import torch

from ..core.geometry import Box, Size
from ..core.host.backend import MAX_RESOLUTION
from ..core.host.folders import painted_mask, save_previews
from ..core.pixels.mask import (
    binary,
    difference,
    dilate,
    feather,
    intersection,
    rectangle,
    total,
    union,
)
from ..core.prompts.wildcard_nodes import workflow_nodes
from ..core.segs.seg import combined_mask, empty, from_mask, from_mask_frames, mask_list
from ..utils.check import check_mask
from ..utils.notes import note
from .widgets import inputs

CATEGORY = "Detailers/Mask"


class MaskToSEGS:
    DESCRIPTION = (
        "Makes a segment from each separate shape in a mask, or one segment from the whole "
        "mask. In a batch, each mask belongs to the image with the same number."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("One segment for each shape, the lowest in the image first.",)
    FUNCTION = "run"
    convert = staticmethod(from_mask)

    @classmethod
    def INPUT_TYPES(cls):
        combined = {
            "default": False, "label_on": "True", "label_off": "False",
            "tooltip": "True: one segment for the whole mask. False: one segment for each shape.",
        }  # fmt: skip
        return {
            "required": {
                **inputs("mask"),
                "combined": ("BOOLEAN", combined),
                **inputs("crop_factor", "bbox_fill", "drop_size", "contour_fill"),
            }
        }

    def run(self, mask, combined, crop_factor, bbox_fill, drop_size, contour_fill=False):
        segs = self.convert(
            check_mask(mask, "mask"), combined=combined, crop_factor=crop_factor,
            bbox_fill=bbox_fill, drop_size=drop_size, contour_fill=contour_fill,
        )  # fmt: skip
        return (segs,)


class MaskToSEGS_for_AnimateDiff(MaskToSEGS):
    DESCRIPTION = (
        "Makes segments for a video from one mask for each frame: a segment for every shape of "
        "the united masks, with its own mask in each frame."
    )
    convert = staticmethod(from_mask_frames)


class SegsToCombinedMask:
    DESCRIPTION = "Unites the masks of all segments in one mask of the image's size."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = (
        "A mask of everything that the segments cover: for a batch, one for each image; for a "
        "video, one for each frame.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("segs")}

    def run(self, segs):
        return (combined_mask(segs),)


class ImpactSEGSToMaskList(SegsToCombinedMask):
    DESCRIPTION = "Gives the mask of each segment, at the image's size, as a list."
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = ("One mask for each segment. One empty mask if there is no segment.",)

    def run(self, segs):
        return (mask_list(segs) or [combined_mask(segs)],)


class ImpactSEGSToMaskBatch(SegsToCombinedMask):
    DESCRIPTION = "Gives the masks of all segments, at the image's size, as a batch."
    OUTPUT_TOOLTIPS = ("One mask for each segment. One empty mask if there is no segment.",)

    def run(self, segs):
        return (torch.cat(mask_list(segs) or [combined_mask(segs)]),)


class EmptySegs:
    DESCRIPTION = "SEGS without any segment."
    CATEGORY = "Detailers/SEGS"
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("No segment.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (empty((0, 0)),)


class ImpactDilateMask:
    DESCRIPTION = "Grows masks, or shrinks them."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = ("The masks after growing or shrinking.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        dilation = {
            "default": 10, "min": -512, "max": 512, "step": 1,
            "tooltip": "The masks get wider and higher by this many pixels. A negative value "
            "shrinks them.",
        }  # fmt: skip
        return {
            "required": {
                "mask": ("MASK", {"tooltip": "A mask, or a batch of them."}),
                "dilation": ("INT", dilation),
            }
        }

    def run(self, mask, dilation):
        return (dilate(check_mask(mask, "mask"), dilation),)


class ImpactGaussianBlurMask:
    DESCRIPTION = "Softens the edges of masks."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = ("The masks, each with soft edges.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        kernel_size = {
            "default": 10, "min": 0, "max": 100, "step": 1,
            "tooltip": "Width of the fade on each side of the edge, in pixels.",
        }  # fmt: skip
        sigma = {
            "default": 10.0, "min": 0.1, "max": 100.0, "step": 0.1,
            "tooltip": "Standard deviation of the Gaussian, in pixels. A higher value makes the "
            "fade more even.",
        }  # fmt: skip
        return {
            "required": {
                "mask": ("MASK", {"tooltip": "A mask, or a batch of them."}),
                "kernel_size": ("INT", kernel_size),
                "sigma": ("FLOAT", sigma),
            }
        }

    def run(self, mask, kernel_size, sigma):
        return (feather(check_mask(mask, "mask"), kernel_size, sigma),)


class ToBinaryMask:
    DESCRIPTION = "Makes masks binary: every pixel becomes 0 or 1."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = ("The masks with only the values 0 and 1.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        threshold = {
            "default": 20, "min": 1, "max": 255,
            "tooltip": "Values above this become 1. The scale is 0 to 255.",
        }  # fmt: skip
        return {
            "required": {
                "mask": ("MASK", {"tooltip": "A mask, or a batch of them."}),
                "threshold": ("INT", threshold),
            }
        }

    def run(self, mask, threshold):
        return (binary(check_mask(mask, "mask"), threshold / 255),)


class ImpactFlattenMask:
    DESCRIPTION = "Unites a batch of masks in one mask."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = ("The mask of everything that at least one of the masks covers.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"masks": ("MASK", {"tooltip": "The batch of masks."})}}

    def run(self, masks):
        return (union(check_mask(masks, "masks")),)


class BitwiseAndMask:
    DESCRIPTION = "Gives the part that both masks cover."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = ("The part that both masks cover.",)
    FUNCTION = "run"
    calculate = staticmethod(intersection)

    @classmethod
    def INPUT_TYPES(cls):
        first = {"tooltip": "A mask, or a batch of them. The result has its size."}
        second = {"tooltip": "The other mask: one mask for all, or one for each."}
        return {"required": {"mask1": ("MASK", first), "mask2": ("MASK", second)}}

    def run(self, mask1, mask2):
        return (self.calculate(check_mask(mask1, "mask1"), check_mask(mask2, "mask2")),)


class SubtractMask(BitwiseAndMask):
    DESCRIPTION = "Subtracts one mask from another."
    OUTPUT_TOOLTIPS = ("The part that mask1 covers and mask2 does not cover.",)
    calculate = staticmethod(difference)


class AddMask(BitwiseAndMask):
    DESCRIPTION = "Adds two masks."
    OUTPUT_TOOLTIPS = ("The part that at least one of the masks covers.",)
    calculate = staticmethod(total)


class MaskRectArea:
    DESCRIPTION = (
        "Draws a rectangle on a mask of 512x512 pixels. Its place and size are in percent."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = ("The mask.",)
    FUNCTION = "run"

    # Input -> the property with its value in workflows, its default, and its tooltip. Workflows of
    # versions without these inputs have only the properties.
    _numbers = {
        "x": ("x", 0, "Left edge, in percent of the width."),
        "y": ("y", 0, "Top edge, in percent of the height."),
        "width": ("w", 50, "Width, in percent."),
        "height": ("h", 50, "Height, in percent."),
        "blur_radius": (
            "blur_radius",
            0,
            "Width of the blur on each side of the edges, in pixels.",
        ),
    }
    _highest = 100

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "optional": {
                name: (
                    "INT",
                    {
                        "default": default,
                        "min": 1 if name.startswith("image_") else 0,
                        "max": 255 if name == "blur_radius" else cls._highest,
                        "step": 1,
                        "tooltip": tooltip,
                    },
                )
                for name, (_, default, tooltip) in cls._numbers.items()
            },
            "hidden": {"extra_pnginfo": "EXTRA_PNGINFO", "unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def IS_CHANGED(cls, extra_pnginfo=None, unique_id=None, **given):
        return "" if len(given) == len(cls._numbers) else float("nan")

    def run(self, extra_pnginfo=None, unique_id="", **given):
        stored = node_properties(extra_pnginfo, unique_id)
        numbers = {
            name: int(given.get(name, stored.get(key, default)))
            for name, (key, default, _) in self._numbers.items()
        }
        return (self.draw(**numbers),)

    def draw(self, x, y, width, height, blur_radius):
        """The mask [1,H,W] 0..1 with the rectangle."""
        side = 512
        box = [x, y, x + width, y + height]
        pixels = Box(*(value * side // 100 for value in box))
        return rectangle(Size(side, side), pixels, blur_radius)


class MaskRectAreaAdvanced(MaskRectArea):
    DESCRIPTION = "Draws a rectangle, in pixels, on a mask of any size."
    _numbers = {
        "x": ("x", 0, "Left edge, in pixels."),
        "y": ("y", 0, "Top edge, in pixels."),
        "width": ("w", 256, "Width of the rectangle, in pixels."),
        "height": ("h", 256, "Height of the rectangle, in pixels."),
        "image_width": ("width", 512, "Width of the mask, in pixels."),
        "image_height": ("height", 512, "Height of the mask, in pixels."),
        "blur_radius": (
            "blur_radius",
            0,
            "Width of the blur on each side of the edges, in pixels.",
        ),
    }
    _highest = MAX_RESOLUTION

    def draw(self, x, y, width, height, image_width, image_height, blur_radius):
        box = Box(x, y, x + width, y + height)
        return rectangle(Size(image_width, image_height), box, blur_radius)


def node_properties(extra_pnginfo: Any, unique_id: str) -> dict[str, Any]:
    """The properties of a node in the workflow that was sent with the prompt; {} without one."""
    workflow = (extra_pnginfo or {}).get("workflow")
    if not isinstance(workflow, dict):
        return {}
    node = next(workflow_nodes(workflow, str(unique_id).split(":")), {})
    return node.get("properties") or {}


class MaskPainter:
    DESCRIPTION = (
        "For old workflows: gives the mask that was painted on its picture. Today masks are "
        "painted in ComfyUI's own mask editor. Open it from the menu of a Load Image node."
    )
    CATEGORY = CATEGORY
    DEPRECATED = True
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = ("The painted mask. It is empty if its file does not exist.",)
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"images": ("IMAGE", {"tooltip": "The image that is shown."})},
            "optional": {
                "mask_image": ("IMAGE_PATH", {"tooltip": "The file that holds the painted mask."})
            },
        }

    def run(self, images, mask_image=None):
        mask = painted_mask(mask_image)
        if mask is None:
            note(
                "mask",
                "MaskPainter gives an empty mask, because there is no painted mask. Paint the mask "
                "in ComfyUI's mask editor (menu of a Load Image node), and use that node's mask.",
            )
            mask = torch.zeros(1, *images.shape[1:3])
        shown = save_previews(list(images.split(1)), "mask_painter")
        return {"ui": {"images": shown}, "result": (mask,)}


NODES = {
    "SegsToCombinedMask": (SegsToCombinedMask, "SEGS to MASK (combined)"),
    "ImpactSEGSToMaskList": (ImpactSEGSToMaskList, "SEGS to Mask List"),
    "ImpactSEGSToMaskBatch": (ImpactSEGSToMaskBatch, "SEGS to Mask Batch"),
    "MaskToSEGS": (MaskToSEGS, "MASK to SEGS"),
    "MaskToSEGS_for_AnimateDiff": (MaskToSEGS_for_AnimateDiff, "MASK to SEGS for Video"),
    "EmptySegs": (EmptySegs, "EmptySegs"),
    "ImpactDilateMask": (ImpactDilateMask, "Dilate Mask"),
    "ImpactGaussianBlurMask": (ImpactGaussianBlurMask, "Gaussian Blur Mask"),
    "ToBinaryMask": (ToBinaryMask, "ToBinaryMask"),
    "ImpactFlattenMask": (ImpactFlattenMask, "Flatten Mask Batch"),
    "BitwiseAndMask": (BitwiseAndMask, "Pixelwise(MASK & MASK)"),
    "SubtractMask": (SubtractMask, "Pixelwise(MASK - MASK)"),
    "AddMask": (AddMask, "Pixelwise(MASK + MASK)"),
    "MaskRectArea": (MaskRectArea, "Mask Rect Area"),
    "MaskRectAreaAdvanced": (MaskRectAreaAdvanced, "Mask Rect Area (Advanced)"),
    "MaskPainter": (MaskPainter, "Mask Painter (old)"),
}
