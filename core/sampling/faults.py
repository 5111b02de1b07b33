"""Detect broken results: values that are not finite, or pictures that are all black.

A VAE in half precision is the most common cause. If that may be the cause, the VAE is run again in
float32. If the result is still broken, an error is raised or the user is told.
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
        original: [N,H,W,C], the pixels from which it was made, of any size. None: only check that
            all values are finite.
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
    """The pixels of a latent. They are decoded again with the VAE in float32 if they are broken.

    A picture that is still black may be intended: the user is told, and the picture is returned.

    Args:
        samples: [N,C,h,w] or [N,C,T,h,w].
        decode: takes the VAE and gives the pixels [N,H,W,3].
        original: see `fault_of`.

    Returns:
        [N,H,W,3].

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
        note("fault", f"{where} is black: {fault} The node returns it unchanged.")
    return pixels


def encoded(
    pixels: torch.Tensor, vae: Any, encode: Callable[[Any], Latent], backend: Backend
) -> Latent:
    """The latent of pixels [N,H,W,3]. It is encoded again in float32 if it is not finite.

    Args:
        encode: takes the VAE and gives the latent.

    Returns:
        [N,C,h,w] or [N,C,T,h,w].

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
    """Return the samples [B,C,h,w] or [B,C,T,h,w] if all of them are finite.

    Args:
        name: the subject of the error, such as "The sampled latent".
        before: the samples from which they were made. If these are not finite either, the error
            says so.

    Raises:
        ValueError: the samples are not finite.
    """
    if finite(samples):
        return samples
    shape = list(picture(samples).shape)
    if before is not None and not finite(before):
        raise ValueError(
            f"{name} holds values that are not finite (NaN or infinite), and so does the latent"
            f" that came in ({shape}). The node that made that latent has failed. The cause is"
            " often a VAE in half precision: run it in float32 or bfloat16."
        )
    raise ValueError(
        f"{name} holds values that are not finite (NaN or infinite; shape {shape}): the model has"
        " failed. Run it in bfloat16 or float32, and check whether a LoRA, a patch, a ControlNet or"
        " a conditioning is damaged or made for another model."
    )


def finite(samples: Latent) -> bool:
    """Whether all values of all streams are finite. A stream is [B,C,h,w], [B,C,T,h,w] or so."""
    return all(usable(stream) for stream in streams(samples))
