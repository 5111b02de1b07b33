"""Characters who are known by name, and scenes in which some of them are, among strangers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .look import PHRASES, Look, draw_look
from .people import PERSON, same_person
from .world import Scene, draw_scene, portrait

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gwen", "Hugo")
AROUND = 1.4  # sides of a reference picture over those of the head in it


@dataclass(frozen=True)
class Gathering:
    """A scene and who is in it: for each character a number in the cast, None for a stranger."""

    scene: Scene
    who: tuple[int | None, ...]


def draw_cast(seed: int, count: int) -> list[Look]:
    """Looks of so many persons, no two of them the same."""
    random = np.random.default_rng([seed, 5])
    cast: list[Look] = []
    while len(cast) < count:
        look = draw_look(random)
        if not any(same_person(look, other) for other in cast):
            cast.append(look)
    return cast


def another_day(look: Look, random: np.random.Generator) -> Look:
    """The same person with another expression and another shirt."""
    changed = {}
    for name in (own for own in PHRASES if own not in PERSON):
        others = [value for value in PHRASES[name] if value != getattr(look, name)]
        changed[name] = others[random.integers(len(others))]
    return replace(look, **changed)


def reference_picture(look: Look, size: int = 256) -> np.ndarray:
    """A head alone before a plain wall, sharp: [size,size,3] float32, 0..1."""
    scene, _ = portrait(look)
    left, top, right, bottom = scene.characters[0].head_box()
    half = AROUND * max(right - left, bottom - top) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return scene.picture((size, size), (x - half, y - half, x + half, y + half))


def draw_gathering(
    seed: int, cast: Sequence[Look], known: float = 0.65, characters: tuple[int, int] = (3, 5)
) -> Gathering:
    """The scene of this seed with people of a cast in it.

    Args:
        known: how likely a character is one of the cast; of these each is there once at most, and
            who is drawn by chance.
        characters: fewest and most, as of `draw_scene`.
    """
    scene = draw_scene(seed, characters)
    random = np.random.default_rng([seed, 6])
    left = list(random.permutation(len(cast)))
    who: list[int | None] = []
    figures = []
    for character in scene.characters:
        number = int(left.pop()) if left and random.random() < known else None
        look = cast[number] if number is not None else _stranger(cast, random)
        who.append(number)
        figures.append(replace(character, look=look))
    return Gathering(replace(scene, characters=tuple(figures)), tuple(who))


def _stranger(cast: Sequence[Look], random: np.random.Generator) -> Look:
    while True:
        look = draw_look(random)
        if not any(same_person(look, other) for other in cast):
            return look
