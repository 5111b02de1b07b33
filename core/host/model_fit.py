"""What a model and a latent ask of each other, and errors that say where they do not fit."""

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

# Models that sample other streams along with the picture's and cannot do without, by their class in
# the host, and the host's node that makes empty ones.
_WITH_STREAMS = {"MiniMaxH3": "EmptyMiniMaxH3LatentAV"}
_SIDE, _LONGEST = 64, 3600  # pixels and frames of an empty clip


def completed(model: Any, samples: Latent) -> Latent:
    """The samples with the streams that the model cannot do without, empty and as long as they are.

    Args:
        samples: a picture's [N,C,(T),h,w], or of several streams, which stay as they are.
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
    """A node's empty latent, of the least length that has so many latent steps."""
    for length in range(1, _LONGEST, 4):
        latent = call_node(node, width=_SIDE, height=_SIDE, length=length)[0]["samples"]
        if picture(latent).shape[2] >= steps:
            break
    return latent


def check_fit(run: SamplerRun, latent: Latent) -> None:
    """Raise unless the latent has the channels that the model takes, as far as it tells them."""
    form = run.model.get_model_object("latent_format")
    found, wanted = picture(latent), _channels(form)
    if found.ndim not in (4, 5) or wanted is None or found.shape[1] == wanted:
        return
    subject = run.subject
    raise ValueError(
        f"{_capital(subject.name)}: the latent from {subject.source} has {found.shape[1]} "
        f"channels ({list(found.shape)}), but {subject.model} takes latents of {wanted} channels "
        f"({type(run.model.model).__name__}, {type(form).__name__}). Connect the model and the "
        f"VAE that belong together."
    )


def _channels(form: Any) -> int | None:
    """Channels of a format's latents; None where it does not tell, or packs them on its own."""
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
    except Exception:  # whatever a format of another pack raises
        return None
    return wanted if seen.shape[1] == wanted else None


@contextmanager
def telling(
    run: SamplerRun, latent: Latent, is_out_of_memory: Callable[[BaseException], bool]
) -> Iterator[None]:
    """Errors, which mostly are of sizes, say what was sampled, and what may not fit.

    Raises:
        ValueError, RuntimeError: as inside, with more to say.
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
        f"look for a patch of the model, or an entry of 'positive' or 'negative', that holds "
        "values for the latent of another picture size, such as one made for the whole picture, "
        "and leave it out."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
