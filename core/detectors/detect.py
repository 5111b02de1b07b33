"""Find things by their boxes, then restrict each segment's mask to the thing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..memory import persist
from ..pixels.image import image_name, to_rgb
from ..pixels.mask import dilate
from ..segs.edit import both, change_masks, combine_with_mask
from ..segs.seg import SEGS, combined_mask
from .given import found_by
from .sam.model import sam_mask
from .sam.questions import SamHints


@dataclass(frozen=True)
class DetectionOptions:
    """How things are found, and how their masks are refined; lengths in pixels, thresholds 0..1."""

    bbox_threshold: float = 0.5
    bbox_dilation: int = 0
    crop_factor: float = 3.0
    drop_size: int = 10
    sam_detection_hint: str = "center-1"
    sam_dilation: int = 0
    sam_threshold: float = 0.93
    sam_bbox_expansion: int = 0
    sam_mask_hint_threshold: float = 0.7
    sam_mask_hint_use_negative: str = "False"
    segm_threshold: float | None = None  # None: bbox_threshold
    segm_dilation: int | None = None  # None: bbox_dilation
    post_dilation: int = 0

    @property
    def sam_hints(self) -> SamHints:
        """The options that are for SAM."""
        return SamHints(
            self.sam_detection_hint,
            self.sam_dilation,
            self.sam_threshold,
            self.sam_bbox_expansion,
            self.sam_mask_hint_threshold,
            self.sam_mask_hint_use_negative,
        )


def detect_segs(
    image: torch.Tensor,
    bbox_detector: Any,
    settings: DetectionOptions,
    sam_model: Any = None,
    segm_detector: Any = None,
    hook: Any = None,
) -> SEGS:
    """Segments of the things that a bbox detector finds, with masks of the things themselves.

    Args:
        image: [1,H,W,C] 0..1.
        bbox_detector: a BBOX_DETECTOR of any pack.
        settings: thresholds, dilations and hints.
        sam_model: a SAM_MODEL; every mask is restricted to what it marks for the boxes.
        segm_detector: a SEGM_DETECTOR, used without `sam_model`; every mask is restricted to what
            it finds. If it has `override_bbox_by_segm`, its segments are taken instead.
        hook: a DETAILER_HOOK that the bbox detector gets.

    Returns:
        SEGS of the image's size.
    """
    rgb, _ = to_rgb(image)
    segs = found_by(
        bbox_detector, "bbox_detector", rgb, settings.bbox_threshold, settings.bbox_dilation,
        settings.crop_factor, settings.drop_size, detailer_hook=hook,
    )  # fmt: skip
    if sam_model is not None:
        segs = _within(segs, sam_mask(sam_model, segs, rgb, settings.sam_hints)[None], rgb)
    elif segm_detector is not None:
        found = _segm(rgb, segm_detector, settings)
        if getattr(segm_detector, "override_bbox_by_segm", False):
            segs = found
        else:
            segs = _within(segs, combined_mask(found), rgb)
    if settings.post_dilation:
        before = segs
        segs = persist(
            lambda: change_masks(before, lambda mask: dilate(mask, settings.post_dilation)),
            image_name(rgb), "searched",
        )  # fmt: skip
    return segs


def _within(segs: SEGS, mask: torch.Tensor, image: torch.Tensor) -> SEGS:
    """The segments with their masks restricted to a mask [1,H,W] of the image."""
    return persist(lambda: combine_with_mask(segs, mask, both), image_name(image), "searched")


def _segm(image: torch.Tensor, detector: Any, settings: DetectionOptions) -> SEGS:
    threshold, dilation = settings.segm_threshold, settings.segm_dilation
    return found_by(
        detector,
        "segm_detector",
        image,
        settings.bbox_threshold if threshold is None else threshold,
        settings.bbox_dilation if dilation is None else dilation,
        settings.crop_factor,
        settings.drop_size,
    )
