"""Finding segments."""

from __future__ import annotations

import torch

from ...core.detectors.detect import DetectionOptions, detect_segs
from ...core.detectors.given import found_by, mask_by
from ...core.detectors.sam.model import sam_masks_of_batch
from ...core.detectors.sam.questions import DETECTION_HINTS, NEGATIVE_HINTS, SamHints
from ...core.detectors.video import MASKING_MODES, PIVOTS, detect_in_frames, track
from ...core.host.backend import ComfyBackend
from ...core.segs.image_batch import in_each_image
from ...core.segs.seg import filter_by_labels
from ..detail.pipes import read_detailer_pipe
from ..widgets import grown, inputs

CATEGORY = "Detailers/Detector"


_THRESHOLD = {
    "default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01,
    "tooltip": "Detections with a lower confidence are ignored.",
}  # fmt: skip
_BBOX_DETECTOR = ("BBOX_DETECTOR", {"tooltip": "The detector that finds the things."})
_EACH_IMAGE = {"image": "The image to search, or a batch of images that are searched one by one."}


def _dilation(default: int, reach: int, what: str = "the masks") -> tuple:
    tooltip = grown(what)
    return (
        "INT",
        {"default": default, "min": -reach, "max": reach, "step": 1, "tooltip": tooltip},
    )


class BboxDetectorSEGS:
    DESCRIPTION = (
        "Finds things in an image with a bounding-box detector and makes a segment for each of "
        "them."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each thing that was found, image by image.",)
    FUNCTION = "run"
    detector = "bbox_detector"

    @classmethod
    def INPUT_TYPES(cls):
        labels = {
            "multiline": True, "default": "all", "placeholder": "face, hand",
            "tooltip": "Keep only detections with these labels, separated by commas. 'all' "
            "keeps every detection.",
        }  # fmt: skip
        return {
            "required": {
                cls.detector: (
                    cls.detector.upper(),
                    {"tooltip": "The detector that finds the things."},
                ),
                **inputs("image", **_EACH_IMAGE),
                "threshold": ("FLOAT", _THRESHOLD),
                "dilation": _dilation(10, 512),
                **inputs("crop_factor", "drop_size"),
                "labels": ("STRING", labels),
            },
            "optional": inputs("detailer_hook"),
        }

    def run(
        self, image, threshold, dilation, crop_factor, drop_size, labels=None, detailer_hook=None,
        **detector,
    ):  # fmt: skip
        segs = in_each_image(
            image,
            lambda single: found_by(
                detector[self.detector], self.detector, single, threshold, dilation, crop_factor,
                drop_size, detailer_hook=detailer_hook,
            ),
            ComfyBackend().check_interrupt,
        )  # fmt: skip
        return (filter_by_labels(segs, labels or "all"),)


class SegmDetectorSEGS(BboxDetectorSEGS):
    DESCRIPTION = "Finds the shapes of things in an image and makes a segment for each of them."
    detector = "segm_detector"


class ONNXDetectorSEGS(BboxDetectorSEGS):
    DESCRIPTION = "The same as BBOX Detector (SEGS); older workflows have it."


class BboxDetectorCombined_v2:
    DESCRIPTION = (
        "Finds things in an image with a bounding-box detector and gives one mask of all of them."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = ("One mask for each image, which covers everything that was found.",)
    FUNCTION = "run"
    detector = "bbox_detector"
    dilation = 4

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                cls.detector: (
                    cls.detector.upper(),
                    {"tooltip": "The detector that finds the things."},
                ),
                **inputs("image", **_EACH_IMAGE),
                "threshold": ("FLOAT", _THRESHOLD),
                "dilation": _dilation(cls.dilation, 512),
            }
        }

    def run(self, image, threshold, dilation, **detector):
        masks = [
            self.mask(detector[self.detector], one, threshold, dilation) for one in image.split(1)
        ]
        return (torch.cat(masks),)

    def mask(self, detector, image, threshold, dilation):
        """The mask [1,H,W] of everything that is found in one image [1,H,W,C]."""
        ComfyBackend().check_interrupt()
        return mask_by(detector, self.detector, image, threshold, dilation)


class SegmDetectorCombined_v2(BboxDetectorCombined_v2):
    DESCRIPTION = "Finds the shapes of things in an image and gives one mask of all of them."
    detector = "segm_detector"
    dilation = 0


def _simple_inputs(reach: int) -> dict:
    """The widgets of the simple detectors. `reach`: the largest dilation."""
    sub = "SAM or the segm detector"
    threshold = {
        **_THRESHOLD,
        "tooltip": f"The threshold of {sub}. Pixels and shapes with a lower score are ignored.",
    }
    expansion = {
        "default": 0, "min": 0, "max": 1000, "step": 1,
        "tooltip": "Enlarge the boxes for SAM by this many pixels on every side.",
    }  # fmt: skip
    hint = {
        "default": 0.7, "min": 0.0, "max": 1.0, "step": 0.01,
        "tooltip": "Has no effect, because SAM gets the centre of each box as its point. Older "
        "workflows have this input.",
    }  # fmt: skip
    return {
        "bbox_threshold": ("FLOAT", _THRESHOLD),
        "bbox_dilation": _dilation(0, reach, "the masks of what is found"),
        **inputs("crop_factor", "drop_size"),
        "sub_threshold": ("FLOAT", threshold),
        "sub_dilation": _dilation(0, reach, f"the masks of {sub}"),
        "sub_bbox_expansion": ("INT", expansion),
        "sam_mask_hint_threshold": ("FLOAT", hint),
    }


_SAM_OPT = ("SAM_MODEL", {"tooltip": "Limits each mask to the shape that SAM finds in the box."})
_SEGM_OPT = (
    "SEGM_DETECTOR",
    {"tooltip": "If no SAM is connected: limits each mask to the shapes that this detector finds."},
)


def _simple_settings(
    bbox_threshold, bbox_dilation, crop_factor, drop_size, sub_threshold, sub_dilation,
    sub_bbox_expansion, sam_mask_hint_threshold, post_dilation=0,
) -> DetectionOptions:  # fmt: skip
    return DetectionOptions(
        bbox_threshold, bbox_dilation, crop_factor, drop_size, sam_dilation=sub_dilation,
        sam_threshold=sub_threshold, sam_bbox_expansion=sub_bbox_expansion,
        sam_mask_hint_threshold=sam_mask_hint_threshold, segm_threshold=sub_threshold,
        segm_dilation=sub_dilation, post_dilation=post_dilation,
    )  # fmt: skip


class ImpactSimpleDetectorSEGS:
    DESCRIPTION = (
        "Finds things by their boxes, and then limits each mask to the shape of the thing, "
        "with SAM or with a segm detector if one of them is connected."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each thing that was found, image by image.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "bbox_detector": _BBOX_DETECTOR,
                **inputs("image", **_EACH_IMAGE),
                **_simple_inputs(512),
            },
            "optional": {
                "post_dilation": _dilation(0, 512, "the finished masks"),
                "sam_model_opt": _SAM_OPT,
                "segm_detector_opt": _SEGM_OPT,
            },
        }

    def run(self, bbox_detector, image, sam_model_opt=None, segm_detector_opt=None, **settings):
        segs = in_each_image(
            image,
            lambda single: detect_segs(
                single, bbox_detector, _simple_settings(**settings), sam_model_opt,
                segm_detector_opt,
            ),
            ComfyBackend().check_interrupt,
        )  # fmt: skip
        return (segs,)


class ImpactSimpleDetectorSEGSPipe:
    DESCRIPTION = "Simple Detector (SEGS) with the detectors, SAM and hook of a detailer pipe."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each thing that was found, image by image.",)
    USES_PARTS = ("bbox_detector", "segm_detector", "sam_model", "detailer_hook")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        pipe = {"tooltip": "The pipe with the detectors, from ToDetailerPipe."}
        return {
            "required": {
                "detailer_pipe": ("DETAILER_PIPE", pipe),
                **inputs("image", **_EACH_IMAGE),
                **_simple_inputs(512),
            },
            "optional": {"post_dilation": _dilation(0, 512, "the finished masks")},
        }

    def run(self, detailer_pipe, image, **settings):
        pipe = read_detailer_pipe(detailer_pipe)
        if pipe.bbox_detector is None:
            raise ValueError(
                "'bbox_detector' of 'detailer_pipe' is missing (None), so nothing can be found. "
                "Connect one where the pipe is made (ToDetailerPipe)."
            )
        segs = in_each_image(
            image,
            lambda single: detect_segs(
                single, pipe.bbox_detector, _simple_settings(**settings), pipe.sam_model,
                pipe.segm_detector, pipe.detailer_hook,
            ),
            ComfyBackend().check_interrupt,
        )  # fmt: skip
        return (segs,)


class ImpactSimpleDetectorSEGS_for_AD:
    DESCRIPTION = (
        "Finds things in every frame of a video and makes segments for all frames, optionally "
        "with a separate mask for each frame."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("Segments for the detailers of video.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        mode = (
            "Pivot SEGS: the same mask in all frames. Don't combine: each frame has the part "
            "of the pivot's mask in which something is found there. Combine neighboring "
            "frames: the same, together with the frames before and after it."
        )
        pivot = (
            "The place of the segments. Combined mask: every separate shape in the united "
            "masks of all frames. 1st frame mask: the shapes in the first frame."
        )
        return {
            "required": {
                "bbox_detector": _BBOX_DETECTOR,
                **inputs("image_frames"),
                **_simple_inputs(255),
            },
            "optional": {
                "masking_mode": (list(MASKING_MODES), {"tooltip": mode}),
                "segs_pivot": (list(PIVOTS), {"tooltip": pivot}),
                "sam_model_opt": _SAM_OPT,
                "segm_detector_opt": _SEGM_OPT,
            },
        }

    def run(
        self, bbox_detector, image_frames, masking_mode=MASKING_MODES[0], segs_pivot=PIVOTS[0],
        sam_model_opt=None, segm_detector_opt=None, **settings,
    ):  # fmt: skip
        segs = detect_in_frames(
            image_frames, bbox_detector, _simple_settings(**settings), masking_mode, segs_pivot,
            sam_model_opt, segm_detector_opt,
        )  # fmt: skip
        return (segs,)


class ImpactSAM2VideoDetectorSEGS:
    DESCRIPTION = (
        "Finds things in the first frame of a video by their boxes, and tracks each of them "
        "through all frames with SAM 2."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each thing, with a mask for each frame.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        rating = {
            **_THRESHOLD,
            "tooltip": "The threshold for a pixel of SAM 2's mask: 0.5 is a logit of 0, and "
            "each 0.01 more or less changes the logit by 1.",
        }
        return {
            "required": {
                **inputs("image_frames"),
                "bbox_detector": _BBOX_DETECTOR,
                "sam2_model": ("SAM_MODEL", {"tooltip": "A SAM 2 or SAM 2.1 from SAMLoader."}),
                "bbox_threshold": ("FLOAT", _THRESHOLD),
                "sam2_threshold": ("FLOAT", rating),
                **inputs("crop_factor", "drop_size"),
            }
        }

    def run(
        self, image_frames, bbox_detector, sam2_model, bbox_threshold, sam2_threshold, crop_factor,
        drop_size,
    ):  # fmt: skip
        settings = DetectionOptions(bbox_threshold, 0, crop_factor, drop_size)
        lowest = sam2_threshold * 100 - 50  # ComfyUI-Impact-Pack's scale
        return (track(image_frames, bbox_detector, sam2_model, settings, lowest),)


class SAMDetectorCombined:
    DESCRIPTION = "Runs SAM for each segment and gives one mask of all shapes that it finds."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = ("One mask for each image, which covers all shapes that SAM finds.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        hint = (
            "The points that SAM gets besides the box: the centre (center-1, mask-point-bbox), "
            "several points around it, points of the mask (mask-area), or none. mask-points "
            "runs SAM once, with the centres of all boxes together."
        )
        threshold = {
            "default": 0.93, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "Masks with a lower score from SAM are ignored, unless there is none "
            "with a higher score.",
        }  # fmt: skip
        expansion = {
            "default": 0, "min": 0, "max": 1000, "step": 1,
            "tooltip": "Enlarge the boxes for SAM by this many pixels on every side.",
        }  # fmt: skip
        hint_threshold = {
            "default": 0.7, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "For mask-area: points are set where the mask has a higher value than "
            "this.",
        }  # fmt: skip
        negative = (
            "Points that show SAM what is not part of the thing. Small: for mask-area, points "
            "where the mask is 0; for mask-points, the boxes under 10 pixels. Outter: points "
            "all around the segment."
        )
        return {
            "required": {
                "sam_model": ("SAM_MODEL", {"tooltip": "From SAMLoader."}),
                "segs": ("SEGS", {"tooltip": "The segments whose shapes SAM finds."}),
                **inputs("image", **_EACH_IMAGE),
                "detection_hint": (list(DETECTION_HINTS), {"tooltip": hint}),
                "dilation": _dilation(0, 512),
                "threshold": ("FLOAT", threshold),
                "bbox_expansion": ("INT", expansion),
                "mask_hint_threshold": ("FLOAT", hint_threshold),
                "mask_hint_use_negative": (list(NEGATIVE_HINTS), {"tooltip": negative}),
            }
        }

    def run(self, sam_model, segs, image, **hints):
        return (self.masks(sam_model, segs, image, **hints)[0],)

    def masks(self, sam_model, segs, image, **hints):
        """The masks of SAM: one for each image [B,H,W], and one for each segment [N,H,W]."""
        return sam_masks_of_batch(sam_model, segs, image, SamHints(**hints))


class SAMDetectorSegmented(SAMDetectorCombined):
    DESCRIPTION = (
        "Runs SAM for each segment and gives a mask for each, and one mask of all of them."
    )
    RETURN_TYPES = ("MASK", "MASK")
    RETURN_NAMES = ("combined_mask", "batch_masks")
    OUTPUT_TOOLTIPS = (
        "One mask for each image, which covers all shapes that SAM finds.",
        "A mask for each segment, in the order of the segments. One empty mask if there is no "
        "segment.",
    )

    def run(self, sam_model, segs, image, **hints):
        combined, masks = self.masks(sam_model, segs, image, **hints)
        return combined, masks if len(masks) else combined[:1]


NODES = {
    "BboxDetectorSEGS": (BboxDetectorSEGS, "BBOX Detector (SEGS)"),
    "SegmDetectorSEGS": (SegmDetectorSEGS, "SEGM Detector (SEGS)"),
    "ONNXDetectorSEGS": (ONNXDetectorSEGS, "ONNX Detector (SEGS/legacy) - use BBOXDetector"),
    "BboxDetectorCombined_v2": (BboxDetectorCombined_v2, "BBOX Detector (combined)"),
    "SegmDetectorCombined_v2": (SegmDetectorCombined_v2, "SEGM Detector (combined)"),
    "SAMDetectorCombined": (SAMDetectorCombined, "SAMDetector (combined)"),
    "SAMDetectorSegmented": (SAMDetectorSegmented, "SAMDetector (segmented)"),
    "ImpactSimpleDetectorSEGS": (ImpactSimpleDetectorSEGS, "Simple Detector (SEGS)"),
    "ImpactSimpleDetectorSEGSPipe": (
        ImpactSimpleDetectorSEGSPipe,
        "Simple Detector (SEGS/pipe)",
    ),
    "ImpactSimpleDetectorSEGS_for_AD": (
        ImpactSimpleDetectorSEGS_for_AD,
        "Simple Detector for Video (SEGS)",
    ),
    "ImpactSAM2VideoDetectorSEGS": (
        ImpactSAM2VideoDetectorSEGS,
        "SAM2 Video Detector (SEGS)",
    ),
}
