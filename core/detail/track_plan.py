"""What is to be done with tracks: which frames of each are detailed, how large and how strongly.

A track is planned as one segment: as it is in its middle frame. So a segment plan sees it once, and
what it sets holds for all frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..bounds import MOST_SAMPLED, check_pixels
from ..geometry import Box, Rect, Size, working_size
from ..pixels.window import covered, region_of
from ..segs.seg import SEG
from ..settings import GAPS_FADED, OFF, Detail, Motion
from ..tracks.masks import Met
from ..tracks.occlusion import Occlusions, visibility
from ..tracks.track import Sighting, Track, Tracks
from .plan import Job, Plan, Skipped
from .track_run import TrackRun
from .track_work import Stretch, TrackFrame, TrackWork, box_of, track_name

SIZES_OVER = 12  # frames to either side over which the size of a thing is averaged
DENOISE_STEP = 0.01  # frames with the same denoise can be sampled together
HIDDEN = "something nearer hides it in every frame"
UNUSED = "it is too small or too large, or out of the picture, in every frame"


def plan_tracks(
    tracks: Tracks, run: TrackRun, motion: Motion, together: bool = False
) -> list[TrackWork]:
    """Decide what is done with each track. The user is told which ones are skipped, and why.

    Args:
        tracks: for frames of the clip's size.
        run: its plan and report get one segment for each track.
        together: the frames of a track are sampled as a clip. So frames that are not used stay in
            the stretches between those that are, with the opacity 0.
    """
    occlusions = Occlusions.of(tracks)
    views = [_View.of(place, tracks, occlusions) for place in range(len(tracks.tracks))]
    run.unused = {
        place: HIDDEN if own.usable else UNUSED
        for place, own in enumerate(views)
        if not any(visibility(own.share(one)) for one in own.usable)
    }
    segs = [_as_seg(own.track, own.middle, tracks.size) for own in views]
    plan: Plan = run.plan(segs, tracks.size)
    jobs = [entry for entry in plan.entries if not isinstance(entry, Skipped)]
    shown = _Shown(
        occlusions,
        {job.position: _opacity(views[job.position], motion, tracks.size) for job in jobs},
    )
    return [
        _work(views[job.position], job, shown, run, motion, tracks.size, together) for job in jobs
    ]


@dataclass(frozen=True)
class _View:
    """A track, and what can be seen of it."""

    track: Track
    usable: list[Sighting]
    middle: Sighting  # the frame that stands for it
    seen: Mapping[int, float]  # the share that is seen, in frames in which nearer tracks cover it

    @classmethod
    def of(cls, position: int, tracks: Tracks, occlusions: Occlusions) -> _View:
        track, seen = tracks.tracks[position], occlusions.partly_seen(position)
        usable = _usable_frames(track, tracks.size)
        clear = [own for own in usable if own.frame not in seen]
        return cls(track, usable, _middle(track, clear or usable, tracks.size), seen)

    def share(self, own: Sighting) -> float:
        """The share of the track's thing that is seen in a frame, 0..1."""
        return self.seen.get(own.frame, 1.0)


@dataclass(frozen=True)
class _Shown:
    """How strongly each track is pasted in each frame, and which tracks meet there."""

    occlusions: Occlusions
    opacity: Mapping[int, Mapping[int, float]]  # by position and frame; 0 where it is missing

    def at(self, position: int, frame: int) -> float:
        """The opacity of a track in a frame."""
        return self.opacity.get(position, {}).get(frame, 0.0)

    def met(self, position: int, frame: int) -> Met:
        """What a track meets in a frame."""
        met = self.occlusions.met(position, frame)
        shown = {other: self.at(other, frame) for other in met.behind}
        return replace(met, shown=shown) if shown else met


def _opacity(view: _View, motion: Motion, frame: Size) -> dict[int, float]:
    """How much of the result each frame of a track takes, 0..1."""
    visible = [visibility(view.share(own)) for own in view.track.sightings]
    found = opacities(view.track.sightings, motion, visible)
    return {
        own.frame: value if value > 0 and has_mask(own, frame) else 0.0
        for own, value in zip(view.track.sightings, found, strict=True)
    }


def _usable_frames(track: Track, frame: Size) -> list[Sighting]:
    """The frames in which the track may be detailed: of its size, and with a window inside."""
    return [own for own in _visible(track, frame) if own.used]


def _visible(track: Track, frame: Size) -> list[Sighting]:
    """The frames in which the window shows a part of the picture."""
    return [own for own in track.sightings if not covered(own.window, frame).empty]


def _middle(track: Track, usable: Sequence[Sighting], frame: Size) -> Sighting:
    """The frame that stands for a track: the middle one of those that can be detailed best."""
    seen = [own for own in usable if not own.gap] or list(usable) or list(track.sightings)
    middle = len(seen) // 2
    by_distance = sorted(range(len(seen)), key=lambda place: abs(place - middle))
    return next(
        (seen[place] for place in by_distance if has_mask(seen[place], frame)), seen[middle]
    )


def has_mask(sighting: Sighting, frame: Size) -> bool:
    """Whether the mask covers a pixel of the frame."""
    if sighting.mask is None:
        return not box_of(sighting.box, frame).empty
    box = sighting.mask.box
    inside = box.clipped(frame).shifted(-box.x1, -box.y1)
    values = sighting.mask.unpacked()
    return bool(values[inside.y1 : inside.y2, inside.x1 : inside.x2].any())


def _as_seg(track: Track, own: Sighting, frame: Size) -> SEG:
    """A track as a segment of its middle frame, for selectors, plans and reports."""
    bbox = box_of(own.box, frame)
    region = region_of(own.window, frame, 0)
    mask = np.full((region.height, region.width), has_mask(own, frame), np.float32)
    return SEG(
        None, mask, own.confidence, region.as_tuple(), bbox.as_tuple(), str(track.label), None
    )


def _work(
    view: _View, job: Job, shown: _Shown, run: TrackRun, motion: Motion, frame: Size, together: bool
) -> TrackWork:
    track, position = view.track, job.position
    padding = 2 * (job.chosen.overrides.crop_padding or 0)
    windows = {own.frame: _grown(own.window, padding) for own in track.sightings}
    job = replace(job, size=_working_size(job, view.usable, view.middle, windows, run))
    work = TrackWork(track, job, frame, view.middle.frame)
    details = _Details(track, job.detail, motion, job.chosen.overrides.denoise is not None)
    frames = [
        TrackFrame(
            own.frame, own, windows[own.frame], shown.at(position, own.frame),
            details.at(own.frame), shown.met(position, own.frame),
        )
        for own in (_visible(track, frame) if together else view.usable)
    ]  # fmt: skip
    work.stretches.extend(Stretch(work, part) for part in consecutive(frames))
    return work


def _grown(rect: Rect, by: float) -> Rect:
    return Rect(rect.x, rect.y, rect.width + by, rect.height + by)


def _working_size(
    job: Job, usable: Sequence[Sighting], middle: Sighting, windows: dict[int, Rect], run: TrackRun
) -> Size:
    """One size for all frames: that of the middle frame, or more where a window is larger.

    Raises:
        ValueError: it has more than MOST_SAMPLED pixels.
    """
    largest = max(usable, key=lambda own: windows[own.frame].width * windows[own.frame].height)
    sizing = replace(job.detail.sizing, force_inpaint=True)  # whether to detail it is decided
    sizes = []
    for own in (middle, largest):
        window, box = windows[own.frame], own.box
        size = working_size(_whole(box), _whole(window), sizing)
        if isinstance(size, Size):
            sizes.append(size)
    size = max(sizes, key=lambda size: size.width * size.height, default=job.size)
    size = run.hook.touch_scaled_size(size)
    check_pixels(
        size, f"The working size of {track_name(job.position)}", MOST_SAMPLED,
        "Lower 'max_size' or 'guide_size', or disconnect the hook that asks for it.",
    )  # fmt: skip
    return size


def _whole(rect: Rect) -> Box:
    return Box(0, 0, max(1, round(rect.width)), max(1, round(rect.height)))


class _Details:
    """The settings for each frame of a track; frames with equal ones share them."""

    def __init__(self, track: Track, detail: Detail, motion: Motion, is_set: bool) -> None:
        """`is_set`: the denoise of the track is set by a segment plan, which wins."""
        self.detail = replace(detail, pasting=replace(detail.pasting, register=OFF))
        self._by_denoise: dict[float, Detail] = {}
        self._denoise: dict[int, float] = {}
        if motion.denoise_by_size is not None and not is_set:
            sizes = smoothed_sizes(track.sightings)
            self._denoise = {
                own.frame: _stepped(motion.denoise_by_size.at(size))
                for own, size in zip(track.sightings, sizes, strict=True)
            }

    def at(self, frame: int) -> Detail:
        """The settings for a frame."""
        denoise = self._denoise.get(frame)
        if denoise is None:
            return self.detail
        if denoise not in self._by_denoise:
            sampling = replace(self.detail.sampling, denoise=denoise)
            self._by_denoise[denoise] = replace(self.detail, sampling=sampling)
        return self._by_denoise[denoise]


def _stepped(denoise: float) -> float:
    return min(1.0, max(DENOISE_STEP, round(denoise / DENOISE_STEP) * DENOISE_STEP))


def smoothed_sizes(sightings: Sequence[Sighting]) -> list[float]:
    """The shorter side of the box in each frame, averaged over time.

    The weights are a gaussian of SIZES_OVER frames to either side, cut off where the track ends.
    """
    sizes = np.array([min(own.box.width, own.box.height) for own in sightings], dtype=float)
    weights = time_weights(SIZES_OVER)
    middle = slice(SIZES_OVER, SIZES_OVER + len(sizes))
    sums, shares = (np.convolve(values, weights)[middle] for values in (sizes, np.ones_like(sizes)))
    return (sums / shares).tolist()


def time_weights(reach: int) -> np.ndarray:
    """Weights [2 * reach + 1] of the frames around one, falling as a gaussian; 1 in the middle."""
    return np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(reach / 2, 0.5)) ** 2)


def opacities(
    sightings: Sequence[Sighting], motion: Motion, visible: Sequence[float] | None = None
) -> list[float]:
    """How much of the result each frame of a track takes, 0..1.

    It falls over `motion.fade` frames towards frames that are too small or too large. If gaps are
    faded, it falls over as many frames into a gap, and rises before the gap ends.

    Args:
        visible: for each frame the most of the result that it takes, 0..1; None for 1 in all.
    """
    steps = motion.fade + 1
    limits = _distances([own.used for own in sightings])
    result = [min(1.0, distance / steps) for distance in limits]
    if visible is not None:
        result = [min(pair) for pair in zip(result, visible, strict=True)]
    if motion.gaps == GAPS_FADED:
        into = _distances([own.gap or not own.used for own in sightings])
        result = [
            min(own, max(0.0, 1 - distance / steps)) if sighting.gap else own
            for own, distance, sighting in zip(result, into, sightings, strict=True)
        ]
    return result


def _distances(flags: Sequence[bool]) -> list[float]:
    """For each place how far the nearest False is, in places; 0 where it is False itself."""
    result = [float("inf")] * len(flags)
    for order in (range(len(flags)), reversed(range(len(flags)))):
        away = float("inf")
        for place in order:
            away = away + 1 if flags[place] else 0.0
            result[place] = min(result[place], away)
    return result


def consecutive(frames: Sequence[TrackFrame]) -> Iterator[tuple[TrackFrame, ...]]:
    """Frames divided where numbers of frames are missing."""
    own: list[TrackFrame] = []
    for frame in frames:
        if own and frame.frame != own[-1].frame + 1:
            yield tuple(own)
            own = []
        own.append(frame)
    if own:
        yield tuple(own)
