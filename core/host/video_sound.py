"""The sound of a clip: copied as it is coded where the container can hold it, else encoded again.

Needs PyAV, as ComfyUI does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import torch

from ...utils.notes import note
from .video_decode import File, demuxed, is_trouble, open_file

_LAYOUTS = {
    1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1",
}  # fmt: skip
_BIT_RATE = 96_000  # for each channel, where sound is encoded with loss
_USUAL_RATE = 48_000
# Tags that describe the file and not what is in it.
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}


@dataclass(frozen=True)
class Target:
    """The file that sound is written to.

    Attributes:
        container: PyAV's, to which no packet was written yet.
        encoder: FFmpeg's name of an encoder that the container can hold.
        holds: codecs that the container can hold; a "*" at the end stands for any ending.
        hides: whether packets may begin before time 0, and players leave out what is before it.
        origin: the second of the source that becomes time 0.
        end: the second of the file at which the sound ends; None: with its source.
    """

    container: Any
    encoder: str
    holds: tuple[str, ...]
    hides: bool
    origin: Fraction
    end: Fraction | None

    def can_hold(self, codec: str) -> bool:
        """Whether the container can hold packets of a codec."""
        return any(
            codec.startswith(one[:-1]) if one.endswith("*") else codec == one for one in self.holds
        )

    def encoding(self, rate: int, layout: str) -> Any:
        """A new stream whose frames are encoded."""
        import av

        codec = av.Codec(self.encoder, "w")
        rates = codec.audio_rates
        stream = self.container.add_stream(
            self.encoder, rate=rate if not rates or rate in rates else _USUAL_RATE, layout=layout
        )
        if self.encoder != "flac":
            stream.bit_rate = _BIT_RATE * max(1, stream.codec_context.layout.nb_channels)
        return stream


class Sound(Protocol):
    """What is heard beside the frames of a clip."""

    def open(self, target: Target) -> None:
        """Add the streams to a file, before anything is written to it."""

    def write_until(self, time: Fraction) -> None:
        """Write what is heard before a second of the file."""

    def finish(self) -> None:
        """Write the rest."""

    def close(self) -> None:
        """Let go of the source."""


class FileSound:
    """All streams of sound of a file. Subtitles are left out, and there is a note.

    Args:
        file: a path, or the bytes of a file.
        check: called again and again; raises to stop.
        name: of the input, for errors and notes.
    """

    def __init__(self, file: File, check: Callable[[], None], name: str) -> None:
        self._source = open_file(file, name)
        self._check, self._name = check, name
        self._ways: dict[int, _Copied | _Encoded] = {}
        self._packets: Iterator[Any] = iter(())
        self._ahead: Any = None

    def open(self, target: Target) -> None:
        """See `Sound`."""
        streams = self._source.streams
        if streams.subtitles:
            note("video", f"Subtitles of '{self._name}' are left out.")
        known = [stream for stream in streams.audio if stream.codec_context is not None]
        if len(known) < len(streams.audio):
            note(
                "video",
                f"'{self._name}' has sound of a kind that cannot be read here; it is left out.",
            )
        for stream in known:
            codec = stream.codec_context.codec
            codec_name = getattr(codec, "canonical_name", None) or codec.name
            if target.can_hold(codec_name):
                self._ways[stream.index] = _Copied(stream, target)
            else:
                note(
                    "video",
                    f"The sound of '{self._name}' ({codec_name}) is encoded again as "
                    f"{target.encoder.removeprefix('lib')}, since the new file cannot hold it as "
                    "it is.",
                )
                self._ways[stream.index] = _Encoded(stream, target)
        self._target = target
        if known:
            begins = Fraction(self._source.start_time or 0, 1_000_000)
            if target.origin > begins + 1:
                self._source.seek(int((target.origin - 1) * 1_000_000))
            self._packets = demuxed(self._source, known, self._check, self._name)
            self._ahead = next(self._packets, None)

    def write_until(self, time: Fraction) -> None:
        """See `Sound`."""
        while self._ahead is not None:
            packet = self._ahead
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                begins = stamp * packet.time_base - self._target.origin
                if begins >= time:
                    return
            self._write_next()

    def _write_next(self) -> None:
        self._ways[self._ahead.stream.index].write(self._ahead)
        self._ahead = next(self._packets, None)

    def finish(self) -> None:
        """See `Sound`."""
        end = self._target.end
        if end is None:
            while self._ahead is not None:
                self._write_next()
        else:
            self.write_until(end)
        for way in self._ways.values():
            way.finish()

    def close(self) -> None:
        """See `Sound`."""
        self._source.close()


class _Copied:
    """A stream whose packets are written as they are."""

    def __init__(self, stream: Any, target: Target) -> None:
        self._target = target
        self._stream = target.container.add_stream_from_template(stream)
        _describe(stream, self._stream)
        self._shift = round(target.origin / stream.time_base)

    def write(self, packet: Any) -> None:
        """A packet of the source."""
        if packet.size == 0 or (packet.pts is None and packet.dts is None):
            return
        pts = packet.pts if packet.pts is not None else packet.dts
        dts = packet.dts if packet.dts is not None else packet.pts
        packet.pts, packet.dts = pts - self._shift, dts - self._shift
        if _is_inside(packet.pts * packet.time_base, packet, self._target):
            packet.stream = self._stream
            self._target.container.mux(packet)

    def finish(self) -> None:
        """Nothing is left."""


class _Encoded:
    """A stream that is decoded, and encoded in another way."""

    def __init__(self, stream: Any, target: Target) -> None:
        self._target = target
        codec = stream.codec_context
        name, count = codec.layout.name, codec.layout.nb_channels
        # A file may tell how many channels there are, and not which ones.
        self._layout = _LAYOUTS.get(count, "stereo") if name.endswith("channels") else name
        self._stream = target.encoding(codec.sample_rate, self._layout)
        _describe(stream, self._stream)

    def write(self, packet: Any) -> None:
        """A packet of the source; the empty one at its end gives the last frames."""
        import av

        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if not is_trouble(error):
                raise
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(self._target.origin / frame.time_base)
                if not _is_inside(frame.pts * frame.time_base, frame, self._target):
                    continue
            self._target.container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._target.container.mux(self._stream.encode(None))


def _is_inside(begins: Fraction, part: Any, target: Target) -> bool:
    """Whether a packet or frame of sound that begins at a second of the file belongs to it."""
    if target.end is not None and begins >= target.end:
        return False
    if begins >= 0 or target.end is None:
        return True
    duration = getattr(part, "samples", None) or part.duration or 0
    unit = Fraction(1, part.sample_rate) if hasattr(part, "samples") else part.time_base
    return target.hides and begins + duration * unit > 0


def _describe(given: Any, made: Any) -> None:
    for key in ("language", "title"):
        if key in given.metadata:
            made.metadata[key] = given.metadata[key]


class HeldSound:
    """The value of an AUDIO link, or silence.

    Args:
        audio: {"waveform": [B,C,n] -1..1, "sample_rate"}; the first of the batch is heard.
    """

    def __init__(self, audio: dict[str, Any] | None) -> None:
        self._wave, self._rate, self._done = None, 1, 0
        if audio is not None and audio["waveform"].shape[-1]:
            self._wave = audio["waveform"][0]
            self._rate = int(audio["sample_rate"])
            if len(self._wave) not in _LAYOUTS:
                note(
                    "video",
                    f"The sound has {len(self._wave)} channels, and only the first two are used.",
                )
                self._wave = self._wave[:2]

    def open(self, target: Target) -> None:
        """See `Sound`."""
        self._target = target
        if self._wave is None:
            return
        self._layout = _LAYOUTS[len(self._wave)]
        self._stream = target.encoding(self._rate, self._layout)
        if target.end is not None:
            self._wave = self._wave[:, : -(-target.end * self._rate // 1)]

    def write_until(self, time: Fraction) -> None:
        """See `Sound`."""
        if self._wave is None:
            return
        stop = min(self._wave.shape[-1], int(time * self._rate))
        while self._done < stop:
            self._write(min(stop, self._done + self._rate))

    def _write(self, stop: int) -> None:
        import av

        part: torch.Tensor = self._wave[:, self._done : stop].detach().float().cpu().contiguous()
        frame = av.AudioFrame.from_ndarray(part.numpy(), format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self._done, Fraction(1, self._rate)
        self._target.container.mux(self._stream.encode(frame))
        self._done = stop

    def finish(self) -> None:
        """See `Sound`."""
        if self._wave is not None:
            self.write_until(Fraction(self._wave.shape[-1], self._rate))
            self._target.container.mux(self._stream.encode(None))

    def close(self) -> None:
        """Nothing is open."""


def tags_of(container: Any) -> dict[str, str]:
    """The tags of a file that hold for a changed copy of it, too."""
    return {
        key: value for key, value in container.metadata.items() if key.lower() not in _OF_THE_FILE
    }
