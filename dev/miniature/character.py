"""The characters of the miniature world, as shapes.

They are drawn in units of the face: its centre is the origin, its half width 1, x to the right and
y down. A character looks the same for the same look, at every place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .look import Look
from .render import Colour, Shape, arc, ellipse, polygon, stroke

SKIN = {
    "pale": (246, 214, 190),
    "tan": (222, 172, 124),
    "brown": (166, 110, 72),
    "dark": (98, 64, 46),
}
HAIR = {
    "black": (38, 34, 38),
    "blonde": (232, 196, 92),
    "red": (190, 74, 34),
    "blue": (58, 98, 190),
    "white": (226, 226, 232),
}
EYES = {
    "brown": (110, 60, 24),
    "green": (40, 150, 62),
    "blue": (36, 110, 220),
    "violet": (150, 50, 190),
}
SHIRT = {
    "red": (204, 54, 58),
    "yellow": (240, 200, 60),
    "green": (60, 150, 90),
    "purple": (120, 72, 170),
}

_LIPS = (164, 52, 58)
_MOUTH = (96, 24, 34)
_WHITE = (252, 252, 250)
_DARK = (26, 24, 30)
_TROUSERS = (62, 68, 92)
_EYE_X, _EYE_Y = 0.40, -0.05
_MOUTH_Y = 0.7


@dataclass(frozen=True)
class Character:
    """A character in a scene.

    Attributes:
        x, y: centre of the face in scene units.
        radius: half the face's width in scene units.
        tilt: degrees, clockwise.
        turn: degrees about the upright axis; the drawing is flat, so it only gets narrower, by the
            cosine.
    """

    look: Look
    x: float
    y: float
    radius: float
    tilt: float
    turn: float = 0.0

    def shapes(self) -> list[Shape]:
        """The whole character, from back to front, in scene units."""
        return self._placed(_whole(self.look))

    def head_shapes(self) -> list[Shape]:
        """Hair and face alone: what a segment's mask covers."""
        return self._placed(_hair_and_face(self.look))

    def head_box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the head in scene units."""
        points = np.concatenate([shape.points for shape in self.head_shapes()])
        return (*points.min(0), *points.max(0))

    def eye_centres(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Middles of the eyes in scene units: the left one of the picture first."""
        return self._point(-_EYE_X, _EYE_Y), self._point(_EYE_X, _EYE_Y)

    def mouth_centre(self) -> tuple[float, float]:
        return self._point(0, _MOUTH_Y)

    def placement(self) -> np.ndarray:
        """The matrix [2,3] that brings points of the face's own units into scene units."""
        cos, sin = np.cos(np.radians(self.tilt)), np.sin(np.radians(self.tilt))
        narrow = np.cos(np.radians(self.turn))
        turned = self.radius * np.array([[cos * narrow, -sin], [sin * narrow, cos]])
        return np.column_stack([turned, (self.x, self.y)])

    def _point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the face in scene units."""
        (dot,) = self._placed([ellipse(x, y, 0, 0, _DARK)])
        return tuple(dot.points[0].tolist())

    def _placed(self, shapes: Iterable[Shape]) -> list[Shape]:
        narrow = (float(np.cos(np.radians(self.turn))), 1.0)
        return [
            Shape(shape.points * narrow, shape.colour).moved(self.x, self.y, self.radius, self.tilt)
            for shape in shapes
        ]


def shade(colour: Colour, factor: float) -> Colour:
    """Darker for a factor below 1, lighter above."""
    if factor <= 1:
        return tuple(int(value * factor) for value in colour)
    return tuple(int(255 - (255 - value) / factor) for value in colour)


@lru_cache(maxsize=64)  # clips draw the same people again and again
def _whole(look: Look) -> tuple[Shape, ...]:
    return (*_hair_behind(look), *_body(look), *_head(look))


@lru_cache(maxsize=64)
def _hair_and_face(look: Look) -> tuple[Shape, ...]:
    return (*_hair_behind(look), *_head(look))


def _body(look: Look) -> list[Shape]:
    shirt, skin = SHIRT[look.shirt], SKIN[look.skin]
    shoulders = [(-0.5, 1.45), (-1.4, 1.75), (-1.62, 2.2), (-1.5, 5.0)]
    torso = shoulders + [(-x, y) for x, y in reversed(shoulders)]
    return [
        *[shape for side in (-1, 1) for shape in _limbs(look, side)],
        polygon(torso, shirt),
        polygon([(-1.59, 3.0), (1.59, 3.0), (1.58, 3.4), (-1.58, 3.4)], shade(shirt, 1.8)),
        polygon([(-0.42, 0.8), (0.42, 0.8), (0.46, 1.7), (-0.46, 1.7)], shade(skin, 0.82)),
        ellipse(0, 1.6, 0.5, 0.32, shade(skin, 0.82), (0, 180)),
    ]


def _limbs(look: Look, side: int) -> list[Shape]:
    """The arm and the leg on one side, -1 for the left of the picture."""
    sleeve = shade(SHIRT[look.shirt], 0.82)
    leg = [(0.06, 4.6), (1.46, 4.6), (1.2, 8.6), (0.3, 8.6)]
    return [
        ellipse(side * 2.12, 4.75, 0.3, 0.38, SKIN[look.skin]),
        polygon(
            [(side * x, y) for x, y in [(1.1, 1.7), (1.75, 2.0), (2.45, 4.6), (1.8, 4.7)]], sleeve
        ),
        polygon([(side * x, y) for x, y in leg], _TROUSERS),
        ellipse(side * 0.85, 8.7, 0.75, 0.36, _DARK, (180, 360)),
    ]


def _hair_behind(look: Look) -> list[Shape]:
    colour = shade(HAIR[look.hair_colour], 0.78)
    if look.hair == "long":
        sides = arc(0, -0.25, 1.28, 1.3, 180, 360)
        return [polygon([*sides, (1.42, 1.5), (1.0, 1.95), (-1.0, 1.95), (-1.42, 1.5)], colour)]
    if look.hair == "curly":
        curls = [(1.18 * np.cos(a), 1.22 * np.sin(a) - 0.3) for a in _angles(150, 390, 11)]
        return [ellipse(x, y, 0.42, 0.42, colour) for x, y in curls]
    return [ellipse(0, -0.3, 1.1, 1.12, colour)]


def _head(look: Look) -> list[Shape]:
    skin = SKIN[look.skin]
    face = [
        ellipse(-1.0, 0.1, 0.2, 0.28, shade(skin, 0.9)),
        ellipse(1.0, 0.1, 0.2, 0.28, shade(skin, 0.9)),
        ellipse(0, 0, 1.0, 1.22, skin),
        ellipse(-0.56, 0.42, 0.2, 0.14, _blush(skin)),
        ellipse(0.56, 0.42, 0.2, 0.14, _blush(skin)),
        stroke([(-0.02, 0.1), (-0.1, 0.36), (0.08, 0.38)], 0.07, shade(skin, 0.68)),
    ]
    eyes = [shape for side in (-1, 1) for shape in _eye(look, side * _EYE_X)]
    return [*face, *eyes, *_mouth(look), *_hair_in_front(look), *_glasses(look)]


def _eye(look: Look, x: float) -> list[Shape]:
    brow = arc(x, _EYE_Y - 0.18, 0.3, 0.22, 205, 335)
    return [
        ellipse(x, _EYE_Y, 0.29, 0.25, _WHITE),
        ellipse(x, _EYE_Y + 0.01, 0.2, 0.21, EYES[look.eyes]),
        ellipse(x, _EYE_Y + 0.01, 0.09, 0.1, _DARK),
        ellipse(x + 0.07, _EYE_Y - 0.07, 0.05, 0.05, _WHITE),
        stroke(brow, 0.09, shade(HAIR[look.hair_colour], 0.6)),
    ]


def _mouth(look: Look) -> list[Shape]:
    if look.mouth == "smile":
        return [
            ellipse(0, 0.56, 0.46, 0.4, _MOUTH, (0, 180)),
            polygon([(-0.42, 0.56), (0.42, 0.56), (0.36, 0.7), (-0.36, 0.7)], _WHITE),
        ]
    if look.mouth == "sad":
        return [stroke(arc(0, 0.98, 0.42, 0.3, 195, 345), 0.12, _LIPS)]
    return [ellipse(0, 0.76, 0.22, 0.28, _LIPS), ellipse(0, 0.76, 0.14, 0.2, _MOUTH)]


def _hair_in_front(look: Look) -> list[Shape]:
    colour = HAIR[look.hair_colour]
    light = shade(colour, 1.45)
    if look.hair == "curly":
        curls = [(0.92 * np.cos(a), 1.0 * np.sin(a) - 0.32) for a in _angles(190, 350, 8)]
        rolls = [ellipse(x, y, 0.32, 0.32, colour) for x, y in curls]
        return rolls + [stroke(arc(x, y, 0.17, 0.17, 160, 340), 0.06, light) for x, y in curls]
    over = arc(0, -0.12, 1.1, 1.3, 180, 360)
    if look.hair == "long":  # parted in the middle
        left = [(1.06, 0.5), (0.94, -0.2), (0.0, -0.98), (-0.94, -0.2), (-1.06, 0.5)]
        strands = [(0.25, 0.6), (0.55, 0.75), (-0.25, 0.6), (-0.55, 0.75)]
        lines = [
            stroke(arc(0, -0.1, abs(x) * 1.5, y * 1.45, 270, 270 + np.sign(x) * 62), 0.06, light)
            for x, y in strands
        ]
        return [polygon([*over, *left], colour), *lines]
    fringe = [(0.98, -0.3), (0.62, -0.62), (0.3, -0.42), (0.0, -0.66), (-0.4, -0.4), (-0.98, -0.3)]
    lines = [stroke(arc(0, -0.2, r, r * 1.1, 215, 260), 0.06, light) for r in (0.72, 0.95)]
    return [polygon([*over, *fringe], colour), *lines]


def _glasses(look: Look) -> list[Shape]:
    if look.glasses == "none":
        return []
    rims = [
        stroke(arc(side * 0.42, _EYE_Y + 0.02, 0.37, 0.37, 0, 360), 0.09, _DARK) for side in (-1, 1)
    ]
    return [
        *rims,
        stroke([(-0.08, _EYE_Y), (0.08, _EYE_Y)], 0.09, _DARK),
        stroke([(0.78, _EYE_Y), (1.0, _EYE_Y - 0.06)], 0.09, _DARK),
        stroke([(-0.78, _EYE_Y), (-1.0, _EYE_Y - 0.06)], 0.09, _DARK),
    ]


def _blush(skin: Colour) -> Colour:
    return (min(255, skin[0] + 6), int(skin[1] * 0.86), int(skin[2] * 0.86))


def _angles(start: float, end: float, count: int) -> np.ndarray:
    return np.radians(np.linspace(start, end, count))
