"""What tracks cost by the length of a clip: processor time for each frame, and memory.

The sampler gives back what it gets, and the VAE only changes the layout, so what is measured is the
pack's own. The frames are drawn before, and come again and again, back and forth; the result's are
dropped. So the memory is what a run needs beyond its input and its output.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from dev.miniature.clips import Detection, detections, draw_clip

from .in_host import load, part, part_of_nodes
from .quality_runs import BASE
from .run import forget_the_peak, resident
from .video_detail import finds

LENGTHS = (64, 256, 1024)
DRAWN, SIZE = 48, (384, 216)
WARM_UP = 48  # frames that are not timed
TURNS = 2  # each with as many frames of every length; shorter clips run several times
RATIO = 8


@dataclass(frozen=True)
class Cost:
    """What a clip takes.

    Attributes:
        follow, detail: seconds of the processor for each frame, to make tracks and to use them.
        megabytes: the peak above what was held before.
    """

    frames: int
    follow: float
    detail: float
    megabytes: float


def back_and_forth(number: int, count: int) -> int:
    """Which of `count` frames comes at a place of a clip in which they go forwards and back."""
    turn = 2 * (count - 1)
    return min(number % turn, turn - number % turn)


class BackAndForth:
    """A source of any length from a few frames, which come again backwards and forwards."""

    def __init__(self, frames: torch.Tensor, count: int, size: Any) -> None:
        self.frames, self.count, self.size = frames, count, size

    def place(self, frame: int) -> int:
        """Which of the frames comes at a place of the clip."""
        return back_and_forth(frame, len(self.frames))

    def read(self, start: int, stop: int) -> torch.Tensor:
        """The frames start..stop-1, [n,H,W,3]; one alone is a view, as of frames in memory."""
        places = [self.place(frame) for frame in range(start, stop)]
        return self.frames[places[0] :][:1] if len(places) == 1 else self.frames[places]


class Dropped:
    """A sink that keeps nothing."""

    def write(self, frames: torch.Tensor) -> None:
        """The next frames [n,H,W,C]."""


def measure_cost(tree: Path, lengths: Sequence[int] = LENGTHS) -> list[Cost]:
    """The cost of clips of these lengths.

    Memory is that of a process of its own for each length. Times are measured in one process in
    turns, so that what else the machine does meets all lengths alike; the best turn counts.
    """
    peaks = [alone(_peak, tree, length) for length in lengths]
    times = alone(_times, tree, lengths)
    return [Cost(*own) for own in zip(lengths, *zip(*times, strict=True), peaks, strict=True)]


def alone(function: Callable[..., Any], *args: Any) -> Any:
    """What a function gives in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def _prepared(tree: Path) -> Callable[[int], tuple[float, float]]:
    """`_run` for clips of a length, with everything loaded."""
    load(tree, cpu=True)
    clip = draw_clip("walking", DRAWN, SIZE)
    drawn = torch.stack([torch.from_numpy(clip.truth(frame)) for frame in range(DRAWN)])
    return partial(_run, drawn, detections(clip, dropped=0))


def _peak(tree: Path, length: int) -> float:
    """MB at most above what was held before, of the first run of a process."""
    run = _prepared(tree)
    held = resident("self", "VmRSS")
    forget_the_peak("self")
    run(length)
    return resident("self", "VmHWM") - held


def _times(tree: Path, lengths: Sequence[int]) -> list[tuple[float, float]]:
    """Seconds of the processor for each frame, to follow and to detail, for each length."""
    run = _prepared(tree)
    run(WARM_UP)
    turns = []
    for _ in range(TURNS):
        for length in lengths:
            runs = [run(length) for _ in range(max(lengths) // length)]
            turns.append([sum(own) / len(runs) / length for own in zip(*runs, strict=True)])
    by_length = [turns[place :: len(lengths)] for place in range(len(lengths))]
    return [tuple(map(min, zip(*own, strict=True))) for own in by_length]


@torch.inference_mode()
def _run(drawn: torch.Tensor, found: list[list[Detection]], length: int) -> tuple[float, float]:
    """Seconds of the processor to follow and to detail."""
    follow = part("tracks.follow")
    source = BackAndForth(drawn, length, part("geometry").Size(*SIZE))

    def finder(number: int, _: Any) -> list[Any]:
        return finds(number, found[source.place(number)])

    started = time.process_time()
    tracks = follow.follow(follow.Clip.of(source), finder, follow.Following())
    between = time.process_time()
    settings = part("settings")
    models = settings.Models("model", None, "vae", [], [])
    widgets = BASE | {"guide_size": 128, "max_size": 256, "steps": 1}
    detail = part_of_nodes("detail.images").make_detail(models, **widgets)
    part("detail.tracks").detail_tracks(
        source, tracks, detail, settings.Motion(smoothing=1.0), identity(), Dropped()
    )
    return between - started, time.process_time() - between


def identity() -> Any:
    """A backend whose sampler changes nothing, and whose VAE loses nothing."""

    class Identity(part("host.backend").ComfyBackend):
        def ratio(self, vae):
            return RATIO

        def grid(self, model, vae):
            return RATIO

        def is_video_vae(self, vae):
            return False

        def mixes_rows(self, vae):
            return False

        def in_float32(self, vae):
            return None

        def pixels_at_once(self, vae):
            return 4_000_000

        def clip_length(self, vae, frames):
            return frames

        def clip_kind(self, models):
            return part("backend").IMAGES

        def encode(self, vae, pixels, **how):
            return F.pixel_unshuffle(pixels.movedim(-1, 1), RATIO)

        def decode(self, vae, latent, **how):
            return F.pixel_shuffle(latent, RATIO).movedim(1, -1)

        def sigmas(self, model, sampler_name, scheduler, steps, func):
            return torch.linspace(1, 0, steps + 1)

        def noise_share(self, model, sigma):
            return sigma

        def share_a_latent(self, models):
            return True

        def why_alone(self, run):
            return None

        def rows_that_fit(self, run, rows):
            return rows

        def repeats_texts(self, model):
            return True

        def fitted_latent(self, model, latent):
            return latent["samples"]

        def completed(self, model, samples):
            return samples

        def differential_diffusion(self, model):
            return model

        def cut_patches(self, model, cut):
            return model

        def takes_references_of_one_size(self, model):
            return False

        def sample(self, run, on_step):
            return run.latent if run.start is None else run.start

    return Identity()
