"""Video files that are encoded frame by frame. Needs PyAV, as ComfyUI does.

A frame that was read from a file and changed in some pixels keeps the samples of all others, see
`core/pixels/yuv.py`. What the encoder then loses depends on its quality.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...utils.notes import note
from ..clips import Change, Frame, composed
from ..geometry import Size
from ..pixels.yuv import Layout, from_rgb, with_part
from .video_decode import Coded, Colours, is_trouble, layout_of, rows_of
from .video_read import FileFrames
from .video_sound import Sound, Target, tags_of

FORMATS = ("auto", "mp4", "webm", "mov", "mkv")
_BT709, _BT601 = 1, 6  # H.273's numbers
_HD = 720  # rows from which untold colours of frames that were not coded before are BT.709
_NOTICED = Fraction(1, 1000)  # seconds
_AHEAD = Fraction(1, 2)  # seconds by which sound may be ahead of the frames in the file


@dataclass(frozen=True)
class Format:
    """How files of one kind are encoded.

    Attributes:
        ending: of the file's name, and the word of the widget.
        muxer: FFmpeg's name of the container.
        encoder: FFmpeg's name.
        sound: FFmpeg's name of the encoder for sound that the container cannot hold as it is.
        holds: codecs of sound that it holds as they are, see `Target`.
        pixels: the pixel formats to choose from, without those with alpha.
        alpha: likewise, with alpha.
    """

    ending: str
    muxer: str
    encoder: str
    sound: str
    holds: tuple[str, ...]
    pixels: tuple[str, ...]
    alpha: tuple[str, ...] = ()


_MP4_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "flac", "opus")
_YUV8, _YUV10 = ("yuv420p", "yuv422p", "yuv444p"), ("yuv420p10le", "yuv422p10le", "yuv444p10le")
_FFV1 = tuple(
    f"{word}{bits}"
    for word in ("yuv420p", "yuv422p", "yuv444p", "gbrp")
    for bits in ("", "10le", "12le", "16le")
)
_PACKED = {"gbrp": "bgr0", "gbrap": "bgra"}  # how encoders take 8 bits of RGB
_KINDS = {
    kind.ending: kind
    for kind in (
        Format("mp4", "mp4", "libx264", "aac", _MP4_SOUND, (*_YUV8, *_YUV10)),
        Format(
            "webm", "webm", "libvpx-vp9", "libopus", ("opus", "vorbis"), _YUV8, ("yuva420p",),
        ),
        Format(
            "mov", "mov", "prores_ks", "aac", (*_MP4_SOUND, "pcm_s*"),
            ("yuv422p10le", "yuv444p10le"), ("yuva444p10le",),
        ),
        Format(
            "mkv", "matroska", "ffv1", "flac",
            (*_MP4_SOUND, "vorbis", "pcm_s16le", "pcm_s24le", "pcm_f32le", "dts", "mp2"),
            (*_FFV1, "yuv440p", "yuv440p10le", "yuv440p12le", "yuv411p", "yuv410p",
             "gray", "gray10le", "gray12le", "gray16le", "gbrp14le"),
            ("yuva420p", "yuva422p", "yuva444p", "yuva420p10le", "yuva422p10le", "yuva444p10le",
             "yuva422p12le", "yuva444p12le", "yuva444p16le",
             "gbrap", "gbrap10le", "gbrap12le", "gbrap16le"),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Encoding:
    """How a clip is to be encoded.

    Attributes:
        format: one of `FORMATS`; "auto" goes by the input.
        crf: quality of H.264 and VP9, 0 (best) to 51.
    """

    format: str = "auto"
    crf: int = 16


@dataclass(frozen=True)
class Still:
    """What is known of frames that are in memory.

    Attributes:
        count: the number of frames.
        rate: frames per second.
        bits: of a sample that is encoded, 8 or 10.
    """

    count: int
    size: Size
    channels: int
    rate: Fraction
    bits: int = 8


def format_for(clip: FileFrames | Still, encoding: Encoding) -> Format:
    """The kind of file for a clip."""
    if encoding.format != "auto":
        return _KINDS[encoding.format]
    codec = clip.codec if isinstance(clip, FileFrames) else ""
    has_alpha = clip.channels == 4 and codec != "gif"
    if codec in ("vp8", "vp9") or (has_alpha and not codec):
        return _KINDS["webm"]
    return _KINDS["mov" if has_alpha else "mp4"]


class FileSink:
    """Encodes frames [n,H,W,C] 0..1 to a file, as a `FrameSink`, with sound beside them.

    As a context it finishes the file at the end. If anything goes wrong, or not all frames were
    written, no file is left.

    Args:
        path: of the file, which may not exist yet.
        clip: the frames as they were read, decoded by nobody else; or what is known of them.
        sound: is written beside the frames.
        form: the kind of file.
        crf: see `Encoding`.
    """

    def __init__(
        self, path: Path, clip: FileFrames | Still, sound: Sound, form: Format, crf: int
    ) -> None:
        self._path, self._clip, self._sound, self._form = path, clip, sound, form
        self._coded = clip if isinstance(clip, FileFrames) else None
        self._written = 0
        self._durations: dict[int, int] = {}
        self._open(crf)

    def __enter__(self) -> FileSink:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException:
            self._discard()
            raise
        if kind is not None:
            self._discard()

    def _open(self, crf: int) -> None:
        import av

        clip, form = self._clip, self._form
        self._colours = _colours_of(clip, form)
        self._name = _pixels_of(clip, form)
        self._layout = layout_of(self._name, self._colours)
        self._stored = _PACKED.get(self._name, self._name)
        _tell_losses(clip, form, self._name)
        self._base, self._origin = self._times()
        with self._path.open("xb"):  # never over a file that exists
            pass
        options = {"movflags": "use_metadata_tags"} if form.muxer in ("mp4", "mov") else {}
        try:
            self._container = av.open(str(self._path), "w", format=form.muxer, options=options)
            if self._coded is not None:
                self._container.metadata.update(tags_of(self._coded.container))
            stream = self._container.add_stream(
                form.encoder, rate=clip.rate, options=_options(form, self._name, crf)
            )
            stream.width, stream.height = clip.size
            stream.pix_fmt = self._stored
            codec = stream.codec_context
            codec.time_base = self._base
            codec.thread_type = "AUTO"
            if len(set(self._steps[:-1])) > 1:
                codec.max_b_frames = 0  # MP4 keeps durations in the order of decoding
            _mark(codec, self._colours)
            aspect = self._coded.aspect if self._coded else None
            if aspect:
                codec.sample_aspect_ratio = aspect
            if self._layout.alpha and form.muxer in ("webm", "matroska"):
                stream.metadata["alpha_mode"] = "1"
            self._stream = stream
            self._sound.open(self._target())
        except BaseException:
            self._discard()
            raise

    def _times(self) -> tuple[Fraction, int]:
        """Seconds of a unit of time, and the stamp that is moved to time 0."""
        clip = self._coded
        if clip is None:
            self._stamps: Sequence[int] = range(self._clip.count)
            self._steps: Sequence[int] = [1] * self._clip.count
            return 1 / self._clip.rate, 0
        self._stamps, self._steps = clip.stamps, clip.durations
        first = clip.stamps[0]
        # A trimmed clip begins with its first frame. A whole one begins with what comes first.
        begins = Fraction(clip.container.start_time or 0, 1_000_000)
        is_early = not clip.trim.start and first * clip.time_base - begins > _NOTICED
        return clip.time_base, round(begins / clip.time_base) if is_early else first

    def _target(self) -> Target:
        form, clip = self._form, self._coded
        end = (self._stamps[-1] - self._origin + self._steps[-1]) * self._base
        is_whole = clip is not None and not clip.trim.start and not clip.trim.duration
        return Target(
            self._container, form.sound, form.holds, form.muxer in ("mp4", "mov"),
            self._origin * self._base, None if is_whole else end,
        )  # fmt: skip

    def write(self, frames: torch.Tensor) -> None:
        """The next frames [n,H,W,C] 0..1, of the size of the clip.

        Raises:
            ValueError: these are more than the clip has.
        """
        for frame in frames:
            number = self._next()
            coded = self._coded.coded(number) if self._coded is not None else None
            self._encode(number, self._planes(frame, coded))

    def take(self, frame: Frame, change: Change | None) -> None:
        """The next frame, and what is new in it. One of the file itself is not decoded again.

        Raises:
            ValueError: as of `write`.
        """
        number = self._next()
        if self._coded is None or not self._coded.has(frame, number):
            self.write(composed(frame, change))
            return
        coded = frame.coded
        if coded.layout != self._layout:
            planes = self._planes(composed(frame, change)[0], coded)
        elif change is None:
            planes = coded.planes
        else:
            pixels = change.pixels[0].cpu().float()
            planes = with_part(coded.planes, coded.layout, change.box, pixels)
        self._encode(number, planes)

    def _next(self) -> int:
        """The number of the next frame."""
        if self._written >= len(self._stamps):
            raise ValueError(
                f"{self._written + 1} frames are written into a clip of {len(self._stamps)}."
            )
        return self._written

    def _planes(self, frame: torch.Tensor, coded: Coded | None) -> Sequence[torch.Tensor]:
        given = (coded.planes, coded.layout) if coded is not None else None
        return from_rgb(frame.cpu(), self._layout, given)

    def _encode(self, number: int, planes: Sequence[torch.Tensor]) -> None:
        frame = _frame_of(planes, self._layout, self._name, self._colours)
        stamp = self._stamps[number] - self._origin
        if self._stored != self._name:
            frame = frame.reformat(format=self._stored)
        frame.pts, frame.time_base = stamp, self._base
        self._durations[stamp] = self._steps[number]
        with self._told():
            self._sound.write_until(stamp * self._base + _AHEAD)
            self._mux(self._stream.encode(frame))
        self._written += 1

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration or 0)
            self._container.mux(packet)

    def _finish(self) -> None:
        if self._written != len(self._stamps):
            raise ValueError(
                f"{self._written} of the {len(self._stamps)} frames of the clip were written."
            )
        with self._told():
            self._mux(self._stream.encode(None))
            self._sound.finish()
            self._container.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """A context whose errors of FFmpeg say what was tried."""
        import av

        try:
            yield
        except av.error.FFmpegError as error:
            if not is_trouble(error):
                raise
            raise ValueError(
                f"The changed video cannot be written to {self._path.parent}: {error}. Check "
                "whether there is enough space, or choose another format."
            ) from error

    def _discard(self) -> None:
        with contextlib.suppress(Exception):  # the error that led here is told
            self._container.close()
        with contextlib.suppress(OSError):
            os.remove(self._path)


def _colours_of(clip: FileFrames | Still, form: Format) -> Colours:
    """How the colours of the result are coded: as in the file. RGB gets a matrix by its height."""
    hd = clip.size.height >= _HD
    if isinstance(clip, Still):
        number = _BT709 if hd else _BT601
        return Colours(number, number, number, 1)
    colours = clip.colours
    if clip.first.layout.matrix is None and not any("gbr" in name for name in form.pixels):
        return replace(colours, matrix=_BT709 if hd else _BT601, range=1)
    return colours


def _mark(codec: Any, colours: Colours) -> None:
    codec.color_range = colours.range
    codec.colorspace = colours.matrix
    codec.color_primaries = colours.primaries
    codec.color_trc = colours.transfer


def _pixels_of(clip: FileFrames | Still, form: Format) -> str:
    """The pixel format of the container that loses least."""
    size = clip.size
    if isinstance(clip, Still):
        colours = Colours()
        name = f"yuv{'a' if clip.channels == 4 else ''}420p" + ("10le" if clip.bits > 8 else "")
        wanted = layout_of(name, colours)
    else:
        name, wanted = clip.first.format, clip.first.layout
    choice = form.alpha if wanted.alpha and form.alpha else form.pixels
    if name in choice and _fits(name, size, form):
        return name
    known = [one for one in choice if _fits(one, size, form)]
    return min(known, key=lambda one: _loss(wanted, layout_of(one, Colours()), form))


def _fits(name: str, size: Size, form: Format) -> bool:
    """Whether an encoder takes frames of this size. H.264 needs whole chroma samples."""
    layout = layout_of(name, Colours())
    odd = (size.width % layout.across, size.height % layout.down)
    return form.encoder not in ("libx264", "prores_ks") or not any(odd)


def _loss(wanted: Layout, layout: Layout, form: Format) -> tuple[int, ...]:
    """What is lost, and then what is wasted, if one layout is stored as another."""
    is_rgb = wanted.matrix is None
    across, down = (wanted.across, wanted.down)
    if (is_rgb and form.muxer == "mp4") or wanted.grey:
        across, down = 2, 2  # what every player shows
    return (
        int((layout.matrix is None) != is_rgb),
        max(0, wanted.bits - layout.bits),
        max(0, layout.across - across) + max(0, layout.down - down),
        max(0, layout.bits - wanted.bits),
        max(0, across - layout.across) + max(0, down - layout.down),
        int(layout.grey != wanted.grey),
    )


def _tell_losses(clip: FileFrames | Still, form: Format, name: str) -> None:
    layout = layout_of(name, Colours())
    if clip.channels == 4 and not layout.alpha:
        note(
            "video",
            f"Alpha of the video is left out, since files of the format {form.ending} cannot hold "
            "it here. Choose the format mov or webm to keep it.",
        )
    width, height = clip.size
    if form.encoder == "libx264" and (width % 2 or height % 2):
        note(
            "video",
            f"A side of the video is odd ({width}x{height}), so its colours are "
            "encoded at full size (4:4:4), which some players cannot show. The format webm has no "
            "such limit.",
        )
    if isinstance(clip, Still):
        return
    given = clip.first.layout
    if given.bits > layout.bits:
        note(
            "video",
            f"The video has {given.bits} bits for each colour, and {form.ending} gets "
            f"{layout.bits} here. The format mkv keeps all.",
        )
    if clip.colours.transfer in (16, 18):
        note(
            "video",
            "The video is HDR. Its colours are given to the model as they are coded, so they look "
            "pale to it, and they are written with the same coding; data for the display of HDR "
            "is not copied.",
        )


def _options(form: Format, name: str, crf: int) -> dict[str, str]:
    if form.encoder == "libx264":
        return {"crf": str(crf), "preset": "medium"}
    if form.encoder == "libvpx-vp9":
        return {
            "crf": str(crf), "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1",
            "lag-in-frames": "16", "auto-alt-ref": "0" if "yuva" in name else "1",
        }  # fmt: skip
    if form.encoder == "prores_ks":
        return {"profile": "hq" if "422" in name else "4444", "vendor": "apl0"}
    return {"level": "3", "slicecrc": "1"}


_FROM_RGB = (1, 2, 0)  # the planes red, green and blue in the order of gbrp


def _frame_of(planes: Sequence[torch.Tensor], layout: Layout, name: str, colours: Colours) -> Any:
    """PyAV's frame of planes."""
    import av

    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, name)
    if layout.matrix is None:
        planes = [*(planes[place] for place in _FROM_RGB), *planes[3:]]
    for plane, values in zip(frame.planes, planes, strict=True):
        samples = values.numpy().astype(np.uint8 if layout.bits == 8 else "<u2", copy=False)
        data = np.ascontiguousarray(samples).view(np.uint8)
        rows_of(plane)[:, : data.shape[1]] = data
    frame.color_range = colours.range
    frame.colorspace = colours.matrix
    return frame
