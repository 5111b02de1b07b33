"""Who was found to be who, to look at: pictures with names, and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ..geometry import Box, Size
from ..pixels.marks import Colour, cover, font_of
from ..pixels.resample import resize
from .people import Named

HEIGHT = 144  # pixels of a picture
COLUMNS = 4  # tiles beside one another at most
_GAP = 6
_LINES = (20, 16)  # pixels of the two lines under a tile
_PLATE, _EMPTY = 0.13, 0.25  # grey values
_KNOWN, _UNKNOWN, _SMALL = (0.62, 0.92, 0.62), (0.98, 0.78, 0.42), (0.86, 0.86, 0.86)


def people_table(named: Sequence[Named], persons: Sequence[str]) -> str:
    """A line for each segment, its cells parted by tabs, under a line of headings.

    The similarity is that to the person whose name it got, or else to the one it is most alike to;
    the columns after it have that to each person.
    """
    lines = ["\t".join(("number", "image", "label", "similarity", *persons))]
    for number, one in enumerate(named, start=1):
        image = "" if one.image is None else str(one.image + 1)
        best = "" if one.best is None else f"{one.scores[one.best]:.3f}"
        scores = [f"{score:.3f}" for score in one.scores] or [""] * len(persons)
        lines.append("\t".join((str(number), image, " ".join(one.label.split()), best, *scores)))
    return "\n".join(lines)


def people_tiles(
    named: Sequence[Named], persons: Sequence[str], faces: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """A picture for each segment: what was compared, the person it is most alike to, and names.

    Args:
        faces: [h,w,3], a picture of each person.

    Returns:
        [1,H,W,3] float32 on the CPU, all of one size.
    """
    batch = len({one.image for one in named}) > 1
    tiles = []
    for number, one in enumerate(named, start=1):
        face = None if one.best is None else faces[one.best]
        width = _width(faces[0])
        tile = torch.full((HEIGHT + sum(_LINES) + 3 * _GAP, 2 * width + 3 * _GAP, 3), _PLATE)
        for place, picture in enumerate((one.seen, face)):
            left = _GAP + place * (width + _GAP)
            tile[_GAP : _GAP + HEIGHT, left : left + width] = _fitted(picture, width)
        title = f"{number}  {one.label}"
        if batch:
            title += f"  (image {one.image + 1})" if one.image is not None else "  (all images)"
        top = HEIGHT + 2 * _GAP
        colour = _UNKNOWN if one.person is None else _KNOWN
        _write(tile, top, title, _LINES[0], colour)
        _write(tile, top + _LINES[0], _scores(one, persons), _LINES[1], _SMALL)
        tiles.append(tile[None])
    return tiles


def people_sheet(tiles: Sequence[torch.Tensor]) -> torch.Tensor:
    """The tiles as one picture [1,H,W,3]; black 64x64 where there is none."""
    if not tiles:
        return torch.zeros(1, 64, 64, 3)
    columns = min(COLUMNS, math.ceil(math.sqrt(len(tiles))))
    rows = math.ceil(len(tiles) / columns)
    _, height, width, _ = tiles[0].shape
    sheet = torch.full((1, rows * height, columns * width, 3), _PLATE)
    for place, tile in enumerate(tiles):
        y, x = place // columns * height, place % columns * width
        sheet[:, y : y + height, x : x + width] = tile
    return sheet


def _scores(one: Named, persons: Sequence[str]) -> str:
    """How sure it is, and who comes next."""
    order = sorted(range(len(one.scores)), key=lambda person: -one.scores[person])
    if not order:
        return "nothing to compare"
    if one.person is None:
        return f"nearest: {persons[order[0]]} {one.scores[order[0]]:.2f}"
    text = f"{one.scores[one.person]:.2f}"
    others = [person for person in order if person != one.person]
    return text + (f", then {persons[others[0]]} {one.scores[others[0]]:.2f}" if others else "")


def _width(face: torch.Tensor) -> int:
    return max(1, round(HEIGHT * face.shape[1] / face.shape[0]))


def _fitted(picture: torch.Tensor | None, width: int) -> torch.Tensor | float:
    if picture is None:
        return _EMPTY
    return resize(picture[None].float().cpu().clamp(0, 1), Size(width, HEIGHT))[0]


def _write(tile: torch.Tensor, top: int, text: str, height: int, colour: Colour) -> None:
    """Write a line of text into a tile [H,W,3]; what does not fit is cut off."""
    glyphs = _glyphs(text, height)[:height, : tile.shape[1] - 2 * _GAP]
    place = Box(0, 0, glyphs.shape[1], len(glyphs)).shifted(_GAP, top)
    cover(tile, place, colour, glyphs)


def _glyphs(text: str, height: int) -> torch.Tensor:
    """A line of text [h,w], 0..1."""
    from PIL import Image, ImageDraw

    font = font_of(0.72 * height)
    width = max(1, math.ceil(font.getlength(text)))
    picture = Image.new("L", (width, height))
    ImageDraw.Draw(picture).text((0, 0), text, fill=255, font=font)
    return torch.from_numpy(np.asarray(picture, np.float32) / 255)
