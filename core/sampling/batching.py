"""Join sampler runs into one run with several rows, where this gives the same results.

A run stays alone if it is not certain that it can be a row of another one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from ..backend import ROWS, SAME, Backend, SamplerRun
from ..pixels.mask import for_latent
from ..settings import Conditioning
from ..streams import is_nested

log = logging.getLogger(__name__)

# Embeddings of different length are repeated to a common length, which is at most this many times
# the longest one. ComfyUI has the same limit.
_MOST_REPEATS = 4


class _Alone(Exception):
    """The run has to be sampled alone; the text of the exception says why."""


def mergeable_groups(runs: Sequence[SamplerRun], backend: Backend) -> list[list[int]]:
    """Groups of runs that may be sampled as one run.

    Returns:
        Indices of the runs, group by group. The rows of each group fit into memory.
    """
    if len(runs) == 1:
        return [[0]]
    groups: dict[Hashable, list[int]] = {}
    for position, run in enumerate(runs):
        try:
            key = _key(run, backend)
        except _Alone as reason:
            log.debug("segment %d of %d is sampled alone: %s", position + 1, len(runs), reason)
            key = ("alone", position)
        groups.setdefault(key, []).append(position)
    result = []
    for positions in groups.values():
        parts = _fitting_lengths(positions, runs) if len(positions) > 1 else [positions]
        for part in parts:
            limit = backend.rows_that_fit(runs[part[0]], len(part)) if len(part) > 1 else 1
            result += [part[i : i + limit] for i in range(0, len(part), limit)]
    return result


def _key(run: SamplerRun, backend: Backend) -> Hashable:
    """The key of a run: runs with equal keys can be rows of one run.

    Raises:
        _Alone: the run cannot be a row of another one.
    """
    if is_nested(run.latent):
        raise _Alone("its latent has several streams")
    if run.layers:
        raise _Alone("it has layers")
    if len(run.latent) != 1:
        raise _Alone(f"its latent has {len(run.latent)} rows already")
    reason = backend.why_alone(run)
    if reason is not None:
        raise _Alone(reason)
    repeats = backend.repeats_texts(run.model)
    sides = [
        conditioning
        if isinstance(conditioning, str)
        else _signature(conditioning, repeats, backend)
        for conditioning in (run.positive, run.negative)
    ]
    mask = run.noise_mask
    return (
        id(run.model), run.cfg, run.sampler_name, id(run.sampler), tuple(run.sigmas.tolist()),
        run.schedule.max().item(), run.schedule[run.schedule > 0].min().item(),
        _kind(run.latent), _kind(run.noise), None if mask is None else (mask.dtype, mask.device),
        *_place(run),
        *sides,
    )  # fmt: skip


def _place(run: SamplerRun) -> tuple:
    """The part of the key that says which part of a schedule the run is."""
    start, whole = run.start, run.whole
    return (
        None if start is None else _kind(start),
        None if whole is None else tuple(whole.tolist()),
        run.number,
        start is not None and run.is_hard,  # the sampler continues such runs differently
    )


def _kind(tensor: torch.Tensor) -> Hashable:
    """The part of the key for a tensor: tensors with equal ones can be rows of one tensor."""
    return tuple(tensor.shape), tensor.dtype, tensor.device


def _signature(conditioning: Conditioning, repeats: bool, backend: Backend) -> Hashable:
    """The part of the key for a conditioning: shapes and options of all its entries."""
    entries = []
    for embedding, options in conditioning:
        if not isinstance(embedding, torch.Tensor) or len(embedding) != 1:
            raise _Alone("its conditioning has an embedding that is not one row")
        free = repeats and options.get("attention_mask") is None and embedding.ndim == 3
        shape = (embedding.shape[-1],) if free else tuple(embedding.shape)
        described = [(shape, free, embedding.dtype, embedding.device)]
        described += [(name, _described(name, options, backend)) for name in sorted(options)]
        entries.append(tuple(described))
    return tuple(entries)


def _described(name: str, options: dict[str, Any], backend: Backend) -> Hashable:
    """The part of the key for an option of a conditioning's entry."""
    value = options[name]
    if name == "mask":
        if len(value) != 1 or value.ndim != 3 or options.get("set_area_to_bounds"):
            raise _Alone("its conditioning has a mask that cannot be a row")
        return value.dtype, value.device
    if name == "control" and value is not None:
        signature = backend.control_signature(value)
        if signature is None:
            raise _Alone("its ControlNet cannot have a row for each segment")
        return signature
    kind = backend.entry_kind(name)
    if value is None or kind == SAME:
        return _plain(value)
    if kind == ROWS and isinstance(value, torch.Tensor | list) and _is_row(value):
        return tuple(map(_kind, value)) if isinstance(value, list) else _kind(value)
    raise _Alone(f"its conditioning has {name!r}, which cannot be a row")


def _is_row(value: torch.Tensor | list) -> bool:
    """Whether a tensor, or each tensor of a list, has one row."""
    tensors = value if isinstance(value, list) else [value]
    return all(isinstance(one, torch.Tensor) and one.shape[:1] == (1,) for one in tensors)


def _plain(value: Any) -> Hashable:
    """The part of the key for a plain value. Other objects are compared by their identity."""
    if isinstance(value, int | float | str | bool | type(None)):
        return value
    if isinstance(value, tuple) and all(isinstance(v, int | float | str) for v in value):
        return value
    return ("object", id(value))


def _fitting_lengths(positions: Sequence[int], runs: Sequence[SamplerRun]) -> list[list[int]]:
    """Split a group if its embeddings would become too long when repeated to a common length."""
    parts: list[tuple[list[int], list[tuple[int, int]]]] = []
    for position in positions:
        own = _lengths(runs[position])
        for members, spans in parts:
            joint = [
                (math.lcm(common, length), max(longest, length))
                for (common, longest), length in zip(spans, own, strict=True)
            ]
            if all(common <= _MOST_REPEATS * longest for common, longest in joint):
                members.append(position)
                spans[:] = joint
                break
        else:
            parts.append(([position], [(length, length) for length in own]))
    return [members for members, _ in parts]


def _lengths(run: SamplerRun) -> list[int]:
    """Number of tokens of every entry of both conditionings."""
    sides = [side for side in (run.positive, run.negative) if not isinstance(side, str)]
    return [entry[0].shape[1] if entry[0].ndim == 3 else 1 for side in sides for entry in side]


def joined(runs: Sequence[SamplerRun], backend: Backend) -> SamplerRun:
    """One run whose row i is run i. Each row has its own seed.

    Args:
        runs: one of the groups of `mergeable_groups`.
    """
    first = runs[0]
    controls: dict[tuple, Any] = {}

    def join(sides: Sequence[Conditioning | str]) -> Conditioning | str:
        if isinstance(sides[0], str):
            return sides[0]
        return [
            _joined_entry(entries, first.latent, controls, backend)
            for entries in zip(*sides, strict=True)
        ]

    masks = None
    if first.noise_mask is not None:
        masks = torch.cat([_in_latent(run.noise_mask, run.latent) for run in runs])
    return replace(
        first,
        positive=join([run.positive for run in runs]),
        negative=join([run.negative for run in runs]),
        noise=torch.cat([run.noise for run in runs]),
        latent=torch.cat([run.latent for run in runs]),
        noise_mask=masks,
        start=None if first.start is None else torch.cat([run.start for run in runs]),
        seeds=tuple(run.seed for run in runs),
        subject=replace(first.subject, name=", ".join(run.subject.name for run in runs)),
    )


def _in_latent(mask: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """A noise mask in the latent's resolution, so that masks of all sizes can be joined."""
    fitted = for_latent(mask, latent)
    return fitted if latent.ndim == 5 else fitted[:, 0]


def _joined_entry(
    entries: Sequence[list], latent: torch.Tensor, controls: dict[tuple, Any], backend: Backend
) -> list:
    """One entry of a conditioning whose rows are these entries.

    Args:
        controls: the ControlNets that have been joined so far. Positive and negative have to share
            one object.
    """
    length = math.lcm(*(embedding.shape[1] for embedding, _ in entries))
    if entries[0][0].ndim == 3:
        embeddings = [e.repeat(1, length // e.shape[1], 1) for e, _ in entries]
    else:
        embeddings = [e for e, _ in entries]
    options = dict(entries[0][1])
    for name, value in options.items():
        values = [own[name] for _, own in entries]
        if name == "mask":
            options[name] = torch.cat([_resized(mask, latent) for mask in values])
        elif name == "control" and value is not None:
            key = tuple(id(control) for control in values)
            if key not in controls:
                controls[key] = backend.join_controls(values, latent)
            options[name] = controls[key]
        elif backend.entry_kind(name) == ROWS and value is not None:
            options[name] = _as_rows(values)
    return [torch.cat(embeddings), options]


def _as_rows(values: Sequence[torch.Tensor | list]) -> torch.Tensor | list:
    """One tensor, or one list of tensors, whose rows are these values."""
    if isinstance(values[0], list):
        return [torch.cat(column) for column in zip(*values, strict=True)]
    return torch.cat(list(values))


def _resized(mask: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """A conditioning's mask [1,H,W] in the latent's resolution, resized as ComfyUI does it."""
    size = latent.shape[-2:]
    if mask.shape[-2:] == size:
        return mask
    return F.interpolate(mask[:, None], size=size, mode="bilinear")[:, 0]
