"""The scheduler runs the pipelines of many segments side by side.

The pipeline of a segment is a generator. When it needs heavy work it yields a request, and it goes
on when it gets the answer. What several pipelines request at the same time is done together.
Each pipeline keeps its own seed, text, hook calls and cycles. So its result is the same as if it
ran alone.

All pipelines wait for each other only before the sampler, since a network is faster with many
latents at once. Pixels are encoded and decoded in small groups that suit the device. A pipeline
starts only when there is memory for its pixels. While it waits for the sampler, it holds only its
latent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from ...utils.notes import note
from .. import memory
from ..backend import Backend, OnStep, SamplerRun
from ..pixels.batches import joined_rows
from ..streams import picture
from ..timing import DECODE, ENCODE, SAMPLE, stage
from .batching import joined, mergeable_groups

Result = TypeVar("Result")


@dataclass(frozen=True)
class Encode:
    """The request to encode pixels [N,H,W,3] 0..1. The answer is [N,C,h,w] or [N,C,T,h,w]."""

    vae: Any
    pixels: torch.Tensor
    tiled: bool
    video: bool
    subject: str = "a picture"  # the name of the pixels in error messages

    verb = "encoded"


@dataclass(frozen=True)
class SamplerCall:
    """One call of the sampler, as it was made for one run or several at once.

    All that had a row in it are told of the same object.
    """

    model_calls: int  # how often the network was called


def _nobody(call: SamplerCall) -> None:
    """Whom a call of the sampler is told to where nobody wants to know."""


@dataclass(frozen=True)
class Sample:
    """The request for a sampler run. The answer is the sampled latent."""

    run: SamplerRun
    on_step: OnStep
    called: Callable[[SamplerCall], None] = _nobody  # is told of the call that had it as a row

    verb = "sampled"

    @property
    def subject(self) -> str:
        """The name of the run in error messages."""
        return self.run.subject.name


@dataclass(frozen=True)
class Decode:
    """The request to decode a latent [N,C,h,w] or [N,C,T,h,w]. The answer is pixels [N,H,W,3]."""

    vae: Any
    latent: torch.Tensor
    tiled: bool
    subject: str = "a latent"

    verb = "decoded"


@dataclass(frozen=True)
class Meet:
    """The request to wait until all pipelines have come to the sampler.

    A pipeline makes its noise only after this, when the pixels of the others are no longer in
    memory. So small tensors that are kept do not fragment the memory of large ones.
    """


Request = Encode | Meet | Sample | Decode
Pipeline = Generator[Request, torch.Tensor, Result]
_PIXELS = (Encode, Decode)  # kinds of request that are done in small groups
Finished = Callable[[int, Any], None]  # takes the index of a pipeline and its result
Spent = Callable[[int, float], None]  # takes the index of a pipeline and seconds of work on it


class MemoryBudget:
    """How much can be encoded, sampled or decoded at once without running out of memory.

    A node run learns this when memory runs out, and keeps to it from then on. Until then there is
    no limit. The unit is the number of values of the tensors.
    """

    def __init__(self) -> None:
        self._values: dict[type[Request], int] = {}

    def holds(self, kind: type[Request], values: int, wanted: int) -> int:
        """How many to try at once of one kind of request.

        Args:
            kind: the class of the request.
            values: number of values of each request.
            wanted: how many there are.

        Returns:
            1..wanted.
        """
        if kind not in self._values:
            return wanted
        return min(wanted, max(1, self._values[kind] // values))

    def keep_to(self, kind: type[Request], values: int) -> None:
        """From now on, do at most this number of values at once for this class of request."""
        self._values[kind] = values


def run_pipelines(
    pipelines: Sequence[Pipeline[Result]],
    backend: Backend,
    budget: MemoryBudget | None = None,
) -> list[Result]:
    """Run all pipelines to their ends, side by side.

    Args:
        budget: the memory budget that earlier calls of the same node run have learnt. This call
            adds to it.

    Returns:
        The results of the pipelines, in their order.
    """
    results: dict[int, Result] = {}
    run_each(pipelines, backend, results.__setitem__, budget)
    return [results[index] for index in range(len(pipelines))]


def run_each(
    pipelines: Sequence[Pipeline[Result]],
    backend: Backend,
    finished: Callable[[int, Result], None],
    budget: MemoryBudget | None = None,
    spent: Spent | None = None,
) -> None:
    """As `run_pipelines`, but each result is passed to `finished` as soon as it is there.

    Args:
        finished: takes the index of the pipeline and its result.
        spent: takes the index of a pipeline and the seconds that were worked on it. The time of
            work that several pipelines share is split evenly among them.
    """
    try:
        _Execution(
            pipelines,
            backend,
            finished,
            MemoryBudget() if budget is None else budget,
            spent or (lambda place, seconds: None),
        ).run()
    finally:
        for pipeline in pipelines:
            pipeline.close()


class _Execution:
    """Runs pipelines side by side."""

    def __init__(
        self,
        pipelines: Sequence[Pipeline[Any]],
        backend: Backend,
        finished: Finished,
        budget: MemoryBudget,
        spent: Spent,
    ) -> None:
        self.pipelines, self.backend, self.finished, self.budget, self.spent = (
            pipelines,
            backend,
            finished,
            budget,
            spent,
        )
        self.resume = [pipeline.send for pipeline in pipelines]  # takes an answer, gives a request
        self.begun = 0  # number of pipelines that have started
        self.waiting: dict[int, Request] = {}  # each open request, by the index of its pipeline
        self.pixels = 0  # of the last request with pixels: the next one will have about as many

    def run(self) -> None:
        while self.begun < len(self.pipelines) or self.waiting:
            asking = self._asking_for_pixels()
            if self.begun < len(self.pipelines) and self._fits_beside(asking):
                self._advance(self.begun, None)
                self.begun += 1
            elif asking:
                self._serve(self._first_few(asking))
            elif not self._meet():
                self._serve(list(self.waiting))

    def _meet(self) -> list[int]:
        """Let all pipelines that wait for the others go on; their indices."""
        places = [i for i, request in self.waiting.items() if isinstance(request, Meet)]
        for place in places:
            del self.waiting[place]
            self._advance(place, None)
        return places

    def _advance(self, place: int, answer: torch.Tensor | None) -> None:
        begun = time.perf_counter()
        try:
            request = self.resume[place](answer)
        except StopIteration as end:
            self.finished(place, end.value)
            return
        finally:
            self.spent(place, time.perf_counter() - begun)
        self.waiting[place] = request
        if isinstance(request, _PIXELS):
            self.pixels = self._pixels(request)

    def _asking_for_pixels(self) -> list[int]:
        """Indices of the pipelines that wait for an encode, or of those that wait for a decode."""
        places = [i for i, request in self.waiting.items() if isinstance(request, _PIXELS)]
        return [i for i in places if type(self.waiting[i]) is type(self.waiting[places[0]])]

    def _fits_beside(self, asking: Sequence[int]) -> bool:
        """Whether the pixels of one more pipeline fit beside those of these pipelines."""
        if not asking:
            return True
        held = sum(self._pixels(self.waiting[place]) for place in asking)
        return held + self.pixels <= self._at_once(asking[0])

    def _first_few(self, asking: Sequence[int]) -> list[int]:
        """As many of these pipelines as suit the device; at least one."""
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
        seconds, begun = 0.0, time.perf_counter()
        for position, answer in _SERVE[type(asked[0])](asked, self.backend, self.budget):
            seconds += time.perf_counter() - begun
            self._advance(places[position], answer)
            del answer
            begun = time.perf_counter()
        seconds += time.perf_counter() - begun
        for place in places:
            self.spent(place, seconds / len(places))


Answers = Iterator[tuple[int, torch.Tensor]]  # the index of a request, and its answer


def _serve_encodes(asked: Sequence[Encode], backend: Backend, budget: MemoryBudget) -> Answers:
    def key(request: Encode) -> tuple | None:
        if request.video or backend.mixes_rows(request.vae):
            return None
        return id(request.vae), request.tiled, request.pixels.shape[1:], request.pixels.device

    def work(group: Sequence[Encode]) -> torch.Tensor:
        first = group[0]
        with stage(ENCODE):
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
        with stage(DECODE):
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
    """Do each group with equal keys in one call, and give each request its rows of the result.

    A request with the key None is done alone.
    """
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
        before = backend.model_calls
        with stage(SAMPLE):
            result = sampled(group)
        call = SamplerCall(backend.model_calls - before)
        for request in group:
            request.called(call)
        return result

    def sampled(group: Sequence[Sample]) -> torch.Tensor:
        if len(group) == 1:
            return backend.sample(group[0].run, group[0].on_step)

        def on_step(step: int, total: int, latent: torch.Tensor) -> None:
            *others, last = group  # only one row is shown, since a preview takes time
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
    """Do what is requested at these positions together. Halve the group if memory runs out.

    A request that was done before memory ran out is not done again.

    Args:
        values: number of values of the largest request.

    Raises:
        memory.OutOfMemory: a single request does not fit into memory.
    """
    kind = type(asked[positions[0]])

    def fewer(before: int, now: int) -> None:
        budget.keep_to(kind, now * values)
        note(
            "memory",
            f"Out of memory: {before} crops cannot be {kind.verb} at once. They are now"
            f" {kind.verb} {now} at a time.",
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
