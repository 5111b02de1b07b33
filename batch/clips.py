"""Clips: where to cut them, a part of one as a file, parts joined. Needs PyAV (`av`).

A part is cut without loss: its frames are encoded with FFV1 in the pixel format that they have. The
joined clip holds the packets of the parts as they are, and the sound of the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from .faults import Problem, UnitFault

SHOT = 0.35  # change of the brightness histogram, 0..1, between the frames at a cut
SHORTEST = 8  # frames of a shot
LONGEST = 480  # frames of a part, so that it fits into memory


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise Problem(
            "--split-video needs the package av in the Python of the driver and of the workers: "
            "pip install av"
        ) from error
    return av


def spans(file: Path, split: str) -> list[tuple[int, int]]:
    """(first frame, frames) of the parts of a clip.

    Args:
        split: "shots", or a number of frames.

    Raises:
        Problem: the clip cannot be read; its unit is then set aside.
    """
    av = _av()
    try:
        with av.open(str(file)) as container:
            frames = container.decode(video=0)
            if split == "shots":
                starts, count = _shots(frames)
            else:
                count = sum(1 for _ in frames)
                starts = list(range(0, count, int(split)))
    except (OSError, IndexError, ValueError, av.FFmpegError) as error:
        raise Problem(f"The clip cannot be read: {error}.") from error
    return [(start, end - start) for start, end in pairwise([*starts, count])]


def _shots(frames: Iterator[Any]) -> tuple[list[int], int]:
    """The first frames of shots and of parts of long ones, and the number of frames."""
    import numpy as np

    starts, count, before = [0], 0, None
    for count, frame in enumerate(frames, 1):
        small = frame.reformat(width=64, height=36, format="gray").to_ndarray()
        histogram = np.bincount((small >> 3).ravel(), minlength=32) / small.size
        is_long = count - 1 - starts[-1] >= SHORTEST
        if is_long and before is not None and np.abs(histogram - before).sum() / 2 > SHOT:
            starts.append(count - 1)
        before = histogram
    shots = pairwise([*starts, count])
    return [first for start, end in shots for first in range(start, end, LONGEST)], count


def cut(file: Path, target: Path, first: int, frames: int) -> None:
    """Write frames of a clip into a file of its own, without loss and without sound.

    Raises:
        UnitFault: the clip does not hold them.
    """
    av = _av()
    with av.open(str(file)) as source, av.open(str(target), "w", format="matroska") as made:
        pictures = source.streams.video[0]
        rate = pictures.average_rate or pictures.guessed_rate or Fraction(25)
        stream = made.add_stream("ffv1", rate=rate)
        written = 0
        for number, frame in enumerate(source.decode(pictures)):
            if number < first:
                continue
            if written == frames:
                break
            if not written:
                stream.width, stream.height = frame.width, frame.height
                stream.pix_fmt = frame.format.name
                _same_colours(pictures.codec_context, stream.codec_context)
            frame.pts, frame.time_base = written, 1 / Fraction(rate)
            made.mux(stream.encode(frame))
            written += 1
        made.mux(stream.encode(None))
    if written != frames:
        raise UnitFault(f"the clip has {written} of the frames {first} to {first + frames - 1}")


def _same_colours(given: Any, made: Any) -> None:
    for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
        value = getattr(given, name, None)
        if value is not None:
            setattr(made, name, value)


def join(parts: Sequence[Path], target: Path, sound: Path | None) -> None:
    """Put clips one after another, their packets as they are.

    Args:
        sound: a clip whose sound the whole gets; None for none.

    Raises:
        UnitFault: they do not fit together.
    """
    av = _av()
    with av.open(str(target), "w", options={"movflags": "use_metadata_tags"}) as made:
        with av.open(str(parts[0])) as first:
            template = first.streams.video[0]
            stream = made.add_stream_from_template(template)
            sort = (template.codec_context.name, template.width, template.height)
            made.metadata.update(first.metadata)
        heard = av.open(str(sound)) if sound is not None else None
        try:
            audio = heard.streams.audio[0] if heard and heard.streams.audio else None
            voice = made.add_stream_from_template(audio) if audio else None
            offset = Fraction(0)
            for part in parts:
                offset = _append(av, made, stream, part, sort, offset)
            for packet in heard.demux(audio) if voice else ():
                if packet.dts is not None and packet.pts * packet.time_base < offset:
                    packet.stream = voice
                    made.mux(packet)
        finally:
            if heard is not None:
                heard.close()


def _append(av: Any, made: Any, stream: Any, part: Path, sort: tuple, offset: Fraction) -> Fraction:
    """Add a part's packets; the time at which the next one begins."""
    with av.open(str(part)) as source:
        pictures = source.streams.video[0]
        if (pictures.codec_context.name, pictures.width, pictures.height) != sort:
            raise UnitFault(f"part {part.name} is of another size or codec than the first one")
        rate = pictures.average_rate or Fraction(25)
        base = pictures.time_base
        shift, count, start = round(offset / base), 0, None
        for packet in source.demux(pictures):
            if packet.dts is None:
                continue
            start = packet.pts if start is None else min(start, packet.pts)
            packet.pts += shift
            packet.dts += shift
            packet.stream = stream
            made.mux(packet)
            count += 1
        return offset + count / Fraction(rate)
