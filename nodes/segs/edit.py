"""Nodes that combine and change segments: labels, masks, and single segments."""

from __future__ import annotations

from typing import Any

import torch

from ...core.geometry import Box
from ...core.pixels.mask import dilate, feather
from ...core.segs.edit import (
    assign_labels,
    both,
    change_mask,
    change_masks,
    clean_seg,
    combine_with_mask,
    combine_with_masks,
    combine_with_segs,
    concat,
    edit_seg,
    merge,
    scale_bbox,
    without,
)
from ...core.segs.seg import seg_mask
from ...utils.arrays import to_tensor
from ...utils.check import check_mask, check_segs
from ..widgets import Numbered, grown, inputs
from .pictures import CATEGORY, given_segs

ELEMENTS = CATEGORY + "/Element"
_SEG_ELT = ("SEG_ELT", {"tooltip": "One segment, from Decompose (SEGS)."})
_DILATION = (
    "INT",
    {
        "default": 10, "min": -512, "max": 512, "step": 1,
        "tooltip": grown("the masks"),
    },
)  # fmt: skip


class _Edited:
    """Base class of the nodes that take SEGS and give SEGS."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("The changed segments.",)
    FUNCTION = "run"


# Combining


class ImpactSEGSConcat(_Edited):
    DESCRIPTION = "Combines the segments of several SEGS."
    OUTPUT_TOOLTIPS = ("All segments. Those of segs1 come first.",)

    @classmethod
    def INPUT_TYPES(cls):
        first = {"tooltip": "The first segments; further inputs are named segs2, segs3, …"}
        return {
            "required": {"segs1": ("SEGS", first)},
            "optional": Numbered("segs", "SEGS", "Further segments."),
        }

    def run(self, segs1, **further):
        names = sorted(further, key=lambda name: (len(name), name))
        segs = [given_segs(further[name], name) for name in names if further[name] is not None]
        return (concat([given_segs(segs1, "segs1"), *segs]),)


class ImpactSEGSMerge(_Edited):
    DESCRIPTION = (
        "Makes one segment from all segments. Its mask covers what they cover. It has the "
        "lowest of their confidences, the label 'merged', and no picture or ControlNet."
    )
    OUTPUT_TOOLTIPS = (
        "The one segment; for a batch, one for each image. None if there are no segments.",
    )

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("segs")}

    def run(self, segs):
        return (merge(given_segs(segs)),)


class ImpactCount_Elts_in_SEGS:
    DESCRIPTION = "Counts segments."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    OUTPUT_TOOLTIPS = ("The number of segments.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("segs")}

    def run(self, segs):
        return (len(given_segs(segs)[1]),)


class ImpactSEGSLabelAssign(_Edited):
    DESCRIPTION = "Gives the segments new labels, for instance to name them in a [LAB] text."

    @classmethod
    def INPUT_TYPES(cls):
        labels = {
            "multiline": True, "placeholder": "left, middle, right",
            "tooltip": "Labels in the order of the segments, separated by commas or line "
            "breaks. Segments without a new label keep their own.",
        }  # fmt: skip
        return {"required": {**inputs("segs"), "labels": ("STRING", labels)}}

    def run(self, segs, labels):
        return (assign_labels(given_segs(segs), labels),)


# Masks


class ImpactDilateMaskInSEGS(_Edited):
    DESCRIPTION = "Grows or shrinks the mask of every segment, within its crop region."

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {**inputs("segs"), "dilation": _DILATION}}

    def run(self, segs, dilation):
        return (change_masks(given_segs(segs), lambda mask: dilate(mask, dilation)),)


class ImpactGaussianBlurMaskInSEGS(_Edited):
    DESCRIPTION = "Blurs the mask of every segment, within its crop region."

    @classmethod
    def INPUT_TYPES(cls):
        kernel_size = {
            "default": 10, "min": 0, "max": 100, "step": 1,
            "tooltip": "Width of the blur on each side of the edge, in pixels. 0 changes nothing.",
        }  # fmt: skip
        sigma = {
            "default": 10.0, "min": 0.1, "max": 100.0, "step": 0.1,
            "tooltip": "Standard deviation of the Gaussian, in pixels.",
        }  # fmt: skip
        return {
            "required": {
                **inputs("segs"),
                "kernel_size": ("INT", kernel_size),
                "sigma": ("FLOAT", sigma),
            }
        }

    def run(self, segs, kernel_size, sigma):
        return (change_masks(given_segs(segs), lambda mask: feather(mask, kernel_size, sigma)),)


class ImpactSegsAndMask(_Edited):
    DESCRIPTION = "Limits the mask of every segment to the part that another mask covers too."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": inputs(
                "segs", "mask", mask="The mask to which the masks of the segments are limited."
            )
        }

    def run(self, segs, mask):
        return (combine_with_mask(given_segs(segs), check_mask(mask, "mask"), both),)


class ImpactSegsAndMaskForEach(_Edited):
    DESCRIPTION = "Limits the mask of each segment by its own mask from a batch of masks."

    @classmethod
    def INPUT_TYPES(cls):
        masks = {
            "tooltip": "A batch with a mask for each segment, in their order. Segments beyond the "
            "last mask are dropped."
        }
        return {"required": {**inputs("segs"), "masks": ("MASK", masks)}}

    def run(self, segs, masks):
        return (combine_with_masks(given_segs(segs), check_mask(masks, "masks"), both),)


class BitwiseAndMaskForEach(_Edited):
    DESCRIPTION = (
        "Limits the mask of every segment to the part that other segments cover too. Segments "
        "without a common part are dropped."
    )
    combine = staticmethod(both)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "base_segs": ("SEGS", {"tooltip": "The segments whose masks are changed."}),
                "mask_segs": ("SEGS", {"tooltip": "The segments with which they are compared."}),
            }
        }

    def run(self, base_segs, mask_segs):
        base, other = given_segs(base_segs, "base_segs"), given_segs(mask_segs, "mask_segs")
        return (combine_with_segs(base, other, self.combine),)


class SubtractMaskForEach(BitwiseAndMaskForEach):
    DESCRIPTION = (
        "Removes from the mask of every segment the part that other segments cover. Segments "
        "with an empty mask are dropped."
    )
    combine = staticmethod(without)


# Single segments. An empty SEGS is split into a None. The nodes for single segments pass it on, and
# Assemble (SEGS) leaves it out.


class ImpactDecomposeSEGS:
    DESCRIPTION = "Splits SEGS into the image's size and a list of single segments."
    CATEGORY = ELEMENTS
    RETURN_TYPES = ("SEGS_HEADER", "SEG_ELT")
    OUTPUT_IS_LIST = (False, True)
    OUTPUT_TOOLTIPS = (
        "The image's size, for Assemble (SEGS).",
        "The segments. The nodes after this output run once for each of them.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("segs")}

    def run(self, segs):
        header, items = given_segs(segs)
        return (header, list(items) or [None])


class ImpactAssembleSEGS:
    DESCRIPTION = "Combines single segments into SEGS."
    CATEGORY = ELEMENTS
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("All segments as SEGS.",)
    INPUT_IS_LIST = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        header = {"tooltip": "The image's size, from Decompose (SEGS)."}
        elements = {"tooltip": "All segments, as a list."}
        return {
            "required": {
                "seg_header": ("SEGS_HEADER", header), "seg_elt": ("SEG_ELT", elements),
            }
        }  # fmt: skip

    def run(self, seg_header, seg_elt):
        if not seg_header:
            raise ValueError(
                "'seg_header' is an empty list, so the size of the image is unknown. Connect that "
                "output of Decompose (SEGS)."
            )
        segs = (seg_header[0], [seg for seg in seg_elt if seg is not None])
        check_segs(segs, "seg_elt")
        return (segs,)


class ImpactFrom_SEG_ELT:
    DESCRIPTION = "Splits one segment into its parts."
    CATEGORY = ELEMENTS
    RETURN_TYPES = (
        "SEG_ELT", "IMAGE", "MASK", "SEG_ELT_crop_region", "SEG_ELT_bbox",
        "SEG_ELT_control_net_wrapper", "FLOAT", "STRING",
    )  # fmt: skip
    RETURN_NAMES = (
        "seg_elt", "cropped_image", "cropped_mask", "crop_region", "bbox", "control_net_wrapper",
        "confidence", "label",
    )  # fmt: skip
    OUTPUT_TOOLTIPS = (
        "The same segment that is connected to the input.",
        "Its picture, if it has one.",
        "Its mask, at the size of the crop region; for a video, one for each frame.",
        "The crop region: where the segment is cropped and pasted.",
        "The bounding box of the thing.",
        "Its ControlNet, if it has one.",
        "The confidence of the detector, 0 to 1.",
        "The label: what the segment shows.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seg_elt": _SEG_ELT}}

    def run(self, seg_elt):
        if seg_elt is None:
            nothing = (0, 0, 0, 0)
            return (None, None, torch.zeros(1, 64, 64), nothing, nothing, None, 0.0, "")
        seg = checked_seg(seg_elt)
        picture = None if seg.cropped_image is None else to_tensor(seg.cropped_image).clone()
        return (
            seg_elt, picture, seg_mask(seg), seg.crop_region, seg.bbox, seg.control_net_wrapper,
            seg.confidence, str(seg.label),
        )  # fmt: skip


class ImpactFrom_SEG_ELT_bbox:
    DESCRIPTION = "Gives the edges of a segment's bounding box as numbers."
    CATEGORY = ELEMENTS
    RETURN_TYPES = ("INT", "INT", "INT", "INT")
    RETURN_NAMES = ("left", "top", "right", "bottom")
    OUTPUT_TOOLTIPS = (
        "The left edge, in pixels from the left of the image.",
        "The top edge, in pixels from the top of the image.",
        "The right edge: the first column outside of the box.",
        "The bottom edge: the first row outside of the box.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "bbox": ("SEG_ELT_bbox", {"tooltip": "The output of the From SEG_ELT node."})
            }
        }

    def run(self, bbox):
        return Box.of(bbox).as_tuple()


class ImpactFrom_SEG_ELT_crop_region(ImpactFrom_SEG_ELT_bbox):
    DESCRIPTION = "Gives the edges of a segment's crop region as numbers."

    @classmethod
    def INPUT_TYPES(cls):
        region = {"tooltip": "The output of the From SEG_ELT node."}
        return {"required": {"crop_region": ("SEG_ELT_crop_region", region)}}

    def run(self, crop_region):
        return Box.of(crop_region).as_tuple()


class _EditedElement:
    """Base class of the nodes that take a SEG_ELT and give one."""

    CATEGORY = ELEMENTS
    RETURN_TYPES = ("SEG_ELT",)
    OUTPUT_TOOLTIPS = ("The changed segment.",)
    FUNCTION = "run"


class ImpactEdit_SEG_ELT(_EditedElement):
    DESCRIPTION = "Replaces parts of one segment. Parts that are not connected stay as they are."

    @classmethod
    def INPUT_TYPES(cls):
        confidence = {
            "min": 0, "max": 1.0, "step": 0.1, "forceInput": True,
            "tooltip": "The confidence of the detection, 0 to 1.",
        }  # fmt: skip
        label = {
            "multiline": False,
            "forceInput": True,
            "tooltip": "The label: what the segment shows.",
        }
        return {
            "required": {"seg_elt": _SEG_ELT},
            "optional": {
                "cropped_image_opt": ("IMAGE", {"tooltip": "Its picture."}),
                "cropped_mask_opt": (
                    "MASK", {"tooltip": "Its mask, at the size of the crop region or of the "
                    "image."},
                ),
                "crop_region_opt": (
                    "SEG_ELT_crop_region", {"tooltip":
                        "The crop region: where the segment is cropped and pasted."},
                ),
                "bbox_opt": ("SEG_ELT_bbox", {"tooltip": "The bounding box of the thing."}),
                "control_net_wrapper_opt": (
                    "SEG_ELT_control_net_wrapper", {"tooltip": "Its ControlNet."},
                ),
                "confidence_opt": ("FLOAT", confidence),
                "label_opt": ("STRING", label),
            },
        }  # fmt: skip

    def run(self, seg_elt, cropped_image_opt=None, cropped_mask_opt=None, **fields):
        if seg_elt is None:
            return (None,)
        if cropped_mask_opt is not None:
            cropped_mask_opt = check_mask(cropped_mask_opt, "cropped_mask_opt")
        fields = {name.removesuffix("_opt"): value for name, value in fields.items()}
        return (edit_seg(seg_elt, cropped_image_opt, cropped_mask_opt, **fields),)


class ImpactDilate_Mask_SEG_ELT(_EditedElement):
    DESCRIPTION = "Grows or shrinks the mask of one segment, within its crop region."

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seg_elt": _SEG_ELT, "dilation": _DILATION}}

    def run(self, seg_elt, dilation):
        if seg_elt is None:
            return (None,)
        return (change_mask(checked_seg(seg_elt), lambda mask: dilate(mask, dilation)),)


class ImpactScaleBy_BBOX_SEG_ELT(_EditedElement):
    DESCRIPTION = (
        "Scales the bounding box of one segment around its centre, within the crop region. The "
        "mask outside of the new box is removed."
    )

    @classmethod
    def INPUT_TYPES(cls):
        scale_by = {
            "default": 1.0, "min": 0.01, "max": 8.0, "step": 0.01,
            "tooltip": "New sides of the box over the old ones.",
        }  # fmt: skip
        return {"required": {"seg": _SEG_ELT, "scale_by": ("FLOAT", scale_by)}}

    def run(self, seg, scale_by):
        return (None if seg is None else scale_bbox(checked_seg(seg, "seg"), scale_by),)


def checked_seg(seg: Any, name: str = "seg_elt"):
    """A SEG_ELT of any pack as a SEG of this pack, after a check."""
    check_segs(((0, 0), [seg]), name)
    return clean_seg(seg)


NODES = {
    "ImpactSEGSConcat": (ImpactSEGSConcat, "SEGS Concat"),
    "ImpactSEGSMerge": (ImpactSEGSMerge, "SEGS Merge"),
    "ImpactCount_Elts_in_SEGS": (ImpactCount_Elts_in_SEGS, "Count Elts in SEGS"),
    "ImpactSEGSLabelAssign": (ImpactSEGSLabelAssign, "SEGS Assign (label)"),
    "ImpactDilateMaskInSEGS": (ImpactDilateMaskInSEGS, "Dilate Mask (SEGS)"),
    "ImpactGaussianBlurMaskInSEGS": (ImpactGaussianBlurMaskInSEGS, "Gaussian Blur Mask (SEGS)"),
    "ImpactSegsAndMask": (ImpactSegsAndMask, "Pixelwise(SEGS & MASK)"),
    "ImpactSegsAndMaskForEach": (ImpactSegsAndMaskForEach, "Pixelwise(SEGS & MASKS ForEach)"),
    "BitwiseAndMaskForEach": (BitwiseAndMaskForEach, "Pixelwise(SEGS & SEGS)"),
    "SubtractMaskForEach": (SubtractMaskForEach, "Pixelwise(SEGS - SEGS)"),
    "ImpactDecomposeSEGS": (ImpactDecomposeSEGS, "Decompose (SEGS)"),
    "ImpactAssembleSEGS": (ImpactAssembleSEGS, "Assemble (SEGS)"),
    "ImpactFrom_SEG_ELT": (ImpactFrom_SEG_ELT, "From SEG_ELT"),
    "ImpactFrom_SEG_ELT_bbox": (ImpactFrom_SEG_ELT_bbox, "From SEG_ELT bbox"),
    "ImpactFrom_SEG_ELT_crop_region": (
        ImpactFrom_SEG_ELT_crop_region,
        "From SEG_ELT crop_region",
    ),
    "ImpactEdit_SEG_ELT": (ImpactEdit_SEG_ELT, "Edit SEG_ELT"),
    "ImpactDilate_Mask_SEG_ELT": (ImpactDilate_Mask_SEG_ELT, "Dilate Mask (SEG_ELT)"),
    "ImpactScaleBy_BBOX_SEG_ELT": (ImpactScaleBy_BBOX_SEG_ELT, "ScaleBy BBOX (SEG_ELT)"),
}
