"""Small video files, drawn so that each frame can be told by its number."""

from fractions import Fraction

import av
import numpy as np
from detailers.core.geometry import Size

COUNT = 40
SIZE = Size(64, 48)
UNEVEN = [0, 40, 80, 150, 160, 170, 300, 340, 400, 420]  # milliseconds


def picture(number, size=SIZE):
    """A frame that can be told by its number: its brightness, and a square that wanders."""
    frame = np.full((size.height, size.width, 3), 20 + 4 * number, np.uint8)
    frame[4:12, number : number + 8] = (230, 30, 40)
    return frame


def number_of(frame):
    """The number of a frame [H,W,C] 0..1 as `picture` drew it."""
    return round((float(frame[-8:, -8:, :3].mean()) * 255 - 20) / 4)


def clip(
    path, codec="libx264", pixels="yuv420p", count=COUNT, size=SIZE, stamps=None, tags=(),
    options=(), sound=(), draw=picture, muxer=None, rate=25,
):  # fmt: skip
    """Write a clip; `stamps` in milliseconds, sounds as (codec, seconds)."""
    with av.open(str(path), "w", format=muxer) as file:
        file.metadata["title"] = "a title"
        stream = file.add_stream(codec, rate=rate, options=dict(options) or {"g": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, pixels
        for name, value in dict(tags).items():
            setattr(stream.codec_context, name, value)
        base = Fraction(1, 1000) if stamps else Fraction(1, rate)
        if stamps:
            stream.codec_context.time_base = base
        voices = [(file.add_stream(name, rate=48000, layout="stereo"), end) for name, end in sound]
        for number in range(count):
            frame = draw(number, size)
            form = {3: "rgb24", 4: "rgba"}[frame.shape[-1]]
            frame = av.VideoFrame.from_ndarray(frame, format=form).reformat(format=pixels)
            frame.pts, frame.time_base = stamps[number] if stamps else number, base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        for pitch, (voice, end) in enumerate(voices, 1):
            wave = np.sin(np.arange(int(48000 * end)) * 2 * np.pi * 220 * pitch / 48000)
            wave = np.stack([wave, wave]).astype(np.float32) * 0.5
            heard = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
            heard.sample_rate, heard.pts, heard.time_base = 48000, 0, Fraction(1, 48000)
            file.mux(voice.encode(heard))
            file.mux(voice.encode(None))
    return path
