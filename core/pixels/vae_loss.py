"""Pasting the change that a model made instead of the picture that the VAE made of it.

A VAE changes even what the sampler keeps: fine detail is lost, colours shift. Decoding the crop as
it was, next to the result, shows what this VAE does to this crop. `original + (result - decoded)`
cancels that where the result is close to the original. Where something else was drawn, what the
original lost does not belong there. What the VAE does to any picture is taken off there instead:
its tint and contrast by a straight line for each channel, its softness by a gain for each octave of
detail, as in the filter of N. Wiener ("Extrapolation, interpolation, and smoothing of stationary
time series", 1949). Both are told from the decoded crop and the crop as it was.
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
# Correlations of detail: from LIKE on the same thing was redrawn, below UNLIKE another was drawn.
UNLIKE, LIKE = 0.2, 0.35
FAINT = 1e-5  # variance of detail that does not show: (0.8 / 255) squared
OCTAVES = (0.125, 0.25, 0.5, 1.0, 2.0)  # latent pixels: blurs between which detail has one gain
FINEST = 0.5  # pixels: the narrowest blur that tells detail from the rest
SHARPEST = 2.0  # the most that detail is raised by: beyond it would mostly be noise
PLAIN = 4e-4  # variance of colours that show no contrast: 0.02 squared
STEEPEST = 2.0  # a contrast is changed by no more than this, or one over it


@in_float32
def compensated(
    result: torch.Tensor, original: torch.Tensor, decoded: torch.Tensor, way: str, cell: float
) -> torch.Tensor:
    """A result without what the VAE did to it.

    Args:
        result: [N,h,w,3], decoded after sampling.
        original: [N,h,w,3], the crop before it was encoded.
        decoded: [N,h,w,3], the crop encoded and decoded, without sampling in between.
        way: RESIDUAL puts the result's change onto the original; AUTO does so where the same thing
            is around, and else as far as the visible detail of the result follows that of the
            original. Where it does not, AUTO gives the result the contrast, tint and sharpness
            that the decoded crop has lost.
        cell: pixels that a side of a latent pixel covers.

    Returns:
        [N,h,w,3] 0..1. Where result and decoded are equal, it is the original to the bit. If the
        VAE has lost nothing, it is the result but for rounding. Each of the N pictures is treated
        by itself.
    """
    residual = original + (result - decoded)
    if way == RESIDUAL:
        return residual.clamp(0, 1)
    restored = _restored(result, original, decoded, cell)
    return torch.lerp(restored, residual, _followed(result, decoded, cell)).clamp_(0, 1)


def _restored(
    result: torch.Tensor, original: torch.Tensor, decoded: torch.Tensor, cell: float
) -> torch.Tensor:
    """The result with the contrast, tint and sharpness that this VAE takes off: [N,h,w,3]."""
    contrast, offset = _tone(softened(original, COARSE * cell), softened(decoded, COARSE * cell))
    result, decoded = (own + (contrast - 1) * own + offset for own in (result, decoded))
    return _sharpened(result, original, decoded, cell)


def _tone(original: torch.Tensor, decoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrast and offset that give the decoded crop the original's colours: both are [N,1,1,3].

    Contrast is the ratio of the spreads, as far as both go together. The slope of a regression
    would also be small where the VAE adds errors of its own, and take contrast off the result.
    """
    means = [picture.mean(dim=(1, 2), keepdim=True) for picture in (original, decoded)]
    before, after = (own - mean for own, mean in zip((original, decoded), means, strict=True))
    shared, wanted, given = (
        product.mean(dim=(1, 2), keepdim=True)
        for product in (before * after, before * before, after * after)
    )
    wanted, given = wanted + PLAIN, given + PLAIN
    together = shared.clamp(min=0).square() / (wanted * given)
    ratio = (wanted / given).sqrt().clamp(1 / STEEPEST, STEEPEST)
    contrast = 1 + together * (ratio - 1)
    return contrast, means[0] - contrast * means[1]


def _sharpened(
    result: torch.Tensor, original: torch.Tensor, decoded: torch.Tensor, cell: float
) -> torch.Tensor:
    """The result with each octave of its detail raised as the decoded crop's falls short.

    Detail that the VAE makes up does not agree with the original's, and so keeps the gain low.
    Nothing is made softer.
    """
    sharp, pictures = result, [result, original, decoded]
    for sigma in (octave * cell for octave in OCTAVES if octave * cell >= FINEST):
        softer = [softened(picture, sigma) for picture in pictures]
        ours, before, after = (own - soft for own, soft in zip(pictures, softer, strict=True))
        shared, own = (
            product.mean(dim=(1, 2, 3), keepdim=True) for product in (before * after, after * after)
        )
        gain = ((shared + FAINT) / (own + FAINT)).clamp(1, SHARPEST)
        sharp, pictures = sharp + (gain - 1) * ours, softer
    return sharp


def _followed(result: torch.Tensor, decoded: torch.Tensor, cell: float) -> torch.Tensor:
    """How far the result is the original redrawn, 0..1: [N,h,w,1].

    The detail that the VAE left is taken as a measure of the detail that it lost. A result that
    strays, as at low and middle denoise, would miss lost detail more than superfluous detail
    disturbs it. So it follows where the surroundings show the same thing, however far it strays.
    Elsewhere detail follows to the degree that it agrees.
    """
    ours, theirs = (picture - softened(picture, COARSE * cell) for picture in (result, decoded))
    products = [
        (one * other).mean(dim=-1, keepdim=True)
        for one, other in ((ours, theirs), (ours, ours), (theirs, theirs))
    ]
    near, alike = _agreement(products, NEAR * cell), _alike(products, AROUND * cell)
    same = (result == decoded).all(dim=-1, keepdim=True)
    return torch.where(same, torch.ones_like(near), torch.lerp(near, torch.ones_like(near), alike))


def _agreement(products: Sequence[torch.Tensor], sigma: float) -> torch.Tensor:
    """The slope of the regression of one detail on the other in a window around each pixel.

    Detail that only one of the two has makes it smaller.

    Args:
        products: of both details, of the result's with itself, and of the original's with itself.

    Returns:
        0..1, of the products' shape.
    """
    shared, own, before = (softened(product, sigma) + FAINT for product in products)
    return (shared / torch.maximum(own, before)).clamp(0, 1)


def _alike(products: Sequence[torch.Tensor], sigma: float) -> torch.Tensor:
    """Whether the same thing is around, from the correlation of both details; as `_agreement`.

    How strong the detail is makes no difference: a blurred thing that was redrawn sharp is alike.
    """
    shared, own, before = (softened(product, sigma) + FAINT for product in products)
    return ((shared / (own * before).sqrt() - UNLIKE) / (LIKE - UNLIKE)).clamp(0, 1)
