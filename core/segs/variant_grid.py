"""Variants side by side: a picture with a row for each segment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..geometry import Box, Size
from ..pixels.image import crop, middle, to_rgb
from ..pixels.marks import can_draw, cover, made_tag, put_tag
from ..pixels.resample import resize
from .image_batch import images_of
from .seg import SEG, own_picture
from .variants import Candidates, Chosen

LARGEST_CELL, SMALLEST_CELL = 192, 32  # sides of a square cell, in pixels
_HIGHEST, _WIDEST = 8192, 4096  # of a grid, as far as the smallest cells allow
_EDGE = 6  # pixels of the frame of a cell, of the largest size
_BACK = (0.11, 0.11, 0.12)
_FRAME = (0.24, 0.78, 0.44)  # of the variant that is chosen
_PLATE = (0.16, 0.16, 0.18)


def shown(picture: torch.Tensor) -> torch.Tensor:
    """What stands for a segment's picture [N,h,w,C]: [1,h,w,3], of a clip its middle frame."""
    return middle(to_rgb(picture)[0])


def originals(image: torch.Tensor, groups: Sequence[Candidates]) -> list[torch.Tensor]:
    """What an image [B,H,W,C] shows where each segment lies: [1,h,w,3]."""
    rgb, _ = to_rgb(image)
    held = images_of([group.segs[0] for group in groups], len(rgb))
    return [
        shown(crop(rgb[rows[0] : rows[-1] + 1], Box.of(group.segs[0].crop_region)))
        for group, rows in zip(groups, held, strict=True)
    ]


def fitted(picture: torch.Tensor, side: int) -> torch.Tensor:
    """A picture [1,h,w,3] in a square of this side, as large as it fits in."""
    height, width = picture.shape[1:3]
    scale = side / max(height, width)
    size = Size(*(max(1, min(side, round(own * scale))) for own in (width, height)))
    small = resize(picture.float(), size).clamp(0, 1)
    left, top = (side - size.width) // 2, (side - size.height) // 2
    edges = (left, side - size.width - left, top, side - size.height - top)
    return F.pad(small.movedim(-1, 1), edges).movedim(1, -1)


def variant_grid(before: Sequence[torch.Tensor], chosen: Sequence[Chosen]) -> torch.Tensor:
    """A row for each segment: what was there before, then its variants with number and score.

    The one that is chosen has a frame.

    Args:
        before: [1,h,w,3] for each segment.

    Returns:
        [1,H,W,3] float32 on the CPU; 64x64 and black without a segment.
    """
    if not chosen:
        return torch.zeros(1, 64, 64, 3)
    columns = 1 + max(len(own.candidates.segs) for own in chosen)
    side = min(LARGEST_CELL, _HIGHEST // len(chosen), _WIDEST // columns)
    side = max(SMALLEST_CELL, side)
    edge = max(1, round(_EDGE * side / LARGEST_CELL))
    pitch = side + 2 * edge
    grid = torch.tensor(_BACK).repeat(len(chosen) * pitch, columns * pitch, 1)
    for row, (first, own) in enumerate(zip(before, chosen, strict=True)):
        pictures = [first, *(_picture(seg) for seg in own.candidates.segs)]
        for column, picture in enumerate(pictures):
            cell = Box(0, 0, pitch, pitch).shifted(column * pitch, row * pitch)
            if column == (0 if own.index is None else own.index + 1):
                cover(grid, cell, _FRAME, 1.0)
            inner = cell.grown(-edge)
            grid[inner.y1 : inner.y2, inner.x1 : inner.x2] = fitted(picture, side)[0].cpu()
            _name(grid, inner, _title(own, column), side)
    return grid[None]


def _picture(seg: SEG) -> torch.Tensor:
    return shown(own_picture(seg))


def _title(own: Chosen, column: int) -> str:
    group = own.candidates
    if column == 0:
        label = group.label if can_draw(group.label) else ""
        return f"{group.place.name} {label}"[:20].strip()
    score = own.scores[column - 1]
    number = group.numbers[column - 1]
    return f"{number}" if score is None else f"{number}  {written_score(score)}"


def written_score(score: float) -> str:
    """A score in a few characters."""
    return f"{score:.3g}"


def _name(grid: torch.Tensor, cell: Box, text: str, side: int) -> None:
    if side < 2 * SMALLEST_CELL:
        return
    tag = made_tag([(text, max(9, side // 12))])
    place = Box(cell.x1, cell.y1, cell.x1 + tag.size.width, cell.y1 + tag.size.height)
    put_tag(grid, tag, place, _PLATE)
