"""Test scenes of the miniature world, made ready for a detailer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from dev.metrics import nearest
from dev.miniature.character import Character
from dev.miniature.look import ON_HEAD
from dev.miniature.world import SIDE, Degradation, Scene, degrade, draw_scene, enlarge

GROWN = 6  # pixels by which a head's mask reaches into its surroundings, as a detector's would


@dataclass(frozen=True)
class TestScene:
    """A scene whose picture is 1024 pixels wide, and the picture that a detailer is to mend.

    Attributes:
        truth: [H,W,3] float32, 0..1.
        before: the base model's small picture, enlarged bilinearly.
        lanczos: the same enlarged as well as that can be done without a model.
        masks: one [H,W] float32 for each character.
    """

    seed: int
    scene: Scene
    truth: np.ndarray
    before: np.ndarray
    lanczos: np.ndarray
    masks: tuple[np.ndarray, ...]

    @cached_property
    def text(self) -> str:
        """The captions as a detailer's text for each segment."""
        return "\n[SEP]\n".join(self.scene.captions())

    def box(self, index: int, margin: int = 16) -> tuple[slice, slice]:
        """Rows and columns around a character's head."""
        left, top, right, bottom = self.scene.box(index)
        return (
            slice(max(0, top - margin), min(SIDE, bottom + margin)),
            slice(max(0, left - margin), min(SIDE, right + margin)),
        )

    def renderings(self, index: int, attribute: str) -> dict[str, np.ndarray]:
        """What `box` would show for each value of an attribute of the character."""
        rows, columns = self.box(index)
        window = (columns.start, rows.start, columns.stop, rows.stop)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        mine = self.scene.characters[index]
        near = [
            character
            for character in self.scene.characters
            if character is mine or _reaches(character, window)
        ]
        found = {}
        for value, look in mine.look.alternatives(attribute).items():
            changed = replace(mine, look=look)
            characters = tuple(changed if other is mine else other for other in near)
            scene = replace(self.scene, characters=characters)
            found[value] = scene.picture(size, tuple(map(float, window)))
        return found


def _reaches(character: Character, window: tuple[int, int, int, int]) -> bool:
    """Whether any of a character may show in a window."""
    left, top, right, bottom = window
    x, y, reach = character.x, character.y, 10 * character.radius  # as far as the feet
    return left - reach < x < right + reach and top - reach < y < bottom + reach


def make_scene(seed: int, how: Degradation) -> TestScene:
    scene = draw_scene(seed)
    truth = scene.picture()
    small = degrade(truth, how, np.random.default_rng([seed, 3]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * GROWN + 1, 2 * GROWN + 1))
    masks = [cv2.dilate(scene.mask(index), kernel) for index in range(len(scene.characters))]
    return TestScene(
        seed,
        scene,
        truth,
        enlarge(small, (SIDE, SIDE)),
        enlarge(small, (SIDE, SIDE), sharp=True),
        tuple((mask >= 0.5).astype(np.float32) for mask in masks),
    )


def right_attributes(
    test: TestScene, index: int, pictures: Sequence[np.ndarray]
) -> list[dict[str, bool]]:
    """For each picture and attribute of a head: is the right value's rendering the nearest?"""
    rows, columns = test.box(index)
    mask = test.masks[index][rows, columns]
    look = test.scene.characters[index].look
    right: list[dict[str, bool]] = [{} for _ in pictures]
    for attribute in ON_HEAD:
        known = test.renderings(index, attribute)
        for hits, picture in zip(right, pictures, strict=True):
            found = nearest(picture[rows, columns], known, mask)
            hits[attribute] = found == getattr(look, attribute)
    return right
