"""Check whether a model and a latent fit each other, with errors that say where they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.latent_formats
import comfy.model_base
import torch

from ..backend import SamplerRun
from ..checked_calls import passes, told
from ..streams import Latent, is_nested, picture, streams
from .call_node import call_node

# Models that always sample other streams beside the picture, by their class in ComfyUI, and
# ComfyUI's node that makes empty streams for them.
_WITH_STREAMS = {"MiniMaxH3": "EmptyMiniMaxH3LatentAV"}
_SIDE, _LONGEST = 64, 3600  # pixels and frames of an empty clip


def completed(model: Any, samples: Latent) -> Latent:
    """The samples with all streams that the model needs.

    Args:
        samples: [B,C,h,w] or [B,C,T,h,w] of a picture. Samples of several streams stay as they are.

    Returns:
        Samples with empty streams of the same length for everything beside the picture, or the
        same samples if the model needs no other streams.
    """
    if is_nested(samples):
        return samples
    kinds = ((getattr(comfy.model_base, name, None), name) for name in _WITH_STREAMS)
    for kind, name in kinds:
        if kind is not None and isinstance(model.model, kind):
            video = samples if samples.ndim == 5 else samples.unsqueeze(2)
            empty = _empty_streams(_WITH_STREAMS[name], video.shape[2])
            others = [stream.expand(len(video), *stream.shape[1:]) for stream in streams(empty)[1:]]
            return type(empty)([video, *(stream.to(video) for stream in others)])
    return samples


def _empty_streams(node: str, steps: int) -> Latent:
    """The empty latent of a node, of the smallest length with this number of latent steps."""
    for length in range(1, _LONGEST, 4):
        latent = call_node(node, width=_SIDE, height=_SIDE, length=length)[0]["samples"]
        if picture(latent).shape[2] >= steps:
            break
    return latent


def check_fit(run: SamplerRun, latent: Latent) -> None:
    """Check that the latent [B,C,...] has as many channels as the model takes, if this is known.

    Raises:
        ValueError: it has another number of channels.
    """
    form = run.model.get_model_object("latent_format")
    found, wanted = picture(latent), _channels(form)
    if found.ndim not in (4, 5) or wanted is None or found.shape[1] == wanted:
        return
    subject = run.subject
    raise ValueError(
        f"{_capital(subject.name)}: the latent from {subject.source} has {found.shape[1]} "
        f"channels ({list(found.shape)}), but {subject.model} takes latents of {wanted} channels "
        f"({type(run.model.model).__name__}, {type(form).__name__}). Connect a model and a VAE "
        f"that belong together."
    )


def _channels(form: Any) -> int | None:
    """Number of channels of a format's latents. None: unknown, or the format rearranges them."""
    axes = getattr(form, "latent_dimensions", 2)
    wanted = getattr(form, "latent_channels", None)
    base = comfy.latent_formats.LatentFormat
    is_hosts = type(form).__module__ == base.__module__ and type(form) is not base
    is_set = "latent_channels" in vars(form) or any(
        "latent_channels" in vars(kind) for kind in type(form).__mro__ if kind is not base
    )
    if not (is_hosts or is_set) or axes not in (2, 3):
        return None
    try:
        seen = form.process_in(torch.zeros(1, wanted, *[2] * axes))
    except Exception:  # any error of another pack's format
        return None
    return wanted if seen.shape[1] == wanted else None


@contextmanager
def telling(
    run: SamplerRun, latent: Latent, is_out_of_memory: Callable[[BaseException], bool]
) -> Iterator[None]:
    """Add to errors inside the context what was sampled, and what may not fit.

    Most of these errors are about sizes.

    Raises:
        ValueError: a ValueError was raised inside; the text is `told` more.
        RuntimeError: another error was raised inside.
    """
    try:
        yield
    except Exception as error:  # whatever models, samplers and patches of other packs raise
        if passes(error) or is_out_of_memory(error):
            raise
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        raise told(kind(_told(run, latent, error))) from error


def _told(run: SamplerRun, latent: Latent, error: BaseException) -> str:
    subject, form = run.subject, run.model.get_model_object("latent_format")
    shapes = " and ".join(str(list(stream.shape)) for stream in streams(latent))
    wanted = _channels(form)
    channels = "" if wanted is None else f", which takes latents of {wanted} channels"
    return (
        f"{_capital(subject.name)} cannot be sampled: {type(error).__name__}: {error}\n"
        f"The latent has the shape {shapes} and comes from {subject.source}; it goes to "
        f"{subject.model} ({type(run.model.model).__name__}{channels}). If these belong together, "
        f"then a patch of the model, or an entry of 'positive' or 'negative', may be made for "
        "another picture size, for instance for the whole picture. Remove that patch or entry."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
