"""What the ways of Paste Options to treat a VAE's loss are worth, by heads, denoise and VAE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from .quality_runs import BLURRING, TINTING, USUAL_VAE, Case, Runs, pasting
from .quality_tables import BEFORE, Outcome, markdown
from .scenes import Kind

HEADING = "## What a VAE loses"
WAYS = ("off", "residual", "auto")
VAES = (USUAL_VAE, TINTING, BLURRING)
DENOISES = (0.2, 0.5)
SLACK = 0.05  # dB by which auto may be worse than the best single way
ALONE = Kind(heads_alone=True)
LARGE = replace(ALONE, characters=(1, 2), head_width=(220, 320))
SHARP = replace(LARGE, sharp=True)
HEADS = {
    "small, poor": ALONE,
    "large, poor": LARGE,
    "large, sharp": SHARP,
    "large, sharp, another mouth, eyes and glasses": replace(
        SHARP, other=("mouth", "eyes", "glasses")
    ),
}


@dataclass(frozen=True)
class Row:
    """A line of the table: heads, denoise and VAE, with a case for each way of WAYS."""

    heads: str
    denoise: float
    vae: str

    @property
    def cases(self) -> list[Case]:
        settings = {"denoise": self.denoise}
        return [
            Case(way, settings | pasting(vae_loss=way), HEADS[self.heads], vae=self.vae)
            for way in WAYS
        ]


ROWS = tuple(Row(*own) for own in product(HEADS, DENOISES, VAES))


def measure(runs: Runs, seeds: Sequence[int], rows: Sequence[Row] = ROWS) -> Iterator[str]:
    """The parts of the report: the table, and what it says about auto."""
    found = iter(runs.measure([case for row in rows for case in row.cases], seeds, once=True))
    outcomes = [[next(found) for _ in WAYS] for _ in rows]
    yield table(rows, outcomes)
    yield verdict(rows, outcomes)


def table(rows: Sequence[Row], outcomes: Sequence[Sequence[Outcome]]) -> str:
    """A line for each row: every measure for each of WAYS, in this order.

    Args:
        outcomes: of each row, one for each of WAYS.
    """
    head = (
        "heads", "denoise", "VAE", "number", "as it came, dB", "PSNR, dB",
        "auto over the better one, dB", "seam energy", "rim colour, ΔE", "s a scene",
    )  # fmt: skip
    return markdown(head, [_cells(*own) for own in zip(rows, outcomes, strict=True)])


def _cells(row: Row, outcomes: Sequence[Outcome]) -> list[str]:
    def each(measure: str, form: str, factor: float = 1.0) -> str:
        return " / ".join(format(factor * own.mean(measure), form) for own in outcomes)

    return [
        row.heads, f"{row.denoise:g}", row.vae, str(len(outcomes[0].heads)),
        "the truth" if _is_truth(row) else f"{outcomes[0].mean('psnr', BEFORE):.2f}",
        each("psnr", ".2f"), f"{over_the_better(outcomes):+.2f}", each("seam", ".1f", 1000),
        each("rim", ".2f"), " / ".join(f"{own.seconds_a_scene:.1f}" for own in outcomes),
    ]  # fmt: skip


def _is_truth(row: Row) -> bool:
    """Whether what came in is already the truth, so that no change can bring it nearer."""
    kind = HEADS[row.heads]
    return kind.sharp and not kind.other


def over_the_better(outcomes: Sequence[Outcome]) -> float:
    """The PSNR of auto over that of the better single way, in dB."""
    *single, auto = (own.mean("psnr") for own in outcomes)
    return auto - max(single)


def verdict(rows: Sequence[Row], outcomes: Sequence[Sequence[Outcome]]) -> str:
    """A sentence about the line in which auto does worst."""
    worst, row = min(
        ((over_the_better(own), row) for row, own in zip(rows, outcomes, strict=True)),
        key=lambda one: one[0],
    )
    held = "within" if worst >= -SLACK else "not within"
    return (
        f"At its worst auto is {worst:+.3f} dB from the better single way ({row.heads}, denoise "
        f"{row.denoise:g}, {row.vae} VAE), {held} the {SLACK:g} dB that it is meant to keep."
    )


INTRODUCTION = """\
`python run.py bench quality --table loss --write`

Paste Options' `vae_loss` in each of its ways, three numbers in a cell: *off* / *residual* / \
*auto*. *Poor* heads came from a base model and stand in a sharp image; *sharp* ones came in as \
rendered, and were the truth already, so that all that is lost there was changed by the model or \
the VAE; of the last kind three attributes had another value, and the text asks for the right \
one. All VAEs and ways get the same latents from the sampler, whose seconds are not counted. A \
blurring one decodes as through a gaussian of 0.9 pixels, a tinting one as above."""
