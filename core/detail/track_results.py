"""The results of one stretch of a track: joined, averaged over time, and pasted frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..geometry import Box
from ..pixels.blend import Blending
from ..pixels.colour import ColourChange, FrameColours
from ..settings import Motion
from .crop import Enhanced
from .run import blending_of
from .track_crops import WindowCrop
from .track_layers import Layer
from .track_smoothing import TimeMean
from .track_work import Stretch


class Span(NamedTuple):
    """Frames of a stretch that are sampled together."""

    start: int  # place in the stretch
    stop: int
    weights: tuple[float, ...]  # of each frame, where spans overlap


@dataclass
class _Frame:
    """One frame that was sampled, until it is pasted."""

    crop: WindowCrop
    layer: Layer
    pixels: torch.Tensor  # [1,h,w,3] of the region: the weighted mean of results
    share: float  # the sum of their weights


class StretchResults:
    """Collects the results of a stretch until its frames can be pasted."""

    def __init__(self, stretch: Stretch, spans: Sequence[Span], motion: Motion) -> None:
        """
        Args:
            spans: all that are sampled; they may overlap and leave frames out.
            motion: `smoothing` 0 leaves results as they are.
        """
        self.stretch, self.spans = stretch, tuple(spans)
        first = stretch.frames[0].detail
        self.blending: Blending = blending_of(first)
        self.smoothing = motion.smoothing if motion.smoothing_frames > 0 else 0.0
        matches = bool(first.pasting.colour_match)
        self.reach = max(0, motion.smoothing_frames) if self.smoothing > 0 or matches else 0
        self._mean = TimeMean(stretch.frames, self.reach) if self.smoothing > 0 else None
        self._colours: dict[int, list[FrameColours]] = {}
        self._open = [0] * len(stretch.frames)  # for each frame the spans that are still to come
        for span in self.spans:
            for place in range(span.start, span.stop):
                self._open[place] += 1
        self._known = 0  # frames from the first on that no span is still to come for
        self._frames: dict[int, _Frame] = {}
        self._faults: dict[int, str] = {}
        self._skip()

    def add(self, place: int, weight: float, own: WindowCrop, enhanced: Enhanced) -> None:
        """One result of a frame, at the size of its region.

        Args:
            place: of the frame in the stretch.
            weight: of this result among those of other spans.
        """
        self._open[place] -= 1
        if enhanced.fault:
            self._faults[place] = enhanced.fault
        elif self.stretch.frames[place].opacity > 0:
            self._join(place, weight, own, enhanced.pixels)
        self._skip()

    def _join(self, place: int, weight: float, own: WindowCrop, pixels: torch.Tensor) -> None:
        frame = self._frames.get(place)
        if frame is None:
            layer = own.persist(
                lambda: Layer.of(own, self.stretch.frames[place], self.blending), "pasted"
            )
            self._frames[place] = _Frame(own, layer, pixels, weight)
            return
        frame.share += weight
        if weight > 0:  # else it shows what another span has made, or what stands for that
            frame.pixels = torch.lerp(frame.pixels, pixels, weight / frame.share)

    def _skip(self) -> None:
        """Go on over all frames that are known now, and keep what their neighbours need of them."""
        while self._known < len(self._open) and not self._open[self._known]:
            frame = self._frames.get(self._known)
            if frame is not None:
                frame.crop.persist(lambda frame=frame: self._keep(frame), "smoothed")
            self._known += 1

    def _keep(self, frame: _Frame) -> None:
        """Keep what the neighbours of the frame `_known` need of it."""
        own, place, seen = frame.crop, self._known, frame.layer.seen
        if self._mean is not None:
            self._mean.add(place, own, frame.pixels, seen)
        self._colours[place] = self.blending.colours(
            own.inside(frame.pixels), own.inside(own.pixels), seen
        )

    def ready(self, place: int) -> bool:
        """Whether a frame can be pasted: its neighbours are known, too."""
        return self._known > min(place + self.reach, len(self._open) - 1)

    def layer(self, place: int) -> Layer | None:
        """The soft mask of a frame that is ready; None if it has no result."""
        frame = self._frames.get(place)
        return None if frame is None else frame.layer

    def opacity(self, place: int) -> float:
        """How much of the result a frame takes, 0..1."""
        return self.stretch.frames[place].opacity

    def pasted_box(self, place: int) -> Box:
        """The pixels of a frame that its result may change."""
        return self._frames[place].crop.inner

    def paste(
        self, place: int, image: torch.Tensor, around: Box, above: Mapping[int, float]
    ) -> None:
        """Paste a frame that has a result.

        Args:
            image: [1,h,w,3], the part of the frame in the box `around`; changed in place.
            around: has all of `pasted_box` in it.
            above: what is pasted over it, as of `Layer.pasted`.
        """
        frame = self._frames[place]
        box = frame.crop.inner.shifted(-around.x1, -around.y1)
        frame.crop.persist(lambda: self._paste(place, frame, image, box, above), "pasted")

    def leave(self, place: int) -> str:
        """Forget a frame that was pasted, and what it was the last one to need.

        Frames are left in order. The last one of the stretch leaves nothing behind.

        Returns:
            Why it has no result, as a whole clause; empty if it has one, or should have none.
        """
        had = self._frames.pop(place, None)
        is_last = place == len(self._open) - 1
        for done in range(place - self.reach, place + 1 if is_last else place - self.reach + 1):
            self._colours.pop(done, None)
            if self._mean is not None:
                self._mean.forget(done)
        return "" if had else self._faults.pop(place, "")

    def _paste(
        self, place: int, frame: _Frame, image: torch.Tensor, box: Box, above: Mapping[int, float]
    ) -> None:
        own = frame.crop
        pixels = own.inside(frame.pixels)
        if self._mean is not None:
            off = own.inside(self._mean.correction(place, own.pixels))
            same = (pixels == own.inside(own.pixels)).all(dim=-1, keepdim=True)
            pixels = torch.where(same, pixels, (pixels + self.smoothing * off).clamp_(0, 1))
        near = range(place - self.reach, place + self.reach + 1)
        change = ColourChange.of([each for at in near for each in self._colours.get(at, ())])
        weight = frame.layer.pasted(above)
        self.blending.paste(image, pixels, weight, box, change, self.opacity(place))


@dataclass(frozen=True)
class Part:
    """A span of a stretch that can be sampled: all of its frames were read."""

    results: StretchResults
    span: Span
    crops: tuple[WindowCrop, ...]  # one for each frame of the span

    def pasted(self, place: int) -> bool:
        """Whether a frame of the span is to be changed."""
        return self.results.stretch.frames[self.span.start + place].opacity > 0

    def finish(self, place: int, enhanced: Enhanced) -> None:
        """The result of one frame of the span, [1,h,w,3] at the size of its region."""
        span = self.span
        self.results.add(span.start + place, span.weights[place], self.crops[place], enhanced)
