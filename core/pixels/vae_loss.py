"""Pasting the change that a model made instead of the picture that the VAE made of it.

A VAE changes even what the sampler keeps: fine detail is lost, colours shift. Decoding the crop as
it was, next to the result, shows what this VAE does to this crop. `original + (result - decoded)`
cancels that where the result is close to the original. Where something else was drawn, the detail
that the original lost does not belong there, only the shift of colours does.
"""

from __future__ import annotations

import torch

from ..settings import RESIDUAL
from .mask import SIGMAS_OF_REACH, blur_image
from .precision import in_float32

COARSE = 2.0  # latent pixels: a coarser error is a shift of colours, a finer one is lost detail
WINDOW = 1.0  # latent pixels: detail is compared within about this distance
# The power of the slope. Below 1, detail counts as followed sooner: lost detail of a sharp original
# is missed more than superfluous detail of a poor one disturbs.
LENIENCE = 1 / 3
FAINT = 1e-5  # variance of detail that does not show: (0.8 / 255) squared


@in_float32
def compensated(
    result: torch.Tensor, original: torch.Tensor, decoded: torch.Tensor, way: str, cell: float
) -> torch.Tensor:
    """A result without what the VAE did to it.

    Args:
        result: [N,h,w,3], decoded after sampling.
        original: [N,h,w,3], the crop before it was encoded.
        decoded: [N,h,w,3], the crop encoded and decoded, without sampling in between.
        way: RESIDUAL puts the result's change onto the original; AUTO does so as far as the
            visible detail of the result follows that of the original.
        cell: pixels that a side of a latent pixel covers.

    Returns:
        [N,h,w,3] 0..1. Where result and decoded are equal, it is the original to the bit.
    """
    residual = original + (result - decoded)
    if way == RESIDUAL:
        return residual.clamp(0, 1)
    error = original - decoded
    lost = error - _soft(error, COARSE * cell)
    followed = _followed(result, decoded, cell)
    return (residual - (1 - followed) * lost).clamp_(0, 1)


def _followed(result: torch.Tensor, decoded: torch.Tensor, cell: float) -> torch.Tensor:
    """How far the detail of the result follows that of the original, 0..1: [N,h,w,1].

    It is the slope of the regression of one on the other, within a window around each pixel: the
    detail that the VAE left is taken as a measure of the detail that it lost. Detail that only one
    of the two has makes it smaller.
    """
    ours, theirs = (picture - _soft(picture, COARSE * cell) for picture in (result, decoded))
    shared, own, before = (
        _soft(product.mean(dim=-1, keepdim=True), WINDOW * cell)
        for product in (ours * theirs, ours * ours, theirs * theirs)
    )
    slope = (shared + FAINT) / (torch.maximum(own, before) + FAINT)
    same = (result == decoded).all(dim=-1, keepdim=True)
    return torch.where(same, torch.ones_like(slope), slope.clamp(0, 1) ** LENIENCE)


def _soft(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian of [N,h,w,C]."""
    sigma = max(sigma, 0.5)
    return blur_image(picture, max(1, round(SIGMAS_OF_REACH * sigma)), sigma)
