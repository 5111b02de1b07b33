"""Finds: what was found in single frames, before it is known which belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Rect
from .track import PackedMask


@dataclass(frozen=True, eq=False, slots=True)
class Find:
    """One thing that was found in one frame."""

    frame: int
    box: Rect  # the bounding box, in pixels of the frame
    label: str
    confidence: float = 1.0  # 0..1
    mask: PackedMask | None = None  # None: the whole bounding box
    looks: np.ndarray | None = None  # [D], of `appearance.looks_of`; None: not known
    grown: float = 0.0  # without a mask: pixels by which what it covers is larger on each side
    object_id: int | None = None  # which thing it is, where the source knows it

    @property
    def size(self) -> float:
        """The geometric mean of width and height in pixels."""
        return float(np.sqrt(self.box.width * self.box.height))


Chain = list[Find]  # finds of one thing, one for each frame at most, in the order of the frames


def overlap(one: Rect, other: Rect) -> float:
    """The area that two rectangles share, in square pixels."""
    left, top, right, bottom = one.sides
    other_left, other_top, other_right, other_bottom = other.sides
    width = min(right, other_right) - max(left, other_left)
    height = min(bottom, other_bottom) - max(top, other_top)
    return max(0.0, width) * max(0.0, height)
