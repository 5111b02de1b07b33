"""What things look like, as short vectors by which they are told apart from frame to frame.

A vector has the colours of the thing's box as histograms, and its coarse layout. The distance of
two histograms is that of Hellinger, as in D. Comaniciu et al., "Kernel-based object tracking"
(2003), with pixels near the centre of the box counting more. No network is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from ..geometry import Box, Rect, Size
from ..pixels.colour import LUMINANCE
from ..pixels.image import crop, to_rgb
from ..pixels.precision import in_float32

SIDE = 24  # pixels to which a box is resized
LIGHT_BINS, COLOUR_BINS = 8, 8  # of the histogram of luma, and of each of two colour differences
CELLS = 4  # the layout has so many cells along each side
_LAYOUT = 0.5  # weight of the layout, whose colours are 0..1
_BLOCK = 1024  # vectors that are kept in one block
_REACH = 0.6  # colour differences beyond it count as it


@in_float32
def looks_of(frame: torch.Tensor, boxes: Sequence[Rect]) -> list[np.ndarray | None]:
    """A vector [D] for each box; None for one that shows no pixel of the frame.

    Args:
        frame: [1,H,W,C] 0..1.
        boxes: in pixels of the frame; they may leave it.
    """
    rgb, _ = to_rgb(frame)
    size = Size(rgb.shape[2], rgb.shape[1])
    regions = [_pixels_of(box).clipped(size) for box in boxes]
    shown = [place for place, region in enumerate(regions) if not region.empty]
    looks: list[np.ndarray | None] = [None] * len(boxes)
    if not shown:
        return looks
    pictures = torch.cat([_small(crop(rgb, regions[place])) for place in shown])
    for place, vector in zip(shown, _vectors(pictures).cpu().numpy(), strict=True):
        looks[place] = vector
    return looks


class KeptLooks:
    """Vectors that are kept while a clip is read, in few large blocks.

    Kept one by one, they would lie between the pictures of which they were made. Those could then
    not be replaced by others of their size, and the process would grow with every frame.
    """

    def __init__(self) -> None:
        self._block = np.empty((0, 0), np.float32)
        self._used = 0

    def keep(self, vector: np.ndarray) -> np.ndarray:
        """The same vector [D], in a block."""
        if self._used == len(self._block):
            self._block, self._used = np.empty((_BLOCK, len(vector)), vector.dtype), 0
        kept = self._block[self._used]
        kept[:] = vector
        self._used += 1
        return kept


def unlike_mean(looks: Sequence[np.ndarray | None]) -> list[float | None]:
    """How unlike each of some vectors [D] is to the mean of all that are known.

    0 is equal to it, about 1 has nothing in common with it; None where a vector is not known.
    """
    known = [own for own in looks if own is not None]
    mean = np.mean(known, axis=0) if known else None
    return [None if own is None else float(np.linalg.norm(own - mean)) for own in looks]


def _pixels_of(box: Rect) -> Box:
    left, top, right, bottom = box.sides
    return Box(math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))


def _small(picture: torch.Tensor) -> torch.Tensor:
    """A picture [1,h,w,3] as [1,3,SIDE,SIDE], each pixel the mean of what it covers."""
    planes = picture.movedim(-1, 1).float()
    return F.interpolate(planes, (SIDE, SIDE), mode="bilinear", antialias=True).clamp(0, 1)


def _vectors(pictures: torch.Tensor) -> torch.Tensor:
    """[N,D] of pictures [N,3,SIDE,SIDE]."""
    weight = _weights(SIDE).to(pictures)
    histogram = histograms(pictures, weight)
    layout = F.adaptive_avg_pool2d(pictures, CELLS).flatten(1)
    layout = layout * (_LAYOUT / math.sqrt(layout.shape[1]))
    return torch.cat([histogram, layout], dim=1)


def histograms(pictures: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Roots of colour histograms, [N,D]; the length of a difference is Hellinger's distance, 0..1.

    Luma has a histogram of its own, and the two colour differences have one together. A value
    counts in the two bins that it lies between, so that a slight change changes little.

    Args:
        pictures: [N,3,h,w] 0..1.
        weight: [h,w], how much a pixel counts; the sum is 1.
    """
    luma = torch.einsum("nchw,c->nhw", pictures, pictures.new_tensor(LUMINANCE))
    differences = [(pictures[:, place] - luma).clamp(-_REACH, _REACH) for place in (0, 2)]
    light = _soft(luma, LIGHT_BINS)
    red, blue = (_soft(0.5 + 0.5 * each / _REACH, COLOUR_BINS) for each in differences)
    lightness = weight.flatten() @ light.flatten(1, 2)
    weighted = (red * weight[..., None]).flatten(1, 2)
    colour = (weighted.mT @ blue.flatten(1, 2)).flatten(1)
    both = torch.cat([0.4 * lightness, 0.6 * colour], dim=1)
    return (both.clamp(min=0) / 2).sqrt()


def _soft(values: torch.Tensor, bins: int) -> torch.Tensor:
    """Values [...] 0..1 spread over the two nearest of so many bins, [...,bins]."""
    place = values.clamp(0, 1) * (bins - 1)
    centres = torch.arange(bins, device=values.device, dtype=values.dtype)
    return (1 - (place[..., None] - centres).abs()).clamp(min=0)


@lru_cache(maxsize=4)
def _weights(side: int) -> torch.Tensor:
    """[side,side] with the sum 1: the centre of the box counts most, and its corners not at all."""
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    weight = (1 - (place[:, None] ** 2 + place[None] ** 2)).clamp(min=0)
    return weight / weight.sum()
