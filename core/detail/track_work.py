"""The frames of a track that are detailed, and what each of them is sampled as.

All frames of a track have the same seed and working size, and so the same noise at the same places
of the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ..geometry import Box, Rect, Size
from ..pixels.window import Window, reach, region_of
from ..settings import Detail
from ..tracks.masks import ALONE, Met
from ..tracks.track import Sighting, Track
from .plan import Job, Skipped
from .report import Record


def track_name(position: int) -> str:
    """What messages call the track at a position: by the number that Preview Tracks shows."""
    return f"track {position + 1}"


@dataclass(frozen=True)
class SkippedTrack(Skipped):
    """A track that stays as it is."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return track_name(self.position)


@dataclass(frozen=True)
class FrameJob(Job):
    """One frame of a track."""

    frame: int = 0

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{track_name(self.position)} in frame {self.frame}"


@dataclass(frozen=True)
class TrackFrame:
    """One frame of a track, before its pixels are read."""

    frame: int
    sighting: Sighting
    window: Rect
    opacity: float  # 0..1 of the result; at 0 the frame is only sampled together with others
    detail: Detail
    met: Met = ALONE  # other tracks that hide it, or that it hides


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames of a track that are detailed."""

    work: TrackWork
    frames: tuple[TrackFrame, ...]

    @property
    def first(self) -> int:
        """The first frame."""
        return self.frames[0].frame

    @property
    def last(self) -> int:
        """The last frame."""
        return self.frames[-1].frame

    def job(self, place: int) -> FrameJob:
        """The job of one of its frames."""
        own, base, frame_size = self.frames[place], self.work.job, self.work.frame_size
        region = region_of(own.window, frame_size, reach(own.window, base.size))
        bbox = box_of(own.sighting.box, frame_size)
        return FrameJob(
            base.position, base.seg._replace(bbox=bbox.as_tuple(), crop_region=region.as_tuple()),
            bbox, region, base.size, base.seed, own.detail, base.text, base.concat,
            Window.of(own.window, region), added=base.added, chosen=base.chosen, frame=own.frame,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrackWork:
    """A track that is detailed."""

    track: Track
    job: Job  # of the middle frame; its working size is that of all frames
    frame_size: Size
    shown: int  # the frame that stands for it in pictures
    record: Record = field(default_factory=Record)
    stretches: list[Stretch] = field(default_factory=list)  # in order

    @cached_property
    def pasted(self) -> int:
        """Frames that are to be changed."""
        return sum(own.opacity > 0 for stretch in self.stretches for own in stretch.frames)


def box_of(rect: Rect, frame: Size) -> Box:
    """The pixels of the frame nearest to a rectangle; at least one if it touches the frame."""
    x1, y1, x2, y2 = (round(side) for side in rect.sides)
    return Box(x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)).clipped(frame)
