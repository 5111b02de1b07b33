"""Segments from masks, for the images of a batch."""

from __future__ import annotations

import torch

from ...utils.notes import note
from ..hook_protocol import Hook
from ..pixels.mask import union
from .image_batch import NOTE, counted
from .seg import SEGS, from_mask


def segs_for_images(
    mask: torch.Tensor,
    count: int,
    hook: Hook,
    *,
    crop_factor: float,
    drop_size: int,
    bbox_fill: bool = False,
    contour_fill: bool = True,
) -> list[SEGS]:
    """The SEGS of each image of a batch, with a SEG for each shape in its mask.

    Args:
        mask: [B,H,W] 0..1. With as many masks as images, image i uses mask i. Otherwise all images
            use the union of the masks, and the user is told.
        count: number of images.
        hook: may change crop regions.
        crop_factor, drop_size, bbox_fill, contour_fill: as in `from_mask`.
    """

    def shapes(layer: torch.Tensor) -> SEGS:
        return from_mask(
            layer, combined=False, crop_factor=crop_factor, bbox_fill=bbox_fill,
            drop_size=drop_size, contour_fill=contour_fill, adjust_region=hook.adjust_region,
        )  # fmt: skip

    if len(mask) == count > 1:
        return [shapes(layer) for layer in mask]
    if len(mask) > 1:
        note(
            NOTE,
            f"There are {len(mask)} masks for {counted(count, 'image')}: the masks are united, and"
            " what any of them covers is redrawn in each image. Give one mask for each image.",
        )
    return [shapes(union(mask))] * count
