"""Lists of images and masks, and the batches that they become."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..geometry import Box, Size
from .image import crop
from .mask import resize_mask
from .resample import resize


def joined_rows(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The rows of all tensors [N,...] in one; of a single tensor that tensor itself."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def image_batch(images: Sequence[torch.Tensor]) -> torch.Tensor:
    """All images in one batch.

    Args:
        images: at least one [B,H,W,C], C 1, 3 or 4. The first gives the size: of another one the
            middle part of that shape is resized. Colour and alpha are added where others have
            them, the alpha opaque.

    Returns:
        [B,H,W,C] on the first one's device, of its dtype.
    """
    first = _first(images, "image")
    size = Size(first.shape[2], first.shape[1])
    channels = max(image.shape[-1] for image in images)
    fitted = [
        with_channels(resize(centre(image.to(first), size), size), channels) for image in images
    ]
    return joined_rows(fitted)


def mask_batch(masks: Sequence[torch.Tensor]) -> torch.Tensor:
    """All masks in one batch [B,H,W]; sizes as in `image_batch`."""
    first = _first(masks, "mask")
    size = Size(first.shape[2], first.shape[1])
    fitted = [resize_mask(centre(mask.to(first)[..., None], size)[..., 0], size) for mask in masks]
    return joined_rows(fitted)


def _first(several: Sequence[torch.Tensor], what: str) -> torch.Tensor:
    if not several:
        raise ValueError(f"There is no {what} to make a batch of. Connect one at least.")
    return several[0]


def centre(image: torch.Tensor, size: Size) -> torch.Tensor:
    """The largest part in the middle of an image [B,H,W,C] that has the shape of `size`; a view."""
    width, height = image.shape[2], image.shape[1]
    if width * size[1] > size[0] * height:  # too wide
        margin = min(round((width - height * size[0] / size[1]) / 2), (width - 1) // 2)
        return crop(image, Box(margin, 0, width - margin, height))
    margin = min(round((height - width * size[1] / size[0]) / 2), (height - 1) // 2)
    return crop(image, Box(0, margin, width, height - margin))


def with_channels(image: torch.Tensor, channels: int) -> torch.Tensor:
    """An image [B,H,W,C] with at least its own number of channels: 1, 3 or 4."""
    if image.shape[-1] == channels:
        return image
    rgb = image.expand(*image.shape[:-1], 3) if image.shape[-1] == 1 else image
    return rgb if channels == 3 else torch.cat([rgb, torch.ones_like(rgb[..., :1])], dim=-1)
