"""How exactly Paste Options' `register` finds where a result lies that has slipped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from .in_host import part
from .quality_runs import BASE, Bench, Runs
from .quality_tables import markdown
from .scenes import Kind, TestScene, make_scene

HEADING = "## Results that have slipped"
SIDE = 320  # pixels of a side of a crop
PAD = 48  # pixels around it that a slip may bring in
CHANGED = 0.4  # of the crop shows something else
KEPT, REPAINTED = "kept", "repainted"
DENOISE = 0.2  # of what is repainted
DRAWS = 2  # slips of each kind for a scene
FARTHEST, LARGEST, STEEPEST = 20.0, 0.05, 2.0  # pixels; share of the size; degrees
TINT, OFFSET = 0.12, 0.05  # how far from 1 a channel's contrast is, and how far from 0 its offset
MEANT = "0.1 pixels, 0.1% and 0.1 degrees"


@dataclass(frozen=True)
class Slip:
    """A kind of slip; each part is drawn anew for each result."""

    name: str
    shift: bool = False
    scale: bool = False
    angle: bool = False
    tint: bool = False


SLIPS = (
    Slip("nothing"),
    Slip("a tint alone", tint=True),
    Slip("shift", shift=True),
    Slip("scale", scale=True),
    Slip("rotation", angle=True),
    Slip("all three", shift=True, scale=True, angle=True),
    Slip("all three, and a tint", shift=True, scale=True, angle=True, tint=True),
)


@dataclass(frozen=True)
class Found:
    """What became of one result.

    Attributes:
        around: KEPT or REPAINTED.
        moved, refused: whether it was moved, and whether it was not to be pasted.
        errors: how far what was found is from what was done to the result, in pixels, as a share
            of the size and in degrees.
        apart: the same from where the result lay before anything was done to it, by the best fit.
    """

    around: str
    slip: str
    moved: bool
    refused: bool
    errors: tuple[float, float, float]
    apart: tuple[float, float, float]


def measure(runs: Runs, seeds: Sequence[int]) -> Iterator[str]:
    """The parts of the report: a table."""
    yield table([one for found in runs.each(registered, seeds) for one in found])


def table(found: Sequence[Found]) -> str:
    """A line for each kind of slip."""
    head = (
        "surroundings", "what was done to the result", "results", "moved", "refused", "shift, px",
        "scale, %", "rotation, degrees", "shift from its own place, px", "scale, %",
        "rotation, degrees",
    )  # fmt: skip
    rows = []
    for around, slip in dict.fromkeys((one.around, one.slip) for one in found):
        own = [one for one in found if (one.around, one.slip) == (around, slip)]
        rows.append((
            around, slip, str(len(own)), str(sum(one.moved for one in own)),
            str(sum(one.refused for one in own)), *_columns([one.errors for one in own]),
            *_columns([one.apart for one in own if one.moved]),
        ))  # fmt: skip
    return markdown(head, rows)


def _columns(errors: Sequence[tuple[float, float, float]]) -> list[str]:
    """Median and largest shift, scale and rotation; empty where there are none."""
    if not errors:
        return ["", "", ""]
    shift, scale, angle = zip(*errors, strict=True)
    return [_two(shift), _two([100 * own for own in scale]), _two(angle)]


def _two(errors: Sequence[float]) -> str:
    return f"{median(errors):.3f}, {max(errors):.3f}"


@torch.inference_mode()
def registered(bench: Bench, seed: int) -> list[Found]:
    """What registration finds of all SLIPS of the model's result around a head."""
    test = make_scene(seed, Kind(heads_alone=True))
    top, left = _place(test)
    rows, columns = slice(top, top + SIDE + 2 * PAD), slice(left, left + SIDE + 2 * PAD)
    before, repainted = (
        torch.from_numpy(np.ascontiguousarray(picture[rows, columns]))[None]
        for picture in (test.before, _repainted(bench, test, top, left))
    )
    kept = bench.vae.decode(bench.vae.encode(before)).reshape(before.shape).to(before)
    changed = before.flip(2).roll(SIDE // 3, dims=1)
    wide = torch.nn.functional.pad(_middle(SIDE), [PAD] * 4)[..., None]
    random = np.random.default_rng([seed, 12])
    found = []
    for around, result in ((KEPT, kept), (REPAINTED, repainted)):
        drawn = torch.lerp(result, changed, wide)
        own = _own_place(drawn, before)
        found += [
            _found((around, slip), drawn, before, own, random)
            for slip in SLIPS
            for _ in range(DRAWS)
        ]
    return found


def _own_place(result: torch.Tensor, before: torch.Tensor) -> Any:
    """The Similarity by which a result lies best on its crop before anything is done to it."""
    registration = part("pixels.registration")
    crop = slice(PAD, PAD + SIDE)
    fit = registration.best_fit(result[:, crop, crop], before[:, crop, crop], _middle(SIDE))
    return fit or registration.Similarity()


def _place(test: TestScene) -> tuple[int, int]:
    """Top and left of the square around the first head, within the picture."""
    rows, columns = test.box(0, margin=0)
    length = SIDE + 2 * PAD
    return tuple(
        min(max((span.start + span.stop - length) // 2, 0), side - length)
        for span, side in zip((rows, columns), test.before.shape, strict=False)
    )


def _middle(side: int) -> torch.Tensor:
    """A mask [1,side,side] of the middle of a square, CHANGED of it."""
    margin = round(side * (1 - math.sqrt(CHANGED)) / 2)
    mask = torch.zeros(1, side, side)
    mask[:, margin : side - margin, margin : side - margin] = 1
    return mask


def _repainted(bench: Bench, test: TestScene, top: int, left: int) -> np.ndarray:
    """The scene in which the model has repainted the whole square, as edit models do."""
    covered = np.zeros(test.before.shape[:2], np.float32)
    covered[top : top + SIDE + 2 * PAD, left : left + SIDE + 2 * PAD] = 1
    widgets = BASE | {"noise_mask": False, "feather": 0, "denoise": DENOISE}
    caption = test.scene.captions()[0]
    return bench.detailed(test, bench.segs_of([covered], 1.0), widgets, caption)


def _found(
    kind: tuple[str, Slip], result: torch.Tensor, before: torch.Tensor, own: Any,
    random: np.random.Generator,
) -> Found:  # fmt: skip
    """Let a result slip by chance, and register it.

    Args:
        kind: what is around, and how it slips.
        result, before: [1,h,w,3] with PAD around the crop.
        own: the Similarity by which the result lies best on its crop as it is.
    """
    around, slip = kind
    registration = part("pixels.registration")
    drawn = random.uniform(-1, 1, 4)
    truth = registration.Similarity(
        1 + LARGEST * drawn[0] * slip.scale, STEEPEST * drawn[1] * slip.angle,
        tuple(FARTHEST * drawn[2:] * slip.shift),
    )  # fmt: skip
    slipped = registration.moved_back(result, torch.full_like(result, 0.5), _inverse(truth))
    contrast, offset = (torch.from_numpy(random.uniform(-1, 1, 3)).to(result) for _ in range(2))
    if slip.tint:
        slipped = ((1 + TINT * contrast) * slipped + OFFSET * offset).clamp(0, 1)
    crop = slice(PAD, PAD + SIDE)
    found = registration.register(slipped[:, crop, crop], before[:, crop, crop], _middle(SIDE))
    known = found.similarity or registration.Similarity()
    return Found(
        around, slip.name, found.similarity is not None, bool(found.refused),
        _between(known, truth), _between(known, _then(own, truth)),
    )  # fmt: skip


def _between(one: Any, other: Any) -> tuple[float, float, float]:
    """How far two of Similarity are apart: in pixels, as a share of the size, in degrees."""
    apart = (own - its for own, its in zip(one.shift, other.shift, strict=True))
    return math.hypot(*apart), abs(one.scale / other.scale - 1), abs(one.angle - other.angle)


def _then(first: Any, second: Any) -> Any:
    """The Similarity that looks up at `second` of what `first` gives."""
    a, b = second.matrix
    x, y = first.shift
    shift = a * x - b * y + second.shift[0], b * x + a * y + second.shift[1]
    return type(first)(first.scale * second.scale, first.angle + second.angle, shift)


def _inverse(similarity: Any) -> Any:
    """The Similarity that undoes another."""
    a, b = similarity.matrix
    area = a * a + b * b
    a, b = a / area, -b / area
    x, y = similarity.shift
    return type(similarity)(
        math.hypot(a, b), math.degrees(math.atan2(b, a)), (-(a * x - b * y), -(b * x + a * y))
    )


INTRODUCTION = f"""\
`python run.py bench quality --table registration --write`

What Paste Options' `register` finds. In squares of {SIDE} pixels around heads, {CHANGED:.0%}, in \
the middle, shows something else. The surroundings are *kept*, so that only the VAE has changed \
them, or *repainted* by the model at a denoise of {DENOISE:g}, which by itself draws many a line \
some tenths of a pixel beside its place. Then the result was shifted by up to {FARTHEST:g} pixels \
across and down, scaled by up to {LARGEST:.0%} and rotated by up to {STEEPEST:g} degrees, by \
chance. A tint changes the contrast of each channel by up to {TINT:.0%} and adds up to {OFFSET:g} \
of full range. The columns after the counts say how far what was found is from what was done to \
the result: median and largest. {MEANT} are meant to be kept. Where nothing was moved, the slip \
itself counts. A repainted result lies beside its crop before anything is done to it, and bringing \
it back onto the crop takes that off too. So the last three columns, of results that were moved, \
count from where the same result lay best before it slipped: they are what the search itself \
misses."""
