"""Batches of images or masks, made from lists of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..geometry import Box, Size
from .image import crop
from .mask import resize_mask
from .resample import resize


def joined_rows(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The rows of all tensors [N,...] in one tensor; a single tensor is returned as it is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def image_batch(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """All images in one batch.

    Args:
        images: at least one [B,H,W,C] 0..1, C 1, 3 or 4. The batch has the size of the first. An
            image of another shape is cut to its middle, and resized. Where some images have colour
            or alpha and others do not, these are added; the added alpha is opaque.

    Returns:
        [B,H,W,C] on the device and with the dtype of the first image.

    Raises:
        ValueError: there is no image.
    """
    first = _first(images, "image")
    size = Size(first.shape[2], first.shape[1])
    channels = max(image.shape[-1] for image in images)
    fitted = [
        with_channels(resize(centre(image.to(first), size), size), channels) for image in images
    ]
    return joined_rows(fitted)


def mask_batch(masks: Sequence[torch.Tensor]) -> torch.Tensor:
    """All masks [B,H,W] in one batch [B,H,W]; sizes as in `image_batch`.

    Raises:
        ValueError: there is no mask.
    """
    first = _first(masks, "mask")
    size = Size(first.shape[2], first.shape[1])
    fitted = [resize_mask(centre(mask.to(first)[..., None], size)[..., 0], size) for mask in masks]
    return joined_rows(fitted)


def _first(several: Sequence[torch.Tensor], what: str) -> torch.Tensor:
    if not several:
        raise ValueError(f"There is no {what} to make a batch of. Connect one at least.")
    return several[0]


def centre(image: torch.Tensor, size: Size) -> torch.Tensor:
    """The largest middle part of an image [B,H,W,C] with the proportions of `size`; a view."""
    width, height = image.shape[2], image.shape[1]
    if width * size[1] > size[0] * height:  # too wide
        margin = min(round((width - height * size[0] / size[1]) / 2), (width - 1) // 2)
        return crop(image, Box(margin, 0, width - margin, height))
    margin = min(round((height - width * size[1] / size[0]) / 2), (height - 1) // 2)
    return crop(image, Box(0, margin, width, height - margin))


def with_channels(image: torch.Tensor, channels: int) -> torch.Tensor:
    """An image [B,H,W,C] with 1, 3 or 4 channels, at least as many as it has."""
    if image.shape[-1] == channels:
        return image
    rgb = image.expand(*image.shape[:-1], 3) if image.shape[-1] == 1 else image
    return rgb if channels == 3 else torch.cat([rgb, torch.ones_like(rgb[..., :1])], dim=-1)
