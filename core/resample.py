"""Resizing with a choice of filters, as upscaling nodes offer it.

The filters are Pillow's, in floats, on the image's device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from .bounds import check_pixels
from .geometry import Size
from .image import LOBES, SMALLER, fill_in_parts
from .separable import Block, along_height, along_width, blocks

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SUPERSAMPLING = 8  # times finer on the way, in each direction: ComfyUI-Impact-Pack's figure


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys (1981), with Pillow's a."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.sinc(x) * np.sinc(x / LOBES) * (np.abs(x) < LOBES)


# name: (filter, how far it reaches in pixels); without a filter the nearest pixel is taken
_FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray] | None, float]] = {
    "lanczos": (_lanczos, LOBES),
    "nearest": (None, 0.5),
    "bilinear": (_triangle, 1),
    "bicubic": (_cubic, 2),
}
METHODS = tuple(_FILTERS)


def resample(
    image: torch.Tensor, size: Size, method: str, *, supersample: bool = False
) -> torch.Tensor:
    """Resize an image.

    Args:
        image: [B,H,W,C] float.
        size: the new width and height, at least 1 each.
        method: one of METHODS.
        supersample: go by way of a picture SUPERSAMPLING times as large, which softens edges. The
            two steps are done as one, so that picture is never held.

    Returns:
        [B,height,width,C], same device and dtype, clamped to 0..1.

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
    columns = _weights(width, size[0], method, supersample)
    rows = _weights(height, size[1], method, supersample)
    result = image.new_empty(count, size[1], size[0], channels)

    def fill(images: slice, which: slice) -> None:
        part = image[images, ..., which]
        planes = part.movedim(-1, 1).reshape(-1, height, width).float()
        planes = along_height(along_width(planes, columns), rows)
        planes = planes.clamp_(0, 1).view(len(part), part.shape[-1], size[1], size[0])
        result[images, ..., which] = planes.movedim(1, -1)

    fill_in_parts(fill, (count, channels), 1, (width, height), size)
    return result


@lru_cache(maxsize=16)
def _weights(old: int, new: int, method: str, supersample: bool) -> tuple[Block, ...]:
    """Weights that bring an axis from `old` to `new` pixels."""
    if supersample:
        fine = new * SUPERSAMPLING
        matrix = _matrix(fine, new, method) @ _matrix(old, fine, method)
    else:
        matrix = _matrix(old, new, method)

    def weights(first: int, last: int) -> tuple[int, np.ndarray]:
        part = matrix[first:last]
        start, end = int(part.indices.min()), int(part.indices.max()) + 1
        return start, part[:, start:end].toarray()

    return blocks(new, weights)


def _matrix(old: int, new: int, method: str) -> csr_array:
    """The weights as a sparse matrix [new, old], each row adding up to 1."""
    from scipy.sparse import csr_array

    kernel, reach = _FILTERS[method]
    scale = old / new
    spread = max(scale, 1.0)  # the filter widens where the image shrinks
    centres = (np.arange(new)[:, None] + 0.5) * scale
    if kernel is None:
        source = np.floor(centres).astype(np.int64)
        values = np.ones(source.shape)
    else:
        first = np.floor(centres - reach * spread).astype(np.int64)
        source = first + np.arange(int(2 * reach * spread) + 2)
        values = kernel((source + 0.5 - centres) / spread)
    values = np.where((source >= 0) & (source < old), values, 0)
    values /= values.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(new)[:, None], source.shape)
    kept = values != 0
    return csr_array((values[kept], (rows[kept], source[kept])), shape=(new, old))
