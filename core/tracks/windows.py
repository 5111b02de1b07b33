"""From a chain of finds to a track: its smooth course, its windows, and the frames that are used.

Centre and size are smoothed apart, see `smoothing`. Where the motion in the pixels is known, see
`motion`, the curve is that motion plus the smoothed difference of the boxes from it. The difference
changes slowly, so that it can be smoothed over many more frames than the path itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..geometry import Box, Rect, Size
from .finds import Chain, Find
from .motion import SURE, Moved, Step, step_between
from .smoothing import Curve, fitted, no_worse
from .track import PackedMask, Sighting

AUTO, SQUARE, AS_BOX = "auto", "square", "as the box"
ASPECTS = (AUTO, SQUARE, AS_BOX)
_RATIOS = (1 / 2, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 2.0)  # width over height, of AUTO
PIXEL_LENGTHS = 4.0  # by how much longer the difference from measured motion is smoothed
LEAST_MEASURED = 0.5  # share of the steps whose motion has to be known
UNMEASURED = 0.01  # how much a step counts whose motion is not known
HYSTERESIS = 0.15  # by which share a size has to come back inside before frames are used again


@dataclass(frozen=True)
class Shaping:
    """How windows follow a thing.

    Attributes:
        crop_factor: sides of the window over sides of the box, at least 1.
        centre_frames, size_frames: lengths of the smoothing of centre and size; 1 smooths nothing.
        aspect: one of ASPECTS, of the windows of a track.
        min_size, max_size: pixels of the shorter side of the box; frames in which it is smaller or
            larger are left out. 0 is no bound.
        measured: measure the motion in the pixels, where there are frames.
    """

    crop_factor: float = 3.0
    centre_frames: int = 25
    size_frames: int = 51
    aspect: str = AUTO
    min_size: float = 0.0
    max_size: float = 0.0
    measured: bool = True

    @property
    def follows_pixels(self) -> bool:
        """Whether measured motion changes anything."""
        return self.measured and max(self.centre_frames, self.size_frames) > 1


@dataclass(frozen=True)
class Course:
    """Where a thing is in each frame from the first to the last in which it was found.

    Attributes:
        finds: for each frame what was found, None in gaps.
        centre: a curve [n,2] of x and y in pixels.
        size: a curve [n,2] of the logarithms of width and height.
    """

    first: int
    finds: tuple[Find | None, ...]
    centre: Curve
    size: Curve

    @property
    def boxes(self) -> list[Rect]:
        """The bounding box in each frame."""
        return [
            Rect(float(x), float(y), float(width), float(height))
            for (x, y), (width, height) in zip(
                self.centre.values, np.exp(self.size.values), strict=True
            )
        ]

    def steps(self) -> list[Step]:
        """The steps between neighbouring frames, counted from the first frame of the clip."""
        boxes = self.boxes
        return [
            step_between(self.first + place, *pair) for place, pair in enumerate(pairwise(boxes))
        ]


def course_of(chain: Chain, shaping: Shaping) -> Course:
    """The course of a chain, from its boxes alone."""
    first = chain[0].frame
    finds: list[Find | None] = [None] * (chain[-1].frame - first + 1)
    for find in chain:
        finds[find.frame - first] = find
    known = np.array([find is not None for find in finds])
    centres, sizes = _values(finds)
    return Course(
        first, tuple(finds), fitted(centres, known, shaping.centre_frames),
        fitted(sizes, known, shaping.size_frames),
    )  # fmt: skip


def with_motion(course: Course, moves: Sequence[Moved], shaping: Shaping) -> Course:
    """The course with the motion that was measured in the pixels, where that predicts the boxes.

    Args:
        moves: for each of `course.steps()`.
    """
    errors = np.array([move.error for move in moves])
    measured = np.isfinite(errors)
    if not len(moves) or measured.mean() < LEAST_MEASURED:
        return course
    trust = np.where(measured, np.minimum(1.0, (SURE / np.maximum(errors, SURE)) ** 2), 0.0)
    trust = np.maximum(trust, UNMEASURED)
    known = np.array([find is not None for find in course.finds])
    centres, sizes = _values(course.finds)
    shifts, growths = _measured_steps(course, moves)
    return replace(
        course,
        centre=_combined(course.centre, centres, known, shifts, trust, shaping.centre_frames),
        size=_combined(course.size, sizes, known, growths, trust, shaping.size_frames),
    )


def _combined(
    rough: Curve, values: np.ndarray, known: np.ndarray, steps: np.ndarray, trust: np.ndarray,
    frames: int,
) -> Curve:  # fmt: skip
    """The better one of two curves: from the boxes alone, or with measured motion.

    Args:
        steps: [n-1,k], the motion from each frame to the next.
    """
    if frames <= 1:
        return rough
    path = np.concatenate([np.zeros((1, steps.shape[1])), np.cumsum(steps, axis=0)])
    difference = fitted(values - path, known, PIXEL_LENGTHS * frames, order=1, trust=trust)
    if not no_worse(difference, rough):
        return rough
    return replace(difference, values=difference.values + path)


def _measured_steps(course: Course, moves: Sequence[Moved]) -> tuple[np.ndarray, np.ndarray]:
    """[n-1,2] shifts of the centre and growths of the logarithms of width and height."""
    shifts = np.diff(course.centre.values, axis=0)
    growths = np.diff(course.size.values, axis=0)
    for place, (step, move) in enumerate(zip(course.steps(), moves, strict=True)):
        if not math.isfinite(move.error):
            continue
        before, after = (_middle(box) for box in (step.before, step.after))
        away = course.centre.values[place] - before
        shifts[place] = after + move.shift + away * math.exp(move.growth) - before - away
        growths[place] = move.growth
    return shifts, growths


def _middle(box: Box) -> np.ndarray:
    return np.array([(box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2])


def _values(finds: Sequence[Find | None]) -> tuple[np.ndarray, np.ndarray]:
    """Centres [n,2] and logarithms of the sides [n,2]; 0 in gaps."""
    centres = [(0.0, 0.0) if find is None else (find.box.x, find.box.y) for find in finds]
    sides = [(1.0, 1.0) if find is None else (find.box.width, find.box.height) for find in finds]
    return np.array(centres, dtype=float), np.log(np.maximum(np.array(sides, dtype=float), 1e-3))


# Windows


def sightings_of(course: Course, shaping: Shaping, frame: Size) -> tuple[Sighting, ...]:
    """What is known of a track in each frame of its course.

    Args:
        frame: the size of the frames.
    """
    boxes = course.boxes
    windows = windows_of(boxes, shaping, frame)
    used = used_frames([min(box.width, box.height) for box in boxes], shaping)
    confidences = _confidences(course.finds)
    return tuple(
        Sighting(
            course.first + place, box, windows[place], confidences[place],
            _mask(course.finds, place, box), find is None, used[place],
            None if find is None else find.box,
        )
        for place, (find, box) in enumerate(zip(course.finds, boxes, strict=True))
    )  # fmt: skip


def windows_of(boxes: Sequence[Rect], shaping: Shaping, frame: Size) -> list[Rect]:
    """The window around each box: all have one aspect, and contain the box times the crop factor.

    A window that would be larger than the frame both ways is made as small as the smallest that can
    still cover the whole frame.
    """
    aspect = aspect_of(boxes, shaping.aspect)
    factor = max(1.0, shaping.crop_factor)
    covering = max(frame.height, frame.width / aspect)
    windows = []
    for box in boxes:
        height = min(factor * max(box.height, box.width / aspect), covering)
        windows.append(Rect(box.x, box.y, height * aspect, height))
    return windows


def aspect_of(boxes: Sequence[Rect], wanted: str) -> float:
    """Width over height of the windows around boxes; `wanted` is one of ASPECTS."""
    if wanted == SQUARE:
        return 1.0
    ratio = float(np.median([box.width / max(box.height, 1e-6) for box in boxes]))
    if wanted == AS_BOX:
        return min(max(ratio, 1 / 8), 8.0)
    return min(_RATIOS, key=lambda each: abs(math.log(each / max(ratio, 1e-6))))


def used_frames(sizes: Sequence[float], shaping: Shaping) -> list[bool]:
    """For each size whether its frame is used.

    Once a size has left the bounds, it has to come back by HYSTERESIS before frames are used again.
    """
    used, result = True, []
    low, high = shaping.min_size, shaping.max_size or math.inf
    for size in sizes:
        back = 1.0 if used else 1 + HYSTERESIS
        used = low * back <= size <= high / back
        result.append(used)
    return result


def _confidences(finds: Sequence[Find | None]) -> list[float]:
    places = [place for place, find in enumerate(finds) if find is not None]
    known = [find.confidence for find in finds if find is not None]
    return [float(value) for value in np.interp(range(len(finds)), places, known)]


def _mask(finds: Sequence[Find | None], place: int, box: Rect) -> PackedMask | None:
    """The mask in a frame; in a gap that of the nearest frame, moved and scaled along."""
    find = finds[place]
    if find is not None and find.mask is not None:
        return find.mask
    near = find or min(
        (own for own in finds if own is not None),
        key=lambda own: (abs(own.frame - _frame(finds, place)), own.frame),
    )
    if near.mask is not None:
        return moved_mask(near.mask, near.box, box)
    return covered(box, near.grown) if near.grown else None


def _frame(finds: Sequence[Find | None], place: int) -> int:
    """The frame of a place, counted as finds count."""
    first = next((own.frame - i for i, own in enumerate(finds) if own is not None), 0)
    return first + place


def moved_mask(mask: PackedMask, old: Rect, new: Rect) -> PackedMask:
    """A mask that lies in one box as it would lie in another one."""
    import cv2

    scale = new.width / max(old.width, 1e-6), new.height / max(old.height, 1e-6)
    x1, y1 = (
        centre + (corner - before) * ratio
        for centre, corner, before, ratio in (
            (new.x, mask.box.x1, old.x, scale[0]), (new.y, mask.box.y1, old.y, scale[1]),
        )
    )  # fmt: skip
    x2, y2 = x1 + mask.box.width * scale[0], y1 + mask.box.height * scale[1]
    box = Box(math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2))
    # OpenCV counts from the centres of pixels; the map is from the new mask to the old one
    matrix = np.array(
        [
            [1 / scale[0], 0, (box.x1 + 0.5 - x1) / scale[0] - 0.5],
            [0, 1 / scale[1], (box.y1 + 0.5 - y1) / scale[1] - 0.5],
        ]
    )
    values = cv2.warpAffine(
        mask.unpacked().astype(np.float32), matrix, tuple(box.size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )  # fmt: skip
    return PackedMask.of(values, box)


def covered(box: Rect, grown: float) -> PackedMask | None:
    """How much of each pixel a box covers that is grown by some pixels on each side, 0..1."""
    left, top, right, bottom = box.sides
    x1, y1, x2, y2 = left - grown, top - grown, right + grown, bottom + grown
    if x2 <= x1 or y2 <= y1:
        return None
    around = Box(math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2))
    columns, rows = (
        np.clip(np.minimum(places + 1, end) - np.maximum(places, start), 0, 1)
        for places, start, end in (
            (np.arange(around.x1, around.x2), x1, x2), (np.arange(around.y1, around.y2), y1, y2),
        )
    )  # fmt: skip
    return PackedMask.of((rows[:, None] * columns[None]).astype(np.float32), around)
