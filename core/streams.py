"""Latents of several streams: first the picture, then streams that are sampled along with it.

Video models with sound have them. The host holds the streams in one object, which is no tensor. It
behaves like its first stream in a few respects, its `is_nested` is true, and it has `unbind()`. Its
class makes such an object from a list. A latent of a single stream is a tensor; the functions here
take that as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Latent = Any  # a tensor [N,C,h,w] or [N,C,T,h,w], or several streams, the first being such one


def is_nested(latent: Latent) -> bool:
    """Whether a latent holds several streams."""
    return bool(getattr(latent, "is_nested", False))


def streams(latent: Latent) -> list[torch.Tensor]:
    """The streams of a latent, the picture [N,C,h,w] or [N,C,T,h,w] first."""
    return list(latent.unbind()) if is_nested(latent) else [latent]


def picture(latent: Latent) -> torch.Tensor:
    """The stream of the picture or video, [N,C,h,w] or [N,C,T,h,w]; of a noise mask, its mask."""
    return streams(latent)[0]


def with_picture(latent: Latent, changed: torch.Tensor) -> Latent:
    """The latent with another picture [N,C,h,w] or [N,C,T,h,w]; its other streams stay the same."""
    if not is_nested(latent):
        return changed
    return type(latent)([changed, *streams(latent)[1:]])


def each(function: Callable[[torch.Tensor], torch.Tensor], latent: Latent) -> Latent:
    """The latent with every stream [N,C,...] changed by a function."""
    if not is_nested(latent):
        return function(latent)
    return type(latent)([function(stream) for stream in streams(latent)])


def without_noise(latent: Latent) -> Latent:
    """Noise that adds nothing: zeros of the latent's shape, float32 on the CPU."""
    return each(lambda stream: torch.zeros(stream.shape, dtype=torch.float32), latent)


def mask_for_streams(mask: Any, latent: Latent, others: float = 0.0) -> Any:
    """A noise mask for all streams of a latent.

    Args:
        mask: [N,H,W] for the picture alone, one for several streams, or None for no mask.
        others: the mask of streams for which `mask` has none: 0 keeps them, 1 samples them anew.
    """
    if mask is None or not is_nested(latent):
        return mask
    own, wanted = streams(mask), streams(latent)
    added = [
        torch.full((len(stream), 1, *stream.shape[2:]), others) for stream in wanted[len(own) :]
    ]
    return type(latent)([*own[: len(wanted)], *added])


def with_kept_streams(sampled: Latent, latent: Latent, mask: Any) -> Latent:
    """The sampled latent; streams that the mask keeps completely are bit-identical to `latent`."""
    if mask is None or not is_nested(latent):
        return sampled
    triples = zip(streams(sampled), streams(latent), streams(mask), strict=True)
    return type(latent)([new if own.any() else old.to(new) for new, old, own in triples])


def with_mask(latent: dict, mask: torch.Tensor) -> dict:
    """A LATENT with another noise mask [N,H,W] for its picture; masks of other streams stay."""
    own = latent.get("noise_mask")
    return {**latent, "noise_mask": mask if own is None else with_picture(own, mask)}
