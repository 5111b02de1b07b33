"""How sharp what a segment shows is."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..geometry import Size
from ..pixels.colour import LUMINANCE
from ..pixels.image import to_rgb
from ..pixels.mask import union
from ..pixels.precision import in_float32
from ..pixels.resample import resize
from .seg import SEG, own_picture, seg_mask


def sharpness(seg: SEG) -> float | None:
    """The variance of the Laplacian of a segment's picture within its mask, in thousandths.

    J. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000). Of several
    pictures, such as the frames of a clip, it is the mean.

    Returns:
        None for a segment without a picture, or without a mask.
    """
    picture = own_picture(seg)
    if picture is None:
        return None
    rgb, _ = to_rgb(picture)
    mask = seg_mask(seg, like=rgb)
    mask = union(mask) if len(mask) not in (1, len(rgb)) else mask
    size = Size(rgb.shape[2], rgb.shape[1])
    weight = resize(mask[..., None], size)[..., 0].clamp(0, 1)
    return _variance_of_laplacian(rgb, weight)


def sharpness_of(picture: torch.Tensor) -> float:
    """The same of all of a picture [1,h,w,C] 0..1; 0 for one of less than 3 pixels."""
    rgb, _ = to_rgb(picture)
    return _variance_of_laplacian(rgb, rgb.new_ones(1, *rgb.shape[1:3])) or 0.0


@in_float32
def _variance_of_laplacian(rgb: torch.Tensor, weight: torch.Tensor) -> float | None:
    """The variance over each picture of [N,h,w,3] by a weight [N or 1,h,w] 0..1, and their mean."""
    if min(rgb.shape[1:3]) < 3 or not weight.sum() > 0:
        return None
    luma = (rgb * rgb.new_tensor(LUMINANCE)).sum(-1)
    plane = F.pad(luma[:, None], (1, 1, 1, 1), mode="replicate")
    kernel = plane.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    edges = F.conv2d(plane, kernel[None, None])[:, 0]
    weight = weight.expand_as(edges)
    total = weight.sum((1, 2)).clamp(min=1e-6)
    mean = (edges * weight).sum((1, 2)) / total
    variance = ((edges - mean[:, None, None]).square() * weight).sum((1, 2)) / total
    return float(1000 * variance.mean())
