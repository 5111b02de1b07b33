"""Tables of the measures of the quality bench."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from dev.miniature.look import ON_HEAD


@dataclass(frozen=True)
class Measures:
    """The measures of a head in one picture.

    Attributes:
        psnr, ssim, seam, rim: as in `dev.metrics`.
        likeness: to a picture of this person, by the network of Label SEGS by Person, -1..1.
        right: for each attribute, whether it is right.
    """

    psnr: float
    ssim: float
    seam: float
    rim: float
    likeness: float
    right: dict[str, bool]

    @property
    def attributes(self) -> float:
        """The share of attributes that are right."""
        return mean(self.right.values())

    @property
    def whole(self) -> bool:
        """Whether all attributes are right."""
        return all(self.right.values())


BEFORE, LANCZOS, AFTER, TRUTH = range(4)


@dataclass(frozen=True)
class Head:
    """One head, measured BEFORE, enlarged with LANCZOS, AFTER detailing, and in the TRUTH."""

    seed: int
    index: int
    seen: tuple[Measures, Measures, Measures, Measures]

    @property
    def gain(self) -> float:
        """How much nearer to the truth detailing brings it, in dB."""
        return self.over(BEFORE)

    def over(self, place: int) -> float:
        """The PSNR after detailing over that of another picture, in dB."""
        return self.seen[AFTER].psnr - self.seen[place].psnr


@dataclass
class Outcome:
    """The outcome of a case on all scenes."""

    name: str
    heads: list[Head] = field(default_factory=list)
    outside: float = 0.0  # largest change of a value outside the masks and their feather
    seconds: float = 0.0  # of the processor, in the detailer
    drawn: list[float] = field(default_factory=list)  # PSNR of each crop to what was drawn, in dB

    def mean(self, measure: str, place: int = AFTER) -> float:
        """The mean of one of the Measures over the heads."""
        return mean(getattr(head.seen[place], measure) for head in self.heads)

    @property
    def seconds_a_scene(self) -> float:
        return self.seconds / len({head.seed for head in self.heads})


def table(outcomes: Sequence[Outcome], first: str) -> str:
    """A line for each outcome, with means over its heads; the first two are before detailing."""
    head = (
        first, "heads", "PSNR, dB", "gain, dB", "SSIM", "attributes right", "all of a head",
        "likeness", "seam energy", "rim colour, ΔE", "largest change outside", "s a scene",
    )  # fmt: skip
    rows = [
        _cells(outcomes[0], name, place, ("", ""))
        for name, place in (("as it came", BEFORE), ("Lanczos", LANCZOS))
    ]
    for outcome in outcomes:
        last = (f"{outcome.outside:g}", f"{outcome.seconds_a_scene:.2f}")
        rows.append(_cells(outcome, outcome.name, AFTER, last))
    return markdown(head, rows)


def _cells(outcome: Outcome, name: str, place: int, last: tuple[str, str]) -> list[str]:
    level, *others = (
        outcome.mean(measure, place)
        for measure in ("psnr", "ssim", "attributes", "whole", "likeness", "seam", "rim")
    )
    ssim, attributes, whole, likeness, seam, rim = others
    gain = level - outcome.mean("psnr", BEFORE)
    return [
        name, str(len(outcome.heads)), f"{level:.2f}", f"{gain:+.2f}", f"{ssim:.3f}",
        f"{attributes:.1%}", f"{whole:.1%}", f"{likeness:.3f}", f"{1000 * seam:.1f}",
        f"{rim:.2f}", *last,
    ]  # fmt: skip


def attribute_table(outcome: Outcome) -> str:
    """How often each attribute, and all of a head, are right before, after and in the truth."""
    places = (BEFORE, AFTER, TRUTH)
    shares = {
        name: [mean(head.seen[place].right[name] for head in outcome.heads) for place in places]
        for name in ON_HEAD
    }
    shares["any of them"] = [outcome.mean("attributes", place) for place in places]
    shares["all of a head"] = [outcome.mean("whole", place) for place in places]
    rows = [
        (name.replace("_", " "), *(f"{share:.1%}" for share in own)) for name, own in shares.items()
    ]
    return markdown(("attribute right", "before", "after", "in the truth"), rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first hold numbers."""
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def summary(outcome: Outcome) -> str:
    gains = sorted(head.gain for head in outcome.heads)
    over_lanczos = mean(head.over(LANCZOS) for head in outcome.heads)
    better = mean(gain > 0 for gain in gains)
    return (
        f"Inside the masks PSNR rises by {mean(gains):.2f} dB (median {median(gains):.2f}, worst "
        f"{gains[0]:.2f}, best {gains[-1]:.2f}), and by {over_lanczos:.2f} dB over Lanczos; "
        f"{better:.0%} of the heads come nearer to the truth."
    )
