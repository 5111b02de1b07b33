"""Clips that are longer than a model takes: overlapping chunks, and their results joined.

Everything here is about numbers of frames and needs no model. Frames are counted by their place in
the clip, from 0.

A chunk overlaps the one before it. The first frames of the overlap are its context: they show the
result of the chunk before, are kept as they are, and let the model go on from there. The other
frames of the overlap are its fade: both chunks make them, and the result goes over from the one to
the other in equal steps. So a difference D between two chunks is spread over the fade: neighbouring
frames differ by D / (fade + 1) and not by D.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

# The share of an overlap that may be context. A little more than half of it leaves the usual video
# model two latent steps of 9 frames, which show where things move.
_KEPT = 0.6
_LONGEST_STEP = 64  # frames; more than any known VAE puts into one latent step


@dataclass(frozen=True)
class FrameGrid:
    """The lengths of clips that a model takes, in frames.

    Args:
        length: number of frames -> the smallest length, from that number on, that the model takes.
    """

    length: Callable[[int], int]

    @classmethod
    def of_any_length(cls) -> FrameGrid:
        """The grid of a model that takes clips of any length."""
        return cls(lambda frames: frames)

    def most_within(self, frames: int) -> int:
        """The largest length that is at most `frames`; the smallest of all if there is none."""
        for count in range(frames, max(0, frames - _LONGEST_STEP), -1):
            if self.length(count) == count:
                return count
        return self.length(1)

    def step_at(self, length: int) -> int:
        """How many frames the next length has more than this one: those of a latent step."""
        return max(1, self.length(length + 1) - length)


@dataclass(frozen=True)
class Chunk:
    """The frames start..stop-1 of a clip, which a model samples together."""

    start: int
    stop: int
    context: int = 0  # first frames, which show the result of the chunk before and are kept
    fade: int = 0  # frames after these, in which its result replaces that of the chunk before

    @property
    def frames(self) -> int:
        """The number of frames."""
        return self.stop - self.start

    @property
    def settled(self) -> int:
        """The place before which this chunk and later ones change nothing."""
        return self.start + self.context

    @property
    def overlap(self) -> int:
        """How many frames it shares with the chunk before."""
        return self.context + self.fade


def plan_chunks(frames: int, most: int, overlap: int, grid: FrameGrid) -> tuple[Chunk, ...]:
    """Divide a clip into as few chunks as possible, of nearly the same length.

    Every chunk but the first starts at the same place in a latent step of the chunk before, so that
    both divide the frames that they share into the same steps.

    Args:
        frames: of the clip, 1 or more.
        most: the most frames of a chunk; the model's next smaller length is what is taken.
        overlap: frames that neighbouring chunks share, at least. It is no more than half a chunk,
            and less where a chunk holds so few latent steps that whole ones leave less.

    Returns:
        The chunks in order. A clip that `most` holds is one chunk, of any length: whoever samples
        it repeats its last frame up to the model's length.

    Raises:
        ValueError: there is no frame, or `most` is below 1.
    """
    if frames < 1 or most < 1:
        raise ValueError(f"A clip of {frames} frames has no chunks of {most} frames.")
    longest = grid.most_within(most)
    if frames <= longest:
        return (Chunk(0, frames),)
    step = grid.step_at(longest)
    if step > longest:  # a chunk is a single latent step, which lies nowhere within another
        step = 1
    strides = max(1, (longest - min(overlap, longest // 2)) // step)
    shared = longest - strides * step
    count = -(-(frames - shared) // (longest - shared))
    even = -(-(frames + (count - 1) * shared) // count)  # of chunks that are equally long
    length = min(longest, grid.length(max(even, shared + 1)))
    chunks = [Chunk(0, length)]
    for start in _starts(frames, length, count, step)[1:]:
        end = chunks[-1].stop
        start = min(start, end)
        context = _context(end - start, grid)
        chunks.append(Chunk(start, min(start + length, frames), context, end - start - context))
    return tuple(chunks)


def _starts(frames: int, length: int, count: int, step: int) -> list[int]:
    """Where `count` chunks begin: evenly, at whole steps, so that the last reaches the end."""
    last = -(-max(0, frames - length) // step)  # in steps
    return [-(-index * last // max(1, count - 1)) * step for index in range(count)]


def _context(overlap: int, grid: FrameGrid) -> int:
    """How many frames of an overlap are kept, in whole steps; none of a single frame."""
    most = int(overlap * _KEPT)
    length = grid.most_within(max(1, most))
    return length if length <= most else 0


def fade_weights(fade: int) -> torch.Tensor:
    """The share of the later chunk in each frame of a fade, [fade], rising in equal steps."""
    return torch.arange(1, fade + 1, dtype=torch.float32) / (fade + 1)


def chunk_weights(chunks: Sequence[Chunk]) -> list[tuple[float, ...]]:
    """The share that each frame of each chunk has in the joined clip; those of a frame add up to 1.

    The sum of the results with these weights is what a `Joiner` makes of them.
    """
    shares: list[torch.Tensor] = []
    for index, chunk in enumerate(chunks):
        own = torch.ones(chunk.frames, dtype=torch.float64)
        own[: chunk.context] = 0
        own[chunk.context : chunk.overlap] = fade_weights(chunk.fade)
        for before in range(index - 1, -1, -1):
            shared = chunks[before].stop - chunk.start
            if shared <= 0:
                break
            shares[before][-shared:] *= 1 - own[:shared]
        shares.append(own)
    return [tuple(own.tolist()) for own in shares]


class Joiner:
    """Joins the results of chunks in order, and holds no more than the frames of an overlap."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = tuple(chunks)
        self._index = 0
        self._held: torch.Tensor | None = None  # of the overlap with the next chunk

    def add(self, result: torch.Tensor) -> tuple[int, torch.Tensor]:
        """Add the result [n,H,W,C] of the next chunk; it may be changed in place.

        Returns:
            The place of the first frame that is final now, and all such frames [m,H,W,C].

        Raises:
            ValueError: the result has another number of frames than its chunk.
        """
        chunk = self._chunks[self._index]
        if len(result) != chunk.frames:
            raise ValueError(f"A chunk of {chunk.frames} frames came back with {len(result)}.")
        if self._held is not None:
            _fade_over(self._held.to(result), result, chunk)
        self._index += 1
        begins = chunk.settled if self._index > 1 else 0
        if self._index == len(self._chunks):
            self._held = None
            return begins, result[begins - chunk.start :]
        following = self._chunks[self._index]
        self._held = result[following.start - chunk.start :].clone()  # not a view of the whole
        return begins, result[begins - chunk.start : following.settled - chunk.start]

    def skip(self) -> None:
        """The next chunk has no result. The one after it will stand alone."""
        self._index += 1
        self._held = None

    @property
    def context(self) -> torch.Tensor | None:
        """The frames [context,H,W,C] that the next chunk begins with; None if it has none."""
        if self._held is None:
            return None
        count = self._chunks[self._index].context
        return self._held[:count] if count else None


def _fade_over(before: torch.Tensor, result: torch.Tensor, chunk: Chunk) -> None:
    """Bring the overlap of a result [n,H,W,C] from what the chunk before has made, in place."""
    result[: chunk.context] = before[: chunk.context]
    fading = slice(chunk.context, chunk.overlap)
    weights = fade_weights(chunk.fade).to(result).view(-1, *[1] * (result.ndim - 1))
    result[fading] = torch.lerp(before[fading], result[fading], weights)


def stretches(wanted: Sequence[bool], bridged: int) -> Iterator[slice]:
    """Parts of a clip that cover all wanted frames, and few others.

    Frames between wanted ones are sampled with them, so that the model sees the motion whole. Only
    a run of more than `bridged` such frames divides the clip, and they are left out at its ends.
    """
    first = last = None
    for place in (place for place, is_wanted in enumerate(wanted) if is_wanted):
        if first is not None and last is not None and place - last - 1 > bridged:
            yield slice(first, last + 1)
            first = None
        first, last = place if first is None else first, place
    if first is not None and last is not None:
        yield slice(first, last + 1)
