"""Find things in the frames of a video: segments with a mask for each frame."""

from __future__ import annotations

from typing import Any

import torch

from ...utils.arrays import to_numpy, to_tensor
from ..memory import persist
from ..pixels.image import to_rgb
from ..segs.seg import SEGS, combined_mask, from_mask
from .detect import DetectionOptions, detect_segs
from .sam.model import Follow, Sam

MASKING_MODES = ("Pivot SEGS", "Combine neighboring frames", "Don't combine")
PIVOTS = ("Combined mask", "1st frame mask")
_COVERED = 0.1  # the least value of a mask's pixel that counts, as in ComfyUI-Impact-Pack


def detect_in_frames(
    frames: torch.Tensor,
    bbox_detector: Any,
    settings: DetectionOptions,
    masking_mode: str,
    pivot: str,
    sam_model: Any = None,
    segm_detector: Any = None,
) -> SEGS:
    """Detect in every frame, and make segments of the clip.

    Args:
        frames: [F,H,W,C] 0..1.
        masking_mode: one of MASKING_MODES. The first keeps the masks of the pivot segments. The
            others give each segment a mask for each frame, from what was found in that frame; the
            second adds what was found in the neighbouring frames.
        pivot: one of PIVOTS. The first makes a segment from each separate shape in the union of all
            frames; the second takes the segments of the first frame.

    Returns:
        SEGS with masks [h,w] or [F,h,w].
    """
    rgb, _ = to_rgb(frames)
    found = [
        detect_segs(frame, bbox_detector, settings, sam_model, segm_detector)
        for frame in rgb.split(1)
    ]
    masks = torch.cat([combined_mask(segs) > _COVERED for segs in found])
    if pivot == PIVOTS[1]:
        segs = found[0]
    else:
        united = masks.any(dim=0).float()
        segs = from_mask(
            united, False, settings.crop_factor, False, settings.drop_size, contour_fill=True
        )
    if masking_mode == MASKING_MODES[0]:
        return segs
    if masking_mode == MASKING_MODES[1]:
        masks = _with_neighbours(masks)
    shape, items = segs
    result = []
    for seg in items:
        x1, y1, x2, y2 = seg.crop_region
        part = masks[:, y1:y2, x1:x2] * to_tensor(seg.cropped_mask)
        result.append(seg._replace(cropped_mask=to_numpy(part)))
    return shape, result


def _with_neighbours(masks: torch.Tensor) -> torch.Tensor:
    result = masks.clone()
    result[1:] |= masks[:-1]
    result[:-1] |= masks[1:]
    return result


def track(
    frames: torch.Tensor,
    bbox_detector: Any,
    sam_model: Any,
    settings: DetectionOptions,
    lowest: float,
) -> SEGS:
    """Find things in the first frame and follow each through the video.

    Args:
        frames: [F,H,W,C] 0..1.
        sam_model: a SAM_MODEL that can follow things: SAM 2.
        lowest: the least score (logit) of the pixels of a thing.

    Returns:
        A segment with masks [F,h,w] for each thing, with its label and confidence. Its region
        contains all that it covers in any frame. If that is several shapes, the largest is taken.

    Raises:
        ValueError: the model cannot follow things.
    """
    follow = follower(sam_model)
    rgb, _ = to_rgb(frames)
    shape, items = detect_segs(rgb[:1], bbox_detector, settings)
    followed = persist(
        lambda: follow(rgb, [seg.bbox for seg in items], lowest),
        f"a clip of {len(rgb)} frames of {rgb.shape[2]} x {rgb.shape[1]} pixels",
        "followed by the SAM",
    )
    result = []
    for seg, masks in zip(items, followed, strict=True):
        united = masks.any(dim=0).float()
        _, shapes = from_mask(
            united, False, settings.crop_factor, False, settings.drop_size, contour_fill=True
        )
        if not shapes:
            continue
        largest = max(shapes, key=lambda found: found.cropped_mask.sum())
        x1, y1, x2, y2 = largest.crop_region
        mask = to_numpy(masks[:, y1:y2, x1:x2])
        result.append(
            largest._replace(cropped_mask=mask, label=seg.label, confidence=seg.confidence)
        )
    return shape, result


def follower(sam_model: Any) -> Follow:
    """The method of a SAM_MODEL that follows boxes through frames.

    Raises:
        ValueError: the model has no such method.
    """
    wrapper = getattr(sam_model, "sam_wrapper", sam_model)
    if isinstance(wrapper, Sam) and wrapper.follow is not None:
        return wrapper.follow
    raise ValueError(
        "'sam2_model' cannot follow things through a video. Choose a file of SAM 2 or SAM 2.1 in "
        "'SAMLoader (Impact)' and connect that."
    )
