"""Pictures to train on: crops of scenes at the zoom that a detailer's enlarged crop would have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from .world import SIDE, Degradation, Scene, Window, degrade, draw_scene, enlarge

SIZE = 256  # pixels along each side of a square crop
CELL = 8  # pixels along each side of a cell of a latent
# Height and width in cells: the short side of a crop becomes 256 pixels or, where a head is large,
# some more; heads are as wide as high or higher.
SHAPES = ((32, 32), (32, 36), (36, 32), (40, 32), (36, 36), (44, 36))
BOXES, PARTS = 0.2, 0.15  # shares of masks that are a head's box, and of the others that are a part
GROWN = (0.3, 0.3, 0.25, 0.15)  # shares of masks that are larger by 0, 1, 2 and 3 cells


@dataclass(frozen=True)
class Crop:
    """A rendering and the caption of the character that it shows.

    Attributes:
        pixels: [H,W,3], uint8, of one of SHAPES.
        degraded: the same as a base model would have given it.
        mask: [h,w] float32, 0..1, of the crop's cells: what a detailer would paint anew.
    """

    pixels: np.ndarray
    degraded: np.ndarray
    mask: np.ndarray
    text: str


def portraits(first_seed: int, per_character: int = 2) -> Iterator[Crop]:
    """Crops around the heads of the scenes from `first_seed` on, without an end."""
    seed = first_seed
    while True:
        scene = draw_scene(seed)
        random = np.random.default_rng([seed, 1])
        captions = scene.captions()
        for index in range(len(captions)):
            for _ in range(per_character):
                shape = draw_shape(scene, index, random)
                window = detailer_window(scene, index, shape, random)
                pixels = _render(scene, window, shape)
                mask = painted(scene, index, window, shape, random)
                yield Crop(pixels, _degraded(pixels, random), mask, captions[index])
        seed += 1


def mixture(first_seed: int) -> Iterator[np.ndarray]:
    """What an autoencoder should know: heads at many zooms, wide views, and degraded pictures.

    Each is [SIZE,SIZE,3], uint8.
    """
    seed = first_seed
    while True:
        scene = draw_scene(seed)
        random = np.random.default_rng([seed, 2])
        for index in range(len(scene.characters)):
            yield _sometimes_degraded(_render(scene, head_window(scene, index, random)), random)
        side = SIDE * random.uniform(0.15, 0.8)
        left, top = random.uniform(0, SIDE - side, 2)
        view = _render(scene, (left, top, left + side, top + side))
        yield _sometimes_degraded(view, random)
        seed += 1


def head_window(
    scene: Scene, index: int, random: np.random.Generator,
    times: tuple[float, float] = (1.4, 2.5), off: float = 0.12, shape: tuple[int, int] = (1, 1),
) -> Window:  # fmt: skip
    """A window around a head, larger than it, somewhat off its middle and inside.

    Args:
        times: how many times as large as the head it is, at least and at most.
        off: how far off the middle it may be, as a share of its sides.
        shape: its height and width in any unit; a square otherwise.
    """
    left, top, right, bottom = scene.characters[index].head_box()
    height, width = shape
    unit = max((right - left) / width, (bottom - top) / height) * random.uniform(*times)
    sides = unit * width, unit * height
    play = off * random.uniform(-1, 1, 2)
    x, y = (
        np.clip((start + end - side) / 2 + share * side, 0, SIDE - side)
        for start, end, side, share in zip((left, top), (right, bottom), sides, play, strict=True)
    )
    return (x, y, x + sides[0], y + sides[1])


def draw_shape(scene: Scene, index: int, random: np.random.Generator) -> tuple[int, int]:
    """Height and width, in cells, of a detailer's crop around a head: about as slim as the head."""
    left, top, right, bottom = scene.characters[index].head_box()
    slim = np.log((bottom - top) / (right - left))
    off = [abs(np.log(height / width) - slim + random.normal(0, 0.06)) for height, width in SHAPES]
    return SHAPES[int(np.argmin(off))]


def detailer_window(
    scene: Scene, index: int, shape: tuple[int, int], random: np.random.Generator
) -> Window:
    """What a detailer's crop of this shape shows: a head, half the time as large as usual in it."""
    if random.random() < 0.5:
        return head_window(scene, index, random, (1.8, 2.2), 0.03, shape)
    return head_window(scene, index, random, (1.4, 3.0), 0.12, shape)


def painted(
    scene: Scene, index: int, window: Window, shape: tuple[int, int], random: np.random.Generator
) -> np.ndarray:
    """What a detailer would paint of the crop's cells, [h,w] float32, 0..1.

    A head's mask as people have it: as it is or larger, now and then its box, and now and then a
    part of it. With one kind alone the network took the mask's rim for that of the head, and drew
    heads too small where a mask was tight.
    """
    mask = scene.mask(index, shape[::-1], window)
    if random.random() < BOXES:
        rows, columns = mask.nonzero()
        mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    elif random.random() < PARTS:
        _cut(mask if random.random() < 0.5 else mask.T, random)
    side = 2 * int(random.choice(len(GROWN), p=GROWN)) + 1
    return cv2.dilate(mask, np.ones((side, side), np.uint8))


def _cut(mask: np.ndarray, random: np.random.Generator) -> None:
    """Keep what lies above or below one of the mask's rows, and the row itself."""
    rows = mask.any(1).nonzero()[0]
    row = int(random.integers(rows[0], rows[-1] + 1))
    if random.random() < 0.5:
        mask[:row] = 0
    else:
        mask[row + 1 :] = 0


def _render(
    scene: Scene, window: Window, shape: tuple[int, int] = (SIZE // CELL, SIZE // CELL)
) -> np.ndarray:
    size = (shape[1] * CELL, shape[0] * CELL)
    return np.round(scene.picture(size, window) * 255).astype(np.uint8)


def _sometimes_degraded(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return pixels if random.random() < 0.8 else _degraded(pixels, random)


def _degraded(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    how = Degradation(
        random.uniform(0.07, 0.24), random.uniform(0.3, 1.0), random.uniform(0.01, 0.06)
    )
    small = degrade(pixels.astype(np.float32) / 255, how, random)
    large = enlarge(small, pixels.shape[1::-1], sharp=bool(random.random() < 0.25))
    return np.round(large * 255).astype(np.uint8)
