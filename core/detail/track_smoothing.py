"""What a model draws in the frames of a track, averaged over time along the motion in the frames.

A model that draws each frame by itself draws each a little differently: colours and fine detail
flicker. The mean of what it draws at the same spot of a thing, in the frames before and after, does
not. How the spots move is measured in the frames as they came, in the windows, which already follow
the thing as a whole. Where the frames differ even along the motion, such as at a blinking eye,
little is averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..geometry import Rect, Size, within
from ..pixels.flow import chained, fitted_flow, grid_of, motion_between, sampled
from ..pixels.mask import softened
from ..pixels.resample import resize
from ..pixels.window import Window
from .track_crops import WindowCrop
from .track_plan import time_weights
from .track_work import TrackFrame

FINEST = 512  # pixels of the longer side of the part of a window that is averaged
MEASURED = 128  # the same, where motion is measured
MARGIN = 1.1  # of that part around the masks
GRAIN = 0.02  # of its longer side: finer differences of the frames are noise
UNLIKE = 0.05  # a difference of the frames (0..1) at which a neighbour counts less


@dataclass
class _View:
    """The masked part of the window of one frame."""

    drawn: torch.Tensor  # [1,h,w,3], the result
    known: torch.Tensor  # [1,h,w,4], the frame as it came, without grain, and the mask
    plain: torch.Tensor  # [1,h',w',1], as it came, to measure motion in
    counts: torch.Tensor  # [1,h',w',1], the mask there
    part: Window  # that part in the region of the frame
    onwards: torch.Tensor | None = None  # [1,h',w',2], motion to the next frame
    back: torch.Tensor | None = None  # the same to the frame before


class TimeMean:
    """The means over time of the results of a stretch; frames are added in order."""

    def __init__(self, frames: Sequence[TrackFrame], reach: int) -> None:
        """
        Args:
            frames: all of the stretch.
            reach: frames before and after that are averaged.
        """
        self.reach = reach
        self._share = _masked_share(frames)
        self._size: Size | None = None
        self._views: dict[int, _View] = {}
        self._weights = time_weights(reach)[reach:].tolist()  # by distance

    def add(self, place: int, own: WindowCrop, pixels: torch.Tensor, weight: torch.Tensor) -> None:
        """Add the result of a frame.

        Args:
            place: of the frame in the stretch.
            pixels: [1,h,w,3], the result for the region.
            weight: [1,h,w] of the crop's `inner`, as it is pasted.
        """
        view = self._view(own, pixels, weight)
        before = self._views.get(place - 1)
        if before is not None:
            before.onwards = motion_between(before.plain, view.plain, before.counts)
            view.back = motion_between(view.plain, before.plain, view.counts)
        self._views[place] = view

    def _view(self, own: WindowCrop, pixels: torch.Tensor, weight: torch.Tensor) -> _View:
        part = own.window.middle_part(*self._share)
        self._size = self._size or within(part.frame.size, FINEST)
        share = pixels.new_zeros(*pixels.shape[:3], 1)
        own.inside(share).copy_(weight[..., None])
        frame = part.cut(own.pixels.to(pixels), self._size)
        frame = softened(frame, GRAIN * max(self._size))
        small = within(self._size, MEASURED)
        plain = part.cut(own.pixels.to(pixels).mean(dim=-1, keepdim=True), self._size)
        plain = resize(softened(plain, max(self._size) / max(small)).clamp_(0, 1), small)
        known = torch.cat([frame, part.averaged(share, self._size)], dim=-1)
        return _View(
            part.cut(pixels, self._size), known, plain, part.averaged(share, small), part
        )  # fmt: skip

    def correction(self, place: int, like: torch.Tensor) -> torch.Tensor:
        """What brings the result of a frame to the mean over time: [1,h,w,3] for its region.

        Args:
            like: [1,h,w,C] of the region.
        """
        own = self._views[place]
        frame, mask = own.known[..., :3].contiguous(), own.known[..., 3:]
        sums, shares = torch.zeros_like(own.drawn), mask.clone()
        for distance, flow, view in self._neighbours(place):
            grid = grid_of(fitted_flow(flow, own.drawn))
            drawn = sampled(view.drawn, grid, "bicubic")
            known = sampled(view.known, grid)
            unlike = (known[..., :3] - frame).square().mean(dim=-1, keepdim=True)
            share = self._weights[distance] * torch.exp(unlike / (-2 * UNLIKE**2)) * known[..., 3:]
            sums += share * (drawn - own.drawn)
            shares += share
        return own.part.returned(sums / shares.clamp(min=1e-6), like)

    def _neighbours(self, place: int) -> Iterator[tuple[int, torch.Tensor, _View]]:
        """Distance, motion [1,h',w',2] and view of each neighbour that is connected to a frame."""
        for direction in (-1, 1):
            flow, near = None, self._views[place]
            for distance in range(1, self.reach + 1):
                view = self._views.get(place + direction * distance)
                if view is None:
                    break
                step = near.back if direction < 0 else near.onwards
                flow = step if flow is None else chained(flow, step)
                yield distance, flow, view
                near = view

    def forget(self, place: int) -> None:
        """No later frame needs this one."""
        self._views.pop(place, None)


def _masked_share(frames: Sequence[TrackFrame]) -> tuple[float, float]:
    """How much of the width and the height of the windows the masks take, at most."""
    across = down = 0.0
    for own in frames:
        mask = own.sighting.mask
        box = own.sighting.box if mask is None else Rect.of_box(mask.box.as_tuple())
        window = own.window
        across = max(across, (2 * abs(box.x - window.x) + box.width) / window.width)
        down = max(down, (2 * abs(box.y - window.y) + box.height) / window.height)
    return min(1.0, MARGIN * across), min(1.0, MARGIN * down)
