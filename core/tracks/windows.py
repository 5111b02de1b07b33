"""From a chain of finds to a track: its smooth course, its windows, and the frames that are used.

Centre and size are smoothed apart, see `smoothing`. Where the motion in the pixels is known, see
`motion`, the curve is the path that it gives (`joint`) plus the smoothed difference of the boxes
from it. The difference changes slowly, so that it can be smoothed over many more frames than the
path itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..geometry import Box, Rect, Size
from .finds import Chain, Find, overlap
from .joint import joint_path, relations_of_places, relations_of_sizes
from .links import Link
from .location import location, power_of
from .maps import agreeing, maps_of
from .smoothing import FOLDS, Curve, fitted, no_worse, smooth, spread_of, steady
from .track import PackedMask, Sighting

AUTO, SQUARE, AS_BOX = "auto", "square", "as the box"
ASPECTS = (AUTO, SQUARE, AS_BOX)
_RATIOS = (1 / 2, 2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2, 2.0)  # width over height, of AUTO
PIXEL_LENGTHS = 16.0  # by how much longer the difference from measured motion is smoothed
TIMIDITY = 3.0  # standard errors by which boxes have to contradict measured motion
LEAST_MEASURED = 0.5  # share of the steps whose motion has to be known
MET = 0.05  # share of a box that another one covers from which on two things meet
AT_ENDS = 4  # frames at an end of a shot in which a thing may be there and was not found
DOUBT = 4.0  # by how much the error of a measured motion is then larger
LINEAR = 0.005  # share of a thing over which its picture is about linear
STIFFEST = 1e4  # variance of the boxes over that of a drift, at which a path is trusted fully
CLEAR = 6.0  # how much noise of the motion counts more than that of the boxes, for the middle
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
    """Where a thing is in each frame from the first to the last.

    Attributes:
        finds: for each frame what was found, None in gaps and beyond the first and the last find.
        centre: a curve [n,2] of x and y in pixels.
        size: a curve [n,2] of the logarithms of width and height.
    """

    first: int
    finds: tuple[Find | None, ...]
    centre: Curve
    size: Curve

    @property
    def last(self) -> int:
        """The last frame."""
        return self.first + len(self.finds) - 1

    @cached_property
    def boxes(self) -> list[Rect]:
        """The bounding box in each frame."""
        return [
            Rect(float(x), float(y), float(width), float(height))
            for (x, y), (width, height) in zip(
                self.centre.values, np.exp(self.size.values), strict=True
            )
        ]


def course_of(chain: Chain, shaping: Shaping, more: tuple[int, int] = (0, 0)) -> Course:
    """The course of a chain, from its boxes alone.

    Args:
        more: frames before the first find and after the last one, over which it is extrapolated.
    """
    first = chain[0].frame - more[0]
    finds: list[Find | None] = [None] * (chain[-1].frame + more[1] - first + 1)
    for find in chain:
        finds[find.frame - first] = find
    known = np.array([find is not None for find in finds])
    centres, sizes = _values(finds)
    return Course(
        first, tuple(finds), fitted(centres, known, shaping.centre_frames),
        fitted(sizes, known, shaping.size_frames),
    )  # fmt: skip


def frames_at_ends(chain: Chain, shot: range, most: int) -> tuple[int, int]:
    """How many frames of a shot lie before and after all finds of a chain, as `course_of` wants it.

    A detector that misses a thing in some frames also does so in the first or the last frames of a
    shot. 0 where there are more frames than that explains: there the thing came or went.

    Args:
        most: frames in a row in which a thing may be missing.
    """
    most = min(most, AT_ENDS)
    before, after = chain[0].frame - shot.start, shot.stop - 1 - chain[-1].frame
    return before if before <= most else 0, after if after <= most else 0


def seen_only(
    course: Course, links: Sequence[Link], met: Sequence[bool]
) -> tuple[Course, list[Link]]:
    """A course and its links without the frames at both ends in which the thing is not seen.

    It is seen in a frame in which it was found, and in the next one, as long as the pixels of both
    show the same and are not those of another thing.

    Args:
        links: between frames of the course, with all between neighbouring ones.
        met: of the course, as `meetings` tells.
    """
    seen = [False] * (len(met) - 1)
    for link in links:
        if link.second == link.first + 1:
            alone = not (met[link.first] or met[link.second])
            seen[link.first] = link.motion.measured and alone
    found = [place for place, find in enumerate(course.finds) if find is not None]
    first, last = found[0], found[-1]
    while first > 0 and seen[first - 1]:
        first -= 1
    while last < len(seen) and seen[last]:
        last += 1
    kept = slice(first, last + 1)
    centre, size = (
        replace(curve, values=curve.values[kept]) for curve in (course.centre, course.size)
    )
    return (
        Course(course.first + first, course.finds[kept], centre, size),
        [
            replace(link, first=link.first - first, second=link.second - first)
            for link in links
            if first <= link.first and link.second <= last
        ],
    )


def doubted(links: Sequence[Link], met: Sequence[bool]) -> list[Link]:
    """Links, trusted less where another thing lies over this one or under it.

    There the pixels may be those of the other thing.

    Args:
        met: of the course, as `meetings` tells.
    """
    return [
        replace(link, motion=link.motion.doubted(DOUBT))
        if met[link.first] or met[link.second] else link
        for link in links
    ]  # fmt: skip


def hidden_frames(course: Course, met: Sequence[bool]) -> set[int]:
    """The frames of a course in which another thing lies over this one, which was not found.

    Args:
        met: of the course, as `meetings` tells.
    """
    return {place for place, find in enumerate(course.finds) if find is None and met[place]}


def meetings(course: Course, others: Sequence[Course]) -> list[bool]:
    """For each frame of a course whether another thing lies over this one or under it."""
    boxes = course.boxes
    met = [False] * len(boxes)
    for other in others:
        for place, box in enumerate(other.boxes):
            own = other.first + place - course.first
            if 0 <= own < len(boxes) and not met[own]:
                share = overlap(boxes[own], box) / max(boxes[own].width * boxes[own].height, 1e-6)
                met[own] = share > MET
    return met


def with_motion(course: Course, links: Sequence[Link], shaping: Shaping) -> Course:
    """The course with the motion that was measured in the pixels, where that predicts the boxes.

    Args:
        links: between frames of the course, with all between neighbouring ones.
    """
    steps = np.full(len(course.finds) - 1, np.inf)  # error of the best link over each step
    for link in links:
        over = slice(link.first, link.second)
        steps[over] = np.minimum(steps[over], link.motion.error)
    measured = np.isfinite(steps)
    if not len(steps) or measured.mean() < LEAST_MEASURED:
        return course
    usual = float(np.median([link.motion.error for link in links if link.motion.measured]))
    trust = np.maximum((usual / np.maximum(steps, usual)) ** 2, UNMEASURED)
    known = np.array([find is not None for find in course.finds])
    centres, sizes = _values(course.finds)
    size = _moved_size(course, links, sizes, known, trust, usual, shaping.size_frames)
    centre = _moved_centre(
        replace(course, size=size), links, centres, known, trust, shaping.centre_frames
    )
    return replace(course, centre=centre, size=size)


def _moved_size(
    course: Course, links: Sequence[Link], sizes: np.ndarray, known: np.ndarray,
    trust: np.ndarray, usual: float, frames: int,
) -> Curve:  # fmt: skip
    """The logarithms of the sides, with what the links say of them.

    Args:
        sizes: [n,2], as they were found.
        trust: [n-1], how well each step is known.
        usual: the usual error of a link in pixels.
    """
    if not _may_combine(known, frames):
        return course.size
    flat = np.ones(len(known))
    path = np.stack(
        [
            joint_path(relations_of_sizes(links, np.diff(rough), axis), own, known, flat)
            for axis, (own, rough) in enumerate(zip(sizes.T, course.size.values.T, strict=True))
        ], 1,
    )  # fmt: skip
    middle = float(np.median([min(box.width, box.height) for box in course.boxes]))
    size = _combined(course.size, sizes, known, path, trust, frames, flat)
    if size is course.size:
        return size
    return replace(size, values=_calmed(size.values, 2 * usual / middle, frames))


def _moved_centre(
    course: Course, links: Sequence[Link], centres: np.ndarray, known: np.ndarray,
    trust: np.ndarray, frames: int,
) -> Curve:  # fmt: skip
    """The centre, with what the links say of it.

    Args:
        course: with its final sizes.
        centres: [n,2], as they were found.
        trust: [n-1], how well each step is known.
    """
    if not _may_combine(known, frames):
        return course.centre
    extent = np.exp(course.size.values.mean(1))
    places, rough = (own @ (1, 1j) for own in (centres, course.centre.values))
    told = agreeing(
        relations_of_places(links, np.diff(rough)),
        np.array([link.motion.measured for link in links]),
        maps_of(links, extent),
        rough,
    )
    path = joint_path(told, places, known, extent)
    noise, alone = (_noise_of_frames(links, len(known), doubt) for doubt in (True, False))
    off = (places - path)[known] / extent[known]
    trust = np.minimum(trust, _without_drift(alone / extent, off))
    path = np.stack([path.real, path.imag], 1)
    centre = _combined(course.centre, centres, known, path, trust, frames, extent)
    if centre is course.centre:
        return centre
    values = centre.values + _to_the_middle(course, centre.values, noise / extent)
    return replace(centre, values=steady(values, noise, extent, frames))


def _noise_of_frames(links: Sequence[Link], count: int, doubt: bool) -> np.ndarray:
    """[n]: how far what is measured in each frame is usually off, in its pixels.

    Args:
        doubt: with the doubt in links.
    """
    own: list[list[float]] = [[] for _ in range(count)]
    for link in links:
        if link.motion.measured:
            error = link.motion.error / (1 if doubt else link.motion.doubt)
            own[link.second].append(error)
            own[link.first].append(error / max(abs(link.motion.factor), 1e-6))
    known = [place for place, errors in enumerate(own) if errors]
    return np.interp(range(count), known, [float(np.median(own[place])) for place in known])


def _without_drift(noise: np.ndarray, off: np.ndarray) -> np.ndarray:
    """[n-1]: how little a path drifts from frame to frame, 1 being almost not at all.

    Noise that averages out is no drift. But pictures are taken as linear over the error of their
    fit, and what that is wrong by, which grows with the square of the error, stays.

    Args:
        noise: [n], spread of the errors of the path in sizes of the thing.
        off: [m], how far boxes are from the path, in the same.
    """
    boxes = spread_of(np.abs(np.diff(off))) / 2
    drift = np.maximum(noise[1:], noise[:-1]) ** 2 / LINEAR
    return np.minimum((boxes / np.maximum(drift, 1e-9)) ** 2 / STIFFEST, 1.0)


def _to_the_middle(course: Course, centres: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """[n,2]: how far the middle of what was found is from centres that move with the thing.

    It is the same in all frames in sizes of the thing. Frames whose motion is badly known count
    little, so that the errors are those of the boxes alone, whatever their shape is.

    Args:
        centres: [n,2].
        noise: [n], of the centres, in sizes of the thing.
    """
    known = [place for place, find in enumerate(course.finds) if find is not None]
    sides = np.array([course.finds[place].box.sides for place in known]).reshape(-1, 2, 2)
    size = np.exp(course.size.values)
    off = (sides - centres[known, None]) / size[known, None]  # [m, first or last side, x or y]
    samples = [off[:, side, axis] for axis in (0, 1) for side in (0, 1)]
    spread = max(spread_of(np.abs(np.diff(off.mean(1), axis=0)).ravel()), 1e-9) / 2**0.5
    weight = 1 / (1 + (CLEAR * noise[known] / spread) ** 4)
    clear = weight > weight.max() / 3
    power = power_of([own[clear] for own in samples])
    found = np.array([location(own, power, weight) for own in samples])
    return found.reshape(2, 2).mean(1) * size


def _may_combine(known: np.ndarray, frames: int) -> bool:
    """Whether there are boxes enough to tell which of two curves predicts them better."""
    return frames > 1 and known.sum() >= FOLDS


def _combined(
    rough: Curve, values: np.ndarray, known: np.ndarray, path: np.ndarray, trust: np.ndarray,
    frames: int, scale: np.ndarray,
) -> Curve:  # fmt: skip
    """The better one of two curves: from the boxes alone, or with measured motion.

    Args:
        path: [n,k], as the measured motion tells it.
        scale: [n], in whose units the difference of values and path changes slowly.
    """
    scale = scale[:, None]
    difference = fitted(
        (values - path) / scale,
        known,
        PIXEL_LENGTHS * frames,
        order=1,
        trust=trust,
        timidity=TIMIDITY,
    )
    error = difference.error * scale[known, 0] ** 2
    if not no_worse(replace(difference, error=error), rough):
        return rough
    return replace(difference, values=difference.values * scale + path, error=error)


def _calmed(path: np.ndarray, noise: float, frames: int) -> np.ndarray:
    """A path without the noise of each frame: the smoothest that is as near as the noise is large.

    V. Morozov's discrepancy principle (1966).

    Args:
        noise: spread of the noise of each value.
        frames: the longest length of the smoothing.
    """
    known, length = np.ones(len(path), bool), float(frames)
    while length >= 2:
        calm = smooth(path, known, length)
        if ((path - calm) ** 2).mean() <= noise**2:
            return calm
        length /= 1.5
    return path


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
    there = (i for i, own in enumerate(finds) if own is not None)
    near = find or finds[min(there, key=lambda i: abs(i - place))]  # the earlier of two
    if near.mask is not None:
        return moved_mask(near.mask, near.box, box)
    return covered(box, near.grown) if near.grown else None


def moved_mask(mask: PackedMask, old: Rect, new: Rect) -> PackedMask:
    """A mask that lies in one box as it would lie in another one."""
    spans = [
        (new_centre + (start - centre) * ratio, new_centre + (end - centre) * ratio, ratio)
        for centre, new_centre, start, end, ratio in (
            (old.x, new.x, mask.box.x1, mask.box.x2, new.width / max(old.width, 1e-6)),
            (old.y, new.y, mask.box.y1, mask.box.y2, new.height / max(old.height, 1e-6)),
        )
    ]
    (x1, x2, across), (y1, y2, down) = spans
    box = Box(math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2))
    columns = _sampling(np.arange(box.x1, box.x2), x1, across, mask.box.width)
    rows = _sampling(np.arange(box.y1, box.y2), y1, down, mask.box.height)
    return PackedMask.of((rows @ mask.unpacked() @ columns.T).astype(np.float32), box)


def _sampling(places: np.ndarray, start: float, scale: float, count: int) -> np.ndarray:
    """[n,count]: how much each of so many pixels counts for each of [n] new ones (linear).

    Args:
        places: the left or upper sides of the new pixels.
        start: where the old pixels begin there, each `scale` long.
    """
    centres = (places + 0.5 - start) / scale - 0.5
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(count)))


def covered(box: Rect, grown: float) -> PackedMask | None:
    """How much of each pixel a box covers that is grown by some pixels on each side, 0..1."""
    left, top, right, bottom = box.sides
    sides = (left - grown, top - grown, right + grown, bottom + grown)
    x1, y1, x2, y2 = (round(side, 3) for side in sides)  # no pixel for an error of rounding
    if x2 <= x1 or y2 <= y1:
        return None
    around = Box(math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2))
    columns = covered_shares(range(around.x1, around.x2), x1, x2)
    rows = covered_shares(range(around.y1, around.y2), y1, y2)
    return PackedMask.of((rows[:, None] * columns[None]).astype(np.float32), around)


def covered_shares(pixels: range, start: float, end: float) -> np.ndarray:
    """How much of each pixel along an axis lies between two places: [len(pixels)] float64, 0..1."""
    places = np.arange(pixels.start, pixels.stop)
    return np.clip(np.minimum(places + 1, end) - np.maximum(places, start), 0, 1)
