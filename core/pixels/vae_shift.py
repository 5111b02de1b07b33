"""Undo what encoding and decoding by the VAE did to pixels that were not redrawn.

A VAE does not return exactly the pixels that it was given: fine detail is lost, and colours shift a
little. Where the noise mask kept the latent, the difference to the original is this error alone.
There the original pixels are restored. The colour shift measured there is continued under the
redrawn part, and subtracted from it too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .mask import dilate, fade
from .precision import in_float32

CELLS = 2  # latent pixels around the redrawn part that the decoder mixes with it
LEAST = 0.02  # the least share of a crop that has to be kept to estimate a shift
FINEST = 8  # side in pixels of the smallest cells: finer differences are lost detail


@in_float32
def restore_kept(
    pixels: torch.Tensor, original: torch.Tensor, noise_mask: torch.Tensor, cell: float
) -> torch.Tensor:
    """A result with its kept pixels restored and its colours without the VAE's shift.

    Args:
        pixels: [N,h,w,3] 0..1, decoded by the VAE.
        original: [N,h,w,3] 0..1, the pixels that were encoded.
        noise_mask: [N or 1,h,w] 0..1, 0 where the latent was kept.
        cell: pixels per side of a latent pixel.

    Returns:
        [N,h,w,3] 0..1; a row of which too little was kept stays as in `pixels`.
    """
    margin = max(1, round(CELLS * cell))
    touched = (noise_mask > 0).to(original)
    known = 1 - dilate(touched, 2 * margin + 1)
    told = known.mean(dim=(1, 2)) >= LEAST
    if not told.any():
        return pixels
    difference = pixels - original
    shift = _filled(difference, known[..., None])
    reach = fade(dilate(touched, margin | 1), margin - margin // 2)[..., None]
    restored = torch.where(reach > 0, original + (difference - shift) * reach, original)
    return torch.where(told[:, None, None, None], restored.clamp_(0, 1), pixels)


def _filled(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The known values [N,h,w,C], averaged, and continued smoothly into the unknown part.

    This is the pull-push algorithm of S. Gortler et al., "The Lumigraph" (1996). It takes means of
    larger and larger cells. Where a cell has few known values, the next larger cell fills in.

    Args:
        known: [N or 1,h,w,1], 1 where a value counts.
    """
    height, width = values.shape[1:3]
    sums = _means_of_cells((values * known).movedim(-1, 1), FINEST)
    weights = _means_of_cells(known.movedim(-1, 1).to(values), FINEST)
    levels = [(sums, weights)]
    while max(sums.shape[-2:]) > 1:
        sums, weights = _means_of_cells(sums, 2), _means_of_cells(weights, 2)
        levels.append((sums, weights))
    sums, weights = levels.pop()
    field = sums / weights.clamp(min=1e-6)
    while levels:
        sums, weights = levels.pop()
        field = _enlarged(field, sums.shape[-2:])
        sure = weights.clamp(max=1)
        field = torch.lerp(field, sums / weights.clamp(min=1e-6), sure)
    return _enlarged(field, (height, width)).movedim(1, -1)


def _means_of_cells(planes: torch.Tensor, side: int) -> torch.Tensor:
    return F.avg_pool2d(planes, side, ceil_mode=True, count_include_pad=False)


def _enlarged(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False)
