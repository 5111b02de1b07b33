"""Pasting the change that a model made instead of the picture that the VAE made of it.

A VAE changes even what the sampler keeps: fine detail is lost, colours shift. Decoding the crop as
it was, next to the result, shows what this VAE does to this crop. `original + (result - decoded)`
cancels that where the result is close to the original. Where something else was drawn, the detail
that the original lost does not belong there, only the shift of colours does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..settings import RESIDUAL
from .mask import softened
from .precision import in_float32

COARSE = 2.0  # latent pixels: a coarser error is a shift of colours, a finer one is lost detail
NEAR = 1.0  # latent pixels: detail is compared within about this distance
AROUND = 6.0  # latent pixels: whether a whole part of the picture is the same thing is seen here
# Where the surroundings are UNLIKE or less, detail counts as followed to the degree that it is.
# Where they are LIKE or more, the same thing was redrawn, and a share of ENOUGH follows fully.
UNLIKE, LIKE = 0.3, 0.5
ENOUGH = 0.1
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
    lost = error - softened(error, COARSE * cell)
    followed = _followed(result, decoded, cell)
    return (residual - (1 - followed) * lost).clamp_(0, 1)


def _followed(result: torch.Tensor, decoded: torch.Tensor, cell: float) -> torch.Tensor:
    """How far the detail of the result follows that of the original, 0..1: [N,h,w,1].

    The detail that the VAE left is taken as a measure of the detail that it lost. A result that
    only strays a little, as at low denoise, would miss lost detail more than superfluous detail
    disturbs it. So the surroundings say how much has to agree at a pixel.
    """
    ours, theirs = (picture - softened(picture, COARSE * cell) for picture in (result, decoded))
    products = [
        (one * other).mean(dim=-1, keepdim=True)
        for one, other in ((ours, theirs), (ours, ours), (theirs, theirs))
    ]
    near, around = (_agreement(products, reach * cell) for reach in (NEAR, AROUND))
    alike = ((around - UNLIKE) / (LIKE - UNLIKE)).clamp(0, 1)
    share = (near / torch.lerp(torch.ones_like(alike), alike.new_tensor(ENOUGH), alike)).clamp(0, 1)
    same = (result == decoded).all(dim=-1, keepdim=True)
    return torch.where(same, torch.ones_like(share), share)


def _agreement(products: Sequence[torch.Tensor], sigma: float) -> torch.Tensor:
    """The slope of the regression of one detail on the other in a window around each pixel.

    Detail that only one of the two has makes it smaller.

    Args:
        products: of both details, of the result's with itself, and of the original's with itself.

    Returns:
        0..1, of the products' shape.
    """
    shared, own, before = (softened(product, sigma) for product in products)
    return ((shared + FAINT) / (torch.maximum(own, before) + FAINT)).clamp(0, 1)
