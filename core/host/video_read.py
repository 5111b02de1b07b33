"""Video files as sources of frames, decoded as they are asked for. Needs PyAV, as ComfyUI does.

Frames are numbered in the order in which they are shown. A file tells how many there are only
sometimes and not always rightly. So the time stamps of its packets are listed first, which needs no
decoding, and are compared with what is decoded at both ends. Where they do not fit, or are missing,
all frames are decoded once to be counted.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any

import torch

from ...utils.notes import note
from ..geometry import Box, Size
from ..pixels.yuv import part_to_rgb, to_rgb
from .video_decode import Coded, Colours, Decoder, File, coded, turns_of

_CHECKED = 24  # frames at both ends that are decoded to check the list of packets
_FAR = 48  # frames; what is further ahead is looked for from a key frame


@dataclass(frozen=True)
class Trim:
    """The part of a file that is used, in seconds of its time stamps; duration 0: to its end."""

    start: float = 0.0
    duration: float = 0.0

    def inside(self, stamps: tuple[int, ...], base: Fraction) -> tuple[int, ...]:
        """The stamps, in units of `base`, of the part; rounded as by ComfyUI, so as many."""
        start = int(self.start / base)
        end = int((self.start + self.duration) / base) if self.duration else None
        if not start and end is None:
            return stamps
        return tuple(one for one in stamps if one >= start and (end is None or one < end))


@dataclass(frozen=True)
class _Index:
    """The frames that are used, in the order in which they are shown.

    Attributes:
        stamps: when each is shown, in units of `base`.
        keys: stamps of frames at which decoding may begin. None: frames are found by counting.
        skipped: frames before the first one, for counting.
        last: how long the last frame is shown, in units of `base`; 0: not told.
    """

    stamps: tuple[int, ...]
    base: Fraction
    keys: tuple[int, ...] | None = None
    skipped: int = 0
    last: int = 0


@dataclass(frozen=True)
class FileFrame:
    """A frame of a file, held as it is coded: a fraction of what its pixels would take.

    Attributes:
        number: of the frame in its clip.
        clip: what the frames of one clip have in common.
    """

    coded: Coded
    number: int
    clip: object

    @property
    def size(self) -> Size:
        """In pixels."""
        height, width = self.coded.planes[0].shape
        return Size(width, height)

    @property
    def channels(self) -> int:
        """4 if the file has alpha, else 3."""
        return 4 if self.coded.layout.alpha else 3

    def part(self, box: Box) -> torch.Tensor:
        """The pixels [1,h,w,C] 0..1 in a box that lies inside."""
        return part_to_rgb(self.coded.planes, self.coded.layout, box)[None]


def never() -> None:
    """The check of a caller that is never interrupted."""


class FileFrames:
    """The frames of a video file, as a `FrameSource`. To be closed after use.

    Frames are upright [n,H,W,C] 0..1, with 4 channels if the file has alpha and else with 3. A
    frame that cannot be decoded looks like the one before it, and there is a note.

    Args:
        file: a path, or the bytes of a file.
        trim: the part to use.
        check: called again and again while it decodes; raises to stop.
        name: of the input, for errors and notes.

    Raises:
        ValueError: it is no video, or has no frame in that part.
    """

    def __init__(
        self,
        file: File,
        trim: Trim = Trim(),
        check: Callable[[], None] = never,
        name: str = "video",
    ) -> None:
        self.file, self.trim, self.name, self._check = file, trim, name, check
        self._faults: set[int] = set()
        self._decoder = Decoder(file, check, name)
        try:
            self._index = _listed(self._decoder, trim, name)
            self._rewind()
            self._first = self.coded(0)
        except BaseException:
            self._decoder.close()
            raise

    def again(self) -> FileFrames:
        """The same frames, decoded independently; to be closed, too. It tells no notes."""
        other = object.__new__(FileFrames)
        other.__dict__.update(self.__dict__)
        other._faults = set()
        other._decoder = Decoder(self.file, self._check, self.name)
        other._rewind()
        return other

    def close(self) -> None:
        """Close the file."""
        self._decoder.close()

    def tell_faults(self) -> None:
        """Note which of the frames that were read are damaged."""
        if self._faults:
            note(
                "video",
                f"Frames of '{self.name}' that are damaged: {len(self._faults)}, the first one is "
                f"frame {min(self._faults)}. A frame that cannot be decoded looks like the one "
                "before it.",
            )

    # What is known of the frames

    @property
    def count(self) -> int:
        """The number of frames."""
        return len(self._index.stamps)

    @property
    def size(self) -> Size:
        """Of an upright frame, in pixels."""
        height, width = self._first.planes[0].shape
        return Size(width, height)

    @property
    def channels(self) -> int:
        """4 if the file has alpha, else 3."""
        return 4 if self._first.layout.alpha else 3

    @property
    def first(self) -> Coded:
        """The first frame."""
        return self._first

    @property
    def colours(self) -> Colours:
        """How the colours of the first frame are coded."""
        return self._first.colours

    @property
    def codec(self) -> str:
        """The name of the codec, such as "h264"."""
        return self._decoder.stream.codec_context.name

    @property
    def container(self) -> Any:
        """PyAV's container."""
        return self._decoder.container

    @property
    def aspect(self) -> Fraction | None:
        """Width to height of a pixel of an upright frame; None where it is not told."""
        aspect = self._decoder.stream.sample_aspect_ratio
        if not aspect:
            return None
        return 1 / Fraction(aspect) if self._turns % 2 else Fraction(aspect)

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return _rate(self._decoder)

    @property
    def time_base(self) -> Fraction:
        """Seconds of one unit of `stamps` and `durations`."""
        return self._index.base

    @property
    def stamps(self) -> tuple[int, ...]:
        """When each frame is shown, in units of `time_base`; increasing."""
        return self._index.stamps

    @property
    def durations(self) -> tuple[int, ...]:
        """How long each frame is shown, in units of `time_base`."""
        steps = [after - stamp for stamp, after in pairwise(self.stamps)]
        usual = max(1, round(1 / (self.rate * self.time_base)))
        return (*steps, self._index.last or (sorted(steps)[len(steps) // 2] if steps else usual))

    # Frames

    def read(self, start: int, stop: int) -> torch.Tensor:
        """The frames start..stop-1 as [n,H,W,C] 0..1.

        Raises:
            ValueError: a frame has another size or other channels than the first one.
        """
        width, height = self.size
        frames = torch.empty((stop - start, height, width, self.channels))
        for number in range(start, stop):
            one = self.coded(number)
            frames[number - start] = to_rgb(one.planes, one.layout)
        return frames

    def frame(self, number: int) -> FileFrame:
        """A frame as it is coded, of which only the parts that are looked at become pixels.

        Raises:
            ValueError: as of `read`.
        """
        return FileFrame(self.coded(number), number, self._index)

    def has(self, frame: Any, number: int) -> bool:
        """Whether a frame is the one of this number here, or of the same frames decoded again."""
        return (
            isinstance(frame, FileFrame)
            and frame.clip is self._index
            and frame.number == number
        )  # fmt: skip

    def coded(self, number: int) -> Coded:
        """A frame as it is coded, but upright.

        Raises:
            ValueError: it has another size or other channels than the first one.
        """
        if not 0 <= number < self.count:
            raise IndexError(f"There is no frame {number} in a clip of {self.count}.")
        if self._shown is None or number != self._at:
            self._shown, self._at = self._found(number), number
        self._turns = turns_of(self._shown)
        one = coded(self._shown, self._decoder.stream.codec_context)
        if one.damaged:
            self._faults.add(number)
        first = getattr(self, "_first", one)
        if _kind(one) != _kind(first):
            raise ValueError(
                f"Frame {number} of '{self.name}' is of another kind than the first one: "
                f"{_kind(one)} instead of {_kind(first)} (width, height, alpha). Convert the video "
                "so that all its frames are alike."
            )
        return one

    def _rewind(self) -> None:
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._ahead: tuple[int, Any] | None = None  # decoded, and not asked for yet
        self._shown: Any = None  # the frame that was given last
        self._at = -1  # its number
        self._is_running = False

    def _found(self, number: int) -> Any:
        """The frame of PyAV, or the one before it if it cannot be decoded."""
        if not self._is_running or not self._at < number <= self._at + _FAR:
            self._go_to(number)
        before = self._shown
        one = self._ahead or next(self._frames, None)
        while one is not None and one[0] < number:
            before, one = one[1], next(self._frames, None)
        self._ahead = None
        if one is not None and one[0] == number:
            return one[1]
        self._ahead = one
        self._faults.add(number)
        if before is None and one is None:
            raise ValueError(
                f"'{self.name}' cannot be decoded from frame {number} on. Check the file."
            )
        return one[1] if before is None else before

    def _go_to(self, number: int) -> None:
        """Begin at a key frame from which this frame can be decoded."""
        index = self._index
        self._rewind()
        self._is_running = True
        if index.keys is None:
            self._frames = enumerate(self._decoder.from_start(), -index.skipped)
            return
        place = bisect.bisect_right(index.keys, index.stamps[number]) - 1
        step = 1
        while place > 0:
            self._frames = self._numbered(self._decoder.seek(index.keys[place]))
            self._ahead = next(self._frames, None)
            if self._ahead is not None and self._ahead[0] <= number:
                return
            place, step = place - step, step * 2  # files whose lists of key frames are wrong
        self._ahead = None
        self._frames = self._numbered(self._decoder.from_start())

    def _numbered(self, frames: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers; -1 for those before the part that is used."""
        stamps = self._index.stamps
        for frame in frames:
            place = bisect.bisect_left(stamps, frame.pts)
            if place == len(stamps):
                return
            if stamps[place] == frame.pts:
                yield place, frame
            elif place == 0:
                yield -1, frame


def _kind(one: Coded) -> tuple[int, int, bool]:
    height, width = one.planes[0].shape
    return width, height, one.layout.alpha


def _rate(decoder: Decoder) -> Fraction:
    stream = decoder.stream
    return Fraction(stream.average_rate or getattr(stream, "guessed_rate", None) or 25)


# The list of frames


def _listed(decoder: Decoder, trim: Trim, name: str) -> _Index:
    """The frames that are used.

    Raises:
        ValueError: there are none.
    """
    index = _from_packets(decoder, trim, name) or _from_frames(decoder, trim)
    if not index.stamps:
        raise ValueError(
            f"'{name}' has no frame that can be decoded in the part that is used. Check the file, "
            "and the start and the duration where the video was trimmed."
        )
    return index


def _from_packets(decoder: Decoder, trim: Trim, name: str) -> _Index | None:
    """The list from packets; None if it does not fit what is decoded."""
    packets = decoder.packets()
    if packets is None or not packets.keys:
        return None
    stamps = packets.stamps
    head = [frame.pts for frame in islice(decoder.from_start(), _CHECKED)]
    if head != list(stamps[:_CHECKED]):
        return None
    used = trim.inside(stamps, decoder.time_base)
    index = _Index(used, decoder.time_base, packets.keys)
    place = bisect.bisect_right(packets.keys, stamps[-_CHECKED:][0]) - 1
    last_key = packets.keys[max(0, place)]
    if not used or used[-1] < last_key:
        return index
    tail = [frame.pts for frame in decoder.seek(last_key)]
    if not tail or not set(tail) <= set(stamps):
        return None
    kept = tuple(stamp for stamp in used if stamp <= tail[-1])
    if len(kept) < len(used):
        note(
            "video",
            f"Frames at the end of '{name}' that cannot be decoded, and are left out: "
            f"{len(used) - len(kept)}.",
        )
        return replace(index, stamps=kept)
    return replace(index, last=packets.last if used[-1] == stamps[-1] else 0)


def _from_frames(decoder: Decoder, trim: Trim) -> _Index:
    """The list from decoding all frames."""
    found = [(frame.pts, frame.key_frame) for frame in decoder.from_start()]
    stamps = tuple(stamp for stamp, _ in found)
    if None not in stamps and all(before < after for before, after in pairwise(stamps)):
        used = trim.inside(stamps, decoder.time_base)
        return _Index(used, decoder.time_base, tuple(stamp for stamp, key in found if key))
    base = 1 / _rate(decoder)
    used = trim.inside(tuple(range(len(found))), base)
    return _Index(used, base, skipped=used[0] if used else 0, last=1)
