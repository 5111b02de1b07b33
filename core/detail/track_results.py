"""The results of one stretch of a track: joined, smoothed over time, and pasted frame by frame.

A model that draws each frame by itself draws slightly other colours in each, which is seen as
flicker. The change that it makes (result minus frame) is compared between neighbouring frames at
equal places of the window, where it should be the same. Its coarse part is replaced by its mean
over time; its fine part stays. Only the change is averaged, not the picture, so that what moves and
brightens in the frames themselves still does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ..geometry import Size
from ..pixels.blend import Blending
from ..pixels.colour import ColourChange, FrameColours
from ..pixels.window import Window
from ..settings import Motion
from .crop import Enhanced
from .run import blending_of
from .track_crops import WindowCrop
from .track_plan import time_weights
from .track_work import Stretch

CELLS = 16  # cells of a window's longer side in which its change is averaged
LEAST = 0.05  # share of a cell that the mask has to cover, so that its change counts


class Span(NamedTuple):
    """Frames of a stretch that are sampled together."""

    start: int  # place in the stretch
    stop: int
    weights: tuple[float, ...]  # of each frame, where spans overlap


class Coarse(NamedTuple):
    """The coarse change of one frame, in the cells of its window."""

    change: torch.Tensor  # [1,rows,columns,3]
    frame: torch.Tensor  # [1,rows,columns,3], what is changed
    weight: torch.Tensor  # [1,rows,columns,1], share that the mask covers; 0 where it is too little


@dataclass
class _Frame:
    """One frame that was sampled, until it is pasted."""

    crop: WindowCrop
    weight: torch.Tensor  # [1,h,w] of the crop's `inner`, as it is pasted
    pixels: torch.Tensor  # [1,h,w,3] of the region: the weighted sum of results
    share: float  # the sum of their weights


@dataclass
class _Kept:
    """What neighbouring frames need of one."""

    coarse: Coarse | None = None
    colours: list[FrameColours] = field(default_factory=list)


class StretchResults:
    """Collects the results of a stretch until its frames can be pasted."""

    def __init__(self, stretch: Stretch, spans: Sequence[Span], motion: Motion) -> None:
        """`spans`: all that are sampled; they may overlap and leave frames out."""
        self.stretch, self.spans = stretch, tuple(spans)
        first = stretch.frames[0].detail
        self.blending: Blending = blending_of(first)
        self.smoothing = motion.smoothing
        matches = bool(first.pasting.colour_match)
        self.reach = max(0, motion.smoothing_frames) if self.smoothing > 0 or matches else 0
        self._weights = time_weights(self.reach)
        self._open = [0] * len(stretch.frames)  # for each frame the spans that are still to come
        for span in self.spans:
            for place in range(span.start, span.stop):
                self._open[place] += 1
        self._known = 0  # frames from the first on that no span is still to come for
        self._frames: dict[int, _Frame] = {}
        self._kept: dict[int, _Kept] = {}
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
            size = own.image
            soft = own.persist(
                lambda: self.blending.weight(own.inside(own.mask), own.inner, size), "pasted"
            )
            self._frames[place] = _Frame(own, soft, pixels, weight)
            return
        total = frame.share + weight
        frame.pixels = torch.lerp(frame.pixels, pixels, weight / total)
        frame.share = total

    def _skip(self) -> None:
        """Go on over all frames that are known now, and keep what their neighbours need of them."""
        while self._known < len(self._open) and not self._open[self._known]:
            frame = self._frames.get(self._known)
            if frame is not None:
                self._kept[self._known] = frame.crop.persist(
                    lambda frame=frame: self._for_neighbours(frame), "smoothed"
                )
            self._known += 1

    def _for_neighbours(self, frame: _Frame) -> _Kept:
        own = frame.crop
        kept = _Kept()
        if self.reach and self.smoothing > 0:
            kept.coarse = coarse_change(own, frame.pixels, frame.weight)
        if self.reach:
            kept.colours = self.blending.colours(
                own.inside(frame.pixels), own.inside(own.pixels), frame.weight
            )
        return kept

    def ready(self, place: int) -> bool:
        """Whether a frame can be pasted: its neighbours are known, too."""
        return self._known > min(place + self.reach, len(self._open) - 1)

    def has(self, place: int) -> bool:
        """Whether a frame that is ready has a result."""
        return place in self._frames

    def paste(self, place: int, image: torch.Tensor) -> bool:
        """Paste a frame that is ready into its image [1,H,W,3]; tell whether it has a result."""
        frame = self._frames.get(place)
        if frame is not None:
            frame.crop.persist(lambda: self._paste(place, frame, image), "pasted")
        return frame is not None

    def leave(self, place: int) -> str:
        """Forget a frame that was pasted, and what its last neighbour needed.

        Returns:
            Why it has no result, as a whole clause; empty if it has one, or should have none.
        """
        had = self._frames.pop(place, None)
        self._kept.pop(place - self.reach, None)
        return "" if had else self._faults.pop(place, "")

    def _paste(self, place: int, frame: _Frame, image: torch.Tensor) -> None:
        own = frame.crop
        pixels = own.inside(frame.pixels)
        near = range(place - self.reach, place + self.reach + 1)
        if self.smoothing > 0 and self.reach:
            mean = self._mean_over_time(near)
            off = spread(mean, self._kept[place].coarse, own.window, own.pixels)
            strength = self.smoothing * self._own_unrest(near)
            pixels = (pixels + strength * own.inside(off)).clamp_(0, 1)
        change = None
        if self.blending.options.colour_match:
            change = ColourChange.of(
                [each for at in near if at in self._kept for each in self._kept[at].colours]
            )
        opacity = self.stretch.frames[place].opacity
        self.blending.paste(image, pixels, frame.weight, own.inner, change, opacity)

    def _mean_over_time(self, near: range) -> torch.Tensor:
        """The mean [1,rows,columns,3] of the coarse changes of these frames, as far as known."""
        sums = shares = 0
        for at, weight in zip(near, self._weights.tolist(), strict=True):
            coarse = self._coarse_of(at)
            if coarse is not None:
                sums = sums + weight * coarse.weight * coarse.change
                shares = shares + weight * coarse.weight
        return sums / shares.clamp(min=1e-6)

    def _own_unrest(self, near: range) -> float | torch.Tensor:
        """How much of the unrest of the change near a frame is the model's own, 0..1.

        The rest answers to unrest of the frames themselves: a model that takes grain away changes
        each frame in another way, and the mean of its changes would bring the grain back. From
        frame to frame, let the frames vary by s + n and the change by f - n, where s is what really
        moves, n what the model takes away and f its flicker, all independent of one another. Then
        f^2 / (f^2 + n^2) is 1 + <change, frame> / <change, change>.
        """
        both = own = 0.0
        for at, weight in zip(near[:-1], self._weights.tolist()[:-1], strict=True):
            one, other = (self._coarse_of(place) for place in (at, at + 1))
            if one is None or other is None:
                continue
            common = weight * torch.minimum(one.weight, other.weight)
            change = other.change - one.change
            both = both + (common * change * (other.frame - one.frame)).sum()
            own = own + (common * change.square()).sum()
        return (1 + both / own).clamp(0, 1) if own > 0 else 1.0

    def _coarse_of(self, place: int) -> Coarse | None:
        kept = self._kept.get(place)
        return None if kept is None else kept.coarse


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


def cells_of(size: Size) -> Size:
    """The numbers of cells across and down of a window with this working size."""
    longest = max(size)
    return Size(*(max(1, round(CELLS * side / longest)) for side in size))


def coarse_change(own: WindowCrop, pixels: torch.Tensor, weight: torch.Tensor) -> Coarse:
    """The coarse change of a frame, averaged under its mask.

    Args:
        pixels: [1,h,w,3], the result for the region.
        weight: [1,h,w] of the crop's `inner`, as it is pasted.
    """
    share = pixels.new_zeros(*pixels.shape[:3], 1)
    own.inside(share).copy_(weight[..., None])
    before = own.pixels.to(pixels)
    values = torch.cat([(pixels - before) * share, before * share, share], dim=-1)
    cells = own.window.averaged(values, cells_of(own.job.size))
    sums, shares = cells[..., :-1], cells[..., -1:]
    shares = torch.where(shares >= LEAST, shares, torch.zeros_like(shares))
    means = torch.where(shares > 0, sums / shares.clamp(min=LEAST), sums * 0)
    return Coarse(means[..., :3], means[..., 3:], shares)


def spread(mean: torch.Tensor, own: Coarse, window: Window, like: torch.Tensor) -> torch.Tensor:
    """What brings the coarse change of a frame to its mean over time: [1,h,w,3] for its region.

    Args:
        mean: [1,rows,columns,3] in the cells of the window.
        like: [1,h,w,C] of the region.
    """
    known = (own.weight > 0).to(mean)
    values = torch.cat([(mean - own.change) * known, known], dim=-1)
    fine = window.interpolated(values, like)
    return fine[..., :3] / fine[..., 3:].clamp(min=1e-3)
