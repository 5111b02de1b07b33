"""The way of models that know about motion: the frames of a track are sampled together, as a clip.

A motion model takes them as rows of a batch, and a video model as one latent with a time axis. What
is longer than the model takes is sampled in overlapping chunks, see `chunks.py`. One clip is
sampled at a time, so that several tracks take no more memory than one.

Between two frames of a track that are detailed there may be some that are not: too small or too
large, or in a gap. They are sampled with the others, so that the model sees the motion as a whole,
and are not pasted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from statistics import median_low
from typing import Any

import torch

from ...utils.notes import note
from .. import memory
from ..backend import VIDEO, Backend
from ..geometry import Size
from ..pixels.crop_view import Cut, Step
from ..pixels.rotated_crop import RotatedCrop
from ..settings import Motion
from ..timing import RESIZE, stage
from .chunks import Chunk, FrameGrid, Joiner, chunk_weights, plan_chunks, stretches
from .crop import ClipPart, Crop, Enhanced
from .crop_pipeline import enhance
from .track_crops import WindowCrop
from .track_results import Part, Span
from .track_run import TrackRun
from .track_work import FrameJob, Stretch, track_name

# Pixels of the canvas that are sampled in one call where the host divides the clip into windows. A
# tensor of so many pixels in float32 takes 1.6 GB.
MOST_AT_ONCE = 2**27
NOTE = "chunks"


@dataclass(frozen=True)
class ClipJob(FrameJob):
    """Consecutive frames of a track. Everything else is that of the frame that stands for them."""

    first: int = 0
    last: int = 0

    @property
    def name(self) -> str:
        """What messages call it."""
        if self.first == self.last:
            return f"{track_name(self.position)} in frame {self.first}"
        return f"{track_name(self.position)} in frames {self.first} to {self.last}"

    @property
    def place(self) -> int:
        """Where the frame that stands for them is among them."""
        return self.frame - self.first


@dataclass(frozen=True)
class ClipCrop(Crop):
    """The windows of consecutive frames at their working size, and the masks there."""

    windows: tuple[WindowCrop, ...] = ()
    timeline: Timeline | None = None  # of a latent with a time axis

    @classmethod
    def of(
        cls, windows: Sequence[WindowCrop], job: ClipJob, part: ClipPart,
        shown: torch.Tensor | None, timeline: Timeline | None = None,
    ) -> ClipCrop:  # fmt: skip
        """The crop of some frames.

        Args:
            part: its first `part.kept` frames show what is done already.
            shown: [kept,H,W,3], these results; None for 0 frames.
        """
        with stage(RESIZE):
            pixels = torch.cat([own.at_working_size(slice(None)) for own in windows])
            masks = torch.cat([own.soft_mask(0) for own in windows])
        result = cls(
            job, windows[0].image, pixels, masks, windows[job.place].row, video=True, part=part,
            windows=tuple(windows), timeline=timeline,
        )  # fmt: skip
        if shown is not None:
            result._show(shown)
        return result

    def _show(self, shown: torch.Tensor) -> None:
        """Replace the first frames, under their masks, with results [kept,H,W,3]."""
        masking, kept = self.job.detail.masking, slice(len(shown))
        weights = torch.ones_like(self.mask[kept])
        if masking.noise_mask:
            weights = _soft(self.windows[kept], masking.noise_mask_feather)
        self.pixels[kept] = torch.lerp(
            self.pixels[kept], shown.to(self.pixels), weights[..., None].to(self.pixels)
        )

    @property
    def rotated(self) -> RotatedCrop | None:
        """None: the windows are upright and have their working size already."""
        return None

    def soft_mask(self, reach: int) -> torch.Tensor:
        """As of `Crop`, [N,H,W]; `reach` is in pixels of the frames."""
        return _soft(self.windows, reach)

    def tell(self, kind: str, text: str) -> None:
        """Give a note about the crop, once for all frames of its track."""
        self.windows[0].tell(kind, text)

    def cut(self, canvas: Size, ratio: int, rows: int) -> Cut:
        """As of `Crop`; of pictures with one for each frame of the clip, each frame has its own.

        So has each latent step, of planes with one for each step of the clip.
        """
        each = tuple(own.cut(canvas, ratio, rows) for own in self.windows)
        cut = replace(each[self.job.place], frames=each)
        if self.timeline is None:
            return cut
        return replace(cut, steps=self.timeline.steps(each), of_steps=self.timeline.of(rows))


@dataclass(frozen=True)
class Timeline:
    """How a video VAE divides clips into latent steps."""

    backend: Backend
    vae: Any

    def of(self, frames: int) -> int:
        """The number of latent steps of a clip, which is lengthened as far as the VAE needs it."""
        return self.backend.latent_steps(self.vae, self.backend.clip_length(self.vae, frames))

    def steps(self, cuts: Sequence[Cut]) -> tuple[Step, ...]:
        """The latent steps of a part of a clip; `cuts` are those of its frames."""
        length = self.backend.clip_length(self.vae, len(cuts))
        parts = self.backend.frames_of_steps(self.vae, self.of(len(cuts)), length)
        last = [cuts[min(part.stop, len(cuts)) - 1] for part in parts]
        return tuple(
            Step(cut, self.backend.latent_steps(self.vae, cut.row + 1) - 1) for cut in last
        )


def _soft(windows: Sequence[WindowCrop], reach: int) -> torch.Tensor:
    return torch.cat([own.soft_mask(reach) for own in windows])


class ClipByClip:
    """The way of motion models and video models: the frames of a track are sampled as a clip."""

    together = True

    def __init__(self, run: TrackRun, motion: Motion) -> None:
        models, backend = run.detail.models, run.backend
        self.overlap = max(0, motion.overlap)
        self.is_video = backend.clip_kind(models) == VIDEO
        self.grid = FrameGrid.of_any_length()
        if self.is_video:
            self.grid = FrameGrid(partial(backend.clip_length, models.vae))
        self.timeline = Timeline(backend, models.vae) if self.is_video else None
        self.windowed = backend.has_context_windows(models.model)
        self.most = max(1, motion.chunk or backend.native_frames(models))
        self._fitting: int | None = None  # frames that fit into memory, once it has run out
        # By the id of a stretch, which is kept, and the first place of a chunk in it.
        self._joiners: dict[tuple[int, int], Joiner] = {}

    # Planning

    def spans(self, stretch: Stretch) -> Sequence[Span]:
        """The chunks of a stretch."""
        most, spans = self._longest(stretch), []
        for part in stretches([own.opacity > 0 for own in stretch.frames], most):
            chunks = plan_chunks(part.stop - part.start, most, self.overlap, self.grid)
            joiner = Joiner(chunks)
            for chunk, weights in zip(chunks, chunk_weights(chunks), strict=True):
                start = part.start + chunk.start
                self._joiners[id(stretch), start] = joiner
                spans.append(Span(start, part.start + chunk.stop, weights))
        return spans

    def _longest(self, stretch: Stretch) -> int:
        """The most frames of a stretch that are sampled together."""
        if not self.windowed:
            return self.most
        width, height = stretch.work.job.size
        frames, fit = len(stretch.frames), max(1, MOST_AT_ONCE // (width * height))
        if frames > fit:
            note(
                NOTE,
                f"{track_name(stretch.work.job.position).capitalize()} has {frames} frames of"
                f" {width}x{height} pixels, more than are held in memory at once. So the context"
                f" windows of the model see {fit} frames at a time, in overlapping chunks.",
            )
        return min(frames, fit)

    # Sampling

    def detail(self, run: TrackRun, parts: Sequence[Part]) -> None:
        """As the protocol `Way` says; one part after another."""
        for part in parts:
            joiner = self._joiners[id(part.results.stretch), part.span.start]
            context = joiner.context
            done = self._sampled(run, part, context)
            for place, own in enumerate(part.crops):
                taken = part.span.weights[place] > 0 or context is None
                part.finish(place, _of_frame(own, done, place, taken and part.pasted(place)))
            if done.fault:
                joiner.skip()
            else:
                joiner.add(done.pixels)

    def _sampled(self, run: TrackRun, part: Part, context: torch.Tensor | None) -> Enhanced:
        """The result of a part, [n,H,W,3] at the working size.

        If memory runs out, it is sampled in smaller chunks, and so are all later ones.

        Raises:
            memory.OutOfMemory: there is not even memory for a single frame.
        """
        while True:
            most = self.grid.length(len(part.crops))
            if self._fitting is not None:
                most = min(most, self._fitting)
            try:
                return self._in_chunks(run, part, most, context)
            except memory.OutOfMemory as error:
                if most <= self.grid.length(1):
                    raise
                memory.release(error)
                self._fitting = self.grid.most_within(most // 2)
                note(
                    NOTE,
                    f"Out of memory: {error.subject} does not fit, so that clips are sampled in"
                    f" chunks of {self._fitting} frames now. For longer ones choose a smaller"
                    " 'guide_size' or 'max_size'. To choose their length yourself, set"
                    " 'chunk_frames'.",
                )

    def _in_chunks(
        self, run: TrackRun, part: Part, most: int, context: torch.Tensor | None
    ) -> Enhanced:
        chunks = plan_chunks(len(part.crops), most, self.overlap, self.grid)
        joiner, results = Joiner(chunks), []
        for chunk in chunks:
            shown = context if chunk.start == 0 else joiner.context
            clip = _clip(part, chunk, shown, self.timeline)
            (done,) = enhance(run, [clip])
            run.over(clip.worked, None if done.fault else done.pixels)
            if done.fault or len(chunks) == 1:
                return done
            results.append(joiner.add(done.pixels)[1])
        return Enhanced(torch.cat(results))


def _clip(
    part: Part, chunk: Chunk, shown: torch.Tensor | None, timeline: Timeline | None
) -> ClipCrop:
    """A chunk of a part as a crop; `shown` are results [kept,H,W,3] that it begins with."""
    stretch, start = part.results.stretch, part.span.start
    windows = part.crops[chunk.start : chunk.stop]
    first, last = windows[0].job.frame, windows[-1].job.frame
    own = stretch.frames[start + chunk.start : start + chunk.stop]
    of_shown = stretch.work.shown
    middle = of_shown if first <= of_shown <= last else windows[len(windows) // 2].job.frame
    job = windows[middle - first].job
    values = {each.name: getattr(job, each.name) for each in fields(FrameJob)}
    denoise = median_low(
        [each.detail.sampling.denoise for each in own if each.opacity > 0]
        or [job.detail.sampling.denoise]
    )
    sampling = replace(job.detail.sampling, denoise=denoise)
    values["detail"] = replace(job.detail, sampling=sampling)
    kept = 0 if shown is None else len(shown)
    place = ClipPart(first - stretch.work.track.first, kept)
    job = ClipJob(**values, first=first, last=last)
    return ClipCrop.of(windows, job, place, shown, timeline)


def _of_frame(own: WindowCrop, done: Enhanced, place: int, needed: bool) -> Enhanced:
    """The result of one frame of a clip, at the size of its region.

    A frame that nobody needs from this clip is not brought there, and stays as it is.
    """
    if done.fault:
        return Enhanced(own.pixels, fault=done.fault)
    if not needed:
        return Enhanced(own.pixels)
    return Enhanced(own.shrunk(done.pixels[place : place + 1], slice(None)))
