"""Where finds come from: detectors, SEGS, masks, boxes, and tracks of ComfyUI's SAM 3.

Each function gives a `follow.Finder`, which is asked for one frame after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...utils.arrays import to_numpy
from ...utils.check import check_computable, described
from ...utils.notes import note
from ..detectors.detect import DetectionOptions, detect_segs
from ..detectors.given import found_by
from ..detectors.host_data import given_boxes
from ..geometry import Box, Rect, Size
from ..pixels import mask as masks
from ..pixels.image import to_rgb
from ..segs.image_batch import counted, in_image, rows_of
from ..segs.seg import SEGS, confidence, from_mask, normalise
from .finds import Find
from .follow import NOTE, Finder
from .track import PackedMask

COVERED = (
    0.5  # the least value of a mask's pixel that counts for its box, as a share of the largest
)
SPECK = 0.05  # parts of a mask below this share of its largest part are no part of the thing


def by_detectors(bbox_detector: Any, segm_detector: Any, options: DetectionOptions) -> Finder:
    """Finds of a BBOX_DETECTOR, of a SEGM_DETECTOR, or of both.

    Of both, the boxes are those of the first, and the masks are restricted to what the second
    finds. At least one is not None.
    """

    def find(number: int, frame: torch.Tensor | None) -> list[Find]:
        rgb, _ = to_rgb(frame)
        if bbox_detector is None:
            segs = found_by(
                segm_detector, "segm_detector", rgb, options.bbox_threshold, options.bbox_dilation,
                options.crop_factor, options.drop_size,
            )  # fmt: skip
        else:
            segs = detect_segs(rgb, bbox_detector, options, None, segm_detector)
        return [_of_seg(seg, seg.cropped_mask, number) for seg in _shown(segs)]

    return find


def by_segs(segs: SEGS, clip: Size, count: int) -> Finder:
    """Finds of SEGS that know their images, or have a mask for each frame.

    A segment with a mask [F,h,w] for each frame, and one that belongs to all frames, is one thing;
    its place in the SEGS becomes the object id.
    """
    _, items = normalise(segs, clip, "segs")
    rows = [rows_of(seg, count) for seg in items]
    by_frame: dict[int, list[int]] = {}
    for place, own in enumerate(rows):
        for row in own:
            by_frame.setdefault(row, []).append(place)
    _tell_frames({len(seg.cropped_mask) for seg in items if seg.cropped_mask.ndim == 3}, count)

    def find(number: int, frame: torch.Tensor | None) -> list[Find]:
        finds = []
        for place in by_frame.get(number, []):
            seg = items[place]
            mask = in_image(seg, number, count).cropped_mask
            if mask.ndim == 3:
                mask = mask.max(axis=0)
            own = place if len(rows[place]) > 1 else None
            if Box.of(seg.bbox).empty or Box.of(seg.crop_region).empty:
                continue
            follows = seg.cropped_mask.ndim == 3 and len(seg.cropped_mask) == count and count > 1
            found = _of_mask(seg, mask, number, own) if follows else _of_seg(seg, mask, number, own)
            finds += [] if found is None else [found]
        return finds

    return find


def segs_frames(segs: SEGS) -> int:
    """How many frames SEGS are made for: images of their batch, or masks of their segments."""
    counts = [1]
    for seg in segs[1]:
        place = getattr(seg, "batch_image", None)
        if place is not None:
            counts.append(place.count)
        if np.ndim(seg.cropped_mask) == 3:
            counts.append(len(seg.cropped_mask))
    return max(counts)


def by_masks(frames: torch.Tensor, clip: Size, count: int, drop_size: int, label: str) -> Finder:
    """Finds of masks [F,h,w] 0..1: every separate shape of a frame's mask is one.

    They are stretched to the size of the clip. A single mask holds for every frame.
    """
    if len(frames) not in (1, count):
        _tell_frames({len(frames)}, count)

    def find(number: int, frame: torch.Tensor | None) -> list[Find]:
        if number >= len(frames) > 1:
            return []
        place = min(number, len(frames) - 1)
        own = masks.fitted_mask(frames[place : place + 1], clip, "masks")
        segs = from_mask(own, False, 1.0, False, drop_size, label)
        return [_of_seg(seg, seg.cropped_mask, number) for seg in _shown(segs)]

    return find


def by_boxes(boxes: Any, count: int, threshold: float, drop_size: int) -> Finder:
    """Finds of a BOUNDING_BOX with at least this score, that are wider and taller than `drop_size`.

    Raises:
        ValueError: `boxes` is no BOUNDING_BOX.
    """
    frames, least = given_boxes(boxes, count, "boxes"), max(0, drop_size)

    def find(number: int, frame: torch.Tensor | None) -> list[Find]:
        return [
            Find(number, Rect.of_box(box), label, score)
            for box, score, label in frames[number]
            if score >= threshold and min(box[2] - box[0], box[3] - box[1]) > least
        ]

    return find


class SamTracks:
    """The things that ComfyUI's SAM 3 followed: a SAM3_TRACK_DATA.

    It is a mapping with "packed_masks" [F,objects,h,w/8] uint8, the lowest bit of a byte being its
    leftmost pixel, or None; "orig_size" (height, width) of the frames; "n_frames" and "scores".

    Raises:
        ValueError: it is none.
    """

    def __init__(self, data: Any) -> None:
        wrong = ValueError(
            "'sam_tracks' should be the track_data of 'Run SAM3 Video Track', with packed_masks "
            f"and orig_size, but is {described(data)}. Connect that output."
        )
        if not isinstance(data, Mapping) or "packed_masks" not in data:
            raise wrong
        packed = data["packed_masks"]
        if packed is not None:
            if not isinstance(packed, torch.Tensor) or packed.ndim != 4:
                raise wrong
            check_computable(packed, "sam_tracks")
            if packed.dtype != torch.uint8:
                raise wrong
        try:
            height, width = (int(side) for side in data["orig_size"])
            self.frames = int(data["n_frames"] if packed is None else len(packed))
            self.scores = [float(score) for score in data.get("scores") or []]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise wrong from error
        if not (height > 0 and width > 0 and self.frames > 0):
            raise wrong
        self.size = Size(width, height)
        self._packed = packed

    def finder(self, clip: Size, count: int, label: str) -> Finder:
        """Finds with object ids, the numbers of SAM's objects."""
        if self.frames != count:
            _tell_frames({self.frames}, count)
        bits = torch.tensor([1 << place for place in range(8)], dtype=torch.uint8)

        def find(number: int, frame: torch.Tensor | None) -> list[Find]:
            if self._packed is None or number >= self.frames:
                return []
            own = self._packed[number].cpu()
            small = (own[..., None] & bits).bool().flatten(-2).float()
            finds = [
                self._find(mask, clip, number, place, label) for place, mask in enumerate(small)
            ]
            return [each for each in finds if each is not None]

        return find

    def _find(
        self, mask: torch.Tensor, clip: Size, number: int, place: int, label: str
    ) -> Find | None:
        if not mask.any():
            return None
        large = F.interpolate(
            mask[None, None], (clip.height, clip.width), mode="bilinear", align_corners=False
        )[0, 0]
        box = masks.bbox(without_specks(large))
        if box is None:
            return None
        part = to_numpy(large[box.y1 : box.y2, box.x1 : box.x2])
        score = self.scores[place] if place < len(self.scores) else 1.0
        return Find(
            number, Rect.of_box(box.as_tuple()), label, score, PackedMask.of(part, box),
            object_id=place,
        )  # fmt: skip


def without_specks(mask: torch.Tensor) -> torch.Tensor:
    """A mask [H,W] as 0 or 1, without parts that are much smaller than its largest part."""
    import cv2

    values = to_numpy(mask)
    solid = ((values > 0) & (values >= COVERED * values.max())).astype(np.uint8)
    count, names, stats, _ = cv2.connectedComponentsWithStats(solid)
    if count > 2:
        areas = stats[1:, cv2.CC_STAT_AREA]
        kept = 1 + np.flatnonzero(areas >= SPECK * areas.max())
        solid = np.isin(names, kept)
    return torch.from_numpy(np.asarray(solid, np.float32))


def _shown(segs: SEGS) -> list[Any]:
    return [seg for seg in segs[1] if not Box.of(seg.bbox).empty]


def _of_seg(
    seg: Any, mask: np.ndarray, frame: int, object_id: int | None = None, bbox: Box | None = None
) -> Find:
    """The find of a segment in one frame, with its mask [h,w] and its box there; None: its own."""
    bbox, region = bbox or Box.of(seg.bbox), Box.of(seg.crop_region)
    grown = _rectangle(mask, bbox.shifted(-region.x1, -region.y1))
    packed = None if grown is not None else _packed(mask, region)
    return Find(
        frame, Rect.of_box(bbox.as_tuple()), str(seg.label), confidence(seg), packed,
        grown=grown or 0.0, object_id=object_id,
    )  # fmt: skip


def _of_mask(seg: Any, mask: np.ndarray, frame: int, object_id: int | None) -> Find | None:
    """The find of a segment of a clip in one frame: its box is that of its mask there."""
    box = masks.bbox(without_specks(torch.from_numpy(np.asarray(mask, np.float32))))
    if box is None:
        return None
    region = Box.of(seg.crop_region)
    return _of_seg(seg, mask, frame, object_id, box.shifted(region.x1, region.y1))


def _rectangle(mask: np.ndarray, bbox: Box) -> float | None:
    """By how many pixels a mask [h,w] that is a solid rectangle is larger than a box on each side.

    None for any other mask. At the border of the mask it may be cut off.
    """
    tight = masks.bbox(torch.from_numpy(np.asarray(mask, np.float32)))
    if tight is None or not (mask[tight.y1 : tight.y2, tight.x1 : tight.x2] == 1).all():
        return None
    height, width = mask.shape
    sides = (
        (bbox.x1 - tight.x1, tight.x1 > 0), (bbox.y1 - tight.y1, tight.y1 > 0),
        (tight.x2 - bbox.x2, tight.x2 < width), (tight.y2 - bbox.y2, tight.y2 < height),
    )  # fmt: skip
    free = {amount for amount, is_free in sides if is_free}
    if not free:
        return float(max(0, min(amount for amount, _ in sides)))
    grown = max(free)
    fits = grown - min(free) <= 1 and all(amount <= grown for amount, _ in sides)
    return float(grown) if fits else None


def _packed(mask: np.ndarray, region: Box) -> PackedMask | None:
    """The part of a mask [h,w] of a region that is above 0."""
    tight = masks.bbox(torch.from_numpy(np.asarray(mask, np.float32)))
    if tight is None:
        tight = Box(0, 0, 1, 1)  # a mask without a pixel stays one
    part = np.asarray(mask, np.float32)[tight.y1 : tight.y2, tight.x1 : tight.x2]
    if part.size == 0:
        return None
    return PackedMask.of(part, tight.shifted(region.x1, region.y1))


def _tell_frames(others: set[int], count: int) -> None:
    for other in sorted(others - {1, count}):
        note(
            NOTE,
            f"What is followed was found in {counted(other, 'frame')}, but the clip has {count}: "
            "number i is used for frame i, and the rest is left out. Connect the frames that were "
            "searched.",
        )
