"""Pictures to train on: crops of scenes at the zoom that a detailer's enlarged crop would have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .world import SIDE, Degradation, Scene, Window, degrade, draw_scene, enlarge

SIZE = 256  # pixels along each side of a crop


@dataclass(frozen=True)
class Crop:
    """A rendering and the caption of the character that it shows.

    Attributes:
        pixels: [SIZE,SIZE,3], uint8.
        degraded: the same as a base model would have given it.
    """

    pixels: np.ndarray
    degraded: np.ndarray
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
                window = head_window(scene, index, random)
                pixels = _render(scene, window)
                yield Crop(pixels, _degraded(pixels, random), captions[index])
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
    times: tuple[float, float] = (1.4, 2.5), off: float = 0.12,
) -> Window:  # fmt: skip
    """A square around a head, larger than it, somewhat off its middle and inside.

    Args:
        times: how many times as large as the head it is, at least and at most.
        off: how far off the middle it may be, as a share of its side.
    """
    left, top, right, bottom = scene.characters[index].head_box()
    head = max(right - left, bottom - top)
    side = head * random.uniform(*times)
    play = off * side * random.uniform(-1, 1, 2)
    x = np.clip((left + right - side) / 2 + play[0], 0, SIDE - side)
    y = np.clip((top + bottom - side) / 2 + play[1], 0, SIDE - side)
    return (x, y, x + side, y + side)


def _render(scene: Scene, window: Window) -> np.ndarray:
    return np.round(scene.picture((SIZE, SIZE), window) * 255).astype(np.uint8)


def _sometimes_degraded(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return pixels if random.random() < 0.8 else _degraded(pixels, random)


def _degraded(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    how = Degradation(
        random.uniform(0.07, 0.24), random.uniform(0.3, 1.0), random.uniform(0.01, 0.06)
    )
    small = degrade(pixels.astype(np.float32) / 255, how, random)
    large = enlarge(small, (SIZE, SIZE), sharp=bool(random.random() < 0.25))
    return np.round(large * 255).astype(np.uint8)
