"""Boxes and sizes in whole pixels: where to crop, how large to work, how much to pad.

Pixels are counted from the top left, x to the right and y down. A box is half-open: x1 and y1
belong to it, x2 and y2 do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Size(NamedTuple):
    """Width and height in pixels, in that order."""

    width: int
    height: int


@dataclass(frozen=True)
class Box:
    """Pixel box, x to the right and y down; x2 and y2 are exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Box:
        """The box of four numbers x1, y1, x2, y2; fractions are cut off.

        Raises:
            ValueError: `values` are not four finite numbers.
        """
        try:
            x1, y1, x2, y2 = (int(value) for value in values if not isinstance(values, str))
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # the last: tensors
            raise ValueError(
                f"A region is written as four finite numbers (x1, y1, x2, y2), not {values!r:.80}."
            ) from error
        return cls(x1, y1, x2, y2)

    @property
    def width(self) -> int:
        """Width in pixels; 0 where x2 is not above x1."""
        return max(0, self.x2 - self.x1)

    @property
    def height(self) -> int:
        """Height in pixels; 0 where y2 is not above y1."""
        return max(0, self.y2 - self.y1)

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return Size(self.width, self.height)

    @property
    def area(self) -> int:
        """Number of pixels in the box."""
        return self.width * self.height

    @property
    def empty(self) -> bool:
        """Whether no pixel is in the box."""
        return self.area == 0

    def as_tuple(self) -> tuple[int, int, int, int]:
        """(x1, y1, x2, y2), as SEGS carry a box."""
        return self.x1, self.y1, self.x2, self.y2

    def clipped(self, size: Size) -> Box:
        """The part inside an image of `size`; empty where there is none."""
        width, height = size
        x1, y1 = min(max(self.x1, 0), width), min(max(self.y1, 0), height)
        return Box(x1, y1, max(x1, min(self.x2, width)), max(y1, min(self.y2, height)))

    def scaled(self, old: Size, new: Size) -> Box:
        """The same region once the image goes from size `old` to `new`.

        Every edge is rounded down. So boxes that touch each other still do, and do not overlap. A
        box that would vanish keeps one pixel.
        """
        x1, x2 = _scaled_span(self.x1, self.x2, old[0], new[0])
        y1, y2 = _scaled_span(self.y1, self.y2, old[1], new[1])
        return Box(x1, y1, x2, y2)

    def shifted(self, dx: int, dy: int) -> Box:
        """The box moved by dx pixels to the right and dy pixels down."""
        return Box(self.x1 + dx, self.y1 + dy, self.x2 + dx, self.y2 + dy)

    def grown(self, by: int) -> Box:
        """The box with `by` more pixels on every side; a negative number shrinks it."""
        return Box(self.x1 - by, self.y1 - by, self.x2 + by, self.y2 + by)

    def intersects(self, other: Box) -> bool:
        """Whether the two share a pixel."""
        return (
            max(self.x1, other.x1) < min(self.x2, other.x2)
            and max(self.y1, other.y1) < min(self.y2, other.y2)
        )  # fmt: skip

    def contains(self, other: Box) -> bool:
        """Whether every edge of `other` is within this box."""
        return (
            self.x1 <= other.x1
            and self.y1 <= other.y1
            and self.x2 >= other.x2
            and self.y2 >= other.y2
        )

    def intersection(self, other: Box) -> Box:
        """The part that both boxes share; an empty box if they share none."""
        x1, y1 = max(self.x1, other.x1), max(self.y1, other.y1)
        return Box(x1, y1, max(x1, min(self.x2, other.x2)), max(y1, min(self.y2, other.y2)))

    def iou(self, other: Box) -> float:
        """Intersection over union of the areas, 0..1; 0 where both are empty."""
        return iou(self.area, other.area, self.intersection(other).area)

    def union(self, other: Box) -> Box:
        """The smallest box that contains both."""
        return Box(
            min(self.x1, other.x1),
            min(self.y1, other.y1),
            max(self.x2, other.x2),
            max(self.y2, other.y2),
        )


@dataclass(frozen=True, slots=True)
class Rect:
    """An upright rectangle at sub-pixel places; it may reach beyond the frame."""

    x: float  # of its centre
    y: float  # of its centre
    width: float
    height: float

    @classmethod
    def of_box(cls, box: tuple[float, float, float, float]) -> Rect:
        """The rectangle of a box (x1, y1, x2, y2)."""
        x1, y1, x2, y2 = box
        return cls((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)

    @property
    def sides(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        half_width, half_height = self.width / 2, self.height / 2
        return self.x - half_width, self.y - half_height, self.x + half_width, self.y + half_height


def iou(first: float, second: float, common: float) -> float:
    """Intersection over union of two areas that share `common`; 0 where both are empty."""
    together = first + second - common
    return common / together if together else 0.0


def _scaled_span(start: int, end: int, old: int, new: int) -> tuple[int, int]:
    first, last = start * new // old, end * new // old
    return first, max(last, first + 1) if end > start else first


def crop_region(bbox: Box, image: Size, factor: float, min_size: int | None = None) -> Box:
    """The region that is cropped around a box.

    Its sides are the sides of the box times `factor`, and it is centred on the box. A region that
    leaves the image is shifted into it. A side that is longer than the image is cut to the image.
    The rounding follows ComfyUI-Impact-Pack, so that shared workflows crop the same pixels. The one
    difference: rounding never leaves a part of the box outside.

    Args:
        bbox: the bounding box of the segment.
        image: size of the image that it was found in.
        factor: at least 1; a smaller one counts as 1, because the box lies inside its region.
        min_size: the least length of a side of the region, in pixels.
    """
    x1, x2 = _crop_span(bbox.x1, bbox.x2, image[0], factor, min_size or 0)
    y1, y2 = _crop_span(bbox.y1, bbox.y2, image[1], factor, min_size or 0)
    return Box(x1, y1, x2, y2)


def _crop_span(start: int, end: int, limit: int, factor: float, min_size: int) -> tuple[int, int]:
    length = max((end - start) * max(factor, 1.0), min_size)
    first = int(start + (end - start) / 2 - length / 2)
    if first < 0:
        return 0, int(min(limit, length))
    if first + length > limit:
        return int(max(0, limit - length)), limit
    last = int(first + length)
    missing = max(0, min(end, limit) - last)  # rounding cut a fractional length off on this side
    return first + missing, last + missing


GUIDE_SIZE, NATIVE = "guide_size", "model"
SIZE_POLICIES = (GUIDE_SIZE, NATIVE)


@dataclass(frozen=True)
class Sizing:
    """At what size a crop is sampled; the fields are those of the detailer nodes."""

    guide_size: float  # pixels that the shorter side of the box or the crop is brought to
    guide_size_for_bbox: bool = True  # False: measured at the crop instead of the box
    max_size: float = 1024  # pixels that no side of the working size exceeds
    force_inpaint: bool = False  # also sample crops that are large enough already
    grid: int = 0  # both sides are rounded up to multiples of this, as far as max_size lets them
    policy: str = GUIDE_SIZE  # NATIVE: every crop is brought to an area instead
    area: int = 0  # that area in pixels; 0 is the area that the model was trained for


@dataclass(frozen=True)
class Skip:
    """Why a segment is left as it is, in words for the log."""

    reason: str


def working_size(bbox: Box, crop: Box, sizing: Sizing) -> Size | Skip:
    """The size at which a crop is sampled, before padding to the VAE's grid.

    The scale is guide_size divided by the shorter side of the box (or of the crop). It is reduced
    where a side would exceed max_size. With `force_inpaint`, a crop that needs no enlarging is
    sampled at its own size, which max_size limits too. A grid gives segments of similar sizes the
    same working size, so that they can be sampled together; each side changes by less than one step
    of the grid. With the policy NATIVE, the crop is enlarged or shrunk to `area`, and keeps its
    proportions as far as the grid allows. Then max_size is a limit too, and guide_size is ignored.

    Returns:
        The size, both sides at least 1 and at most max_size; or a Skip that says why the segment
        is not sampled.
    """
    limit = max(1, math.floor(sizing.max_size))
    if sizing.policy == NATIVE:
        return _native_size(bbox, crop, sizing, limit)
    size = _free_size(bbox, crop, sizing, limit)
    return size if isinstance(size, Skip) else _on_grid(size, sizing.grid, limit)


def _free_size(bbox: Box, crop: Box, sizing: Sizing, limit: int) -> Size | Skip:
    """The working size before it is brought to a grid."""
    if bbox.empty or crop.empty:
        return Skip("its box or crop region is empty")
    guide = sizing.guide_size
    if not sizing.force_inpaint and min(bbox.size) >= guide:
        return Skip(
            f"its box of {bbox.width}x{bbox.height} is already at least guide_size {guide:g}"
            " (force_inpaint is off)"
        )
    scale = guide / min(bbox.size if sizing.guide_size_for_bbox else crop.size)
    size = _times(crop.size, scale)
    if max(size) > limit:
        scale *= limit / max(size)
        size = _times(crop.size, scale)
    if scale > 1:
        return _at_most(size, limit)
    if not sizing.force_inpaint:
        return Skip(
            f"its crop of {crop.width}x{crop.height} would not be enlarged: scale {scale:.3f}"
            f" at guide_size {guide:g} and max_size {limit} (force_inpaint is off)"
        )
    if max(crop.size) <= limit:
        return crop.size
    return _at_most(_times(crop.size, limit / max(crop.size)), limit)


def _native_size(bbox: Box, crop: Box, sizing: Sizing, limit: int) -> Size | Skip:
    """The working size of about `area` pixels, each side the nearest multiple of the grid."""
    if bbox.empty or crop.empty:
        return Skip("its box or crop region is empty")
    scale = min(math.sqrt(sizing.area / crop.area), limit / max(crop.size))
    if scale <= 1 and not sizing.force_inpaint:
        return Skip(
            f"its crop of {crop.width}x{crop.height} would not be enlarged: scale {scale:.3f} to "
            f"the model's area of {sizing.area} pixels at max_size {limit} (force_inpaint is off)"
        )
    step = sizing.grid if 1 <= sizing.grid <= limit else 1
    steps = (min(max(1, round(side * scale / step)), limit // step) for side in crop.size)
    return Size(*(count * step for count in steps))


def _on_grid(size: Size, grid: int, limit: int) -> Size:
    """Both sides rounded up to multiples of `grid`, or down where they would exceed the limit."""
    if not 1 <= grid <= limit:
        return size
    return Size(*(min(-(-side // grid), limit // grid) * grid for side in size))


def _times(size: Size, scale: float) -> Size:
    return Size(int(size.width * scale), int(size.height * scale))


def _at_most(size: Size, limit: int) -> Size:
    """The size with both sides within 1..limit, which rounding in `_times` may have left."""
    return Size(*(min(max(1, side), limit) for side in size))


def within(size: Size, longest: int) -> Size:
    """The size, shrunk if a side has more pixels than `longest`; it keeps its proportions."""
    scale = min(1.0, longest / max(size))
    return Size(*(max(1, round(side * scale)) for side in size))


def padding(size: Size, multiple: int) -> tuple[int, int, int, int]:
    """Pixels to add on the left, right, top and bottom, so that both sides are multiples.

    All of them are added on the right and at the bottom, so that no pixel moves.
    """
    return 0, -size[0] % multiple, 0, -size[1] % multiple
