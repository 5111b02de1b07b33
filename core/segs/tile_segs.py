"""An image cut into tiles that overlap: SEGS that cover it, or a part of it, evenly."""

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

SMALLEST = 64  # pixels; no tile is smaller, unless the image is
MOST_TILES = 2**16
# Irregular tiles are enlarged, so that their wandering edges have room to overlap: by this many
# pixels at irregularity 1. The figures follow ComfyUI-Impact-Pack, so that shared workflows get as
# many tiles as before.
_ROOM = {"Reuse fast": 32, "Reuse quality": 128, "All random fast": 128, "All random quality": 128}
_LEAST_ROOM = 6
IRREGULAR_MODES = tuple(_ROOM)
_WAVES_FAST = (6,)  # cells across a tile, of each layer of the noise that moves its edges
_WAVES_QUALITY = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class TileLayout:
    """How an image is cut; the fields are those of the Make Tile SEGS node."""

    bbox_size: int  # side of a tile in pixels
    crop_factor: float  # sides of a tile's crop region over its own
    min_overlap: int  # pixels that neighbours share at least; at most half a tile
    irregularity: float = 0.0  # how far edges wander, 0..1 of the half of the overlap
    mode: str = IRREGULAR_MODES[0]  # one edge pattern for all tiles or one each; coarse or fine


def tile_segs(
    image: Size,
    layout: TileLayout,
    only: torch.Tensor | None = None,
    exclude: torch.Tensor | None = None,
) -> SEGS:
    """A SEG for each tile, row by row from the top left.

    The tiles' masks cover together every pixel of the image, or of `only`, outside `exclude`.

    Args:
        only: [1,H,W]; tiles cover what is not 0, and their masks end there.
        exclude: [1,H,W]; what is not 0 is cut out of the tiles' masks.

    Returns:
        SEGS with masks [h,w] of 0 and 1, confidence 1 and no label. A tile of which nothing is
        left is dropped.

    Raises:
        ValueError: there is no such mode.
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
        count: images of the batch.
        only, exclude: as in `tile_segs`; [B,H,W] where they differ from image to image.

    Returns:
        As `tile_segs`: tiles that hold for every image or, with masks that differ, those of one
        image after another.
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
    """What any of the masks [N,H,W] covers: [1,H,W]."""
    if mask is None or len(mask) == 1:
        return mask
    note(
        NOTE,
        f"The filter segments were made for {len(mask)} images and are used on"
        f" {counted(count, 'image')}: what any of them covers counts for each image.",
    )
    return mask.amax(0, keepdim=True)


def covered(segs: SEGS, image: Size, dilation: int, name: str) -> torch.Tensor:
    """What SEGS cover at an image's size, dilated (or shrunk, if negative) in pixels.

    Returns:
        [1,H,W]; [B,H,W] where the SEGS belong to the images of a batch of B.
    """
    if not segs[1]:
        return torch.zeros(1, image[1], image[0])
    segs = normalise(segs, image, name)
    mask = combined_mask(segs)
    if len(mask) != batch_length(segs[1]):
        mask = mask.amax(0, keepdim=True)
    return dilate(mask, dilation)


def _tiles(area: Box, image: Size, layout: TileLayout) -> Iterator[tuple[Box, Size]]:
    """The tiles of an area, and by how much their edges may wander without leaving a gap."""
    side = max(1, layout.bbox_size)
    overlap = min(max(0, layout.min_overlap), side // 2)
    if layout.irregularity > 0:
        room = max(_LEAST_ROOM, int(_ROOM[layout.mode] * layout.irregularity))
        side, overlap = side + 2 * room, overlap + room
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
    """Where the tiles along an axis start, evenly spread, and how many pixels neighbours share.

    The count is that of ComfyUI-Impact-Pack: prompts and labels are dealt to tiles by number.
    """
    if last - first <= side:  # one tile, moved into the image
        return [min(first, limit - side)], 0
    steps = ceil((last - first) / (side - overlap)) - 1
    way = last - first - side
    starts = [first + index * way // steps for index in range(steps + 1)]
    return starts, side - max(b - a for a, b in pairwise(starts))


def _shape(tile: Box, area: Box, reach: Size, layout: TileLayout, index: int) -> torch.Tensor:
    """The pixels of a tile [h,w] that it covers: all, or up to edges that wander inwards.

    Edges on the border of the area stay straight: no neighbour covers what they would leave.
    """
    if layout.irregularity == 0:
        return torch.ones(tile.height, tile.width, dtype=torch.bool)
    x = _inwards(tile.x1, tile.x2, area.x1, area.x2, reach.width * layout.irregularity)
    y = _inwards(tile.y1, tile.y2, area.y1, area.y2, reach.height * layout.irregularity)
    seed = 0 if layout.mode.startswith("Reuse") else index
    waves = _WAVES_FAST if layout.mode.endswith("fast") else _WAVES_QUALITY
    return torch.minimum(y[:, None], x[None]) >= _noise(tile.size, waves, seed)


def _inwards(start: int, end: int, first: int, last: int, reach: float) -> torch.Tensor:
    """How far each pixel of a span is from its ends, in units of `reach`; from 1 on it is inside.

    Ends at the area's border count as infinitely far.
    """
    place = torch.arange(end - start) + 0.5
    left = place if start > first else torch.full_like(place, torch.inf)
    right = place.flip(0) if end < last else torch.full_like(place, torch.inf)
    return torch.minimum(left, right) / max(reach, 1e-6)


@lru_cache(maxsize=1)
def _noise(size: Size, waves: tuple[int, ...], seed: int) -> torch.Tensor:
    """Smooth noise [h,w] within 0..1: layers of random values, the finer the weaker."""
    generator = torch.Generator().manual_seed(seed)
    result = torch.zeros(size.height, size.width)
    for layer, cells in enumerate(waves):
        values = torch.rand(1, 1, cells + 1, cells + 1, generator=generator)
        layer_noise = F.interpolate(
            values, size=(size.height, size.width), mode="bilinear", align_corners=True
        )
        result += layer_noise[0, 0] / 2**layer
    low, high = result.aminmax()
    return (result - low) / (high - low).clamp_min(1e-6)
