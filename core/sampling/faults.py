"""Results that are no picture: values that are not finite, or nothing but black.

A VAE in half precision is the most common cause. Where that may be it, its work is done again in
float32. What is wrong all the same is an error, or told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...utils.notes import note
from ..backend import Backend
from ..pixels.image import collapsed, usable
from ..streams import Latent, picture, streams

NOT_FINITE = (
    "the model gave values that are not finite. A VAE in half precision often does; run it in "
    "float32 or bfloat16."
)
COLLAPSED = "the model gave nothing but black where the image is not black."


def fault_of(pixels: torch.Tensor, original: torch.Tensor | None = None) -> str:
    """What is wrong with a result [N,h,w,C]; empty if nothing is.

    Args:
        original: [N,...,C] that it was made of, of any size; None asks for finite values only.
    """
    if not usable(pixels):
        return NOT_FINITE
    return COLLAPSED if original is not None and collapsed(pixels, original) else ""


def decoded(
    samples: Latent,
    vae: Any,
    decode: Callable[[Any], torch.Tensor],
    backend: Backend,
    original: torch.Tensor | None = None,
) -> torch.Tensor:
    """The pixels [N,h,w,3] of samples; made again with the VAE in float32 if they are no picture.

    A picture that stays black may be what was asked for: it is told, and given.

    Args:
        decode: gives the pixels with a VAE.
        original: as in `fault_of`.

    Raises:
        ValueError: samples or pixels are not finite.
    """
    check_samples(samples, f"The latent {list(picture(samples).shape)}")
    pixels = decode(vae)
    fault = fault_of(pixels, original)
    if not fault:
        return pixels
    where = f"The picture of {pixels.shape[2]}x{pixels.shape[1]} pixels"
    precise = backend.in_float32(vae)
    if precise is not None:
        note("fault", f"{where} is decoded again with the VAE in float32: {fault}")
        pixels = decode(precise)
        fault = fault_of(pixels, original)
    if not usable(pixels):
        raise ValueError(
            f"{where} is not finite: {fault} Check the model and its settings as well."
        )
    if fault:
        note("fault", f"{where} is black: {fault} It is given as it is.")
    return pixels


def encoded(
    pixels: torch.Tensor, vae: Any, encode: Callable[[Any], Latent], backend: Backend
) -> Latent:
    """The samples of pixels [N,h,w,3], made again with the VAE in float32 where not finite.

    Raises:
        ValueError: pixels or samples are not finite.
    """
    where = f"The picture of {pixels.shape[2]}x{pixels.shape[1]} pixels"
    if not usable(pixels):
        raise ValueError(f"{where} is not finite, so it cannot be encoded: {NOT_FINITE}")
    samples = encode(vae)
    if finite(samples):
        return samples
    precise = backend.in_float32(vae)
    if precise is not None:
        note("fault", f"{where} is encoded again with the VAE in float32: {NOT_FINITE}")
        samples = encode(precise)
    if not finite(samples):
        raise ValueError(f"{where} cannot be encoded: {NOT_FINITE}")
    return samples


def check_samples(samples: Latent, name: str, before: Latent | None = None) -> Latent:
    """The samples, all of them finite.

    Args:
        name: the subject of the error, such as "The sampled latent".
        before: what they were made of; where that is not finite, the error says so.

    Raises:
        ValueError: they are not finite.
    """
    if finite(samples):
        return samples
    shape = list(picture(samples).shape)
    if before is not None and not finite(before):
        raise ValueError(
            f"{name} holds values that are not finite (NaN or infinite), as does the latent that"
            f" came in ({shape}). What made that has failed, often a VAE in half precision: run"
            " that in float32 or bfloat16."
        )
    raise ValueError(
        f"{name} holds values that are not finite (NaN or infinite; shape {shape}): the model has"
        " failed. Run it in bfloat16 or float32, and look for a LoRA, a patch, a ControlNet or a"
        " conditioning that is damaged or does not belong to it."
    )


def finite(samples: Latent) -> bool:
    """Whether all streams of samples hold finite values alone."""
    return all(usable(stream) for stream in streams(samples))
