"""Pictures with captions on one sheet, and detections drawn into a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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
    """Rows of pictures, each brought to the same width in pixels, under a title.

    Title and captions are wrapped: none is wider than the sheet, or than its picture.
    """
    large, small = ImageFont.load_default(20), ImageFont.load_default(16)
    columns = max(map(len, rows))
    whole = columns * (width + MARGIN) + MARGIN
    heading = list(wrapped(title, large, whole - 2 * MARGIN))
    told = [
        [(_scaled(cell.picture, width), list(wrapped(cell.caption, small, width))) for cell in row]
        for row in rows
    ]
    heights = [max(one.height + 6 + LINE * len(lines) for one, lines in row) for row in told]
    top = 2 * MARGIN + LINE * len(heading)
    sheet = Image.new("RGB", (whole, top + sum(heights) + MARGIN * len(heights)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(heading):
        draw.text((MARGIN, MARGIN + i * LINE), line, TEXT, large)
    for row, height in zip(told, heights, strict=True):
        for column, (picture, lines) in enumerate(row):
            x = MARGIN + column * (width + MARGIN)
            sheet.paste(picture, (x, top))
            for i, line in enumerate(lines):
                draw.text((x, top + picture.height + 6 + i * LINE), line, TEXT, small)
        top += height + MARGIN
    return sheet


def wrapped(text: str, font: Any, width: int) -> Iterator[str]:
    """The lines of a text, divided so that none is wider than so many pixels in this font.

    They are divided at spaces, and only words that are wider than a line within.
    """
    for line in text.splitlines():
        told = ""
        for word in line.split():
            longer = f"{told} {word}" if told else word
            if font.getlength(longer) <= width:
                told = longer
                continue
            if told:
                yield told
            while font.getlength(word) > width and len(word) > 1:
                fits = next(
                    n for n in range(len(word) - 1, 0, -1)
                    if n == 1 or font.getlength(word[:n]) <= width
                )  # fmt: skip
                yield word[:fits]
                word = word[fits:]
            told = word
        yield told


def _scaled(picture: Image.Image, width: int) -> Image.Image:
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


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
