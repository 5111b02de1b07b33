"""Latents of several streams: the picture's, which comes first, and such as are sampled with it.

Video models with sound have them. The host holds the streams in one object, which is no tensor but
behaves like its first stream in a few respects, `is_nested` and has `unbind()`; its class makes one
from a list. A latent of a single stream is a tensor, and is taken here as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Latent = Any  # a tensor [N,C,h,w] or [N,C,T,h,w], or several streams of which that is the first


def is_nested(latent: Latent) -> bool:
    return bool(getattr(latent, "is_nested", False))


def streams(latent: Latent) -> list[torch.Tensor]:
    return list(latent.unbind()) if is_nested(latent) else [latent]


def picture(latent: Latent) -> torch.Tensor:
    """The stream that is the picture or the video; of a noise mask, the one for that stream."""
    return streams(latent)[0]


def with_picture(latent: Latent, changed: torch.Tensor) -> Latent:
    """The latent with another picture; its other streams are the same objects as before."""
    if not is_nested(latent):
        return changed
    return type(latent)([changed, *streams(latent)[1:]])


def each(function: Callable[[torch.Tensor], torch.Tensor], latent: Latent) -> Latent:
    """The latent with every stream changed by a function."""
    if not is_nested(latent):
        return function(latent)
    return type(latent)([function(stream) for stream in streams(latent)])


def without_noise(latent: Latent) -> Latent:
    """Noise that adds nothing: zeros of the latent's shape, float32 on the CPU."""
    return each(lambda stream: torch.zeros(stream.shape, dtype=torch.float32), latent)


def mask_for_streams(mask: Any, latent: Latent, others: float = 0.0) -> Any:
    """A noise mask for all streams of a latent.

    Args:
        mask: for the picture alone, for several streams, or None, which masks nothing.
        others: the mask of streams that it has none for: 0 keeps them, 1 samples them anew.
    """
    if mask is None or not is_nested(latent):
        return mask
    own, wanted = streams(mask), streams(latent)
    added = [
        torch.full((len(stream), 1, *stream.shape[2:]), others) for stream in wanted[len(own) :]
    ]
    return type(latent)([*own[: len(wanted)], *added])


def with_kept_streams(sampled: Latent, latent: Latent, mask: Any) -> Latent:
    """What was sampled, but streams that the mask keeps whole are those of before, to the bit."""
    if mask is None or not is_nested(latent):
        return sampled
    triples = zip(streams(sampled), streams(latent), streams(mask), strict=True)
    return type(latent)([new if own.any() else old.to(new) for new, old, own in triples])


def with_mask(latent: dict, mask: torch.Tensor) -> dict:
    """A LATENT with another noise mask for its picture; masks of its other streams stay."""
    own = latent.get("noise_mask")
    return {**latent, "noise_mask": mask if own is None else with_picture(own, mask)}
