"""Select SEGs from SEGS: by label, size, place, order, overlap, or number.

The SEGs are passed on unchanged, including those of other packs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ...utils.notes import note
from ..geometry import Box, Size, iou
from ..pixels.mask import fitted_mask, union
from .image_batch import NOTE, apart, batch_length, by_batch_image, counted
from .seg import SEG, SEGS, confidence, filter_by_labels, image_size, normalise

# The measures of a SEG. Lengths and places are those of the crop region, in pixels.
MEASURES: dict[str, Callable[[Box, SEG], float]] = {
    "area(=w*h)": lambda region, seg: region.area,
    "width": lambda region, seg: region.width,
    "height": lambda region, seg: region.height,
    "x1": lambda region, seg: region.x1,
    "y1": lambda region, seg: region.y1,
    "x2": lambda region, seg: region.x2,
    "y2": lambda region, seg: region.y2,
    "length_percent": lambda region, seg: _elongation(region),
    "confidence": lambda region, seg: confidence(seg),
    "confidence(0-100)": lambda region, seg: 100 * confidence(seg),
}
_DIGITS = 20  # digits of a number that are read; a longer number is too high anyway
IN_THIS_ORDER = "none"  # in place of a measure: keep the order


def _elongation(region: Box) -> float:
    """The longer side in percent of the shorter side."""
    return 100 * max(region.size) / max(1, min(region.size))


def measure(seg: SEG, target: str) -> float:
    """A SEG's value for one of MEASURES.

    Raises:
        ValueError: there is no such measure.
    """
    if target not in MEASURES:
        raise ValueError(
            f"'target' is {target!r}, which is not something to measure segments by. Choose one of:"
            f" {', '.join(MEASURES)}."
        )
    return MEASURES[target](Box.of(seg.crop_region), seg)


def split(segs: SEGS, chosen: Iterable[int]) -> tuple[SEGS, SEGS]:
    """The SEGs at the indices `chosen`, in that order, and the others."""
    header, items = segs
    chosen = list(chosen)
    others = set(range(len(items))).difference(chosen)
    return (header, [items[i] for i in chosen]), (header, [items[i] for i in sorted(others)])


def split_by_labels(segs: SEGS, labels: str) -> tuple[SEGS, SEGS]:
    """The SEGs with one of the labels, as `filter_by_labels` reads them, and the others."""
    kept = {id(seg) for seg in filter_by_labels(segs, labels)[1]}
    return split(segs, [i for i, seg in enumerate(segs[1]) if id(seg) in kept])


def split_by_range(
    segs: SEGS, target: str, lowest: float, highest: float, *, inside: bool = True
) -> tuple[SEGS, SEGS]:
    """The SEGs whose measure is within lowest..highest, inclusive, and the others.

    Args:
        target: one of MEASURES.
        inside: False returns the SEGs outside the range first.
    """
    values = [measure(seg, target) for seg in segs[1]]
    return split(
        segs, [i for i, value in enumerate(values) if (lowest <= value <= highest) == inside]
    )


def split_by_order(
    segs: SEGS, target: str, *, descending: bool, start: int, count: int
) -> tuple[SEGS, SEGS]:
    """Sort the SEGs; return `count` of them from index `start` on, and the others.

    For a batch, this is done for each image, one after another.

    Args:
        target: one of MEASURES; IN_THIS_ORDER keeps the order. SEGs with equal values keep theirs.
        start, count: at least 0.
    """
    header, items = segs
    taken, others = [], []
    for places in by_batch_image(items):
        own = [items[place] for place in places]
        if target != IN_THIS_ORDER:
            own.sort(key=lambda seg: measure(seg, target), reverse=descending)
        end = start + count
        taken += own[start:end]
        others += own[:start] + own[end:]
    return (header, taken), (header, others)


def pick(segs: SEGS, numbers: str) -> SEGS:
    """The SEGs with these numbers, in the order of the SEGS.

    Args:
        numbers: counted from 1, with anything between them; numbers that are too high are ignored.
    """
    digits = (number.lstrip("0")[:_DIGITS] or "0" for number in re.findall(r"\d+", numbers))
    wanted = {int(number) for number in digits}
    header, items = segs
    beyond = sorted(number for number in wanted if not 0 < number <= len(items))
    if beyond:
        shown = ", ".join(f"{number:.20}" for number in map(str, beyond[:20]))
        note(
            "picks",
            f"'picks' names {shown}, but there are only {counted(len(items), 'segment')}, counted"
            " from 1. Numbers that no segment has are left out.",
        )
    return header, [seg for i, seg in enumerate(items, start=1) if i in wanted]


# By overlap


@dataclass(frozen=True)
class _Cover:
    """The pixels that a SEG covers."""

    region: Box
    pixels: np.ndarray  # [h,w] bool, as large as the region
    area: int  # pixels covered

    @classmethod
    def of(cls, seg: SEG) -> _Cover:
        """The cover of a normalised SEG; a SEG of a clip covers what it covers in any frame."""
        pixels = seg.cropped_mask > 0
        pixels = pixels.any(axis=0) if pixels.ndim == 3 else pixels
        return cls(Box.of(seg.crop_region), pixels, int(np.count_nonzero(pixels)))

    def within(self, box: Box) -> np.ndarray:
        """The pixels inside a box that lies in the region."""
        x, y = box.x1 - self.region.x1, box.y1 - self.region.y1
        return self.pixels[y : y + box.height, x : x + box.width]

    def shared(self, other: _Cover) -> int:
        """How many pixels both cover."""
        common = self.region.intersection(other.region)
        if common.empty:
            return 0
        return int(np.count_nonzero(self.within(common) & other.within(common)))

    def iou(self, other: _Cover) -> float:
        """Intersection over union of the pixels, 0..1."""
        return iou(self.area, other.area, self.shared(other))


class _Covers:
    """The covers of many SEGs, with an index of those that can overlap a given one."""

    def __init__(self, segs: SEGS, size: Size, name: str) -> None:
        self.all = [_Cover.of(seg) for seg in normalise(segs, size, name)[1]]
        corners = [cover.region.as_tuple() for cover in self.all]
        self._corners = np.array(corners, dtype=np.int64).reshape(-1, 4)

    def near(self, cover: _Cover) -> np.ndarray:
        """The indices of the covers whose region overlaps the region of this cover."""
        x1, y1, x2, y2 = self._corners.T
        box = cover.region
        return np.flatnonzero((x1 < box.x2) & (x2 > box.x1) & (y1 < box.y2) & (y2 > box.y1))


def without_overlap(segs: SEGS, others: SEGS, threshold: float) -> SEGS:
    """The SEGs of which no single one of the others covers more than a share.

    SEGs of different images of a batch do not cover one another.

    Args:
        others: SEGS, scaled to the image size of `segs`.
        threshold: the share of a SEG's pixels, 0..1.
    """
    size = image_size(segs)
    covers, blocking = _Covers(segs, size, "segs1"), _Covers(others, size, "segs2")
    header, items = segs
    kept = [
        seg
        for seg, cover in zip(items, covers.all, strict=True)
        if not any(
            cover.shared(blocking.all[i]) > threshold * cover.area
            for i in blocking.near(cover)
            if not apart(seg, others[1][i])
        )
    ]
    return header, kept


def suppress_overlaps(segs: SEGS, threshold: float) -> SEGS:
    """Non-maximum suppression by masks: of SEGs that overlap, only the most confident is kept.

    SEGs of different images of a batch do not overlap.

    Args:
        threshold: the intersection over union, 0..1, from which two SEGs count as the same thing.

    Returns:
        The SEGs that are kept, the most confident first; of equal ones the earlier first.
    """
    covers = _Covers(segs, image_size(segs), "segs")
    header, items = segs
    order = sorted(range(len(items)), key=lambda i: -confidence(items[i]))
    dropped: set[int] = set()
    kept = []
    for i in order:
        if i in dropped:
            continue
        kept.append(items[i])
        cover = covers.all[i]
        candidates = covers.near(cover) if threshold > 0 else range(len(items))
        for j in candidates:
            if j in dropped or apart(items[i], items[j]):
                continue
            if cover.iou(covers.all[j]) >= threshold:
                dropped.add(int(j))
    return header, kept


def closest_to_mask(
    segs: SEGS, mask: torch.Tensor, threshold: float
) -> tuple[SEGS, float, list[float]]:
    """The SEG whose mask is most similar to a mask, by intersection over union.

    For a batch, there is one for each image.

    Args:
        mask: [B,H,W] 0..1, resized to the image size of the SEGS. A SEG of an image of a batch of B
            is compared with the mask of its image, any other SEG with the union of the masks.
        threshold: the least intersection over union, 0..1.

    Returns:
        SEGS with that SEG or without any; its intersection over union (0 for none, the highest of
        all images); and the intersection over union of each SEG.
    """
    size = image_size(segs)
    header, items = segs
    if 0 in size:
        return (header, []), 0.0, []
    mask = fitted_mask(mask.float(), size, "mask")
    everywhere = _whole(union(mask)[0])
    each: list[_Cover] = []
    count = batch_length(items)
    if len(mask) > 1 and len(mask) == count:
        each = [_whole(layer) for layer in mask]
    elif len(mask) > 1:
        of = "know of no batch" if count is None else f"are of {counted(count, 'image')}"
        note(
            NOTE,
            f"There are {len(mask)} masks, but the segments {of}: what any of the masks covers"
            " counts. Give one mask, or segments and masks of the same images.",
        )

    def target(seg: SEG) -> _Cover:
        image = getattr(seg, "batch_image", None)
        own = each and image is not None and image.index is not None
        return each[image.index] if own else everywhere

    covers = _Covers(segs, size, "segs").all
    scores = [cover.iou(target(seg)) for seg, cover in zip(items, covers, strict=True)]
    taken, reached = [], 0.0
    for places in by_batch_image(items):
        best = max(places, key=scores.__getitem__, default=None)
        if best is not None and scores[best] >= threshold:
            taken.append(items[best])
            reached = max(reached, scores[best])
    return (header, taken), reached, scores


def _whole(mask: torch.Tensor) -> _Cover:
    """The cover of a mask [H,W] of the whole image."""
    pixels = mask.cpu().numpy() > 0
    return _Cover(Box(0, 0, *reversed(pixels.shape)), pixels, int(np.count_nonzero(pixels)))
