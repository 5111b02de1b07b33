"""Tracks and Video Detailer on clips whose truth is known: every figure beside its aim.

    python run.py bench video --help

Clips of the miniature world go through Track Segments and Video Detailer, with boxes that are off
and missing as a detector's are. The windows are compared with the true paths, the frames with the
true frames and with what today's other ways make of them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image

from dev.contact_sheet import Cell, contact_sheet, to_image
from dev.known_clip import KnownClip, flicker_inside, known_clip, psnr_inside
from dev.metrics import psnr
from dev.miniature.clips import CLIPS
from dev.options import bench_video

from .in_host import part
from .quality import Report
from .quality_tables import markdown
from .scenes import GROWN
from .video_clips import change_beyond
from .video_cost import Cost, measure_cost
from .video_detail import SETTINGS, SINGLE, WINDOW, Detailed, VideoBench, divided, shots, tracks_way
from .video_tracks import Followed, across_cut, measure_tracks, tracks_table

ROOT = Path(__file__).resolve().parent.parent
SHEET, SHOWN = ROOT / "bench" / "video.jpg", ROOT / "bench" / "video.webp"
HEADING = "## Video"
CROSSINGS = ("crossing", "crossing alike")
DETAILED = ("walking", "turning", "crossing", "cut", "leaving and coming back", "moving camera",
            "approaching")  # fmt: skip
PLAIN, SMOOTHED = 0.0, 1.0  # strengths of the smoothing over time


@dataclass(frozen=True)
class Figure:
    """A figure, and what it should be."""

    name: str
    aim: str
    found: str
    met: bool

    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        return self.name, self.aim, self.found, "yes" if self.met else "**no**"


@dataclass
class Outcome:
    """What detailing made of a clip, for each way."""

    test: KnownClip
    tracks: Any
    ways: dict[str, Detailed] = field(default_factory=dict)
    flicker: dict[str, float] = field(default_factory=dict)
    psnr: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)  # long, short


# Tracks


def measure_following(bench: VideoBench, length: int) -> tuple[list[Followed], list[Figure]]:
    """The tracks of every clip, and what they do at cuts."""
    followed, cuts = [], []
    for name in CLIPS:
        test = known_clip(name, length)
        tracks = bench.followed(test)
        followed.append(measure_tracks(test.clip, test.found, tracks))
        if test.clip.cuts:
            parts = [bench.followed(test, slice(*shot)) for shot in shots(test)]
            cuts.append(across_cut(test.clip, tracks, parts))
    worst = max(followed, key=lambda one: one.off_path)
    switched = sum(one.switches for one in followed if one.name in CROSSINGS)
    count = sum(one.off_path <= 0.25 for one in followed)
    bounds = [one.wander for one in followed]
    figures = [
        Figure(
            "window jitter against the true path, mean removed", "≤ 0.25 px RMS",
            f"{min(one.off_path for one in followed):.2f} to {worst.off_path:.2f} px; "
            f"{count} of {len(followed)} clips within; worst: {worst.name}",
            worst.off_path <= 0.25,
        ),
        Figure(
            "the same against the middle of the true bounds", "≤ 0.25 px RMS",
            f"{min(bounds):.2f} to {max(bounds):.2f} px; "
            f"{sum(own <= 0.25 for own in bounds)} of {len(bounds)} clips within",
            max(bounds) <= 0.25,
        ),
        Figure("identity switches at crossings", "0", f"{switched}", switched == 0),
        Figure(
            "smoothing across a cut", "none",
            f"{max(change for change, _ in cuts):g} px other than each shot alone, "
            f"{sum(count for _, count in cuts)} tracks across",
            all(change < 1e-6 and count == 0 for change, count in cuts),
        ),
    ]  # fmt: skip
    return followed, figures


# Pictures


def detail_clip(bench: VideoBench, test: KnownClip) -> Outcome:
    """A clip in all ways, measured."""
    tracks = bench.followed(test, grown=GROWN)
    outcome = Outcome(test, tracks)
    ways = [
        bench.one_window(test), bench.one_by_one(test), bench.by_tracks(test, tracks, PLAIN),
        bench.by_tracks(test, tracks, SMOOTHED),
    ]  # fmt: skip
    outcome.ways = {way.name: way for way in ways}
    groups = divided(test.clip)
    pictures = {"as it came": test.poor, "truth": test.truth}
    pictures |= {way.name: way.frames for way in ways}
    for key, frames in pictures.items():
        outcome.flicker[key] = flicker_inside(test, frames)
        outcome.psnr[key] = tuple(
            None if key == "truth" or np.isnan(level := psnr_inside(test, frames, group)) else level
            for group in groups
        )
    return outcome


def pictures_tables(outcomes: Sequence[Outcome]) -> list[str]:
    """PSNR and flicker, a line for each clip."""
    ways = [name for name in outcomes[0].flicker if name != "truth"]
    psnr_rows, flicker_rows = [], []
    for one in outcomes:
        for place, kind in enumerate(("long", "short")):
            values = [one.psnr[way][place] for way in ways]
            if values[0] is not None:
                cells = [f"{value:.2f}" for value in values]
                psnr_rows.append((f"{one.test.clip.name}, {kind} paths", *cells))
        cells = [f"{one.flicker[way]:.2f}" for way in ("truth", *ways)]
        flicker_rows.append((one.test.clip.name, *cells))
    return [
        "PSNR inside the heads, dB, over all frames in which half of a head is seen:\n\n"
        + markdown(("clip", *ways), psnr_rows),
        "Flicker inside the heads, in 255ths: the mean difference of two frames in a row, the "
        "second moved back by the true motion. That of the truth comes from resampling.\n\n"
        + markdown(("clip", "truth", *ways), flicker_rows),
    ]


def picture_figures(outcomes: Sequence[Outcome]) -> list[Figure]:
    """The figures of PSNR, flicker and untouched pixels."""
    plain, smoothed = map(tracks_way, (PLAIN, SMOOTHED))
    gains: tuple[list[float], list[float]] = ([], [])
    for one in outcomes:
        for place, own in enumerate(gains):
            if one.psnr[smoothed][place] is not None:
                own.append(one.psnr[smoothed][place] - one.psnr[WINDOW][place])
    long, short = gains
    ratios = [one.flicker[smoothed] / one.flicker[SINGLE] for one in outcomes]
    over = [one.flicker[smoothed] / one.flicker["truth"] for one in outcomes]
    change = [
        change_beyond(one.test.poor, way.frames, way.masks, SETTINGS["feather"])
        for one in outcomes for name, way in one.ways.items() if name in (plain, smoothed)
    ]  # fmt: skip
    empty, beyond, count = (max(values) for values in zip(*change, strict=True))
    return [
        Figure("untouched frames: largest change of a value", "0",
               f"{empty:g} (clips with up to {count} frames without a track)", empty == 0),
        Figure("untouched pixels, beyond the masks' feather", "0", f"{beyond:g}", beyond == 0),
        Figure("PSNR over one window, paths longer than a head", "≥ +1 dB",
               f"{min(long):+.2f} to {max(long):+.2f} dB", min(long) >= 1),
        Figure("PSNR over one window, shorter paths", "never worse",
               f"{min(short):+.2f} to {max(short):+.2f} dB", min(short) >= 0),
        Figure("flicker, smoothed, against frame by frame", "≤ 0.5",
               f"{min(ratios):.2f} to {max(ratios):.2f}, mean {mean(ratios):.2f}",
               max(ratios) <= 0.5),
        Figure("flicker, smoothed, against the truth", "≤ 1.1",
               f"{min(over):.2f} to {max(over):.2f}, mean {mean(over):.2f}", max(over) <= 1.1),
    ]  # fmt: skip


# Round trip


def measure_round_trip(bench: VideoBench, outcomes: Sequence[Outcome]) -> list[Figure]:
    """True frames cut into the windows' working size and back, with nothing in between."""
    window = part("pixels.window")
    levels, same = [], True
    for one in outcomes:
        for track in one.tracks.tracks:
            for own in track.sightings[::6]:
                level, identical = _round_trip(bench, window, one.test, own)
                levels.append(level)
                same &= identical
    worst = min(levels)
    return [
        Figure("round trip of the window, resampled both ways", "≥ 45 dB",
               f"{worst:.1f} dB at worst, {mean(levels):.1f} dB in the mean", worst >= 45),
        Figure("the same as it is put back", "≥ 45 dB", "bit-identical" if same else "changed",
               same),
    ]  # fmt: skip


def _round_trip(bench: VideoBench, window: Any, test: KnownClip, own: Any) -> tuple[float, bool]:
    size_of, whole = bench.geometry.working_size, bench.geometry.Box
    frame_size = bench.geometry.Size(*test.clip.size)
    sizing = bench._detail("").sizing
    box = whole(0, 0, round(own.box.width), round(own.box.height))
    size = size_of(box, whole(0, 0, round(own.window.width), round(own.window.height)), sizing)
    region = window.region_of(own.window, frame_size, window.reach(own.window, size))
    frame = torch.from_numpy(test.truth[own.frame])[None]
    pixels = frame[:, region.y1 : region.y2, region.x1 : region.x2]
    crop = window.Window.of(own.window, region)
    cut = crop.extract(pixels, size)
    back = crop.returned(cut, pixels).clamp(0, 1)
    inside = crop.inside(pixels).reshape(pixels.shape[1:3])
    level = psnr(back[0].numpy(), pixels[0].numpy(), inside.numpy())
    return level, torch.equal(crop.put_back(cut, pixels), pixels)


# Cost


def cost_figures(costs: Sequence[Cost]) -> list[Figure]:
    """Time for each frame, and memory, against those of the shortest clip."""
    parts = [[own.follow for own in costs], [own.detail for own in costs]]
    spread = max(max(times) / min(times) - 1 for times in parts)
    told = [", ".join(f"{1000 * own:.1f}" for own in times) for times in parts]
    memory = costs[-1].megabytes / max(costs[0].megabytes, 1e-9)
    lengths = ", ".join(str(cost.frames) for cost in costs)
    return [
        Figure(f"time for each frame at {lengths} frames (tracks, detailing)",
               "constant within 10%", f"{' and '.join(told)} ms: {spread:.0%}", spread <= 0.1),
        Figure(f"memory at {costs[-1].frames} frames against {costs[0].frames}", "≤ 1.3",
               f"{memory:.2f}", memory <= 1.3),
    ]  # fmt: skip


def cost_table(costs: Sequence[Cost]) -> str:
    """A line for each length."""
    head = ("frames", "tracks: ms a frame", "detailing: ms a frame", "MB beyond input and output")
    return markdown(
        head,
        [
            (str(one.frames), f"{1000 * one.follow:.1f}", f"{1000 * one.detail:.1f}",
             f"{one.megabytes:.0f}")
            for one in costs
        ],
    )  # fmt: skip


# What is looked at


def sheet(outcomes: Sequence[Outcome]) -> Image.Image:
    """A head of each clip in some frames, in all ways."""
    rows = []
    for one in outcomes:
        for frame in frames_to_show(one.test):
            person = int(np.argmax(one.test.seen[:, frame]))
            box = _around(one.test, person, frame)
            pictures = {"as it came": one.test.poor, **{k: w.frames for k, w in one.ways.items()}}
            pictures["truth"] = one.test.truth
            rows.append([
                Cell(to_image(frames[frame]).crop(box).resize((240, 240), Image.Resampling.BICUBIC),
                     f"{one.test.clip.name} {frame}: {name}")
                for name, frames in pictures.items()
            ])  # fmt: skip
    return contact_sheet("Heads of clips, in all ways", rows, width=240)


def frames_to_show(test: KnownClip) -> list[int]:
    """Two frames in a row near the middle of a clip in which most of somebody is seen."""
    middle = len(test) // 2 + 2

    def how_well(first: int) -> tuple[float, int]:
        seen = test.seen[:, first : first + 2].min(1).max()
        return min(seen, 0.95), -abs(first - middle)

    first = max(range(len(test) - 1), key=how_well)
    return [first, first + 1]


def _around(test: KnownClip, person: int, frame: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = test.clip.head(person, frame)
    half = 0.7 * max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    return round(x - half), round(y - half), round(x + half), round(y + half)


def side_by_side(parts: Sequence[np.ndarray]) -> list[Image.Image]:
    """Frames of several clips [F,H,W,3] beside one another."""
    return [to_image(np.concatenate(frames, 1)) for frames in zip(*parts, strict=True)]


def write_webp(file: Path, frames: Sequence[Image.Image], width: int, rate: float) -> None:
    """Frames as a moving picture that browsers and README pages show."""
    height = round(frames[0].height * width / frames[0].width)
    small = [one.resize((width, height), Image.Resampling.LANCZOS) for one in frames]
    small[0].save(
        file, save_all=True, append_images=small[1:], duration=round(1000 / rate), loop=0,
        quality=70, method=4,
    )  # fmt: skip


# The command


UNREST = (
    "Unrest is the RMS distance of the windows' middles from those of the true heads, in frames "
    "with all of the head in sight, without the mean; *from frame to frame* is how much it "
    "changes, which is what the eye sees. The true middle moves with the head. The middle of its "
    "bounds, as a detector's box has it, moves over a head that leans or turns: *bounds "
    "themselves* is how far, and the least that a window has *against bounds* which moves with the "
    "head exactly."
)


def introduction(length: int, detailed: int) -> str:
    return (
        "`python run.py bench video --write`\n\n"
        f"Clips of the miniature world (`dev/miniature/clips.py`) of 768 x 432 pixels, with known "
        f"paths, masks and motion: {length} frames, of which the {detailed} in the middle are "
        "detailed. "
        "Each side of a detected box is off by up to 5% of its length, 10% of the boxes are "
        "missing, and none is there where more than half of a head is hidden. The frames were "
        "rendered at a quarter of the size, blurred and given grain, each its own. Detailing is "
        f"{SETTINGS['steps']} steps of the miniature at a denoise of {SETTINGS['denoise']} and "
        f"{SETTINGS['guide_size']} pixels, with each person's caption. *Frame by frame* is "
        "*Detailer (SEGS)* on each frame, *one window* what *Detailer For AnimateDiff* does for "
        "each person and shot; both got a box in every frame, the tracks only what was found."
    )


def main() -> int:
    options = bench_video().parse_args()
    logging.disable(logging.WARNING)
    bench = VideoBench(Path(options.comfyui))
    report = Report(HEADING, introduction(options.frames, options.detailed))
    followed, figures = measure_following(bench, options.frames)
    outcomes = []
    for name in DETAILED if options.detailed else ():
        test = known_clip(name, options.frames).middle(options.detailed)
        outcomes.append(detail_clip(bench, test))
        print(f"{name}: done", flush=True)
    if outcomes:
        figures += picture_figures(outcomes) + measure_round_trip(bench, outcomes)
    costs = measure_cost(Path(options.comfyui)) if options.cost else []
    if costs:
        figures += cost_figures(costs)
    report.add(markdown(("figure", "aim", "found", "met"), [one.cells() for one in figures]))
    report.add(f"{UNREST}\n\n{tracks_table(followed)}")
    for text in pictures_tables(outcomes) if outcomes else ():
        report.add(text)
    if costs:
        report.add(cost_table(costs))
    if options.write and outcomes:
        sheet(outcomes).save(SHEET, quality=85)
        first = outcomes[0]
        smoothed = first.ways[tracks_way(SMOOTHED)].frames
        frames = side_by_side([first.test.poor, smoothed, first.test.truth])
        write_webp(SHOWN, frames, 1080, 12)
    if options.write:
        report.write(
            f"![Heads of clips in all ways]({SHEET.name})",
            f"![A clip before, after and in truth]({SHOWN.name})",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
