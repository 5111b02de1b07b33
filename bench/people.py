"""Names by person: how often they are right, and what texts by person are worth.

    python run.py bench people --help

Scenes of the miniature world, at the quality of a base model's picture, hold some of a cast and
strangers, in any order. Label SEGS by Person names their heads; then Detailer (SEGS) redraws some
of the scenes with the same texts, given by name and given by order.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from dev import metrics
from dev.miniature.cast import (
    NAMES,
    Gathering,
    draw_cast,
    draw_gathering,
)
from dev.miniature.look import ON_HEAD, Look, caption
from dev.miniature.people import EMBEDDER
from dev.options import bench_people

from .in_host import part
from .quality import Report
from .quality_runs import BASE, MARGIN, Bench
from .quality_tables import markdown
from .scenes import TestScene, prepared, right_attributes

HEADING = "## Who is who"
PERSONS = 6
SCENES_OF_A_CAST = 5
THRESHOLDS = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8)
THRESHOLD = 0.5  # in the tables that vary something else
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Heads:
    """The heads of a scene.

    Attributes:
        names: who each is, UNKNOWN for a stranger.
        likeness: [heads,PERSONS], to each of the cast.
    """

    names: list[str]
    likeness: torch.Tensor


class PeopleBench(Bench):
    """The host, the pack, the miniature, and its network of persons."""

    def __init__(self, tree: Path):
        super().__init__(tree)
        self.who = part("segs.who")

    @torch.inference_mode()
    def named(self, picture: np.ndarray, segs: tuple, cast: Sequence[Look]) -> tuple:
        """What Label SEGS by Person does: the SEGS, and the likeness of each to the cast."""
        random = np.random.default_rng([len(cast), 8])
        persons = self.persons(cast, NAMES[: len(cast)], random)
        found, results, _ = self.people.label_by_person(
            segs, torch.from_numpy(picture)[None], persons, self.embedder,
            self.people.Naming(THRESHOLD, UNKNOWN, MARGIN),
        )  # fmt: skip
        return found, torch.tensor([one.scores for one in results])

    @torch.inference_mode()
    def redrawn(self, test: TestScene, segs: tuple, text: str) -> np.ndarray:
        """The picture that Detailer (SEGS) makes with a text for the segments: [H,W,3]."""
        return self.detailed(test, segs, BASE, text)


def gathering(seed: int) -> tuple[Gathering, list[Look]]:
    cast = draw_cast(seed // SCENES_OF_A_CAST, PERSONS)
    return draw_gathering(seed, cast), cast


def names_of(who: Gathering) -> list[str]:
    return [UNKNOWN if number is None else NAMES[number] for number in who.who]


# How often the names are right


def measure_names(bench: PeopleBench, seeds: Sequence[int]) -> dict[str, list[Heads]]:
    """The heads of each scene, as a base model gave it and as it is in truth."""
    found: dict[str, list[Heads]] = {"poor": [], "truth": []}
    for seed in seeds:
        who, cast = gathering(seed)
        test = prepared(who.scene, seed)
        segs = bench.segs(test)
        for kind, picture in (("poor", test.before), ("truth", test.truth)):
            _, likeness = bench.named(picture, segs, cast)
            found[kind].append(Heads(names_of(who), likeness))
    return found


@dataclass
class Counts:
    """Heads that were named, and how many of them rightly."""

    known: int = 0
    known_right: int = 0
    known_lost: int = 0  # called unknown
    strangers: int = 0
    strangers_right: int = 0

    def add(self, heads: Heads, people: Sequence[int | None]) -> None:
        for name, person in zip(heads.names, people, strict=True):
            given = UNKNOWN if person is None else NAMES[person]
            if name == UNKNOWN:
                self.strangers += 1
                self.strangers_right += given == name
            else:
                self.known += 1
                self.known_right += given == name
                self.known_lost += given == UNKNOWN

    def cells(self) -> list[str]:
        total = self.known + self.strangers
        return [
            str(total), f"{(self.known_right + self.strangers_right) / total:.1%}",
            f"{self.known_right / self.known:.1%}", f"{self.known_lost / self.known:.1%}",
            f"{self.strangers_right / self.strangers:.1%}",
        ]  # fmt: skip


def counted(bench: PeopleBench, scenes: Sequence[Heads], threshold: float) -> Counts:
    counts = Counts()
    for heads in scenes:
        counts.add(heads, bench.who.assign(heads.likeness, threshold))
    return counts


def each_alone(scenes: Sequence[Heads], threshold: float) -> Counts:
    """As if every head simply got the name that it is most alike to."""
    counts = Counts()
    for heads in scenes:
        best, person = heads.likeness.max(dim=1)
        found = [int(p) if b >= threshold else None for b, p in zip(best, person, strict=True)]
        counts.add(heads, found)
    return counts


HEAD = ("heads", "right", "known: right", "known: unknown", "strangers: right")


def names_table(bench: PeopleBench, found: dict[str, list[Heads]]) -> str:
    """How the names come out, by threshold, in truth, and without one name for one head."""
    poor = found["poor"]
    rows = [(f"{value:g}", counted(bench, poor, value)) for value in THRESHOLDS]
    rows.append((f"{THRESHOLD:g}, each head alone", each_alone(poor, THRESHOLD)))
    rows.append((f"{THRESHOLD:g}, in truth", counted(bench, found["truth"], THRESHOLD)))
    return markdown(("threshold", *HEAD), [(name, *counts.cells()) for name, counts in rows])


# What texts by person are worth


def measure_texts(bench: PeopleBench, seeds: Sequence[int]) -> str:
    """The attributes of the known heads, redrawn by texts by order, by person and by truth."""
    hits: dict[str, list[dict[str, bool]]] = {}
    gains: dict[str, list[float]] = {}
    for seed in seeds:
        who, cast = gathering(seed)
        test = prepared(who.scene, seed)
        segs = bench.segs(test)
        labelled, _ = bench.named(test.before, segs, cast)
        right = _with_labels(segs, names_of(who))
        by_name = " ".join(f"[{NAMES[i]}] {caption(look)}" for i, look in enumerate(cast))
        by_order = "\n[SEP]\n".join(caption(look) for look in cast)
        known = [index for index, number in enumerate(who.who) if number is not None]
        pictures = {
            "as it came": test.before,
            "by order": bench.redrawn(test, segs, by_order),
            "by person": bench.redrawn(test, labelled, f"[LAB] {by_name}"),
            "by the true name": bench.redrawn(test, right, f"[LAB] {by_name}"),
        }
        for index in known:
            values = right_attributes(test, index, list(pictures.values()))
            psnr = [test.measured(metrics.psnr, index, one) for one in pictures.values()]
            for name, own, level in zip(pictures, values, psnr, strict=True):
                hits.setdefault(name, []).append(own)
                gains.setdefault(name, []).append(level - psnr[0])
    attributes = (name.replace("_", " ") for name in ON_HEAD)
    head = ("texts", "heads", *attributes, "any", "all", "gain, dB")
    return markdown(head, [(name, *_cells(hits[name], gains[name])) for name in hits])


def _with_labels(segs: tuple, names: Sequence[str]) -> tuple:
    items = [seg._replace(label=name) for seg, name in zip(segs[1], names, strict=True)]
    return segs[0], items


def _cells(heads: Sequence[dict[str, bool]], gains: Sequence[float]) -> list[str]:
    each = [mean(own[name] for own in heads) for name in ON_HEAD]
    return [
        str(len(heads)), *(f"{share:.1%}" for share in each), f"{mean(each):.1%}",
        f"{mean(all(own.values()) for own in heads):.1%}", f"{mean(gains):+.2f}",
    ]  # fmt: skip


# The command


def introduction(scenes: int, first: int) -> str:
    return (
        "`python run.py bench people --write`\n\n"
        f"{scenes} scenes of the miniature world (seeds from {first} on), of three to five "
        f"characters each: some of a cast of {PERSONS}, by chance, the others strangers; the cast "
        f"changes every {SCENES_OF_A_CAST} scenes. A person is skin, hair and its colour, eyes and "
        "glasses; a stranger differs from each of the cast in one of these at least. The picture "
        "is what a base model would have given, at a sixth of the size, blurred and with grain, "
        "and enlarged again, so that heads are 10 to 23 pixels wide. The references are sharp, one "
        "of each person, with another expression and another shirt. The network is the miniature's "
        f"own (`dev/miniature/people.onnx`, {EMBEDDER.stat().st_size // 1000} kB), trained on "
        "other scenes. *Known: unknown* is the share of known heads that got no name; the rest of "
        "what is not right got a wrong one."
    )


def main() -> int:
    options = bench_people().parse_args()
    seeds = range(options.first, options.first + options.scenes)
    logging.disable(logging.WARNING)  # of persons of the cast who are not in a scene
    bench = PeopleBench(Path(options.comfyui))
    report = Report(HEADING, introduction(options.scenes, options.first))
    report.add(names_table(bench, measure_names(bench, seeds)))
    if options.detailed:
        report.add(
            f"The first {options.detailed} scenes redrawn, each person's caption as its text, at a "
            f"denoise of {BASE['denoise']}: by order, the texts of the cast are dealt to the "
            "segments in turn (`[SEP]`); by person, they go to the labels (`[LAB]`), at a "
            f"threshold of {THRESHOLD:g}, and strangers are drawn without a text. Counted are the "
            "heads of known persons whose attributes are right: what is drawn is nearest to the "
            "rendering that has them, there or a little elsewhere."
        )
        report.add(measure_texts(bench, seeds[: options.detailed]))
    if options.write:
        report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
