"""Many segments at once.

The pipeline of a segment is a generator. Where it needs heavy work it yields a request and goes on
with the answer; what several pipelines ask for at the same time is done together. Each pipeline
keeps its own seed, text, hook calls and cycles, so what comes out is what each would get alone.

Only at the sampler do all pipelines meet, as a network is faster for many latents, which are small.
The pixels are encoded and decoded a few at a time, as many as suit the device, and a pipeline
begins only when memory holds it: what it holds while it waits for the sampler is its latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from ...utils.notes import note
from .. import memory
from ..backend import Backend, OnStep, SamplerRun
from ..pixels.batches import joined_rows
from ..streams import picture
from .batching import joined, mergeable_groups

Result = TypeVar("Result")


@dataclass(frozen=True)
class Encode:
    """Ask for the latents of pixels [N,h,w,3]."""

    vae: Any
    pixels: torch.Tensor
    tiled: bool
    video: bool
    subject: str = "a picture"  # what an error names

    verb = "encoded"


@dataclass(frozen=True)
class Sample:
    """Ask for a run of the sampler."""

    run: SamplerRun
    on_step: OnStep

    verb = "sampled"

    @property
    def subject(self) -> str:
        return self.run.subject.name


@dataclass(frozen=True)
class Decode:
    """Ask for the pixels of latents."""

    vae: Any
    latent: torch.Tensor
    tiled: bool
    subject: str = "a latent"

    verb = "decoded"


@dataclass(frozen=True)
class Meet:
    """Ask to go on when all pipelines have come to the sampler.

    What is made only then, such as noise, does not lie among the pixels that come and go before.
    """


Request = Encode | Meet | Sample | Decode
Pipeline = Generator[Request, torch.Tensor, Result]
_PIXELS = (Encode, Decode)  # what is asked for a few at a time
Finished = Callable[[int, Any], None]  # the pipeline's place, what it returned


class MemoryBudget:
    """How much memory was found to hold at once, so that no run of a node finds out twice.

    Counted in values of what is encoded, sampled or decoded; without limit until memory runs out.
    """

    def __init__(self) -> None:
        self._values: dict[type[Request], int] = {}

    def holds(self, kind: type[Request], values: int, wanted: int) -> int:
        """How many of `wanted` things with so many values each to try at once; at least 1."""
        if kind not in self._values:
            return wanted
        return min(wanted, max(1, self._values[kind] // values))

    def keep_to(self, kind: type[Request], values: int) -> None:
        self._values[kind] = values


def run_pipelines(
    pipelines: Sequence[Pipeline[Result]], backend: Backend, budget: MemoryBudget | None = None
) -> list[Result]:
    """Run all pipelines to their ends, side by side.

    Args:
        budget: what earlier runs of the same node learnt about memory; this one adds to it.

    Returns:
        What each pipeline returned, in the order of the pipelines.
    """
    results: dict[int, Result] = {}
    run_each(pipelines, backend, results.__setitem__, budget)
    return [results[index] for index in range(len(pipelines))]


def run_each(
    pipelines: Sequence[Pipeline[Result]],
    backend: Backend,
    finished: Callable[[int, Result], None],
    budget: MemoryBudget | None = None,
) -> None:
    """As `run_pipelines`, where each result is handed over as soon as its pipeline has ended.

    Args:
        finished: gets the place of the pipeline and what it returned.
    """
    try:
        _Walk(
            pipelines, backend, finished, MemoryBudget() if budget is None else budget
        ).to_the_end()
    finally:
        for pipeline in pipelines:
            pipeline.close()


class _Walk:
    """Pipelines under way."""

    def __init__(
        self,
        pipelines: Sequence[Pipeline[Any]],
        backend: Backend,
        finished: Finished,
        budget: MemoryBudget,
    ) -> None:
        self.pipelines, self.backend, self.finished, self.budget = (
            pipelines,
            backend,
            finished,
            budget,
        )
        self.resume = [pipeline.send for pipeline in pipelines]  # each goes on with an answer
        self.begun = 0  # how many pipelines are
        self.waiting: dict[int, Request] = {}  # what the pipelines ask for, by their places
        self.pixels = 0  # of the last request with pixels: what to expect of the next one

    def to_the_end(self) -> None:
        while self.begun < len(self.pipelines) or self.waiting:
            asking = self._asking_for_pixels()
            if self.begun < len(self.pipelines) and self._has_room_after(asking):
                self._advance(self.begun, None)
                self.begun += 1
            elif asking:
                self._serve(self._first_few(asking))
            elif not self._meet():
                self._serve(list(self.waiting))

    def _meet(self) -> list[int]:
        """Let all go on that wait for the others; which these are."""
        places = [i for i, request in self.waiting.items() if isinstance(request, Meet)]
        for place in places:
            del self.waiting[place]
            self._advance(place, None)
        return places

    def _advance(self, place: int, answer: torch.Tensor | None) -> None:
        try:
            request = self.resume[place](answer)
        except StopIteration as end:
            self.finished(place, end.value)
            return
        self.waiting[place] = request
        if isinstance(request, _PIXELS):
            self.pixels = self._pixels(request)

    def _asking_for_pixels(self) -> list[int]:
        """Which pipelines wait for what is made of pixels, or for pixels, all of one kind."""
        places = [i for i, request in self.waiting.items() if isinstance(request, _PIXELS)]
        return [i for i in places if type(self.waiting[i]) is type(self.waiting[places[0]])]

    def _has_room_after(self, asking: Sequence[int]) -> bool:
        """Whether one more pipeline may ask along with these."""
        if not asking:
            return True
        held = sum(self._pixels(self.waiting[place]) for place in asking)
        return held + self.pixels <= self._at_once(asking[0])

    def _first_few(self, asking: Sequence[int]) -> list[int]:
        """As many of them as suit the device; at least one, if there are any."""
        few: list[int] = []
        held = 0
        for place in asking:
            held += self._pixels(self.waiting[place])
            if few and held > self._at_once(few[0]):
                break
            few.append(place)
        return few

    def _at_once(self, place: int) -> int:
        return self.backend.pixels_at_once(self.waiting[place].vae)

    def _pixels(self, request: Encode | Decode) -> int:
        if isinstance(request, Encode):
            return math.prod(request.pixels.shape[:-1])
        return request.latent[:, 0].numel() * self.backend.ratio(request.vae) ** 2

    def _serve(self, places: Sequence[int]) -> None:
        asked = [self.waiting.pop(place) for place in places]
        for position, answer in _SERVE[type(asked[0])](asked, self.backend, self.budget):
            self._advance(places[position], answer)
            del answer


Answers = Iterator[tuple[int, torch.Tensor]]  # position of the request, its answer


def _serve_encodes(asked: Sequence[Encode], backend: Backend, budget: MemoryBudget) -> Answers:
    def key(request: Encode) -> tuple | None:
        if request.video or backend.mixes_rows(request.vae):
            return None
        return id(request.vae), request.tiled, request.pixels.shape[1:], request.pixels.device

    def work(group: Sequence[Encode]) -> torch.Tensor:
        first = group[0]
        pixels = joined_rows([request.pixels for request in group])
        return backend.encode(first.vae, pixels, tiled=first.tiled, video=first.video)

    return _together(asked, key, work, lambda request: request.pixels, backend, budget)


def _serve_decodes(asked: Sequence[Decode], backend: Backend, budget: MemoryBudget) -> Answers:
    def key(request: Decode) -> tuple | None:
        if request.latent.ndim > 4 and request.latent.shape[2] > 1:
            return None  # a clip
        if backend.mixes_rows(request.vae):
            return None
        return id(request.vae), request.tiled, request.latent.shape[1:], request.latent.device

    def work(group: Sequence[Decode]) -> torch.Tensor:
        first = group[0]
        latent = joined_rows([request.latent for request in group])
        return backend.decode(first.vae, latent, tiled=first.tiled)

    return _together(asked, key, work, lambda request: request.latent, backend, budget)


def _together(
    asked: Sequence[Any],
    key: Callable[[Any], tuple | None],
    work: Callable[[Sequence[Any]], torch.Tensor],
    tensor: Callable[[Any], torch.Tensor],
    backend: Backend,
    budget: MemoryBudget,
) -> Answers:
    """Do what has equal keys in one go and hand out its rows; a key of None is alone."""
    groups: dict[Any, list[int]] = {}
    for position, request in enumerate(asked):
        own = key(request)
        groups.setdefault(("alone", position) if own is None else own, []).append(position)
    for positions in groups.values():
        values = max(tensor(asked[position]).numel() for position in positions)
        for part, result in _in_memory(positions, asked, work, values, backend, budget):
            if len(part) == 1:
                yield part[0], result
                continue
            sizes = [len(tensor(asked[position])) for position in part]
            yield from zip(part, result.split(sizes), strict=True)


def _serve_samples(asked: Sequence[Sample], backend: Backend, budget: MemoryBudget) -> Answers:
    def work(group: Sequence[Sample]) -> torch.Tensor:
        if len(group) == 1:
            return backend.sample(group[0].run, group[0].on_step)

        def on_step(step: int, total: int, latent: torch.Tensor) -> None:
            *others, last = group  # one row is enough to look at: a preview takes time
            for request in others:
                request.on_step(step, total, None)
            last.on_step(step, total, latent[-1:])

        return backend.sample(joined([request.run for request in group], backend), on_step)

    for positions in mergeable_groups([request.run for request in asked], backend):
        values = picture(asked[positions[0]].run.latent).numel()
        for part, result in _in_memory(positions, asked, work, values, backend, budget):
            if len(part) == 1:
                yield part[0], result
            else:
                yield from zip(part, result.split(1), strict=True)


def _in_memory(
    positions: Sequence[int],
    asked: Sequence[Any],
    work: Callable[[Sequence[Any]], torch.Tensor],
    values: int,
    backend: Backend,
    budget: MemoryBudget,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Do what is asked at these positions together; halve what does not fit into memory.

    What was done before memory ran out stays done.

    Args:
        values: of the largest of these.

    Raises:
        memory.OutOfMemory: one of them alone does not fit.
    """
    kind = type(asked[positions[0]])

    def fewer(before: int, now: int) -> None:
        budget.keep_to(kind, now * values)
        note(
            "memory",
            f"Out of memory: cannot {kind.__name__.lower()} {before} crops at once; going on "
            f"with {now}.",
        )

    parts = memory.divided(
        len(positions),
        lambda part: work([asked[position] for position in positions[part]]),
        lambda place: asked[positions[place]].subject,
        kind.verb,
        memory.Trying(backend.free_memory, backend.is_out_of_memory),
        budget.holds(kind, values, len(positions)),
        fewer,
    )
    for part, result in parts:
        yield list(positions[part]), result
        del result


_SERVE: dict[type, Callable[[Sequence[Any], Backend, MemoryBudget], Answers]] = {
    Encode: _serve_encodes,
    Sample: _serve_samples,
    Decode: _serve_decodes,
}
