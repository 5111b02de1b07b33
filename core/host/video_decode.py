"""The frames of a video file as they are coded, in the order in which they are shown.

Needs PyAV, as ComfyUI does.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch

from ..pixels.yuv import BT601, MATRICES, Layout

log = logging.getLogger(__name__)

File = str | os.PathLike | io.BytesIO

UNTOLD = 2  # H.273's number of a matrix, of primaries and of a transfer that are not told
FULL_RANGE = 2  # FFmpeg's number
_SHARED = {"410": (4, 4), "411": (4, 1), "420": (2, 2), "422": (2, 1), "440": (1, 2), "444": (1, 1)}
_PLANAR = re.compile(
    r"(?:yuv(?P<kind>[aj]?)(?P<shared>\d{3})p|(?P<word>gray|gbra?p))(?P<bits>\d*)(?:le)?"
)
_TO_RGB = (2, 0, 1)  # the planes of gbrp in the order red, green, blue


@dataclass(frozen=True)
class Colours:
    """How colours are coded: numbers of H.273, and FFmpeg's number of the range."""

    matrix: int = UNTOLD
    primaries: int = UNTOLD
    transfer: int = UNTOLD
    range: int = 0

    @property
    def full(self) -> bool:
        """Whether luma has the full range."""
        return self.range == FULL_RANGE


@dataclass(frozen=True)
class Coded:
    """A frame as it is coded, but upright.

    Attributes:
        planes: in the order of `layout`.
        format: the pixel format, as FFmpeg names it.
        damaged: whether the decoder says that it had to guess parts of it.
    """

    planes: tuple[torch.Tensor, ...]
    layout: Layout
    format: str
    colours: Colours
    damaged: bool = False


class Packets(NamedTuple):
    """The packets of the frames that are shown: time stamps, increasing, in the stream's units."""

    stamps: tuple[int, ...]
    keys: tuple[int, ...]  # those at which decoding may begin
    last: int  # duration of the last one; 0: not told


class Decoder:
    """Decodes the first moving picture of a file.

    Args:
        file: a path, or the bytes of a file. They are not changed, nor is their position.
        check: called for each packet; raises to stop.
        name: of the input, for errors.

    Raises:
        ValueError: it is no video.
    """

    def __init__(self, file: File, check: Callable[[], None], name: str) -> None:
        self._file = file
        self._check = check
        self._name = name
        self.container: Any = None
        self._open()

    def close(self) -> None:
        """Close the file."""
        if self.container is not None:
            self.container.close()

    def _open(self) -> None:
        self.close()
        self.container = open_file(self._file, self._name)
        streams = self.container.streams.video
        moving = [stream for stream in streams if not _is_cover(stream)]
        if not moving or moving[0].codec_context is None:
            self.close()
            raise ValueError(
                f"'{self._name}' has no moving picture that can be decoded. Give it a video, or "
                "convert the file to a usual codec such as H.264."
            )
        self.stream = moving[0]
        self.stream.thread_type = "AUTO"
        self._codec = self._decoder_with_alpha() or self.stream.codec_context

    def _decoder_with_alpha(self) -> Any:
        """A decoder of VP8 and VP9 that gives their alpha, which FFmpeg's own ones leave out."""
        import av

        names = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
        name = names.get(self.stream.codec_context.name)
        tags = {key.lower(): value for key, value in self.stream.metadata.items()}
        if name is None or tags.get("alpha_mode") != "1":
            return None
        try:
            codec = av.CodecContext.create(name, "r")
        except Exception:  # PyAV was built without it
            log.info("PyAV has no decoder %s; the alpha of the video is not read", name)
            return None
        codec.extradata = self.stream.codec_context.extradata
        return codec

    @property
    def time_base(self) -> Fraction:
        """Seconds of one unit of time stamps."""
        return Fraction(self.stream.time_base)

    def packets(self) -> Packets | None:
        """The packets of all frames; None if a time stamp is missing or comes twice."""
        found = []
        for packet in self._demuxed():
            if packet.size == 0 or getattr(packet, "is_discard", False):
                continue
            if packet.pts is None:
                return None
            found.append((packet.pts, packet.is_keyframe, packet.duration or 0))
        found.sort()
        stamps = tuple(stamp for stamp, _, _ in found)
        if not found or len(set(stamps)) < len(stamps):
            return None
        return Packets(stamps, tuple(stamp for stamp, key, _ in found if key), found[-1][2])

    def from_start(self) -> Iterator[Any]:
        """All frames of PyAV."""
        self._open()
        return self._decoded()

    def seek(self, stamp: int) -> Iterator[Any]:
        """The frames of PyAV from about the key frame with this time stamp on."""
        self.container.seek(stamp, stream=self.stream, backward=True)
        self._codec.flush_buffers()
        return self._decoded()

    def _decoded(self) -> Iterator[Any]:
        import av

        codec = self._codec
        own = codec is not self.stream.codec_context
        for packet in self._demuxed():
            try:
                if own:
                    yield from codec.decode(packet if packet.size else None)
                else:
                    yield from packet.decode()
            except av.error.FFmpegError as error:
                if not is_trouble(error):
                    raise
                log.info("a packet of '%s' cannot be decoded: %s", self._name, error)

    def _demuxed(self) -> Iterator[Any]:
        return demuxed(self.container, [self.stream], self._check, self._name)


def open_file(file: File, name: str) -> Any:
    """PyAV's container of a local file, or of bytes.

    Raises:
        ValueError: there is no such file, or it is no video.
    """
    import av

    options = {}
    if isinstance(file, io.BytesIO):
        source = io.BytesIO(file.getvalue())  # shares its bytes, and has a position of its own
    else:
        source = os.fspath(file)
        if not os.path.isfile(source):
            raise ValueError(
                f"The file of '{name}' does not exist any more: {source}. Load it again."
            )
        options = {"protocol_whitelist": "file"}  # a playlist may name other addresses
    try:
        return av.open(source, options=options)
    except (av.error.FFmpegError, ValueError) as error:
        raise ValueError(
            f"'{name}' cannot be read as a video: {error}. Check the file, or convert it to a "
            "usual format such as MP4."
        ) from error


def demuxed(
    container: Any, streams: Sequence[Any], check: Callable[[], None], name: str
) -> Iterator[Any]:
    """All packets of streams, up to the first that cannot be read.

    The empty ones at the end are among them, by which decoders give what they still hold.

    Args:
        container: PyAV's, with these streams.
        check: called before each packet; raises to stop.
        name: of the input, for the log.
    """
    import av

    packets = container.demux(*streams)
    while True:
        check()
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            if not is_trouble(error):
                raise
            log.info("'%s' cannot be read to its end: %s", name, error)
            return
        if packet is None:
            return
        yield packet


def is_trouble(error: Exception) -> bool:
    """Whether an error of FFmpeg is about the data of a file, and not about memory."""
    return not isinstance(error, MemoryError)


def _is_cover(stream: Any) -> bool:
    """Whether it is a still picture that is attached to the file."""
    return "attached_pic" in str(getattr(stream, "disposition", "")).lower()


def turns_of(frame: Any) -> int:
    """Quarter turns, counted against the clock, by which a frame of PyAV becomes upright."""
    return round((getattr(frame, "rotation", 0) or 0) / 90) % 4


def coded(frame: Any, codec: Any) -> Coded:
    """A frame of PyAV as planes, upright.

    Args:
        codec: PyAV's codec context, which tells colours where the frame does not.
    """
    colours = _colours(frame, codec)
    found = _PLANAR.fullmatch(frame.format.name)
    if found is None:
        frame = frame.reformat(
            format=_plain(frame.format),
            src_color_range=colours.range or None, dst_color_range=colours.range or None,
        )  # fmt: skip
        found = _PLANAR.fullmatch(frame.format.name)
    layout = _layout(found, colours)
    turns = turns_of(frame)
    planes = [_plane(plane, layout) for plane in frame.planes[: layout.colours + layout.alpha]]
    if layout.matrix is None:
        planes = [*(planes[place] for place in _TO_RGB), *planes[3:]]
    name = frame.format.name.replace("yuvj", "yuv")
    if turns:
        planes = [torch.rot90(plane, turns).contiguous() for plane in planes]
        layout, name = _turned(layout, name, turns)
    return Coded(tuple(planes), layout, name, colours, bool(getattr(frame, "is_corrupt", False)))


def _colours(frame: Any, codec: Any) -> Colours:
    def told(name: str, unknown: int) -> int:
        for place in (frame, codec):
            value = getattr(place, name, None)
            if value is not None and int(value) != unknown:
                return int(value)
        return unknown

    full = frame.format.name.startswith("yuvj")
    return Colours(
        told("colorspace", UNTOLD),
        told("color_primaries", UNTOLD),
        told("color_trc", UNTOLD),
        FULL_RANGE if full else told("color_range", 0),
    )


def _plain(form: Any) -> str:
    """The planar little-endian pixel format that holds all that a format holds."""
    name, bits = form.name, max(part.bits for part in form.components)
    alpha = name == "pal8" or any(part.is_alpha for part in form.components)
    deep = bits > 8
    if form.is_rgb or name == "pal8":
        return ("gbrap" if alpha else "gbrp") + ("16le" if deep else "")
    if len(form.components) < 3 and not alpha:
        return "gray16le" if deep else "gray"
    chroma = next((part for part in form.components if part.is_chroma), None)
    if chroma is None:  # grey with alpha
        return "gbrap16le" if deep else "gbrap"
    luma = form.components[0]
    sizes = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}
    shared = sizes.get((-(-luma.width // chroma.width), -(-luma.height // chroma.height)), "444")
    if alpha:
        return "yuva444p16le" if deep else f"yuva{shared}p"
    return f"yuv{shared}p" + (f"{bits}le" if deep else "")


def layout_of(name: str, colours: Colours) -> Layout:
    """What the planes of a planar pixel format mean.

    Raises:
        ValueError: it is another one.
    """
    found = _PLANAR.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is no planar pixel format.")
    return _layout(found, colours)


def _layout(found: re.Match, colours: Colours) -> Layout:
    bits = int(found["bits"] or 8)
    if found["word"] == "gray":
        return Layout(bits, BT601, colours.full, grey=True)
    if found["word"]:
        return Layout(bits, None, True, alpha=found["word"] == "gbrap")
    across, down = _SHARED[found["shared"]]
    matrix = MATRICES.get(colours.matrix, BT601)
    return Layout(bits, matrix, colours.full, across, down, alpha=found["kind"] == "a")


def rows_of(plane: Any) -> np.ndarray:
    """The bytes [height, bytes of a line] of a plane of PyAV, in its own memory."""
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height]
    return rows.reshape(plane.height, plane.line_size)


def _plane(plane: Any, layout: Layout) -> torch.Tensor:
    wide = 1 if layout.bits == 8 else 2
    rows = rows_of(plane)[:, : plane.width * wide]
    if wide == 1:
        return torch.from_numpy(rows.copy())
    return torch.from_numpy(np.ascontiguousarray(rows).view("<u2").astype(np.int32))


def _turned(layout: Layout, name: str, turns: int) -> tuple[Layout, str]:
    """Layout and pixel format of turned planes."""
    if turns % 2 == 0 or layout.across == layout.down:
        return layout, name
    swapped = {"422": "440", "440": "422", "411": "444", "410": "410"}
    form = re.sub(r"(?<=yuv)(a?)(\d{3})", lambda m: m[1] + swapped.get(m[2], m[2]), name)
    return replace(layout, across=layout.down, down=layout.across), form
