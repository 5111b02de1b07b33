"""Windows: upright rectangles at sub-pixel places, cut out in one resampling and put back in one.

A window that follows something through a clip lies between pixels and changes its size slowly. If
it were rounded to pixels, its content would tremble. So both ways are weighted sums along each
axis, with weights for exactly this place and scale.

The way back is antialiased, since a model draws finer detail than the frame holds. A plain
antialiasing filter would also weaken the finest detail that the frame does hold. So the weights are
those of the filter R after one step of iterative back-projection (M. Irani and S. Peleg, "Improving
resolution by image registration", 1991): R + (R - R E R), where E cuts the window out. What the
filter loses of a picture is added once; the rest of the error is that loss squared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..geometry import Box, Rect, Size
from ..settings import AUTO
from .image import collapsed
from .precision import in_float32
from .resample import FILTERS, LOBES, Block, along_height, along_width, blocks
from .rotated_crop import RotatedCrop
from .vae_loss import compensated

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LANCZOS, BILINEAR = "lanczos", "bilinear"
_KNOWN = 64  # axes whose weights are kept, for channels, masks and tries of one window


def reach(window: Rect, size: Size) -> int:
    """Pixels beyond its sides that a window of this working size is computed from."""
    scale = max(window.width / size.width, window.height / size.height, 1.0)
    return math.ceil(LOBES * scale) + 1


def region_of(window: Rect, frame: Size, margin: int) -> Box:
    """The whole pixels of the frame that a window with this margin touches; maybe none."""
    left, top, right, bottom = window.sides
    box = Box(math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
    return box.grown(margin).clipped(frame)


def covered(window: Rect, frame: Size) -> Box:
    """The pixels of the frame that lie in a window as a whole; maybe none."""
    left, top, right, bottom = window.sides
    return Box(math.ceil(left), math.ceil(top), math.floor(right), math.floor(bottom)).clipped(
        frame
    )


@dataclass(frozen=True)
class Window(RotatedCrop):
    """A window in a crop region: a rotated crop of the angle 0 that is resampled only once.

    Where the window reaches beyond the region, the region's border pixels are repeated.
    """

    angle: float = 0.0

    @classmethod
    def of(cls, window: Rect, region: Box) -> Window:
        """A window of the frame as one of the region that is cropped around it."""
        centre = window.x - region.x1, window.y - region.y1
        return cls(region.size, centre, (window.width, window.height))

    def middle_part(self, across: float, down: float) -> Window:
        """The part around the window's middle with these shares of its width and height."""
        return replace(self, size=(self.size[0] * across, self.size[1] * down))

    @in_float32
    def extract(self, pixels: torch.Tensor, size: Size) -> torch.Tensor:
        """The picture in the window.

        Args:
            pixels: [N,h,w,C] 0..1, the region.
            size: width and height of the result.

        Returns:
            [N,size.height,size.width,C] 0..1.
        """
        return self.cut(pixels, size).clamp_(0, 1)

    @in_float32
    def cut(self, values: torch.Tensor, size: Size) -> torch.Tensor:
        """As `extract`, for values [N,h,w,C] of any range, which are not clamped."""
        return _applied(values, *(_inwards(*axis) for axis in self._axes(values, size)))

    @in_float32
    def averaged(self, values: torch.Tensor, size: Size) -> torch.Tensor:
        """As `cut` for values [N,h,w,C], but no result is beyond the values around its place."""
        return _applied(values, *(_averaging(*axis) for axis in self._axes(values, size)))

    @in_float32
    def put_back(self, pixels: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """The region with a changed picture put back into the window.

        What the way to the window and back loses of the region is kept, as far as the detail of
        the picture follows that of the region; see `core/pixels/vae_loss.py`. So a picture that was
        not changed gives the region to the bit.

        Args:
            pixels: [N,H,W,C] 0..1: the changed result of `extract`, of any size.
            original: [N,h,w,C], the region; it is kept outside of the window.
        """
        size = Size(pixels.shape[2], pixels.shape[1])
        result = self.returned(pixels, original).clamp_(0, 1)
        if not collapsed(result, original):
            before = self.returned(self.extract(original, size), original).clamp_(0, 1)
            cell = max(own / new for own, new in zip(self.size, size, strict=True))
            result = compensated(result, original, before, AUTO, max(1.0, cell))
        return torch.where(self.inside(original)[..., None], result.to(original), original)

    @in_float32
    def returned(self, values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Values [N,H,W,C] of the window at the places of the region: [N,h,w,C].

        Args:
            values: of any range and size.
            like: [...,h,w,C], tells the size of the region. Beyond the window the values at its
                border are repeated.
        """
        size = Size(values.shape[2], values.shape[1])
        return _applied(values, *(_outwards(*axis) for axis in self._axes(like, size)))

    def _axes(self, region: torch.Tensor, size: Size) -> list[tuple[int, float, float, int]]:
        """Across and down: pixels of the region [...,h,w,C], where the window begins in them, how
        many it covers, and pixels of the window."""
        axes = []
        for axis, have in enumerate((region.shape[-2], region.shape[-3])):
            scale = have / self.region[axis]
            extent = self.size[axis] * scale
            axes.append((have, self.centre[axis] * scale - extent / 2, extent, size[axis]))
        return axes


def _applied(
    values: torch.Tensor, across: tuple[Block, ...], down: tuple[Block, ...]
) -> torch.Tensor:
    """Values [N,h,w,C] of any range, resampled along both axes."""
    count, height, width, channels = values.shape
    planes = values.movedim(-1, 1).reshape(-1, height, width)
    planes = along_height(along_width(planes, across), down)
    return planes.view(count, channels, *planes.shape[1:]).movedim(1, -1)


# The blocks of an axis with `have` pixels, on which a window begins at `first` and is `extent`
# pixels long, while it has `count` pixels of its own.


@lru_cache(maxsize=_KNOWN)
def _inwards(have: int, first: float, extent: float, count: int) -> tuple[Block, ...]:
    return _blocks(_cut_weights(have, first, extent, count, LANCZOS))


@lru_cache(maxsize=_KNOWN)
def _outwards(have: int, first: float, extent: float, count: int) -> tuple[Block, ...]:
    cut = _cut_weights(have, first, extent, count, LANCZOS)
    back = _back_weights(have, first, extent, count)
    return _blocks((2 * back - back @ cut @ back).tocsr())


@lru_cache(maxsize=_KNOWN)
def _averaging(have: int, first: float, extent: float, count: int) -> tuple[Block, ...]:
    return _blocks(_cut_weights(have, first, extent, count, BILINEAR))


def _cut_weights(have: int, first: float, extent: float, count: int, method: str) -> csr_matrix:
    step = extent / count
    return _weights(first + (np.arange(count) + 0.5) * step, step, have, method)


def _back_weights(have: int, first: float, extent: float, count: int) -> csr_matrix:
    step = count / extent
    return _weights((np.arange(have) + 0.5 - first) * step, step, count, LANCZOS)


def _weights(centres: np.ndarray, step: float, have: int, method: str) -> csr_matrix:
    """The weights [centres,have] of a filter on an axis whose ends are repeated outwards.

    Args:
        centres: places on the axis, in pixels.
        step: pixels between two centres; the filter widens if there is more than one.
        have: pixels of the axis.
    """
    from scipy.sparse import csr_matrix

    kernel, reach = FILTERS[method]
    spread = max(step, 1.0)
    taps = math.ceil(reach * spread)
    pixels = np.floor(centres).astype(int)[:, None] + np.arange(-taps, taps + 1)
    values = kernel((pixels + 0.5 - centres[:, None]) / spread)
    values /= values.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(centres)), pixels.shape[1])
    places = rows, pixels.clip(0, have - 1).ravel()
    return csr_matrix((values.ravel(), places), shape=(len(centres), have))


def _blocks(matrix: csr_matrix) -> tuple[Block, ...]:
    def weights(first: int, last: int) -> tuple[int, np.ndarray]:
        part = matrix[first:last]
        start, end = int(part.indices.min()), int(part.indices.max()) + 1
        return start, part[:, start:end].toarray()

    return blocks(matrix.shape[0], weights)
