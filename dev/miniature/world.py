"""Scenes of the miniature world: their truth at any size, and what a base model would have given.

A scene is a square of 1024 units with characters before a patterned wall with signs. Everything in
it follows from its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from .character import Character, shade
from .lettering import WORDS, letters, word_width
from .look import Look, caption, draw_look
from .render import Colour, Shape, coverage, ellipse, polygon, render, stroke

SIDE = 1024
HEAD_WIDTH = (60, 140)  # scene units
TILT = 10.0  # degrees

_WALLS = (
    (206, 196, 178), (150, 176, 186), (188, 168, 188), (176, 188, 150), (214, 180, 150),
    (120, 134, 150), (226, 214, 196), (140, 124, 112),
)  # fmt: skip
_SIGNS = ((40, 70, 110), (130, 40, 50), (40, 96, 70), (240, 236, 224))

Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """A scene as shapes and characters, in scene units."""

    wall: Colour
    backdrop: tuple[Shape, ...]
    characters: tuple[Character, ...]

    def picture(self, size: tuple[int, int] = (SIDE, SIDE), window: Window | None = None):
        """The scene, or what of it a window shows: [H,W,3] float32, 0..1, of (width, height)."""
        return render(self._shapes, window or _WHOLE, size, self.wall)

    def mask(self, index: int, size: tuple[int, int] = (SIDE, SIDE), window: Window | None = None):
        """The head of one character: [H,W] float32, 0..1."""
        return coverage(self.characters[index].head_shapes(), window or _WHOLE, size)

    def box(self, index: int, size: tuple[int, int] = (SIDE, SIDE)) -> tuple[int, int, int, int]:
        """The pixels that the mask of a character lies in: left, top, right, bottom, exclusive."""
        left, top, right, bottom = self.characters[index].head_box()
        x, y = size[0] / SIDE, size[1] / SIDE
        return (
            max(0, int(np.floor(left * x))),
            max(0, int(np.floor(top * y))),
            min(size[0], int(np.ceil(right * x))),
            min(size[1], int(np.ceil(bottom * y))),
        )

    @cached_property
    def _shapes(self) -> list[Shape]:
        figures = [shape for character in self.characters for shape in character.shapes()]
        return [*self.backdrop, *figures]

    def captions(self) -> list[str]:
        return [caption(character.look) for character in self.characters]


_WHOLE = (0.0, 0.0, float(SIDE), float(SIDE))


def draw_scene(
    seed: int,
    characters: tuple[int, int] = (3, 5),
    head_width: tuple[float, float] = HEAD_WIDTH,
    tilt: float = TILT,
) -> Scene:
    """The scene of this seed.

    Args:
        characters: fewest and most; where heads have no room there are fewer.
        head_width: least and largest, in scene units.
        tilt: how many degrees a character leans at most.
    """
    random = np.random.default_rng(seed)
    wall = _WALLS[random.integers(len(_WALLS))]
    floor = random.uniform(0.36, 0.52) * SIDE
    backdrop = [*_pattern(random, wall), *_ground(random, floor), *_signs(random, floor)]
    wanted = int(random.integers(characters[0], characters[1] + 1))
    placed = _characters(random, wanted, floor, head_width, tilt)
    return Scene(wall, tuple(backdrop), tuple(placed))


def portrait(look: Look, window_width: float = 320.0) -> tuple[Scene, Window]:
    """A character alone before a plain wall, and a square window around it."""
    character = Character(look, SIDE / 2, SIDE / 2, 56.0, 0.0)
    half = window_width / 2
    middle = SIDE / 2
    window = (middle - half, middle - half, middle + half, middle + half)
    return Scene(_WALLS[0], (), (character,)), window


@dataclass(frozen=True)
class Degradation:
    """How a base model's picture falls short of the truth.

    Attributes:
        scale: its size relative to the truth's.
        blur: standard deviation of a gaussian blur, in its own pixels.
        noise: standard deviation of the grain, as a share of full range.
    """

    scale: float = 1 / 6
    blur: float = 0.8
    noise: float = 0.04


def degrade(truth: np.ndarray, how: Degradation, random: np.random.Generator) -> np.ndarray:
    """The small picture of a base model: [h,w,3] float32, 0..1."""
    size = tuple(max(1, round(length * how.scale)) for length in truth.shape[1::-1])
    small = cv2.resize(truth, size, interpolation=cv2.INTER_AREA)
    if how.blur:
        small = cv2.GaussianBlur(small, (0, 0), how.blur, borderType=cv2.BORDER_REPLICATE)
    grain = random.normal(0, how.noise, small.shape).astype(np.float32)
    return np.clip(small + grain, 0, 1)


def base_picture(truth: np.ndarray, seed: int) -> np.ndarray:
    """The small picture that stands for a base model's of the scene of this seed: [h,w,3]."""
    return degrade(truth, Degradation(), np.random.default_rng([seed, 3]))


def enlarge(small: np.ndarray, size: tuple[int, int], sharp: bool = False) -> np.ndarray:
    """The small picture at full size; `sharp` is Lanczos, otherwise bilinear, as upscaling does."""
    kind = cv2.INTER_LANCZOS4 if sharp else cv2.INTER_LINEAR
    return np.clip(cv2.resize(small, size, interpolation=kind), 0, 1)


def _characters(
    random: np.random.Generator,
    wanted: int,
    floor: float,
    head_width: tuple[float, float],
    tilt: float,
) -> list[Character]:
    """Characters whose heads keep apart, those farther up drawn first."""
    placed: list[Character] = []
    for _ in range(60):
        if len(placed) == wanted:
            break
        look = draw_look(random)
        radius = random.uniform(*head_width) / 2 / _widest(look)
        highest = max(130, floor - 6 * radius)  # so that the feet are on the floor
        x, y = random.uniform(110, SIDE - 110), random.uniform(highest, SIDE - 150)
        new = Character(look, x, y, radius, random.uniform(-tilt, tilt))
        if all(_apart(new, other) for other in placed):
            placed.append(new)
    return sorted(placed, key=lambda character: character.y)


def _widest(look: Look) -> float:
    """Half the head's width in units of the face's half width."""
    left, _, right, _ = Character(look, 0, 0, 1, 0).head_box()
    return (right - left) / 2


def _apart(one: Character, other: Character) -> bool:
    """Whether neither's body or head lies over the other's head."""
    upper, lower = sorted((one, other), key=lambda character: character.y)
    reach = 2.2 * upper.radius + 2.2 * lower.radius
    below = lower.y - upper.y > 2.2 * upper.radius + 1.9 * lower.radius
    return abs(upper.x - lower.x) > reach or below


def _pattern(random: np.random.Generator, wall: Colour) -> list[Shape]:
    kind = random.choice(["plain", "stripes", "checks", "dots", "bricks", "waves"])
    ink = shade(wall, random.choice([0.86, 0.93, 1.25]))
    step = random.uniform(36, 90)
    count = int(SIDE / step) + 2
    if kind == "stripes":
        lean = random.uniform(-300, 300)
        return [
            polygon([(x, 0), (x + step, 0), (x + step + lean, SIDE), (x + lean, SIDE)], ink)
            for x in np.arange(-400, SIDE + 400, 2 * step)
        ]
    if kind == "checks":
        cells = [(i, j) for i in range(count) for j in range(count) if (i + j) % 2]
        return [_rectangle(i * step, j * step, step, step, ink) for i, j in cells]
    if kind == "dots":
        places = [(i + j % 2 / 2, j) for i in range(count) for j in range(count)]
        return [ellipse(i * step, j * step, step / 5, step / 5, ink) for i, j in places]
    if kind == "bricks":
        lines = [_rectangle(0, j * step / 2, SIDE, 5, ink) for j in range(2 * count)]
        places = [(i + j % 2 / 2, j) for i in range(count) for j in range(2 * count)]
        return lines + [_rectangle(i * step, j * step / 2, 5, step / 2, ink) for i, j in places]
    if kind == "waves":
        across = np.linspace(0, SIDE, 80)
        high = step / 5 * np.sin(across * 2 * np.pi / (2.2 * step))
        return [stroke(np.stack([across, j * step + high], 1), step / 6, ink) for j in range(count)]
    return []


def _ground(random: np.random.Generator, floor: float) -> list[Shape]:
    colour = shade(_WALLS[random.integers(len(_WALLS))], 0.7)
    boards = np.geomspace(floor + 30, SIDE + 60, 8)
    return [
        _rectangle(0, floor, SIDE, SIDE - floor, colour),
        _rectangle(0, floor - 10, SIDE, 14, shade(colour, 0.7)),
        *[_rectangle(0, y, SIDE, 3, shade(colour, 0.9)) for y in boards],
    ]


def _signs(random: np.random.Generator, floor: float) -> list[Shape]:
    shapes = []
    for _ in range(int(random.integers(1, 4))):
        word, height = WORDS[random.integers(len(WORDS))], random.uniform(24, 64)
        board = _SIGNS[random.integers(len(_SIGNS))]
        ink = (40, 40, 48) if sum(board) > 400 else (244, 240, 226)
        width = word_width(word, height)
        x, y = random.uniform(40, SIDE - width - 40), random.uniform(40, floor - 2 * height)
        edge = 0.5 * height
        shapes.append(_rectangle(x - edge, y - edge, width + 2 * edge, height * 2, board))
        shapes += letters(word, x, y, height, ink)
    return shapes


def _rectangle(x: float, y: float, width: float, height: float, colour: Colour) -> Shape:
    return polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], colour)
