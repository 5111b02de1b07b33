"""Prompts for a SAM from segments: points and a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ....utils.arrays import to_numpy
from ...geometry import Box, Size
from ...segs.seg import SEG

DETECTION_HINTS = (
    "center-1", "horizontal-2", "vertical-2", "rect-4", "diamond-4", "mask-area", "mask-points",
    "mask-point-bbox", "none",
)  # fmt: skip
NEGATIVE_HINTS = ("False", "Small", "Outter")
SMALL = 10  # pixels; with "Small", the centre of a narrower box is a point of the background
_GRID = 20  # points along a side of a grid
_CLOSEST = 3  # the least number of pixels between points
_MARGIN = 10  # pixels between points outside and the region or the image's border

Point = tuple[float, float]


@dataclass(frozen=True)
class SamHints:
    """How prompts are made from segments, and which masks are taken; lengths in pixels."""

    detection_hint: str = "center-1"  # one of DETECTION_HINTS
    dilation: int = 0
    threshold: float = 0.93  # 0..1; if no mask has this score, the best one is taken
    bbox_expansion: int = 0
    mask_hint_threshold: float = 0.7  # 0..1; mask pixels above it are points of "mask-area"
    mask_hint_use_negative: str = "False"  # one of NEGATIVE_HINTS


@dataclass(frozen=True)
class Prompt:
    """A prompt for a SAM: which thing is at these points and in this box?"""

    points: tuple[Point, ...]  # x, y
    labels: tuple[int, ...]  # for each point: 1 for the thing, 0 for the background
    box: Box | None = None

    @property
    def empty(self) -> bool:
        """Whether it has neither points nor a box."""
        return not self.points and self.box is None


def prompts(segs: Sequence[SEG], image: Size, hints: SamHints) -> list[Prompt]:
    """The prompts for segments: one for each; with "mask-points" one for all together.

    Raises:
        ValueError: a hint is unknown.
    """
    _check_choice("detection_hint", hints.detection_hint, DETECTION_HINTS)
    _check_choice("mask_hint_use_negative", hints.mask_hint_use_negative, NEGATIVE_HINTS)
    if not segs:
        return []
    if hints.detection_hint == "mask-points":
        small_negative = hints.mask_hint_use_negative == "Small"
        boxes = [Box.of(seg.bbox) for seg in segs]
        labels = tuple(int(not (small_negative and box.width < SMALL)) for box in boxes)
        return [Prompt(tuple(_centre(box) for box in boxes), labels)]
    return [_prompt(seg, image, hints) for seg in segs]


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"'{name}' is {value!r}. Choose one of: {', '.join(choices)}.")


def _prompt(seg: SEG, image: Size, hints: SamHints) -> Prompt:
    bbox = Box.of(seg.bbox)
    box = bbox.grown(hints.bbox_expansion).clipped(image)
    if hints.detection_hint == "mask-area":
        points, labels = _mask_points(
            seg, hints.mask_hint_threshold, hints.mask_hint_use_negative == "Small"
        )
    else:
        points = _LAYOUTS[hints.detection_hint](box, _centre(bbox))
        labels = [1] * len(points)
    if hints.mask_hint_use_negative == "Outter":
        outside = _points_outside(Box.of(seg.crop_region), image)
        points, labels = [*points, *outside], [*labels, *[0] * len(outside)]
    return Prompt(tuple(points), tuple(labels), box)


def _centre(box: Box) -> Point:
    return (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2


def _across(box: Box, centre: Point) -> list[Point]:
    third = box.width / 3
    return [(box.x1 + third, centre[1]), (box.x1 + 2 * third, centre[1])]


def _down(box: Box, centre: Point) -> list[Point]:
    third = box.height / 3
    return [(centre[0], box.y1 + third), (centre[0], box.y1 + 2 * third)]


def _corners(box: Box, _centre: Point) -> list[Point]:
    xs = [box.x1 + box.width / 3, box.x1 + 2 * box.width / 3]
    ys = [box.y1 + box.height / 3, box.y1 + 2 * box.height / 3]
    return [(x, y) for y in ys for x in xs]


# In ComfyUI-Impact-Pack "rect-4" gives the corners of a diamond, and "diamond-4" those of a
# rectangle. Shared workflows were made with this, so the names keep their points.
_LAYOUTS: dict[str, Callable[[Box, Point], list[Point]]] = {
    "center-1": lambda _box, centre: [centre],
    "mask-point-bbox": lambda _box, centre: [centre],
    "horizontal-2": _across,
    "vertical-2": _down,
    "rect-4": lambda box, centre: _across(box, centre) + _down(box, centre),
    "diamond-4": _corners,
    "none": lambda _box, _centre: [],
}


def _mask_points(seg: SEG, threshold: float, empty_negative: bool) -> tuple[list[Point], list[int]]:
    """A grid of points in the segment's mask; optionally background points where it is 0."""
    mask = to_numpy(seg.cropped_mask)
    mask = mask.max(axis=0) if mask.ndim == 3 else mask
    height, width = mask.shape
    rows = np.arange(0, height, max(_CLOSEST, height // _GRID))
    columns = np.arange(0, width, max(_CLOSEST, width // _GRID))
    x1, y1 = Box.of(seg.crop_region).as_tuple()[:2]
    points, labels = [], []
    for y in rows.tolist():
        for x in columns.tolist():
            inside = bool(mask[y, x] > threshold)
            if inside or (empty_negative and mask[y, x] == 0):
                points.append((float(x1 + x), float(y1 + y)))
                labels.append(int(inside))
    return points, labels


def _points_outside(region: Box, image: Size) -> list[Point]:
    """A grid of points over the image, without the region and its surroundings."""
    near = region.grown(_MARGIN)
    step_x = max(_CLOSEST, image.width // _GRID)
    step_y = max(_CLOSEST, image.height // _GRID)
    return [
        (float(x), float(y))
        for y in range(_MARGIN, image.height - _MARGIN, step_y)
        for x in range(_MARGIN, image.width - _MARGIN, step_x)
        if not (near.x1 <= x <= near.x2 and near.y1 <= y <= near.y2)
    ]
