"""Detail the tracks of a clip of any length: each person, window by window.

The clip is worked on in slices, and written frame by frame in order of time. A frame waits only
until its own results, and those of the neighbours with which it is smoothed, are there. So the need
of memory does not grow with the length of the clip. It waits in the form in which its source has
it: only the regions around windows become pixels, and only what was pasted goes back.

All windows are cut from the frames as they came. So tracks that cross each other do not depend on
one another, and are sampled together. They are pasted in the working order: where masks overlap,
the later one is on top. But where it is known which of two is nearer to the camera, that one is on
top, see `core/tracks/occlusion.py` and `track_layers.py`.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Protocol

import torch

from ...utils.notes import note
from .. import memory
from ..backend import IMAGES, Backend
from ..clips import (
    Change,
    Frame,
    FrameSink,
    FrameSource,
    HeldFrame,
    at_once,
    composed,
    frame_of,
    give,
)
from ..geometry import Box
from ..pixels.image import merge_alpha, to_rgb
from ..pixels.precision import widened
from ..settings import OFF, Detail, Motion
from ..timing import PASTE, stage
from ..tracks.fitted import fitted_tracks
from ..tracks.track import Tracks
from .crop import Enhanced
from .crop_pipeline import enhance_each, tell_not_registered
from .plan import Job, of_one_size
from .run import reported
from .track_clips import ClipByClip
from .track_crops import WindowCrop
from .track_layers import back_to_front
from .track_plan import plan_tracks
from .track_results import Part, Span, StretchResults
from .track_run import TrackRun
from .track_work import Stretch
from .view import MOST_IMAGES

SLICE_VALUES = 2**27  # values of the frames that are worked on at a time (512 MB in float32)
MOST_READ = 16  # frames that are worked on at a time


@dataclass(frozen=True)
class DetailedTracks:
    """What was done with a clip; its frames went to the sink."""

    changed: int = 0  # frames
    report: str = ""  # JSON, see `core/detail/report.py`


class Way(Protocol):
    """A way to sample tracks, which depends on the model.

    Attributes:
        together: the frames of a stretch are sampled as a clip. So it also gets the frames that
            are only sampled, and not pasted.
    """

    together: bool

    def spans(self, stretch: Stretch) -> Sequence[Span]:
        """What of a stretch is sampled together, each span at once; in order of time.

        Spans may overlap: then the weights of a frame add up to 1. A frame that is in none keeps
        its pixels.
        """

    def detail(self, run: TrackRun, parts: Sequence[Part]) -> None:
        """Sample all parts, and call their `finish` for each of their frames.

        `run.over` is called for each crop that was passed to a pipeline.
        """


class FrameByFrame:
    """The way of image models: every frame is a row of a wave, together with other tracks."""

    together = False

    def spans(self, stretch: Stretch) -> Sequence[Span]:
        """Each frame that is pasted, by itself."""
        return [
            Span(place, place + 1, (1.0,))
            for place, own in enumerate(stretch.frames)
            if own.opacity > 0
        ]

    def detail(self, run: TrackRun, parts: Sequence[Part]) -> None:
        """As the protocol says."""
        crops = [part.crops[0] for part in parts]
        jobs = [own.job for own in crops]
        for places in of_one_size(jobs, run.batch_limit(jobs), run.grid):

            def finished(index: int, enhanced: Enhanced, places: Sequence[int] = places) -> None:
                place = places[index]
                parts[place].finish(0, enhanced)
                run.over(crops[place].worked, None if enhanced.fault else enhanced.pixels)

            enhance_each(run, [crops[place] for place in places], finished)


@reported
def detail_tracks(
    source: FrameSource,
    tracks: Tracks,
    detail: Detail,
    motion: Motion,
    backend: Backend,
    sink: FrameSink,
) -> DetailedTracks:
    """Detail the tracks of a clip, and write all of its frames.

    Args:
        source: the frames, of 1, 3 or 4 channels.
        tracks: of this clip. Those for frames of another size are scaled.
        sink: gets as many frames as the source has, in order. Everything outside of the soft masks
            is bit-identical; frames without a track are so as a whole. If there is a track to
            detail, grey frames get three channels, all of them.

    Raises:
        ValueError: the tracks are of a clip with another number of frames.
    """
    tracks = fitted_tracks(tracks, source.size, source.count)
    run = TrackRun(detail, backend, source)
    _tell_unused(tracks, detail)
    way = way_of(run, motion) if tracks.tracks else FrameByFrame()
    works = plan_tracks(tracks, run, motion, way.together)
    run.works = {work.job.position: work for work in works}
    if way.together:  # the model sees how colours go on, and moves what it draws
        motion = replace(motion, smoothing=0.0)
    results = [
        StretchResults(stretch, way.spans(stretch), motion)
        for work in works
        for stretch in work.stretches
    ]
    run.start(_Jobs(results))
    flow = _Flow(source, sink, run, way, results)
    flow.run()
    run.tell_rest()
    before, after = flow.pictures
    return DetailedTracks(flow.changed, run.ended(before, after))


def way_of(run: TrackRun, motion: Motion) -> Way:
    """How the model of a run samples tracks."""
    if run.backend.clip_kind(run.detail.models) == IMAGES:
        return FrameByFrame()
    return ClipByClip(run, motion)


def _tell_unused(tracks: Tracks, detail: Detail) -> None:
    if not tracks.tracks:
        note("tracks", "There are no tracks, so that the frames stay as they are.")
    if detail.upright.source != OFF:
        note(
            "tracks",
            "'upright' of the crop options is not used: the windows of tracks are upright.",
        )
    if detail.pasting.register != OFF:
        tell_not_registered()


@dataclass(frozen=True)
class _Jobs(Collection[Job]):
    """One job for each span, for the progress bar. They are made when they are looked at."""

    results: Sequence[StretchResults]

    def __len__(self) -> int:
        return sum(len(own.spans) for own in self.results)

    def __iter__(self) -> Iterator[Job]:
        return (own.stretch.job(span.start) for own in self.results for span in own.spans)

    def __contains__(self, job: object) -> bool:
        return any(own == job for own in self)


def _spans_by_end(order: int, own: StretchResults) -> Iterator[tuple[int, int, Span]]:
    """The spans of some results with their last frames and the results' place in working order."""
    return ((own.stretch.first + span.stop - 1, order, span) for span in own.spans)


@dataclass
class _Flow:
    """The frames of a clip on their way from the source to the sink."""

    source: FrameSource
    sink: FrameSink
    run_of: TrackRun
    way: Way
    results: Sequence[StretchResults]  # in working order
    changed: int = 0
    _frames: deque[Frame] = field(default_factory=deque)  # not yet written
    _first: int = 0  # number of the first of them
    _pictures: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # made one after another: a list of all spans would grow with the clip
        self._due = heapq.merge(*map(_spans_by_end, range(len(self.results)), self.results))
        self._next = next(self._due, None)
        by_first = ((own.stretch.first, order) for order, own in enumerate(self.results))
        self._coming = deque(sorted(by_first))
        self._here: list[int] = []  # the results that belong into the frame that is written
        shown = {own.stretch.work.shown for own in self.results}
        self._shown = set(sorted(shown)[:MOST_IMAGES]) if self.run_of.view.viewer else set()

    @property
    def pictures(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Some frames before and after [n,H,W,C], for the view; None if nothing was changed."""
        if not self._pictures:
            return self.source.read(0, min(1, self.source.count)), None
        before, after = zip(*self._pictures, strict=True)
        return torch.cat(before), torch.cat(after)

    def run(self) -> None:
        """Carry all frames over."""
        count, step = self.source.count, at_once(self.source.size, MOST_READ, SLICE_VALUES)
        for start in range(0, count, step):
            self.run_of.backend.check_interrupt()
            stop = min(start + step, count)
            self._frames.extend(map(self._read, range(start, stop)))
            self._detail(stop)
            self._write(stop)

    def _read(self, number: int) -> Frame:
        """A frame by itself, so that it is freed when it is written."""
        frame = memory.persist(lambda: frame_of(self.source, number), f"frame {number}", "read")
        if self.results and frame.channels == 1:
            return HeldFrame(to_rgb(composed(frame))[0])
        return frame

    def _detail(self, stop: int) -> None:
        """Sample all spans that end before the frame `stop`."""
        parts = []
        while self._next is not None and self._next[0] < stop:
            _, order, span = self._next
            parts.append(self._part(self.results[order], span))
            self._next = next(self._due, None)
        if parts:
            self.way.detail(self.run_of, parts)

    def _part(self, own: StretchResults, span: Span) -> Part:
        position = own.stretch.work.job.position

        def told(kind: str, text: str) -> None:
            self.run_of.tell(position, kind, text)

        crops = []
        for place in range(span.start, span.stop):
            frame = self._frames[own.stretch.frames[place].frame - self._first]
            crops.append(WindowCrop.of(own.stretch, place, frame, told))
        return Part(own, span, tuple(crops))

    def _write(self, stop: int) -> None:
        """Write the frames before `stop` that wait for nothing, up to the first that does."""
        while self._first < stop:
            own = self._in_frame(self._first)
            if not all(results.ready(place) for results, place in own):
                return
            frame = self._frames[0]
            give(self.sink, frame, self._changed(self._first, frame, own))
            self._frames.popleft()
            self._first += 1

    def _in_frame(self, number: int) -> list[tuple[StretchResults, int]]:
        """The results that belong into a frame, in working order, and their places for it.

        Frames are asked for in order.
        """
        while self._coming and self._coming[0][0] <= number:
            insort(self._here, self._coming.popleft()[1])
        self._here = [at for at in self._here if number <= self.results[at].stretch.last]
        there = (self.results[at] for at in self._here)
        return [(own, number - own.stretch.first) for own in there]

    def _changed(
        self, number: int, frame: Frame, own: Sequence[tuple[StretchResults, int]]
    ) -> Change | None:
        """What is new in a frame, with all that belongs into it; None if nothing is."""
        change = None
        there = [(results, place) for results, place in own if results.layer(place) is not None]
        if there:
            with stage(PASTE):
                change = self._pasted(number, frame, there)
            self.changed += 1
            if number in self._shown:
                self._pictures.append((composed(frame).clone(), composed(frame, change)))
        for results, place in own:
            fault = results.leave(place)
            if fault:
                self.run_of.failed(results.stretch.work.job.position, number, fault)
        return change

    def _pasted(
        self, number: int, frame: Frame, own: Sequence[tuple[StretchResults, int]]
    ) -> Change:
        """The part of a frame into which results are pasted, with them; all of `own` have one."""
        box = self._box(frame, own)

        def copied() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
            rgb, alpha = to_rgb(frame.part(box))
            return rgb.to(widened(rgb).dtype, copy=True).contiguous(), rgb, alpha

        working, rgb, alpha = memory.persist(copied, f"frame {number}", "copied")
        self._paste(working, box, own)
        return Change(box, merge_alpha(working.to(rgb), alpha))

    def _box(self, frame: Frame, own: Sequence[tuple[StretchResults, int]]) -> Box:
        """The part of a frame that is worked on; a hook that changes images gets all of it."""
        if self.run_of.hook.has("post_paste"):
            return Box(0, 0, *frame.size)
        return reduce(Box.union, (results.pasted_box(place) for results, place in own))

    def _paste(
        self, working: torch.Tensor, box: Box, own: Sequence[tuple[StretchResults, int]]
    ) -> None:
        """Paste all results of a frame into its part in a box, [1,h,w,3], from back to front."""
        there = {results.stretch.work.job.position: (results, place) for results, place in own}
        layers = {at: results.layer(place) for at, (results, place) in there.items()}
        order = back_to_front(layers)
        for index, position in enumerate(order):
            above = {at: there[at][0].opacity(there[at][1]) for at in order[index + 1 :]}
            results, place = there[position]
            results.paste(place, working, box, above)
            self.run_of.after_paste(working)
