"""Enlarge an image, and then redraw its segments at their new size."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..backend import Backend
from ..bounds import check_pixels
from ..geometry import Size, Sizing
from ..pixels.image import merge_alpha, split_alpha, to_rgb
from ..pixels.resample import resample
from ..segs.seg import SEGS
from ..settings import NO_CROPS, Detail
from .images import detail_image

OWN_SIZE = Sizing(guide_size=1, max_size=sys.maxsize, force_inpaint=True)  # no crop is scaled


@dataclass(frozen=True)
class Enlarging:
    """How an image is enlarged; the fields are those of the SEGS upscaler nodes."""

    factor: float  # new sides over old ones; below 1 shrinks
    method: str  # of core/pixels/resample.py
    supersample: bool = False
    multiple: int = 8  # the new sides are rounded to multiples of this, in pixels
    model: Callable[[torch.Tensor], torch.Tensor] | None = None  # upscale model, for [B,H,W,3]

    def size(self, old: Size) -> Size:
        """The new size of an image of size `old`."""
        multiple = max(1, self.multiple)
        width, height = (
            max(1, round(int(side * self.factor) / multiple)) * multiple for side in old
        )  # fmt: skip
        return Size(width, height)


def enlarge(image: torch.Tensor, enlarging: Enlarging) -> torch.Tensor:
    """Resize an image [B,H,W,C] to its new size [B,H',W',C]. The upscale model sees no alpha.

    Raises:
        ValueError: the new size is too large.
    """
    size = enlarging.size(Size(image.shape[2], image.shape[1]))
    check_pixels(size, "The enlarged image", remedy="Lower 'rescale_factor'.")
    colours, alpha = split_alpha(image)
    if enlarging.model is not None:
        colours = enlarging.model(to_rgb(colours)[0].contiguous()).to(image)
    colours, alpha = (
        None
        if part is None
        else resample(part, size, enlarging.method, supersample=enlarging.supersample)
        for part in (colours, alpha)
    )
    return merge_alpha(colours, alpha)


def upscale_segs(
    image: torch.Tensor, segs: SEGS, enlarging: Enlarging, detail: Detail, backend: Backend
) -> torch.Tensor:
    """Enlarge an image [B,H,W,C] and redraw every segment in it.

    Args:
        segs: made for any image size; they are scaled to the new size.
        detail: its sizing is OWN_SIZE, unless the crops are to be scaled as well.

    Returns:
        The new image [B,H',W',C].
    """
    detail = replace(detail, kept=NO_CROPS)
    return detail_image(enlarge(image, enlarging), segs, detail, backend).image
