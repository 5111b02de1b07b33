"""Marks on pictures: tinted masks, frames, outlines and tags, drawn into an image in place.

Images are [H,W,3] float 0..1 of any device, boxes are in their pixels. What leaves the image is cut
off. Lines are bright on a dark seam, so that they show on any background.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from ..geometry import Box, Size
from .colour import LUMINANCE

Colour = tuple[float, float, float]  # red, green and blue, 0..1

_DARK: Colour = (0.0, 0.0, 0.0)
_SEAM = 0.6  # how dark the seam of a line is, 0..1
_GOLDEN = (math.sqrt(5) - 1) / 2  # of a turn: any few steps in a row lie far apart


def distinct_colour(index: int) -> Colour:
    """A bright colour that differs from those of the neighbouring indices, from 0."""
    hue = (0.02 + index * _GOLDEN) % 1
    saturation = (0.85, 0.6)[index // 8 % 2]
    return colorsys.hsv_to_rgb(hue, saturation, 1.0)


def as_hex(colour: Colour) -> str:
    """A colour as web pages write it, such as #ff8000."""
    return "#" + "".join(f"{round(255 * value):02x}" for value in colour)


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour."""
    light = sum(part * value**2.2 for part, value in zip(LUMINANCE, colour, strict=True))
    return _DARK if light > 0.18 else (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Pen:
    """How a line is drawn.

    Attributes:
        width: in pixels.
        seam: pixels of the dark seam on either side.
        dash: pixels of a dash and of the gap after it; 0 for a line without gaps.
    """

    colour: Colour
    width: int = 2
    seam: int = 1
    dash: int = 0


def cover(image: torch.Tensor, box: Box, colour: Colour, weight: float | torch.Tensor) -> None:
    """Lay a colour over the part of an image inside a box.

    Args:
        weight: 0 leaves the image, 1 is the colour alone; a number, or [h,w] of the box's size, of
            which either may be 1 for what is the same all along.
    """
    height, width, _ = image.shape
    inside = box.clipped(Size(width, height))
    if inside.empty:
        return
    part = image[inside.y1 : inside.y2, inside.x1 : inside.x2]
    end = torch.tensor(colour, dtype=image.dtype, device=image.device)
    if isinstance(weight, torch.Tensor):
        weight = weight.to(image)
        if weight.shape[0] > 1:
            weight = weight[inside.y1 - box.y1 : inside.y2 - box.y1]
        if weight.shape[1] > 1:
            weight = weight[:, inside.x1 - box.x1 : inside.x2 - box.x1]
        weight = weight[..., None]
    part.lerp_(end, weight)


def tint(image: torch.Tensor, region: Box, mask: torch.Tensor, pen: Pen, strength: float) -> None:
    """Colour what a mask covers, and draw its outline.

    Args:
        region: where the mask lies.
        mask: [h,w] 0..1, of the region's size.
        strength: how strongly a mask of 1 is coloured, 0..1.
    """
    mask = mask.to(image)
    solid = (mask >= 0.5).to(image)
    # A pixel of the outline is one from which the outside is no farther than the line is wide.
    reach = pen.width
    outside = -F.pad(solid, (reach,) * 4)[None]
    across = F.max_pool2d(outside, (1, 2 * reach + 1), stride=1)
    kept = -F.max_pool2d(across, (2 * reach + 1, 1), stride=1)[0]
    cover(image, region, pen.colour, torch.maximum(mask * strength, solid - kept))


def frame(image: torch.Tensor, box: Box, pen: Pen) -> None:
    """Draw the edge of a box, inside of it, into an image [H,W,3] in place."""
    for strip, _ in _strips(box.grown(pen.seam), pen.width + 2 * pen.seam):
        cover(image, strip, _DARK, _SEAM)
    for strip, lies in _strips(box, pen.width):
        weight = 1.0
        if pen.dash:
            length = strip.width if lies else strip.height
            weight = (torch.arange(length, device=image.device) // pen.dash % 2 == 0).to(image)
            weight = weight[None] if lies else weight[:, None]
        cover(image, strip, pen.colour, weight)


def _strips(box: Box, width: int) -> list[tuple[Box, bool]]:
    """The four sides of a box's edge, apart from one another, and which of them lie."""
    width = min(width, (box.width + 1) // 2, (box.height + 1) // 2)
    if box.empty or not width:
        return []
    top, bottom = box.y1 + width, max(box.y1 + width, box.y2 - width)
    return [
        (Box(box.x1, box.y1, box.x2, top), True),
        (Box(box.x1, bottom, box.x2, box.y2), True),
        (Box(box.x1, top, box.x1 + width, bottom), False),
        (Box(max(box.x1 + width, box.x2 - width), top, box.x2, bottom), False),
    ]


def outline(image: torch.Tensor, corners: Sequence[tuple[float, float]], pen: Pen) -> None:
    """Draw the closed line through points (x, y) into an image [H,W,3] in place."""
    import cv2

    reach = pen.width + pen.seam + 1
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    around = Box(
        math.floor(min(xs)), math.floor(min(ys)), math.ceil(max(xs)), math.ceil(max(ys))
    ).grown(reach)  # fmt: skip
    box = around.clipped(Size(image.shape[1], image.shape[0]))
    if box.empty:
        return
    points = np.rint([[x - box.x1, y - box.y1] for x, y in corners]).astype(np.int32)
    for colour, strength, width in (
        (_DARK, _SEAM, pen.width + 2 * pen.seam), (pen.colour, 1.0, pen.width),
    ):  # fmt: skip
        line = np.zeros((box.height, box.width), np.uint8)
        cv2.polylines(line, [points], True, 255, width, cv2.LINE_AA)
        cover(image, box, colour, torch.from_numpy(line).float() * (strength / 255))


# Tags


@dataclass(frozen=True)
class Tag:
    """Lines of text on a plate.

    Attributes:
        glyphs: [h,w] 0..1, the text in the midst of the plate.
    """

    glyphs: torch.Tensor

    @property
    def size(self) -> Size:
        """Width and height of the plate in pixels."""
        return Size(self.glyphs.shape[1], self.glyphs.shape[0])


def made_tag(lines: Sequence[tuple[str, int]]) -> Tag:
    """A tag of lines of text, each with its height in pixels."""
    rows = [_glyphs(text, height) for text, height in lines]
    edge = max(2, max(height for _, height in lines) // 4)
    width = max(row.shape[1] for row in rows) + 2 * edge
    padded = [np.pad(row, ((0, 0), (edge, width - edge - row.shape[1]))) for row in rows]
    return Tag(torch.from_numpy(np.pad(np.concatenate(padded), ((edge // 2, edge // 2), (0, 0)))))


@lru_cache(maxsize=512)
def _glyphs(text: str, height: int) -> np.ndarray:
    """A line of text [h,w] 0..1; h is a little more than the height, for what hangs below."""
    from PIL import Image, ImageDraw

    font = font_of(height)
    left, above, right, below = font.getbbox(text or " ")
    highest, lowest = font.getbbox("Åg")[1::2]  # about the same for all lines of a height
    top, bottom = min(above, highest), max(below, lowest)
    picture = Image.new("L", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))))
    ImageDraw.Draw(picture).text((-left, -top), text, fill=255, font=font)
    wanted = math.ceil(1.15 * height)
    if picture.height < wanted // 2 or picture.height > 2 * wanted:  # Pillow has a small font alone
        scale = wanted / picture.height
        picture = picture.resize((math.ceil(picture.width * scale), wanted))
    return np.asarray(picture, np.float32) / 255


@lru_cache(maxsize=64)
def font_of(height: float):
    """Pillow's own font at a height in pixels; before Pillow 10.1 it has one size."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(height)
    except TypeError:
        return ImageFont.load_default()


def can_draw(text: str) -> bool:
    """Whether the font that comes with Pillow has signs for all of a text: it knows Latin ones."""
    return all(sign.isprintable() and ord(sign) < 0x180 for sign in text)


def put_tag(image: torch.Tensor, tag: Tag, at: Box, colour: Colour) -> None:
    """Draw a tag into an image [H,W,3] in place: its plate in a colour, within a dark seam.

    Args:
        at: the place, of the size of the tag.
    """
    cover(image, at.grown(1), _DARK, _SEAM)
    cover(image, at, colour, 0.92)
    cover(image, at, ink_on(colour), tag.glyphs)


def place_for_tag(size: Size, box: Box, image: Size, taken: Sequence[Box]) -> Box:
    """Where a tag of a size goes that belongs to a box.

    It goes above the box, or else below or into it, so that it stays in the image and covers no
    other tag where that can be had.
    """
    width, height = size
    left, right = box.x1, box.x2 - width
    rows = (box.y1 - height, box.y2, box.y1, box.y2 - height, box.y1 - 2 * height)
    places = [
        _moved_inside(Box(x, y, x + width, y + height), image) for y in rows for x in (left, right)
    ]
    free = (place for place in places if not any(place.intersects(other) for other in taken))
    return next(free, places[0])


def _moved_inside(box: Box, image: Size) -> Box:
    dx = max(0, min(box.x1, image.width - box.width)) - box.x1
    dy = max(0, min(box.y1, image.height - box.height)) - box.y1
    return box.shifted(dx, dy)
