"""Weighted sums along an axis, the work behind resizing and blurring.

Every output pixel is a weighted sum of a few neighbouring input pixels. The weights form a banded
matrix; it is cut into blocks of output pixels, each with the short stretch of input that it needs,
and each block is one small matrix product. That is fast on any device, takes no memory beyond the
result, and a stretch of zeros gives exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

BLOCK = 64  # output pixels per matrix product: wide enough for the product, narrow enough to skip


class Block(NamedTuple):
    """The weights of some neighbouring output pixels."""

    first: int  # the first output pixel
    start: int  # the first input pixel that they need
    weights: torch.Tensor  # [output pixels, input pixels] float32


def blocks(
    out_length: int, weights: Callable[[int, int], tuple[int, np.ndarray]]
) -> tuple[Block, ...]:
    """Cut the weights of an axis into blocks.

    Args:
        out_length: output pixels along the axis.
        weights: gives, for the output pixels first..last (exclusive), the first input pixel that
            they need and the weights [output pixels, input pixels].
    """
    result = []
    for first in range(0, out_length, BLOCK):
        start, matrix = weights(first, min(first + BLOCK, out_length))
        result.append(Block(first, start, torch.from_numpy(matrix.astype(np.float32))))
    return tuple(result)


def along_width(planes: torch.Tensor, weights: tuple[Block, ...]) -> torch.Tensor:
    """Apply the blocks to the last axis of [N,H,W] planes."""
    count, height, width = planes.shape
    rows = planes.reshape(-1, width)
    result = rows.new_empty(len(rows), _length(weights))
    for first, start, matrix in _on(planes, weights):
        result[:, first : first + len(matrix)] = rows[:, start : start + matrix.shape[1]] @ matrix.T
    return result.view(count, height, -1)


def along_height(planes: torch.Tensor, weights: tuple[Block, ...]) -> torch.Tensor:
    """Apply the blocks to the middle axis of [N,H,W] planes."""
    count, _, width = planes.shape
    result = planes.new_empty(count, _length(weights), width)
    for first, start, matrix in _on(planes, weights):
        rows = planes[:, start : start + matrix.shape[1]]
        result[:, first : first + len(matrix)] = matrix @ rows
    return result


def _length(weights: tuple[Block, ...]) -> int:
    return weights[-1].first + len(weights[-1].weights)


def _on(planes: torch.Tensor, weights: tuple[Block, ...]) -> Iterator[Block]:
    for block in weights:
        yield block._replace(weights=block.weights.to(planes))
