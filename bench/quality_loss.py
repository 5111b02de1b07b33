"""What the ways of Paste Options to treat a VAE's loss are worth, by heads, denoise and VAE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import mean, stdev

from .quality_runs import BLURRING, TINTING, USUAL_VAE, Case, Runs, pasting
from .quality_tables import AFTER, BEFORE, Outcome, markdown
from .scenes import Kind

HEADING = "## What a VAE loses"
WAYS = ("off", "residual", "auto")
VAES = (USUAL_VAE, TINTING, BLURRING)
DENOISES = (0.2, 0.5, 0.7, 1.0)
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
            Case(
                way, settings | pasting(vae_loss=way), HEADS[self.heads], vae=self.vae,
                recognised=False, drawn=self.vae != USUAL_VAE,
            )
            for way in WAYS
        ]  # fmt: skip


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
        "auto over the better one, dB", "seam energy", "rim colour, ΔE",
        "to what was drawn, dB", "auto over the better one, dB", "s a scene",
    )  # fmt: skip
    return markdown(head, [_cells(*own) for own in zip(rows, outcomes, strict=True)])


def _cells(row: Row, outcomes: Sequence[Outcome]) -> list[str]:
    def each(measure: str, form: str, factor: float = 1.0) -> str:
        return _three([factor * own.mean(measure) for own in outcomes], form)

    drawn = _to_drawn(outcomes)
    return [
        row.heads, f"{row.denoise:g}", row.vae, str(len(outcomes[0].heads)),
        "the truth" if _is_truth(row) else f"{outcomes[0].mean('psnr', BEFORE):.2f}",
        each("psnr", ".2f"), str(over_the_better(_to_truth(outcomes))),
        each("seam", ".1f", 1000), each("rim", ".2f"),
        _three([mean(own) for own in drawn], ".2f") if all(drawn) else "",
        str(over_the_better(drawn)) if all(drawn) else "",
        _three([own.seconds_a_scene for own in outcomes], ".1f"),
    ]  # fmt: skip


def _three(values: Sequence[float], form: str) -> str:
    return " / ".join(format(value, form) for value in values)


def _is_truth(row: Row) -> bool:
    """Whether what came in is already the truth, so that no change can bring it nearer."""
    kind = HEADS[row.heads]
    return kind.sharp and not kind.other


@dataclass(frozen=True)
class Over:
    """How far auto is over the better single way, in dB, and the standard error of that."""

    level: float
    error: float

    def __str__(self) -> str:
        return f"{self.level:+.2f} ± {self.error:.2f}"


def over_the_better(levels: Sequence[Sequence[float]]) -> Over:
    """Auto against the way of the others whose mean is better, head by head.

    Args:
        levels: for each of WAYS the PSNR of every head, in dB.
    """
    *single, auto = levels
    better = max(single, key=mean)
    apart = [own - other for own, other in zip(auto, better, strict=True)]
    error = stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else 0.0
    return Over(mean(apart), error)


def _to_truth(outcomes: Sequence[Outcome]) -> list[list[float]]:
    return [[head.seen[AFTER].psnr for head in own.heads] for own in outcomes]


def _to_drawn(outcomes: Sequence[Outcome]) -> list[list[float]]:
    return [own.drawn for own in outcomes]


def verdict(rows: Sequence[Row], outcomes: Sequence[Sequence[Outcome]]) -> str:
    """Sentences about the lines in which auto does worst, by both measures."""
    every = list(zip(rows, outcomes, strict=True))
    said = []
    for measure, levels_of in (("the truth", _to_truth), ("what was drawn", _to_drawn)):
        for where, chosen in (
            ("Up to a denoise of 0.7", [own for own in every if own[0].denoise < 1]),
            ("At a denoise of 1", [own for own in every if own[0].denoise == 1]),
        ):
            levels = [(row, levels_of(own)) for row, own in chosen]
            said += _worst(f"{where}, to {measure},", [own for own in levels if all(own[1])])
    return " ".join(said)


def _worst(where: str, levels: Sequence[tuple[Row, Sequence[Sequence[float]]]]) -> list[str]:
    """A sentence about the line in which auto does worst; none where there are no lines."""
    if not levels:
        return []
    over, row = min(
        ((over_the_better(own), row) for row, own in levels), key=lambda one: one[0].level
    )
    held = "within" if over.level >= -SLACK else "not within"
    return [
        f"{where} auto is at its worst {over} dB from the better single way ({row.heads}, denoise "
        f"{row.denoise:g}, {row.vae} VAE), {held} the {SLACK:g} dB that it is meant to keep."
    ]


INTRODUCTION = """\
`python run.py bench quality --table loss --write`

Paste Options' `vae_loss` in each of its ways, three numbers in a cell: *off* / *residual* / \
*auto*. *Poor* heads came from a base model and stand in a sharp image; *sharp* ones came in as \
rendered, and were the truth already, so that all that is lost there was changed by the model or \
the VAE; of the last kind three attributes had another value, and the text asks for the right \
one. All VAEs and ways get the same latents from the sampler, whose seconds are not counted. A \
blurring one decodes as through a gaussian of 0.9 pixels, a tinting one as above. *Auto over the \
better one* is told head by head, with its standard error.

The PSNR to the truth says how near the picture comes to the right person, to which the VAE is \
only a part. The PSNR *to what was drawn* says what became of the VAE's loss \
alone, whomever the model draws: the picture that the usual VAE decodes is taken as drawn, the \
crop as it comes back from that VAE as the original, and the tinting or blurring VAE works on \
both. It is measured in crops, before they are pasted.

The two contradict each other where a sharp head was redrawn with lines elsewhere: the detail that \
the original lost brings the picture nearer to the truth, which is the original, and away from \
what was drawn. *Auto* takes it as long as the surroundings show the same thing. Where another \
head was drawn, as at a denoise of 1, less contrast and less sharpness are nearer to any truth. \
*Auto* gives the new head both back, which is nearer to what was drawn and farther from the truth. \
The standard errors show whether that is more than chance."""
