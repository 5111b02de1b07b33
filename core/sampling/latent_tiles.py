"""Sampling in tiles: at each call of the model the latent is cut into tiles and put together again.

The sampler runs once, over the whole latent. Only the model is called tile by tile, or for several
tiles at once. So samplers that remember earlier steps work as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import torch

from ..geometry import Box, Size

STRATEGIES = ("random", "padded", "simple")
_SHARED = 4  # padded tiles share at least 1/4 of their length with the next one


@dataclass(frozen=True)
class Span:
    """A tile along one axis."""

    start: int
    weight: torch.Tensor  # [length] 0..1, the weight of the tile at each place

    @property
    def end(self) -> int:
        """The first place after the tile."""
        return self.start + len(self.weight)


@dataclass(frozen=True)
class Tile:
    """A part of a latent."""

    box: Box  # in latent pixels
    weight: torch.Tensor  # [h,w] 0..1, the weight of the tile in the result


def cut(size: Size, tile: Size, strategy: str, generator: torch.Generator) -> list[Tile]:
    """Cut a latent into tiles of one size.

    Args:
        size: of the latent, in latent pixels.
        tile: of a tile, in latent pixels. A latent with a shorter side has tiles of that side.
        strategy: "simple": the grid of tiles is fixed. "random": the grid is moved at every call,
            so that no seam stays in its place. "padded": the tiles overlap, and one fades into the
            next.
        generator: gives the place where a random grid begins.

    Raises:
        ValueError: the strategy does not exist.
    """
    if strategy not in STRATEGIES:
        raise ValueError(
            f"'tiling_strategy' is {strategy!r}, which does not exist. Choose one of: "
            f"{', '.join(STRATEGIES)}."
        )
    columns = list(_spans(size.width, tile.width, strategy, generator))
    rows = list(_spans(size.height, tile.height, strategy, generator))
    return [
        Tile(Box(x.start, y.start, x.end, y.end), y.weight[:, None] * x.weight)
        for y in rows
        for x in columns
    ]


def _spans(length: int, side: int, strategy: str, generator: torch.Generator) -> Iterator[Span]:
    if length <= side:
        yield Span(0, torch.ones(length))
    elif strategy == "padded":
        yield from _fading(length, side)
    else:
        shift = side
        if strategy == "random":
            shift = int(torch.randint(1, side + 1, (), generator=generator))
        edges = [0, *range(shift, length, side), length]
        for first, last in pairwise(edges):
            start = min(max(0, (first + last - side) // 2), length - side)
            weight = torch.zeros(side)
            weight[first - start : last - start] = 1
            yield Span(start, weight)


def _fading(length: int, side: int) -> Iterator[Span]:
    """Evenly spread spans that overlap. Their weights fade where they overlap."""
    shared = max(1, side // _SHARED)
    steps = ceil((length - side) / (side - shared)) if side > shared else length - side
    fade = ((torch.arange(side) + 0.5) / shared).clamp(max=1)
    for index in range(steps + 1):
        weight = torch.ones(side)
        if index > 0:
            weight = weight * fade
        if index < steps:
            weight = weight * fade.flip(0)
        yield Span(index * (length - side) // steps, weight)


def stitched(
    x: torch.Tensor,
    tiles: Sequence[Tile],
    work: Callable[[list[torch.Tensor]], Sequence[torch.Tensor]],
) -> torch.Tensor:
    """Work on the tiles of a latent, and put the results together by their weights.

    Args:
        x: [N,C,...,h,w].
        work: takes the tiles [N,C,...,th,tw] and gives a result of the same shape for each.

    Returns:
        [N,C,...,h,w].
    """
    parts = [
        x[..., tile.box.y1 : tile.box.y2, tile.box.x1 : tile.box.x2].contiguous() for tile in tiles
    ]
    total, shares = torch.zeros_like(x), torch.zeros(x.shape[-2:]).to(x)
    for tile, result in zip(tiles, work(parts), strict=True):
        box, weight = tile.box, tile.weight.to(x)
        total[..., box.y1 : box.y2, box.x1 : box.x2] += result * weight
        shares[box.y1 : box.y2, box.x1 : box.x2] += weight
    return total / shares
