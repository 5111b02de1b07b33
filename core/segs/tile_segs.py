"""Tiles that overlap: SEGS that cover an image, or a part of it, evenly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F

from ...utils.notes import note
from ..geometry import Box, Size, crop_region
from ..pixels.mask import bbox as mask_bbox
from ..pixels.mask import dilate
from .image_batch import NOTE, batch_length, belonging_to, counted
from .seg import SEG, SEGS, combined_mask, normalise

SMALLEST = 64  # pixels; no tile is smaller, unless the image is smaller
MOST_TILES = 2**16
# Irregular tiles are enlarged by this many pixels at irregularity 1, so that their uneven edges can
# overlap. The numbers are those of ComfyUI-Impact-Pack, so that shared workflows get as many tiles
# as before.
_MARGIN = {
    "Reuse fast": 32,
    "Reuse quality": 128,
    "All random fast": 128,
    "All random quality": 128,
}
_LEAST_MARGIN = 6
IRREGULAR_MODES = tuple(_MARGIN)
_CELLS_FAST = (6,)  # cells across a tile, for each layer of the noise that shapes its edges
_CELLS_QUALITY = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class TileLayout:
    """How an image is cut into tiles; the fields are those of the Make Tile SEGS node."""

    bbox_size: int  # side of a tile in pixels
    crop_factor: float  # sides of a tile's crop region over its own
    min_overlap: int  # the least number of pixels that neighbours share; at most half a tile
    irregularity: float = 0.0  # how uneven edges are, 0..1 of half the overlap
    mode: str = IRREGULAR_MODES[0]  # one pattern of edges for all tiles or for each; coarse or fine


def tile_segs(
    image: Size,
    layout: TileLayout,
    only: torch.Tensor | None = None,
    exclude: torch.Tensor | None = None,
) -> SEGS:
    """A SEG for each tile, row by row from the top left.

    Together the masks of the tiles cover every pixel of the image, or of `only`, outside `exclude`.

    Args:
        only: [1,H,W] 0..1; tiles cover only pixels that are not 0.
        exclude: [1,H,W] 0..1; pixels that are not 0 are cut out of the tiles' masks.

    Returns:
        SEGS with masks [h,w] of 0 and 1, confidence 1 and no label. An empty tile is dropped.

    Raises:
        ValueError: there is no such mode, or there would be more than MOST_TILES tiles.
    """
    if layout.mode not in IRREGULAR_MODES:
        raise ValueError(
            f"'irregular_mask_mode' is {layout.mode!r}, which does not exist. Choose one of: "
            f"{', '.join(IRREGULAR_MODES)}."
        )
    header = (image[1], image[0])
    area = Box(0, 0, *image) if only is None else mask_bbox(only[0])
    if area is None or area.empty:
        return header, []
    keep = torch.ones(1, image[1], image[0], dtype=torch.bool)
    if only is not None:
        keep &= only > 0
    if exclude is not None:
        keep &= exclude <= 0
    segs = []
    for index, (tile, reach) in enumerate(_tiles(area, image, layout)):
        region = crop_region(tile, image, layout.crop_factor)
        shape = _shape(tile, area, reach, layout, index)
        shape &= keep[0, tile.y1 : tile.y2, tile.x1 : tile.x2]
        if shape.any():
            inner = tile.shifted(-region.x1, -region.y1)
            mask = np.zeros((region.height, region.width), np.float32)
            mask[inner.y1 : inner.y2, inner.x1 : inner.x2] = shape
            segs.append(SEG(None, mask, 1.0, region.as_tuple(), tile.as_tuple(), ""))
    return header, segs


def tile_batch(
    image: Size,
    count: int,
    layout: TileLayout,
    only: torch.Tensor | None = None,
    exclude: torch.Tensor | None = None,
) -> SEGS:
    """The tiles of a batch of images of one size.

    Args:
        count: number of images in the batch.
        only, exclude: as in `tile_segs`; [B,H,W] for a mask for each image.

    Returns:
        SEGS as of `tile_segs`. The tiles belong to every image; with a mask for each image, they
        are the tiles of one image after another.
    """
    if not any(mask is not None and len(mask) == count > 1 for mask in (only, exclude)):
        tiles = tile_segs(image, layout, _one(only, count), _one(exclude, count))
        return belonging_to(tiles, None, count)
    items: list[SEG] = []
    for row in range(count):
        own = [
            mask[row : row + 1] if mask is not None and len(mask) == count else _one(mask, count)
            for mask in (only, exclude)
        ]
        items += belonging_to(tile_segs(image, layout, *own), row, count)[1]
    return (image[1], image[0]), items


def _one(mask: torch.Tensor | None, count: int) -> torch.Tensor | None:
    """One mask [1,H,W] that covers what any of the masks [N,H,W] covers."""
    if mask is None or len(mask) == 1:
        return mask
    note(
        NOTE,
        f"The filter segments were made for {len(mask)} images and are used on"
        f" {counted(count, 'image')}: what any of them covers counts for each image.",
    )
    return mask.amax(0, keepdim=True)


def covered(segs: SEGS, image: Size, dilation: int, name: str) -> torch.Tensor:
    """A mask of what SEGS cover, at an image's size.

    Args:
        dilation: pixels that the mask grows by; negative numbers shrink it.
        name: the input's name, for errors.

    Returns:
        [1,H,W] 0..1; [B,H,W] if the SEGS belong to the images of a batch of B.
    """
    if not segs[1]:
        return torch.zeros(1, image[1], image[0])
    segs = normalise(segs, image, name)
    mask = combined_mask(segs)
    if len(mask) != batch_length(segs[1]):
        mask = mask.amax(0, keepdim=True)
    return dilate(mask, dilation)


def _tiles(area: Box, image: Size, layout: TileLayout) -> Iterator[tuple[Box, Size]]:
    """The tiles of an area, and by how many pixels their edges may be uneven without a gap."""
    side = max(1, layout.bbox_size)
    overlap = min(max(0, layout.min_overlap), side // 2)
    if layout.irregularity > 0:
        margin = max(_LEAST_MARGIN, int(_MARGIN[layout.mode] * layout.irregularity))
        side, overlap = side + 2 * margin, overlap + margin
    side = min(side, *(max(length, SMALLEST) for length in area.size), *image)
    overlap = min(overlap, side // 2)
    columns, dx = _starts(area.x1, area.x2, image[0], side, overlap)
    rows, dy = _starts(area.y1, area.y2, image[1], side, overlap)
    if len(columns) * len(rows) > MOST_TILES:
        raise ValueError(
            f"Tiles of {side}x{side} pixels would be {len(columns) * len(rows)}; the most is"
            f" {MOST_TILES}. Give a larger 'bbox_size'."
        )
    for y in rows:
        for x in columns:
            yield Box(x, y, x + side, y + side), Size(dx // 2, dy // 2)


def _starts(first: int, last: int, limit: int, side: int, overlap: int) -> tuple[list[int], int]:
    """The evenly spaced starts of the tiles along an axis, and the overlap in pixels.

    The count is that of ComfyUI-Impact-Pack, because prompts and labels go to tiles by number.
    """
    if last - first <= side:  # one tile, moved into the image
        return [min(first, limit - side)], 0
    steps = ceil((last - first) / (side - overlap)) - 1
    distance = last - first - side
    starts = [first + index * distance // steps for index in range(steps + 1)]
    return starts, side - max(b - a for a, b in pairwise(starts))


def _shape(tile: Box, area: Box, reach: Size, layout: TileLayout, index: int) -> torch.Tensor:
    """The pixels [h,w] that a tile covers: all, or those inside its uneven edges.

    Edges on the border of the area are straight, because no neighbour would fill the gaps.
    """
    if layout.irregularity == 0:
        return torch.ones(tile.height, tile.width, dtype=torch.bool)
    x = _inwards(tile.x1, tile.x2, area.x1, area.x2, reach.width * layout.irregularity)
    y = _inwards(tile.y1, tile.y2, area.y1, area.y2, reach.height * layout.irregularity)
    seed = 0 if layout.mode.startswith("Reuse") else index
    cells = _CELLS_FAST if layout.mode.endswith("fast") else _CELLS_QUALITY
    return torch.minimum(y[:, None], x[None]) >= _noise(tile.size, cells, seed)


def _inwards(start: int, end: int, first: int, last: int, reach: float) -> torch.Tensor:
    """The distance of each pixel of a span from its ends, in units of `reach`.

    Ends at the border of the area count as infinitely far.
    """
    place = torch.arange(end - start) + 0.5
    left = place if start > first else torch.full_like(place, torch.inf)
    right = place.flip(0) if end < last else torch.full_like(place, torch.inf)
    return torch.minimum(left, right) / max(reach, 1e-6)


@lru_cache(maxsize=1)
def _noise(size: Size, cells: tuple[int, ...], seed: int) -> torch.Tensor:
    """Smooth noise [h,w] within 0..1: a sum of layers, of which finer ones are weaker."""
    generator = torch.Generator().manual_seed(seed)
    result = torch.zeros(size.height, size.width)
    for layer, count in enumerate(cells):
        values = torch.rand(1, 1, count + 1, count + 1, generator=generator)
        layer_noise = F.interpolate(
            values, size=(size.height, size.width), mode="bilinear", align_corners=True
        )
        result += layer_noise[0, 0] / 2**layer
    low, high = result.aminmax()
    return (result - low) / (high - low).clamp_min(1e-6)
