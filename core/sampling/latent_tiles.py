"""Sampling in tiles: how a latent is cut at each call of the model, and put together again.

All tiles go through one run of the sampler: it is the model that is called for one tile after
another, or for several at once, so that samplers with a memory of earlier steps work as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import torch

from ..geometry import Box, Size

STRATEGIES = ("random", "padded", "simple")
_SHARED = 4  # padded tiles share at least this part of their length with a neighbour


@dataclass(frozen=True)
class Span:
    """A tile along one axis."""

    start: int
    weight: torch.Tensor  # [length] 0..1, its share in each place's result

    @property
    def end(self) -> int:
        return self.start + len(self.weight)


@dataclass(frozen=True)
class Tile:
    """A part of a latent."""

    box: Box  # in latent pixels
    weight: torch.Tensor  # [h,w], its share in the result


def cut(size: Size, tile: Size, strategy: str, generator: torch.Generator) -> list[Tile]:
    """The tiles of a latent, all of one size, that of the latent where it is smaller.

    Args:
        size, tile: in latent pixels.
        strategy: "simple" lays a fixed grid; "random" moves the grid at every call, so that no
            seam stays in its place; "padded" lets tiles overlap and fades one into the next.
        generator: says where a random grid begins.

    Raises:
        ValueError: there is no such strategy.
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
    """Spans, evenly spread, that overlap and fade where another one goes on."""
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
    """What `work` makes of the tiles of a latent [N,C,...,h,w], put together by their weights."""
    parts = [
        x[..., tile.box.y1 : tile.box.y2, tile.box.x1 : tile.box.x2].contiguous() for tile in tiles
    ]
    total, shares = torch.zeros_like(x), torch.zeros(x.shape[-2:]).to(x)
    for tile, result in zip(tiles, work(parts), strict=True):
        box, weight = tile.box, tile.weight.to(x)
        total[..., box.y1 : box.y2, box.x1 : box.x2] += result * weight
        shares[box.y1 : box.y2, box.x1 : box.x2] += weight
    return total / shares
