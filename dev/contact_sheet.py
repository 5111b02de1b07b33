"""Pictures with captions on one sheet, and detections drawn into a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

BACKGROUND = (250, 250, 248)
TEXT = (40, 40, 44)
MASK = (255, 64, 64)
CROP = (255, 255, 255)
MARGIN = 20
LINE = 22


class Cell(NamedTuple):
    """A picture and the lines of text under it."""

    picture: Image.Image
    caption: str


def to_image(picture: np.ndarray) -> Image.Image:
    """A picture [H,W,3] as one that can be shown or saved; values outside 0..1 are clipped."""
    return Image.fromarray(np.round(picture.clip(0, 1) * 255).astype(np.uint8))


def contact_sheet(title: str, rows: Sequence[Sequence[Cell]], width: int = 460) -> Image.Image:
    """Rows of pictures, each brought to the same width in pixels, under a title."""
    rows = [[Cell(_scaled(cell.picture, width), cell.caption) for cell in row] for row in rows]
    heights = [max(map(_height, row)) + MARGIN for row in rows]
    columns = max(map(len, rows))
    top = 2 * MARGIN + LINE
    size = (columns * (width + MARGIN) + MARGIN, top + sum(heights))
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    title = textwrap.shorten(title, columns * width // 12, placeholder=" …")
    draw.text((MARGIN, MARGIN), title, TEXT, ImageFont.load_default(20))
    for row, height in zip(rows, heights, strict=True):
        for column, (picture, caption) in enumerate(row):
            x = MARGIN + column * (width + MARGIN)
            sheet.paste(picture, (x, top))
            for i, line in enumerate(caption.splitlines()):
                y = top + picture.height + 6 + i * LINE
                draw.text((x, y), line, TEXT, ImageFont.load_default(16))
        top += height
    return sheet


def _scaled(picture: Image.Image, width: int) -> Image.Image:
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _height(cell: Cell) -> int:
    return cell.picture.height + 6 + LINE * len(cell.caption.splitlines())


def overlay(
    image: Image.Image, mask: np.ndarray, regions: Sequence[tuple[int, int, int, int]]
) -> Image.Image:
    """The image with a mask [H,W], 0..1, in red and a frame around each crop region."""
    veil = Image.fromarray((np.clip(mask, 0, 1) * 140).astype(np.uint8))
    picture = Image.composite(Image.new("RGB", image.size, MASK), image, veil)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(image.size) / 300))
    for x1, y1, x2, y2 in regions:
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=CROP, width=line)
    return picture


def difference(before: Image.Image, after: Image.Image) -> Image.Image:
    """The difference of two pictures: white where they are equal, black from a quarter on."""
    red, green, blue = ImageChops.difference(before, after).split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return ImageChops.invert(largest.point(lambda value: min(255, 4 * value))).convert("RGB")
