"""Long clips: a video file through Video Detailer (long clips), slice by slice.

    python run.py bench long --help

The sampler gives back what it gets, so what is measured is the pack's own: decoding, cutting out
windows and putting them back, encoding. The peak of memory is read for each quarter of the clip, so
that one sees whether it grows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dev.options import bench_long

from .in_host import load, part, part_of_nodes
from .quality import Report
from .quality_runs import BASE
from .quality_tables import markdown
from .run import forget_the_peak, resident
from .video_cost import alone, back_and_forth, identity

HEADING = "## Long clips"
RATE, DRAWN = 25, 51  # frames a second; frames that are drawn, and come again back and forth
HEAD = 200  # pixels
PARTS = 4  # of a clip, whose peaks of memory are told apart


@dataclass(frozen=True)
class Taken:
    """What a clip takes.

    Attributes:
        wall, processor: seconds.
        held: MB of the process before, with all code loaded and nothing run.
        peaks: MB at most while each part of the clip was written, and then while it was finished.
        size: MB of the new file.
        quality: PSNR of frames without a track against the input, in dB.
    """

    frames: int
    wall: float
    processor: float
    held: float
    peaks: tuple[float, ...]
    size: float
    quality: float


def draw(number: int, size: tuple[int, int]) -> np.ndarray:
    """A frame [H,W,3] of 8 bits: waves, a little grain, and a head that wanders."""
    place = back_and_forth(number, DRAWN)
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin(x / (40 + 9 * k) + y / 70 + place / 25 + k) for k in range(3)]
    frame = 120 + 70 * np.stack(waves, -1) * (0.4 + 0.6 * y[..., None] / height)
    left, top, side = head(number, size)
    inside = (x - left - side / 2) ** 2 + (y - top - side / 2) ** 2 < (side / 2) ** 2
    frame[inside] = frame[inside] * 0.2 + np.array([190, 150, 130]) * 0.8
    frame += np.random.default_rng(place).normal(0, 2, frame.shape)
    return frame.clip(0, 255).astype(np.uint8)


def head(number: int, size: tuple[int, int]) -> tuple[float, float, float]:
    """Left, top and side of the head's box in a frame."""
    place = back_and_forth(number, DRAWN)
    side = min(HEAD, min(size) / 3)
    return size[0] * 0.2 + place * size[0] / 100, size[1] * 0.3 + place * 1.5, side


def write_clip(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A file with H.264 and AAC. Its drawn frames come again and again."""
    import av

    drawn = [draw(number, size) for number in range(min(frames, DRAWN))]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": "16", "preset": "veryfast"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        sound = file.add_stream("aac", rate=48000, layout="stereo")
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(drawn[back_and_forth(number, DRAWN)], format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            file.mux(stream.encode(frame))
            wave = np.random.default_rng(number).normal(0, 0.1, (2, 48000 // RATE))
            heard = av.AudioFrame.from_ndarray(wave.astype(np.float32), "fltp", "stereo")
            heard.sample_rate, heard.pts = 48000, number * (48000 // RATE)
            file.mux(sound.encode(heard))
        file.mux(stream.encode(None))
        file.mux(sound.encode(None))


def tracks_of(frames: int, size: tuple[int, int]) -> Any:
    """The head as a track, in the first four of every five seconds."""
    geometry, track = part("geometry"), part("tracks.track")
    tracks = []
    for first in range(0, frames, 5 * RATE):
        seen = []
        for frame in range(first, min(first + 4 * RATE, frames)):
            left, top, side = head(frame, size)
            box = geometry.Rect(left + side / 2, top + side / 2, side, side)
            window = geometry.Rect(box.x, box.y, 2 * side, 2 * side)
            seen.append(track.Sighting(frame, box, window))
        tracks.append(track.Track(len(tracks), "face", tuple(seen)))
    return track.Tracks(geometry.Size(*size), frames, tuple(tracks))


class PeaksByPart:
    """A sink that passes frames on, and reads the peak of memory after each part of the clip."""

    def __init__(self, sink: Any, frames: int) -> None:
        self._sink = sink
        self._ends = {round(frames * part / PARTS) for part in range(1, PARTS + 1)}
        self._written = 0
        self.peaks: list[float] = []

    def take(self, frame: Any, change: Any) -> None:
        """The next frame, and what is new in it."""
        part("clips").give(self._sink, frame, change)
        self._written += 1
        if self._written in self._ends:
            self.look()

    def look(self) -> None:
        """Read the peak since the last time."""
        self.peaks.append(resident("self", "VmHWM"))
        forget_the_peak("self")


def measure(tree: Path, folder: Path, frames: int, size: tuple[int, int]) -> Taken:
    """A clip. It is drawn in a process of its own, and gone through in another one."""
    file = folder / f"{frames}.mp4"
    alone(write_clip, file, frames, size)
    return alone(_measure, tree, file, frames, size)


def _measure(tree: Path, file: Path, frames: int, size: tuple[int, int]) -> Taken:
    load(tree, cpu=True)
    import folder_paths

    folder_paths.set_temp_directory(str(file.parent / "temp"))
    held = resident("self", "VmRSS")
    forget_the_peak("self")
    wall, processor = time.perf_counter(), time.process_time()
    made, peaks = _detail(file, frames, size)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    megabytes, quality = made.stat().st_size / 2**20, _quality(file, made, frames)
    made.unlink()
    return Taken(frames, wall, processor, held, peaks, megabytes, quality)


@torch.inference_mode()
def _detail(file: Path, frames: int, size: tuple[int, int]) -> tuple[Path, tuple[float, ...]]:
    """The file that is made of a file, and the peaks of memory, as of `Taken`."""
    from comfy_api.latest import InputImpl

    video, settings = part("host.video"), part("settings")
    models = settings.Models("model", None, "vae", [], [])
    guide_size = round(512 * head(0, size)[2] / HEAD)  # small clips have small heads
    widgets = BASE | {"guide_size": guide_size, "max_size": 768, "steps": 1}
    detail = part_of_nodes("detail.images").make_detail(models, **widgets)
    with (
        video.opened(InputImpl.VideoFromFile(str(file))) as clip,
        clip.writing(video.Encoding()) as (sink, path),
    ):
        watched = PeaksByPart(sink, frames)
        part("detail.tracks").detail_tracks(
            clip.frames, tracks_of(frames, size), detail, settings.Motion(smoothing=1.0),
            identity(), watched,
        )  # fmt: skip
    watched.look()
    return path, tuple(watched.peaks)


def _quality(old: Path, new: Path, frames: int) -> float:
    """PSNR of some frames in dB."""
    read = part("host.video_read").FileFrames
    errors = []
    before, after = read(old), read(new)
    for number in range(0, frames, max(1, frames // 10)):
        change = before.read(number, number + 1) - after.read(number, number + 1)
        errors.append(float(change.square().mean()))
    before.close()
    after.close()
    return -10 * float(np.log10(np.mean(errors)))


def table(one: Taken) -> str:
    """What a clip took."""
    more = [f"{peak - one.held:.0f}" for peak in one.peaks]
    return markdown(
        (
            "frames", "seconds a frame", "of the processor", "MB before",
            *(f"more in quarter {place}" for place in range(1, PARTS + 1)), "at its end",
            "MB of file", "PSNR, dB",
        ),
        [(
            str(one.frames), f"{one.wall / one.frames:.3f}", f"{one.processor / one.frames:.3f}",
            f"{one.held:.0f}", *more, f"{one.size:.1f}", f"{one.quality:.1f}",
        )],
    )  # fmt: skip


def introduction(size: tuple[int, int]) -> str:
    """What stands under the heading."""
    return (
        "`python run.py bench long --write`\n\n"
        f"A file of {size[0]} x {size[1]} with H.264 and AAC through *Video Detailer (long "
        f"clips)*, with one head of {HEAD} pixels in four of five frames. The sampler and the VAE "
        "change nothing, so time and memory are the pack's own and those of the codecs. PSNR is "
        "that of the frames against the input; it is lost by H.264 at the default `crf`. *More* is "
        "the peak of memory above what was held before, with all code loaded and nothing run; at "
        "the end the encoder gives what it still holds."
    )


def main() -> int:
    options = bench_long().parse_args()
    size = tuple(options.size)
    frames = max(PARTS, round(options.seconds * RATE))
    report = Report(HEADING, introduction(size))
    with tempfile.TemporaryDirectory() as folder:
        report.add(table(measure(Path(options.comfyui), Path(folder), frames, size)))
    if options.write:
        report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
