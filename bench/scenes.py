"""Test scenes of the miniature world, made ready for a detailer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

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
        found = {}
        for value, look in self.scene.characters[index].look.alternatives(attribute).items():
            characters = list(self.scene.characters)
            characters[index] = replace(characters[index], look=look)
            scene = replace(self.scene, characters=tuple(characters))
            found[value] = scene.picture(size, tuple(map(float, window)))
        return found


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


def right_attributes(test: TestScene, index: int, picture: np.ndarray, nearest) -> dict[str, bool]:
    """Per attribute of a head: is the right value's rendering the nearest to the picture?"""
    rows, columns = test.box(index)
    part, mask = picture[rows, columns], test.masks[index][rows, columns]
    look = test.scene.characters[index].look
    return {
        attribute: nearest(part, test.renderings(index, attribute), mask)
        == getattr(look, attribute)
        for attribute in ON_HEAD
    }
