"""Nodes that select segments: by number, label, size, order or overlap."""

from __future__ import annotations

import torch

from ...core.host.folders import save_previews
from ...core.segs.filter import (
    IN_THIS_ORDER,
    MEASURES,
    closest_to_mask,
    pick,
    split_by_labels,
    split_by_order,
    split_by_range,
    suppress_overlaps,
    without_overlap,
)
from ...core.segs.pictures import segment_pictures
from ...utils.check import check_mask
from ..widgets import inputs
from .pictures import given_segs

CATEGORY = "Detailers/SEGS/Filter"
_MAX_VALUE = 2**63 - 1
_SPLIT_NAMES = ("filtered_SEGS", "remained_SEGS")
_PREVIEW_ALPHA = 0.3  # how visible the part outside of the mask is in a preview

# Labels of detectors: the face parts of this pack, and the classes of DeepFashion2 and COCO, with
# which most detection models are trained.
_FACE_LABELS = (
    "hand", "face", "mouth", "eyes", "eyebrows", "pupils", "left_eyebrow", "left_eye",
    "left_pupil", "right_eyebrow", "right_eye", "right_pupil",
)  # fmt: skip
_DEEP_FASHION_LABELS = (
    "short_sleeved_shirt", "long_sleeved_shirt", "short_sleeved_outwear", "long_sleeved_outwear",
    "vest", "sling", "shorts", "trousers", "skirt", "short_sleeved_dress", "long_sleeved_dress",
    "vest_dress", "sling_dress",
)  # fmt: skip
_COCO_LABELS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


class ImpactSEGSPicker:
    DESCRIPTION = "Shows the segments and passes on those whose numbers you enter."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("The picked segments, in their order.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        picks = {
            "multiline": True, "dynamicPrompts": False,
            "tooltip": "Numbers of the segments to pass on, such as 1,3. The first picture that "
            "is shown is 1. If it is empty, no segment is passed on.",
        }  # fmt: skip
        fallback = {
            "tooltip": "For segments without their own picture, their region of this "
            "image is shown."
        }
        return {
            "required": {"picks": ("STRING", picks), **inputs("segs")},
            "optional": {"fallback_image_opt": ("IMAGE", fallback)},
        }

    def run(self, picks, segs, fallback_image_opt=None):
        segs = given_segs(segs)
        pictures = segment_pictures(segs, fallback_image_opt, _PREVIEW_ALPHA)
        blank = torch.zeros(1, 64, 64, 3)
        shown = [blank if picture is None else picture[:1] for picture in pictures]
        previews = save_previews(shown, "segs_picker")
        return {"ui": {"images": previews}, "result": (pick(segs, picks),)}


class ImpactSEGSLabelFilter:
    DESCRIPTION = "Passes on the segments with certain labels."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS", "SEGS")
    RETURN_NAMES = _SPLIT_NAMES
    OUTPUT_TOOLTIPS = ("Segments with one of the labels.", "All others.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        presets = ["all", *_FACE_LABELS, *_DEEP_FASHION_LABELS, *_COCO_LABELS]
        labels = {
            "multiline": True, "placeholder": "face, hand",
            "tooltip": "Labels separated by commas or line breaks. 'all' keeps everything; 'eyes', "
            "'eyebrows' and 'pupils' stand for left and right. Empty: the preset's label.",
        }  # fmt: skip
        preset = {"tooltip": "A label that detectors give. It is used if 'labels' is empty."}
        return {
            "required": {
                **inputs("segs"), "preset": (presets, preset), "labels": ("STRING", labels),
            }
        }  # fmt: skip

    def run(self, segs, preset, labels):
        return split_by_labels(given_segs(segs), labels if labels.strip() else preset)

    @staticmethod
    def filter(segs, labels):
        """The same for a list of labels. Other packs call it by this name."""
        return split_by_labels(given_segs(segs), ", ".join(labels))


class ImpactSEGSRangeFilter:
    DESCRIPTION = "Passes on the segments whose size, place or confidence is in a range."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS", "SEGS")
    RETURN_NAMES = _SPLIT_NAMES
    OUTPUT_TOOLTIPS = ("Segments that meet the condition.", "All others.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        target = {
            "tooltip": "The value that is measured. Sizes and places are those of the crop "
            "region, in pixels. length_percent is its longer side in percent of its "
            "shorter side."
        }
        mode = {
            "default": True, "label_on": "inside", "label_off": "outside",
            "tooltip": "Pass on the segments within the range, or those outside of it.",
        }  # fmt: skip
        return {
            "required": {
                **inputs("segs"),
                "target": ([name for name in MEASURES if name != "confidence"], target),
                "mode": ("BOOLEAN", mode),
                "min_value": ("INT", _count(0, "Lowest value of the range.")),
                "max_value": ("INT", _count(67108864, "Highest value of the range.")),
            }
        }

    def run(self, segs, target, mode, min_value, max_value):
        return split_by_range(given_segs(segs), target, min_value, max_value, inside=mode)


class ImpactSEGSOrderedFilter:
    DESCRIPTION = (
        "Sorts the segments of each image by size, place or confidence, and passes on some of "
        "them, one after another in this order."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS", "SEGS")
    RETURN_NAMES = _SPLIT_NAMES
    OUTPUT_TOOLTIPS = (
        "The segments that are passed on, in the new order.",
        "All others, in the new order.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        targets = [
            name for name in MEASURES if name not in ("length_percent", "confidence(0-100)")
        ]  # fmt: skip
        target = {
            "tooltip": "The value by which they are sorted. Sizes and places are those of "
            "the crop region, in pixels. none: the order stays."
        }
        order = {
            "default": True, "label_on": "descending", "label_off": "ascending",
            "tooltip": "Descending: the largest comes first.",
        }  # fmt: skip
        return {
            "required": {
                **inputs("segs"),
                "target": ([*targets, IN_THIS_ORDER], target),
                "order": ("BOOLEAN", order),
                "take_start": (
                    "INT",
                    _count(
                        0,
                        "Number of the first segment to pass on, in the new order; 0 is the first.",
                    ),
                ),
                "take_count": ("INT", _count(1, "How many segments to pass on.")),
            }
        }

    def run(self, segs, target, order, take_start, take_count):
        return split_by_order(
            given_segs(segs), target, descending=order, start=take_start, count=take_count
        )


def _count(default: int, tooltip: str) -> dict:
    return {"default": default, "min": 0, "max": _MAX_VALUE, "step": 1, "tooltip": tooltip}


def _share(default: float, tooltip: str) -> dict:
    return {"default": default, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": tooltip}


class ImpactSEGSIntersectionFilter:
    DESCRIPTION = "Drops the segments that a segment of another SEGS covers."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    RETURN_NAMES = ("filtered_SEGS",)
    OUTPUT_TOOLTIPS = ("The segments of segs1 that are not covered.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        threshold = _share(
            0.5, "A segment is dropped if another covers more than this share of its mask."
        )
        return {
            "required": {
                "segs1": ("SEGS", {"tooltip": "The segments to choose from."}),
                "segs2": ("SEGS", {"tooltip": "The segments that may cover them."}),
                "ioa_threshold": ("FLOAT", threshold),
            }
        }

    def run(self, segs1, segs2, ioa_threshold):
        segs1, segs2 = given_segs(segs1, "segs1"), given_segs(segs2, "segs2")
        return (without_overlap(segs1, segs2, ioa_threshold),)


class ImpactSEGSNMSFilter:
    DESCRIPTION = (
        "If several segments show the same thing, only the one with the highest confidence is "
        "kept: non-maximum suppression with masks."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    RETURN_NAMES = ("filtered_SEGS",)
    OUTPUT_TOOLTIPS = ("The segments that are kept. The highest confidence comes first.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        threshold = _share(
            0.5,
            "Two segments show the same thing if their intersection over union is at least this.",
        )
        return {"required": {**inputs("segs"), "iou_threshold": ("FLOAT", threshold)}}

    def run(self, segs, iou_threshold):
        return (suppress_overlaps(given_segs(segs), iou_threshold),)


class SEGSFilterClosestMask:
    DESCRIPTION = "Passes on the one segment that fits a mask best."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS", "FLOAT")
    RETURN_NAMES = ("filtered_segs", "overlap_score")
    OUTPUT_TOOLTIPS = (
        "The segment that fits best. None if its value is below the threshold.",
        "How well it fits: intersection over union, 0 to 1. With return_all_scores the values of "
        "all segments.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        every = {"default": False, "tooltip": "Give the values of all segments, in their order."}
        return {
            "required": {
                **inputs("segs", "mask", mask="The mask that the segment should fit."),
                "threshold": (
                    "FLOAT",
                    _share(0.0, "A segment with a lower value is not passed on."),
                ),
            },
            "optional": {"return_all_scores": ("BOOLEAN", every)},
        }

    def run(self, segs, mask, threshold, return_all_scores=False):
        mask = check_mask(mask, "mask")
        best, score, scores = closest_to_mask(given_segs(segs), mask, threshold)
        return (best, scores if return_all_scores else score)


NODES = {
    "ImpactSEGSPicker": (ImpactSEGSPicker, "Picker (SEGS)"),
    "ImpactSEGSLabelFilter": (ImpactSEGSLabelFilter, "SEGS Filter (label)"),
    "ImpactSEGSRangeFilter": (ImpactSEGSRangeFilter, "SEGS Filter (range)"),
    "ImpactSEGSOrderedFilter": (ImpactSEGSOrderedFilter, "SEGS Filter (ordered)"),
    "ImpactSEGSIntersectionFilter": (ImpactSEGSIntersectionFilter, "SEGS Filter (intersection)"),
    "ImpactSEGSNMSFilter": (ImpactSEGSNMSFilter, "SEGS Filter (non max suppression)"),
    "SEGSFilterClosestMask": (SEGSFilterClosestMask, "SEGS Filter (closest mask)"),
}
