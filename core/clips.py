"""Clips: the frames of a video, in memory or read and written slice by slice.

Code that works on a clip of any length reads it through a `FrameSource` and writes it through a
`FrameSink`, so that it need not know where the frames are.

A frame that waits is a `Frame`, of which only the parts that are looked at become pixels. A source
that holds frames in a smaller form than pixels has a method `frame(number)` that gives one. A sink
that needs only what was changed of a frame has a method `take(frame, change)`. `frame_of` and
`give` use them where they are there, and pixels where they are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .geometry import Box, Size


class Frame(Protocol):
    """One frame of a clip, for as long as it is needed."""

    @property
    def size(self) -> Size:
        """In pixels."""

    @property
    def channels(self) -> int:
        """1, 3 or 4."""

    def part(self, box: Box) -> torch.Tensor:
        """The pixels [1,h,w,C] 0..1 in a box that lies inside. They are not to be changed."""


class FrameSource(Protocol):
    """Frames that can be read in any order; reading forward is cheap, going back may not be."""

    @property
    def count(self) -> int:
        """The number of frames."""

    @property
    def size(self) -> Size:
        """Of a frame, in pixels."""

    def read(self, start: int, stop: int) -> torch.Tensor:
        """The frames start..stop-1 as [n,H,W,C] 0..1; C is 1, 3 or 4, the same in all.

        They are not to be changed in place. `stop` may not exceed `count`.
        """


class FrameSink(Protocol):
    """Takes the frames of a clip, from the first to the last."""

    def write(self, frames: torch.Tensor) -> None:
        """The next frames [n,H,W,C] 0..1."""


class HeldFrame:
    """A frame whose pixels [1,H,W,C] are in memory."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self._pixels = pixels

    @property
    def size(self) -> Size:
        """In pixels."""
        return Size(self._pixels.shape[2], self._pixels.shape[1])

    @property
    def channels(self) -> int:
        """1, 3 or 4."""
        return self._pixels.shape[-1]

    def part(self, box: Box) -> torch.Tensor:
        """The pixels [1,h,w,C] in a box that lies inside, as a view."""
        return self._pixels[:, box.y1 : box.y2, box.x1 : box.x2]


@dataclass(frozen=True)
class Change:
    """What is new in a frame: pixels [1,h,w,C] 0..1 in a box that lies inside."""

    box: Box
    pixels: torch.Tensor


def frame_of(source: FrameSource, number: int) -> Frame:
    """A frame of a source, as small as the source can hold it."""
    own = getattr(source, "frame", None)
    return HeldFrame(source.read(number, number + 1)) if own is None else own(number)


def frames_of(source: FrameSource, start: int, stop: int) -> list[Frame]:
    """The frames start..stop-1 of a source, as small as the source can hold them."""
    if hasattr(source, "frame"):
        return [frame_of(source, number) for number in range(start, stop)]
    return [HeldFrame(pixels) for pixels in source.read(start, stop).split(1)]


def at_once(size: Size, most: int, values: int) -> int:
    """How many RGB frames of a size have so many values together: at least 1, at most `most`."""
    return max(1, min(most, values // (3 * size.width * size.height)))


def give(sink: FrameSink, frame: Frame, change: Change | None) -> None:
    """Write a frame, and what is new in it."""
    take = getattr(sink, "take", None)
    if take is None:
        sink.write(composed(frame, change))
    else:
        take(frame, change)


def composed(frame: Frame, change: Change | None = None) -> torch.Tensor:
    """All pixels of a frame with what is new in it, [1,H,W,C]. They are not to be changed."""
    pixels = frame.part(Box(0, 0, *frame.size))
    if change is None:
        return pixels
    if change.box.size == frame.size:
        return change.pixels
    pixels = pixels.clone()
    _put(pixels, change)
    return pixels


def _put(pixels: torch.Tensor, change: Change) -> None:
    """Put what is new into the pixels [1,H,W,C] of a frame, in place."""
    box = change.box
    pixels[:, box.y1 : box.y2, box.x1 : box.x2] = change.pixels


class Watch:
    """Work on the frames of a clip, as the user sees it: a progress bar, and a way to stop it.

    Args:
        check: raises an error if the work is to stop.
        progress: starts a bar of so many steps, and gives what moves it, as `Backend.progress`.
    """

    def __init__(
        self,
        check: Callable[[], None] = lambda: None,
        progress: Callable[[int], Callable[[int, Any, Any], None]] | None = None,
    ) -> None:
        self.check = check
        self._progress = progress
        self._move: Callable[[int, Any, Any], None] = lambda *_: None
        self._done = self._total = 0

    def begin(self, total: int) -> None:
        """Start the bar; `total` counts a frame as often as it is gone through."""
        self._done, self._total = 0, total
        if self._progress is not None:
            self._move = self._progress(total)

    def done(self, frames: int = 1) -> None:
        """So many more frames are done."""
        self._done = min(self._done + frames, self._total)
        self._move(self._done, None, None)

    def end(self) -> None:
        """Nothing is left to do."""
        if self._done < self._total:
            self.done(self._total - self._done)


class HeldFrames:
    """Frames [F,H,W,C] in memory, as a source."""

    def __init__(self, frames: torch.Tensor) -> None:
        self._frames = frames

    @property
    def count(self) -> int:
        """The number of frames."""
        return len(self._frames)

    @property
    def size(self) -> Size:
        """Of a frame, in pixels."""
        return Size(self._frames.shape[2], self._frames.shape[1])

    def read(self, start: int, stop: int) -> torch.Tensor:
        """A view [n,H,W,C] of the frames start..stop-1."""
        return self._frames[start:stop]


class CollectedFrames:
    """A sink that holds all frames in memory.

    Args:
        like: [F,H,W,C], as many frames as will be written; may have another number of channels.
    """

    def __init__(self, like: torch.Tensor) -> None:
        self._like = like
        self._frames: torch.Tensor | None = None
        self._written = 0

    def take(self, frame: Frame, change: Change | None) -> None:
        """The next frame, and what is new in it.

        Raises:
            ValueError: more frames are written than the clip has.
        """
        self.write(composed(frame))
        if change is not None:
            _put(self._frames[self._written - 1 : self._written], change)

    def write(self, frames: torch.Tensor) -> None:
        """The next frames [n,H,W,C] 0..1.

        Raises:
            ValueError: more frames are written than the clip has.
        """
        if self._frames is None:
            shape = (len(self._like), *frames.shape[1:])
            self._frames = torch.empty(shape, dtype=self._like.dtype, device=self._like.device)
        end = self._written + len(frames)
        if end > len(self._frames):
            raise ValueError(f"{end} frames are written into a clip of {len(self._frames)}.")
        self._frames[self._written : end] = frames
        self._written = end

    @property
    def frames(self) -> torch.Tensor:
        """All frames that were written, [F,H,W,C]; those of `like` if there were none."""
        return self._like if self._frames is None else self._frames[: self._written]
