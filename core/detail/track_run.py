"""One run over the tracks of a clip: each track counts as one segment for plan, report and view.

A track has a crop in each of its frames. Their records are added up to one of the track, and what
is to be told of many frames alike is told once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ...utils.indices import shown_indices
from ...utils.notes import note
from ..backend import Backend
from ..clips import FrameSource
from ..geometry import Size
from ..pixels.image import to_rgb
from ..segs.seg import SEG
from ..settings import Detail
from .plan import Job, Plan, Skipped
from .report import Record, Worked
from .run import Run
from .track_work import SkippedTrack, TrackWork, track_name

MOST_FRAMES = 12  # numbers of frames in one note


class TrackRun(Run):
    """A run whose segments are the tracks of a clip."""

    def __init__(self, detail: Detail, backend: Backend, source: FrameSource) -> None:
        super().__init__(detail, backend, source.read(0, min(1, source.count)))
        self.rows = self.report.images = source.count
        self.references.image, self.references.of_clip = _Rows(source), True
        self.unused: Mapping[int, str] = {}  # why tracks are left out, by position
        self.works: dict[int, TrackWork] = {}  # by position
        self._begun: set[int] = set()  # positions of tracks in the report
        self._again: dict[tuple[int, str], int] = {}  # how often more than once something was told
        self._failed: dict[tuple[int, str], list[int]] = {}  # frames by track and fault

    def decide(self, segs: list[SEG], image: Size, row: int | None = 0, version: int = 0) -> Plan:
        """As `Run.decide`, with the reasons in `unused`."""
        plan = super().decide(segs, image, row, version)
        return Plan(tuple(self._decided(entry) for entry in plan.entries))

    def _decided(self, entry: Job | Skipped) -> Job | Skipped:
        unused = self.unused.get(entry.position)
        if unused:
            return SkippedTrack(entry.position, entry.seg, unused)
        if isinstance(entry, Skipped):
            return SkippedTrack(entry.position, entry.seg, entry.reason, entry.by_size)
        return entry

    def begin_wave(self, crops: Sequence[tuple[Worked, torch.Tensor]]) -> None:
        """These crops, each with its pixels [N,h,w,3], are worked on side by side from now on."""
        positions = {worked.job.position for worked, _ in crops} - self._begun
        self._begun |= positions
        new = [self.works[position] for position in sorted(positions)]
        self.report.wave([Worked(work.job, 0, work.record) for work in new])
        self.view.wave(
            [(self._pictured(worked) or worked, pixels) for worked, pixels in crops],
            lasting=lambda worked: worked.record is self.works[worked.job.position].record,
        )

    def _pictured(self, worked: Worked) -> Worked | None:
        """The track of a crop, if its pictures are of this crop."""
        work = self.works[worked.job.position]
        if getattr(worked.job, "frame", None) != work.shown:
            return None
        return Worked(work.job, work.shown, work.record)

    def over(self, worked: Worked, pixels: torch.Tensor | None) -> None:
        """A crop is finished: add it to its track.

        Args:
            pixels: its result [N,h,w,3] 0..1, or None if it is not used.
        """
        shown = self._pictured(worked)
        self.view.over((shown or worked).record, pixels)
        self.works[worked.job.position].record.add(worked.record)

    def failed(self, position: int, frame: int, fault: str) -> None:
        """A frame of a track keeps its pixels; `fault` is a whole clause."""
        self._failed.setdefault((position, fault), []).append(frame)

    def tell(self, position: int, kind: str, text: str) -> None:
        """Give a note about a track, unless one of this kind was given; `tell_rest` counts them."""
        key = position, kind
        if key not in self._again:
            note(kind, text)
        self._again[key] = self._again.get(key, -1) + 1

    def tell_rest(self) -> None:
        """Tell what holds for several frames of a track, and record it."""
        for (position, kind), count in self._again.items():
            if count:
                note(kind, f"The same holds for {track_name(position)} {count} more times.")
        for (position, fault), frames in sorted(self._failed.items()):
            listed = shown_indices(frames, MOST_FRAMES)
            note(
                "fault",
                f"{track_name(position).capitalize()} keeps its original pixels in {len(frames)} of"
                f" {self.works[position].pasted} frames ({listed}): {fault}",
            )
        for position, work in self.works.items():
            own = {at: faults for at, faults in self._failed.items() if at[0] == position}
            _count(work, own)


def _count(work: TrackWork, failed: Mapping[tuple[int, str], list[int]]) -> None:
    """Record which frames of a track were detailed."""
    frames = [own for stretch in work.stretches for own in stretch.frames]
    broken = sorted(frame for numbers in failed.values() for frame in numbers)
    record: Record = work.record
    record.frames = {
        "first": frames[0].frame,
        "last": frames[-1].frame,
        "detailed": work.pasted - len(broken),
        "gaps": sum(own.sighting.gap and own.opacity > 0 for own in frames),
        "failed": broken,
    }
    all_failed = bool(broken) and len(broken) == work.pasted
    record.fault = next(fault for _, fault in failed) if all_failed else ""


class _Rows:
    """The frames of a source as References read them: slices [n,H,W,3] of single frames."""

    def __init__(self, source: FrameSource) -> None:
        self.source = source

    def __getitem__(self, rows: slice) -> torch.Tensor:
        return to_rgb(self.source.read(rows.start, rows.stop))[0]
