"""Tables of the measures of the quality bench."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from dev.miniature.look import ON_HEAD


@dataclass
class Head:
    """The measures of one head: before, enlarged with Lanczos, and after detailing."""

    seed: int
    index: int
    psnr: tuple[float, float, float]
    ssim: tuple[float, float, float]
    seam: tuple[float, float, float]
    rim: tuple[float, float, float]
    right: list[dict[str, bool]] | None  # before, after, and in the truth

    @property
    def gain(self) -> float:
        return self.psnr[2] - self.psnr[0]


@dataclass
class Outcome:
    """The outcome of a case on all scenes."""

    name: str
    heads: list[Head] = field(default_factory=list)
    outside: float = 0.0  # largest change of a value outside the masks and their feather
    seconds: float = 0.0  # of the processor, in the detailer


def table(outcomes: Sequence[Outcome], first: str) -> str:
    """A line for each outcome, with means over its heads; the first two are before detailing."""
    head = (
        first, "heads", "PSNR, dB", "gain, dB", "SSIM", "seam energy", "rim colour, ΔE",
        "largest change outside", "s a scene",
    )  # fmt: skip
    rows = [
        _cells(outcomes[0], name, place, ("", ""))
        for place, name in enumerate(("as it came", "Lanczos"))
    ]
    for outcome in outcomes:
        scenes = len({head.seed for head in outcome.heads})
        last = (f"{outcome.outside:g}", f"{outcome.seconds / scenes:.2f}")
        rows.append(_cells(outcome, outcome.name, 2, last))
    return markdown(head, rows)


def _cells(outcome: Outcome, name: str, place: int, last: tuple[str, str]) -> list[str]:
    def average(values: str) -> float:
        return mean(getattr(head, values)[place] for head in outcome.heads)

    gain = mean(head.psnr[place] - head.psnr[0] for head in outcome.heads)
    return [
        name, str(len(outcome.heads)), f"{average('psnr'):.2f}", f"{gain:+.2f}",
        f"{average('ssim'):.3f}", f"{1000 * average('seam'):.1f}", f"{average('rim'):.2f}", *last,
    ]  # fmt: skip


def attribute_table(outcome: Outcome) -> str:
    """How often each attribute, and all of a head, are right before, after and in the truth."""
    columns = ("before", "after", "in the truth")
    rows = []

    def share(name: str, hits: Iterable[Iterable[bool]]) -> tuple[str, ...]:
        return (name, *(f"{mean(map(float, side)):.1%}" for side in hits))

    sides = [[head.right[side] for head in outcome.heads] for side in range(len(columns))]
    for attribute in ON_HEAD:
        name = attribute.replace("_", " ")
        rows.append(share(name, [[right[attribute] for right in side] for side in sides]))
    every = [[hit for right in side for hit in right.values()] for side in sides]
    rows.append(share("any of them", every))
    whole = [[all(right.values()) for right in side] for side in sides]
    rows.append(share("all of a head", whole))
    return markdown(("attribute right", *columns), rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first hold numbers."""
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def summary(outcome: Outcome) -> str:
    gains = sorted(head.gain for head in outcome.heads)
    over_lanczos = mean(head.psnr[2] - head.psnr[1] for head in outcome.heads)
    better = mean(gain > 0 for gain in gains)
    return (
        f"Inside the masks PSNR rises by {mean(gains):.2f} dB (median {median(gains):.2f}, worst "
        f"{gains[0]:.2f}, best {gains[-1]:.2f}), and by {over_lanczos:.2f} dB over Lanczos; "
        f"{better:.0%} of the heads come nearer to the truth."
    )
