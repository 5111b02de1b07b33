"""Sums, differences and shapes of masks [B,H,W] float 0..1."""

from __future__ import annotations

import torch

from .bounds import check_pixels
from .geometry import Box, Size
from .mask import feather, fitted_mask
from .precision import in_float32


@in_float32
def intersection(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """What both masks cover: the lower value of each pixel; see `matched` for sizes."""
    return torch.minimum(*matched(first, second))


@in_float32
def difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The first mask without the second, at least 0; see `matched` for sizes."""
    first, second = matched(first, second)
    return (first - second).clamp_(0, 1)


@in_float32
def total(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Both masks together, at most 1; see `matched` for sizes."""
    first, second = matched(first, second)
    return (first + second).clamp_(0, 1)


def matched(
    first: torch.Tensor, second: torch.Tensor, names: tuple[str, str] = ("mask1", "mask2")
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two masks that can be calculated with pixel by pixel.

    The second is brought to the first's size, device and dtype. One mask goes with each of a batch.

    Raises:
        ValueError: two batches of different length.
    """
    if len(first) != len(second) and 1 not in (len(first), len(second)):
        raise ValueError(
            f"'{names[0]}' holds {len(first)} masks and '{names[1]}' {len(second)}, so that it is "
            "not clear which go together. Give both as many, or one of them a single mask."
        )
    size = Size(first.shape[2], first.shape[1])
    return first, fitted_mask(second.to(first), size, names[1])


def binary(mask: torch.Tensor, threshold: float) -> torch.Tensor:
    """1 where the mask is above the threshold (0..1), 0 elsewhere."""
    return (mask > threshold).to(mask.dtype)


def rectangle(size: Size, box: Box, blur_radius: int = 0) -> torch.Tensor:
    """A mask [1,H,W] of a box, its part outside the canvas cut off.

    Args:
        blur_radius: reach of a gaussian over the edges, in pixels. Its width follows from the
            reach by OpenCV's rule for kernels of 2 * radius + 1 pixels.
    """
    check_pixels(size, "The mask", remedy="Give a smaller 'image_width' and 'image_height'.")
    box = box.clipped(size)
    mask = torch.zeros(1, size[1], size[0])
    mask[:, box.y1 : box.y2, box.x1 : box.x2] = 1
    return feather(mask, blur_radius, 0.3 * (blur_radius - 1) + 0.8) if blur_radius else mask
