"""What of an image shows a segment or a person, as networks that compare them take it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from ..geometry import Box, Size
from ..pixels.image import crop
from ..pixels.mask import bbox
from ..pixels.rotated_crop import RotatedCrop, enclosing_box
from .face_landmarks import eyes_in_box, read_landmarks
from .image_batch import in_image
from .seg import SEG, seg_mask

Sight = TypeVar("Sight")

MOST_SIGHTS = 16  # images in which a segment that holds for many is looked at
# Where the eyes are in the square of 112 pixels that networks of face recognition are trained on
# (the template of ArcFace, Deng et al. 2019): at 38.3 and 73.5 across, 51.6 down.
_EYES_APART = (73.5318 - 38.2946) / 112
_EYES_DOWN = (51.6963 + 51.5014) / 2 / 112 - 0.5  # from the middle


@dataclass(frozen=True)
class Window:
    """A leaning rectangle of an image: what an embedder is shown."""

    row: int  # of the image in its batch
    centre: tuple[float, float]
    size: tuple[float, float]
    angle: float = 0.0  # radians clockwise


def sights_of(seg: SEG, rows: Sequence[int], images: int) -> list[tuple[int, Box]]:
    """The images in which a segment is seen, some of many, and its box in each.

    Args:
        rows: the images that it holds for.
        images: how many there are in the batch.
    """
    boxes = [(row, _box_in(seg, row, images)) for row in rows]
    boxes = [(row, box) for row, box in boxes if not box.empty]
    return some_of(boxes)


def some_of(sights: Sequence[Sight]) -> list[Sight]:
    """At most MOST_SIGHTS of many, evenly spread."""
    step = max(1.0, len(sights) / MOST_SIGHTS)
    return [sights[int(i * step)] for i in range(min(len(sights), MOST_SIGHTS))]


def _box_in(seg: SEG, row: int, count: int) -> Box:
    """The box of a segment in one image: of its mask there, where it has one for each image."""
    own = in_image(seg, row, count)
    if own.cropped_mask is seg.cropped_mask:
        return Box.of(seg.bbox)
    found = bbox(seg_mask(own)[0] >= 0.5)
    region = Box.of(seg.crop_region)
    return Box(0, 0, 0, 0) if found is None else found.shifted(region.x1, region.y1)


def sight_of(row: int, box: Box, shape: Size, image: Size, margin: float, landmarks: Any) -> Window:
    """The window around a box in one image: by the eyes in it where they are known.

    Args:
        shape: the size that the window is to have the proportions of.
        margin: by how much it is larger than the box on each side, as a share of the box.
        landmarks: FACE_LANDMARKS, or None.
    """
    eyes = eyes_within(landmarks, image, row, box)
    return around_box(row, box, shape, margin) if eyes is None else around_eyes(row, eyes, shape)


def around_box(row: int, box: Box, shape: Size, margin: float) -> Window:
    """A window of the embedder's proportions that holds the box and its margin."""
    width, height = (side * (1 + 2 * margin) for side in box.size)
    scale = max(width / shape.width, height / shape.height)
    centre = ((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2)
    return Window(row, centre, (scale * shape.width, scale * shape.height))


def around_eyes(row: int, eyes: tuple[np.ndarray, np.ndarray], shape: Size) -> Window:
    """The window in which the eyes are where networks of face recognition expect them.

    Args:
        eyes: the left and the right eye in the picture, [2] (x, y) each, in pixels.
    """
    left, right = eyes
    across = right - left
    side = float(np.hypot(*across)) / _EYES_APART
    down = np.array([-across[1], across[0]]) / np.hypot(*across)
    x, y = (left + right) / 2 - _EYES_DOWN * side * down
    wider = shape.width / min(shape), shape.height / min(shape)
    size = (side * wider[0], side * wider[1])
    return Window(row, (float(x), float(y)), size, math.atan2(across[1], across[0]))


def eyes_within(
    landmarks: Any, image: Size, row: int, box: Box
) -> tuple[np.ndarray, np.ndarray] | None:
    """The eyes of the largest face whose eyes are in the box; None if there is none.

    Returns:
        The left and the right eye in the picture, [2] (x, y) each, in pixels.
    """
    if landmarks is None or row >= len(read_landmarks(landmarks)[0]):
        return None
    pairs = eyes_in_box(landmarks, image, row, box)
    apart = [float(np.hypot(*(right - left))) for left, right in pairs]
    widest = max(apart, default=0.0)
    return pairs[apart.index(widest)] if widest >= 1 else None


def cut(images: torch.Tensor, window: Window, shape: Size) -> torch.Tensor:
    """What a window shows, [1,h,w,3] of this size; what leaves the image goes on as its border."""
    image = Size(images.shape[2], images.shape[1])
    region = enclosing_box(window.centre, window.size, window.angle).clipped(image)
    centre = (window.centre[0] - region.x1, window.centre[1] - region.y1)
    rotated = RotatedCrop(region.size, centre, window.size, window.angle)
    return rotated.extract(crop(images[window.row : window.row + 1], region), shape).float()
