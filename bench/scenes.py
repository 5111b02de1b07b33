"""Test scenes of the miniature world, prepared for a detailer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np

from dev.metrics import brought_back, nearest
from dev.miniature.character import Character
from dev.miniature.detailing import CROP_FACTOR
from dev.miniature.look import ON_HEAD
from dev.miniature.world import (
    HEAD_WIDTH,
    SIDE,
    TILT,
    Scene,
    base_picture,
    draw_scene,
    enlarge,
)

Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], float]  # of picture, truth and mask

GROWN = 6  # pixels by which a head's mask reaches into its surroundings, as a detector's would
_ELSEWHERE = 0.15  # of a head's box: how far a head that is drawn anew may be from its place
_APART = 0.03  # the same of its parts, once the head is brought back to its place
_FADE = 1.0  # standard deviation, in pixels, of the edge between a poor head and a sharp image


@dataclass(frozen=True)
class Kind:
    """The content of test scenes, and the parts with poor quality.

    Attributes:
        characters, head_width, tilt: as `draw_scene` takes them.
        heads_alone: only the heads are those of a base model. Around them is the truth, so that a
            visible rim comes from the paste.
        sharp: nothing is poor. The detailed picture is the truth, but for `other`.
        other: attributes of heads that had another value, before the texts ask for the right one.
        boxes: the masks are boxes around the heads, as of a detector without shapes.
        crop_factor: how much larger than a mask's box its crop is.
    """

    characters: tuple[int, int] = (3, 5)
    head_width: tuple[float, float] = HEAD_WIDTH
    tilt: float = TILT
    heads_alone: bool = False
    sharp: bool = False
    other: tuple[str, ...] = ()
    boxes: bool = False
    crop_factor: float = CROP_FACTOR


USUAL = Kind()


@dataclass(frozen=True)
class TestScene:
    """A scene whose picture is 1024 pixels wide, and the poor picture for a detailer.

    Attributes:
        truth: [H,W,3] float32, 0..1.
        before: the base model's small picture, enlarged bilinearly.
        lanczos: the small picture enlarged with Lanczos, the best without a model.
        masks: one [H,W] float32 for each character.
    """

    seed: int
    kind: Kind
    scene: Scene
    truth: np.ndarray
    before: np.ndarray
    lanczos: np.ndarray
    masks: tuple[np.ndarray, ...]

    @cached_property
    def _known(self) -> dict[int, dict[str, dict[str, np.ndarray]]]:
        """Renderings of heads that were asked for: by head, attribute and value."""
        return {}

    @cached_property
    def text(self) -> str:
        """The captions as a detailer's text for each segment."""
        return "\n[SEP]\n".join(self.scene.captions())

    @cached_property
    def landmarks(self) -> dict[str, Any]:
        """FACE_LANDMARKS of the host: eyes and mouth of every character, where they are in truth.

        Each is two points, to the left and to the right of its middle.
        """
        parts = ("right_eye", "left_eye", "lips")
        faces = []
        for character in self.scene.characters:
            middles = (*character.eye_centres(), character.mouth_centre())
            sides = ((x + shift, y) for x, y in middles for shift in (-1, 1))
            faces.append({"landmarks_xy": np.array(list(sides))})
        lines = {part: [(2 * number, 2 * number + 1)] for number, part in enumerate(parts)}
        return {"frames": [faces], "image_size": (SIDE, SIDE), "connection_sets": lines}

    def box(self, index: int, margin: int = 16) -> tuple[slice, slice]:
        """Rows and columns around a character's head."""
        left, top, right, bottom = self.scene.box(index)
        return (
            slice(max(0, top - margin), min(SIDE, bottom + margin)),
            slice(max(0, left - margin), min(SIDE, right + margin)),
        )

    def measured(self, measure: Measure, index: int, picture: np.ndarray) -> float:
        """A measure of `dev.metrics` of a character's head in a picture [H,W,3]."""
        rows, columns = self.box(index)
        truth, mask = self.truth[rows, columns], self.masks[index][rows, columns]
        return measure(picture[rows, columns], truth, mask)

    def looks_like(self, index: int, picture: np.ndarray) -> dict[str, bool]:
        """For each attribute of a head: is the right value drawn, there or a little elsewhere?"""
        rows, columns = self.box(index)
        mask, look = self.masks[index][rows, columns], self.scene.characters[index].look
        if index not in self._known:
            self._known[index] = {name: self.renderings(index, name) for name in ON_HEAD}
        side = max(mask.shape)
        head, apart = (round(share * side) for share in (_ELSEWHERE, _APART))
        picture = brought_back(picture[rows, columns], self.truth[rows, columns], mask, head)
        return {
            name: nearest(picture, known, mask, apart) == getattr(look, name)
            for name, known in self._known[index].items()
        }

    def renderings(self, index: int, attribute: str) -> dict[str, np.ndarray]:
        """The rendering of `box` for each value of an attribute of the character."""
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
    """Whether a part of a character may be visible in a window."""
    left, top, right, bottom = window
    x, y, reach = character.x, character.y, 10 * character.radius  # as far as the feet
    return left - reach < x < right + reach and top - reach < y < bottom + reach


@lru_cache(maxsize=8)
def make_scene(seed: int, kind: Kind = USUAL) -> TestScene:
    scene = draw_scene(seed, kind.characters, kind.head_width, kind.tilt)
    return prepared(scene, seed, kind)


def prepared(scene: Scene, seed: int, kind: Kind = USUAL) -> TestScene:
    """A scene with what a base model would have given of it.

    Args:
        seed: of the base model's grain.
    """
    truth = scene.picture()
    source = _with_others(scene, kind.other, seed).picture() if kind.other else truth
    small = base_picture(source, seed)
    heads = [scene.mask(index) for index in range(len(scene.characters))]
    poor = [enlarge(small, (SIDE, SIDE), sharp) for sharp in (False, True)]
    if kind.heads_alone:
        share = cv2.GaussianBlur(np.maximum.reduce(heads), (0, 0), _FADE)[..., None]
        poor = [share * picture + (1 - share) * truth for picture in poor]
    if kind.sharp:
        poor = [source, source]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * GROWN + 1, 2 * GROWN + 1))
    masks = [(cv2.dilate(head, kernel) >= 0.5).astype(np.float32) for head in heads]
    if kind.boxes:
        masks = [_box_around(mask) for mask in masks]
    return TestScene(seed, kind, scene, truth, *poor, tuple(masks))


def _with_others(scene: Scene, attributes: Sequence[str], seed: int) -> Scene:
    """The scene whose characters have other values of some attributes, by chance."""
    random = np.random.default_rng([seed, 11])
    characters = []
    for character in scene.characters:
        look = character.look
        for name in attributes:
            known = look.alternatives(name)
            values = [value for value in known if value != getattr(look, name)]
            chosen = known[values[random.integers(len(values))]]
            look = replace(look, **{name: getattr(chosen, name)})
        characters.append(replace(character, look=look))
    return replace(scene, characters=tuple(characters))


def _box_around(mask: np.ndarray) -> np.ndarray:
    rows, columns = mask.nonzero()
    box = np.zeros_like(mask)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    return box


def right_attributes(
    test: TestScene, index: int, pictures: Sequence[np.ndarray]
) -> list[dict[str, bool]]:
    """For each picture and attribute of a head: is the right value drawn?"""
    return [test.looks_like(index, picture) for picture in pictures]
