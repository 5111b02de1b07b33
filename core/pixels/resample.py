"""Resizing, and the weighted sums along an axis that resizing and blurring consist of.

Every output pixel is a weighted sum of a few neighbouring input pixels. The weights form a banded
matrix. It is cut into blocks of output pixels, each with the input pixels that it needs, and each
block is one small matrix product. This is fast on any device and takes no memory beyond the result,
and input pixels of zero give exactly zero. The filters are those of Pillow, computed in floats on
the device of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from ...utils.check import check_shape
from .. import memory
from ..bounds import check_pixels
from ..geometry import Size
from .precision import precise

BLOCK = 64  # output pixels per matrix product: large enough for speed, small enough to be banded
SMALLER = "Ask for a smaller size or factor."
SLICE = 1 << 24  # values that a resize works on at a time (64 MB in float32)
LOBES = 3  # the parameter `a` of the Lanczos window
SUPERSAMPLING = 8  # factor of the intermediate picture in each direction, as in ComfyUI-Impact-Pack

# (first output pixel, the one after the last) -> the first input pixel that these need, and the
# weights [output pixels, input pixels]
Weights = Callable[[int, int], tuple[int, np.ndarray]]


class Block(NamedTuple):
    """The weights of some neighbouring output pixels."""

    first: int  # the first output pixel
    start: int  # the first input pixel that they need
    weights: torch.Tensor  # [output pixels, input pixels] float32


def blocks(out_length: int, weights: Weights) -> tuple[Block, ...]:
    """Cut the weights of an axis with `out_length` output pixels into blocks."""
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


def resize(image: torch.Tensor, size: Size) -> torch.Tensor:
    """Resize with Lanczos (a = 3), with a wider support where the image shrinks.

    Args:
        image: [B,H,W,C] float 0..1.
        size: the new width and height; an image of that size is returned as it is.

    Returns:
        [B,height,width,C] with the same device and dtype, clamped to 0..1 because Lanczos
        overshoots at edges.
    """
    check_shape(image, "BHWC", "image")
    if (image.shape[2], image.shape[1]) == tuple(size):
        return image
    return resample(image, size, "lanczos")


def resample(
    image: torch.Tensor, size: Size, method: str, *, supersample: bool = False
) -> torch.Tensor:
    """Resize an image by a filter.

    Args:
        image: [B,H,W,C] float 0..1.
        size: the new width and height, at least 1 each.
        method: one of METHODS.
        supersample: resize to a picture SUPERSAMPLING times as large, and from there to the new
            size, which softens edges. The two steps are done as one, so the large picture is never
            in memory.

    Returns:
        [B,height,width,C] with the same device and dtype, clamped to 0..1.

    Raises:
        ValueError: there is no such method.
    """
    if method not in METHODS:
        raise ValueError(
            f"'resampling_method' is {method!r}, which does not exist. Choose one of: "
            f"{', '.join(METHODS)}."
        )
    check_pixels(size, "The resized picture", remedy=SMALLER)
    count, height, width, channels = image.shape
    columns = _blocks_of_axis(width, size[0], method, supersample)
    rows = _blocks_of_axis(height, size[1], method, supersample)
    result = image.new_empty(count, size[1], size[0], channels)
    largest = channels * max(height, size[1]) * max(width, size[0])

    def fill(images: slice, which: slice) -> None:
        part = image[images, ..., which]
        planes = part.movedim(-1, 1).reshape(-1, height, width).to(precise(image.dtype))
        if size[0] * height <= size[1] * width:  # the axis that leaves less work comes first
            planes = along_height(along_width(planes, columns), rows)
        else:
            planes = along_width(along_height(planes, rows), columns)
        planes = planes.clamp_(0, 1).view(len(part), part.shape[-1], size[1], size[0])
        result[images, ..., which] = planes.movedim(1, -1)

    _fill_in_parts(fill, (count, channels), max(1, SLICE // largest), (width, height), size)
    return result


def averaged(planes: torch.Tensor, size: Size) -> torch.Tensor:
    """Planes at another size, of which each pixel is the mean of those that it touches.

    This is PyTorch's adaptive pooling, which Apple's GPUs only have for whole factors.

    Args:
        planes: [N,H,W] of any range, float32 or float64.
        size: the new width and height, at least 1 each.

    Returns:
        [N,size.height,size.width].
    """
    height, width = planes.shape[1:]
    planes = along_width(planes, _blocks_of_means(width, size[0]))
    return along_height(planes, _blocks_of_means(height, size[1]))


@lru_cache(maxsize=128)
def _blocks_of_means(old: int, new: int) -> tuple[Block, ...]:
    """The blocks that average an axis of `old` pixels to `new` pixels."""

    def weights(first: int, last: int) -> tuple[int, np.ndarray]:
        places = np.arange(first, last)
        starts, ends = places * old // new, -(-(places + 1) * old // new)
        pixels = np.arange(starts[0], ends[-1])
        touched = (pixels >= starts[:, None]) & (pixels < ends[:, None])
        return int(starts[0]), touched / touched.sum(axis=1, keepdims=True)

    return blocks(new, weights)


def _fill_in_parts(
    fill: Callable[[slice, slice], None], parts: tuple[int, int], at_once: int,
    old: tuple[int, int], new: tuple[int, int],
) -> None:  # fmt: skip
    """Fill a resized batch, a few images at a time; if one does not fit into memory, by channels.

    Args:
        fill: computes some channels of some images.
        parts: how many images and channels there are.
        at_once: how many images to compute at a time.
        old, new: widths and heights, for the error.
    """

    def subject(place: int) -> str:
        return f"a picture of {old[0]} x {old[1]} pixels"

    verb = f"resized to {new[0]} x {new[1]}"
    count, channels = parts
    done = 0
    while done < count:
        images = memory.divided(
            count - done,
            lambda part, first=done: fill(
                slice(first + part.start, first + part.stop), slice(None)
            ),
            subject, verb, at_once=at_once,
        )  # fmt: skip
        try:
            for part, _ in images:
                done += part.stop - part.start
        except memory.OutOfMemory as error:
            if channels < 2:
                raise
            one, at_once = slice(done, done + 1), 1
            single = memory.divided(
                channels, lambda part, one=one: fill(one, part), subject, verb, at_once=1
            )
            try:
                for _ in single:
                    pass
            except memory.OutOfMemory as last:
                raise last.about(subject(0), error.tried) from last.__cause__
            done += 1


@lru_cache(maxsize=128)
def _blocks_of_axis(old: int, new: int, method: str, supersample: bool) -> tuple[Block, ...]:
    """The blocks that resize an axis from `old` to `new` pixels."""
    if not supersample:
        return blocks(new, _weights(old, new, method))
    fine = new * SUPERSAMPLING
    enlarge, reduce = _weights(old, fine, method), _weights(fine, new, method)

    def both(first: int, last: int) -> tuple[int, np.ndarray]:
        between, reduced = reduce(first, last)
        start, enlarged = enlarge(between, between + reduced.shape[1])
        return start, reduced @ enlarged

    return blocks(new, both)


def _weights(old: int, new: int, method: str) -> Weights:
    """The weights of a filter; the weights of each output pixel add up to 1."""
    kernel, reach = FILTERS[method]
    scale = old / new
    spread = max(scale, 1.0)  # the filter widens where the image shrinks
    support = reach * spread

    def weights(first: int, last: int) -> tuple[int, np.ndarray]:
        centres = (np.arange(first, last) + 0.5) * scale
        start = max(0, int(centres[0] - support))
        end = min(old, int(centres[-1] + support) + 1)
        pixels = np.arange(start, end)
        if kernel is None:
            return start, (pixels == np.floor(centres)[:, None]).astype(float)
        matrix = kernel((pixels + 0.5 - centres[:, None]) / spread)
        return start, matrix / matrix.sum(axis=1, keepdims=True)

    return weights


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.sinc(x) * np.sinc(x / LOBES) * (np.abs(x) < LOBES)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys (1981), with Pillow's a."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))


# name: (filter, its reach in pixels); without a filter the nearest pixel is taken
FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray] | None, float]] = {
    "lanczos": (_lanczos, LOBES),
    "nearest": (None, 0.5),
    "bilinear": (_triangle, 1),
    "bicubic": (_cubic, 2),
}
METHODS = tuple(FILTERS)
