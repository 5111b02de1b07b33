"""Polygons to pixels, at any size, with smooth edges.

A shape is a polygon in scene units and its colour. Curves and strokes are polygons too, fine enough
for the largest rendering in use. A rendering samples the plane at `SUPERSAMPLING` points per pixel
along each axis and averages them, so that renderings of two sizes agree but for their resolution.
OpenCV counts a point on an edge as inside: a shape is up to a sixth of a pixel larger on each side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

SUPERSAMPLING = 3
_SHIFT = 4  # fixed-point bits of OpenCV's coordinates

Colour = tuple[int, int, int]  # red, green, blue, 0..255


@dataclass(frozen=True)
class Shape:
    """A filled polygon: `points` [N,2] as x and y, in scene units."""

    points: np.ndarray
    colour: Colour

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        return (*self.points.min(0).tolist(), *self.points.max(0).tolist())

    def moved(self, x: float, y: float, scale: float, degrees: float) -> Shape:
        """Turned clockwise about the origin and enlarged, then moved by (x, y)."""
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turned = self.points @ np.array([[cos, sin], [-sin, cos]])
        return Shape(turned * scale + (x, y), self.colour)


def ellipse(x: float, y: float, width: float, height: float, colour: Colour, arc=(0, 360)) -> Shape:
    """An ellipse with these half axes, or the segment of it between two angles.

    Angles are in degrees from the right, clockwise.
    """
    angles = np.radians(np.linspace(*arc, max(8, int(abs(arc[1] - arc[0]) / 9)) + 1))
    points = np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], 1)
    return Shape(points, colour)


def polygon(points: Iterable[tuple[float, float]], colour: Colour) -> Shape:
    return Shape(np.array(list(points), float), colour)


def stroke(points: Iterable[tuple[float, float]], width: float, colour: Colour) -> Shape:
    """A line of this width through the points, as the polygon along both of its sides."""
    line = np.array(list(points), float)
    direction = np.gradient(line, axis=0)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    side = np.stack([-direction[:, 1], direction[:, 0]], 1) * (width / 2)
    return Shape(np.concatenate([line + side, (line - side)[::-1]]), colour)


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> np.ndarray:
    """Points [N,2] on an ellipse between two angles, in degrees from the right, clockwise."""
    return ellipse(x, y, width, height, (0, 0, 0), (start, end)).points


def render(
    shapes: Iterable[Shape],
    window: tuple[float, float, float, float],
    size: tuple[int, int],
    background: Colour = (0, 0, 0),
) -> np.ndarray:
    """Draw shapes over one another.

    Args:
        window: left, top, right and bottom of what is shown, in scene units.
        size: width and height of the picture in pixels.

    Returns:
        [H,W,3] float32, 0..1.
    """
    width, height = size
    left, top, right, bottom = window
    grid = SUPERSAMPLING
    canvas = np.empty((height * grid, width * grid, 3), np.uint8)
    canvas[:] = background
    scale = np.array([width * grid / (right - left), height * grid / (bottom - top)])
    for shape in shapes:
        x1, y1, x2, y2 = shape.bounds
        if x2 < left or y2 < top or x1 > right or y1 > bottom:
            continue
        corners = (shape.points - (left, top)) * scale - 0.5
        fixed = np.round(corners * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(canvas, [fixed], shape.colour, cv2.LINE_8, _SHIFT)
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def coverage(
    shapes: Iterable[Shape], window: tuple[float, float, float, float], size: tuple[int, int]
) -> np.ndarray:
    """How much of each pixel the shapes cover together: [H,W] float32, 0..1."""
    white = [Shape(shape.points, (255, 255, 255)) for shape in shapes]
    return render(white, window, size)[..., 0]
