"""Which score is worth choosing variants by: best of several against their mean, the best and one.

    python run.py bench variants --help

Scenes of the miniature world go through Detailer (SEGS) with several variants of each head. Each
score of Choose Variants takes one of them; how near that comes to the truth is compared with the
mean over all of them, with the first, and with the one that is nearest in truth.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from dev import metrics
from dev.options import bench_variants

from .in_host import part
from .quality import Report
from .quality_runs import BASE, Bench
from .quality_tables import markdown
from .scenes import TestScene, make_scene, right_attributes

HEADING = "## Variants"
DENOISES = (0.2, 0.5)

Scores = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Head:
    """The variants of a head.

    Attributes:
        psnr: of each variant, in dB inside of the mask.
        right: of each, the share of the head's attributes that are right.
        scores: of each, by the name of the score; None where one has none.
    """

    psnr: tuple[float, ...]
    right: tuple[float, ...]
    scores: dict[str, tuple[float | None, ...]]

    def chosen(self, name: str) -> int:
        """The variant that a score takes: the first of the best, or the first without any."""
        scores = [-np.inf if score is None else score for score in self.scores[name]]
        return int(np.argmax(scores))


class VariantBench(Bench):
    """The host, the pack, the miniature, and what scores."""

    def __init__(self, tree: Path):
        super().__init__(tree)
        self.variants, self.pictures = part("segs.variants"), part("segs.pictures")
        self.blending = part("pixels.blend").Blending(BASE["feather"])
        self.faces = self._face_detector()

    def _face_detector(self) -> Any | None:
        """MTCNN, where its weights are installed: LBP is not sure to any degree."""
        finder = part("host.detectors")
        return finder.load_face_detector(finder.MTCNN) if finder.weights_folder() else None

    @torch.inference_mode()
    def heads(self, test: TestScene, denoise: float, count: int) -> list[Head]:
        """What the variants of each head are worth, and how they score."""
        links = self.links(test.before, self.segs(test))
        settings = BASE | {"denoise": denoise, "variants": count}
        _, _, (header, items) = self.nodes["DetailerForEach"]().run(
            **links, wildcard=test.text, **settings
        )
        groups = self.variants.candidates_of(items)
        pasted = [
            self.pictures.paste_segs(
                links["image"], (header, [group.segs[number] for group in groups]), self.blending
            )[0].numpy()
            for number in range(count)
        ]
        scores = {name: score(test, groups) for name, score in self._scores().items()}
        return [
            self._head(test, index, pasted, {name: own[index] for name, own in scores.items()})
            for index in range(len(groups))
        ]

    def _head(
        self, test: TestScene, index: int, pasted: Sequence[np.ndarray], scores: dict[str, Any]
    ) -> Head:
        psnr = [test.measured(metrics.psnr, index, picture) for picture in pasted]
        right = [mean(own.values()) for own in right_attributes(test, index, pasted)]
        return Head(tuple(psnr), tuple(right), {name: tuple(own) for name, own in scores.items()})

    def _scores(self) -> dict[str, Callable[[TestScene, Any], Scores]]:
        found = {"sharpness": self._sharpness, "reference similarity": self._reference}
        if self.faces is not None:
            found["detector confidence"] = self._confidence
        return found

    def _sharpness(self, test: TestScene, groups: Any) -> Scores:
        sharpness = part("segs.sharpness").sharpness
        return [[sharpness(seg) for seg in group.segs] for group in groups]

    def _confidence(self, test: TestScene, groups: Any) -> Scores:
        confidence_in = part("detectors.confidence").confidence_in
        return [[confidence_in(seg, self.faces) for seg in group.segs] for group in groups]

    def _reference(self, test: TestScene, groups: Any) -> Scores:
        """By a sharp picture of each, with another expression and another shirt."""
        random = np.random.default_rng([test.seed, 9])
        likeness = part("segs.likeness")
        scores = []
        for group, character in zip(groups, test.scene.characters, strict=True):
            persons = self.persons([character.look], [""], random)
            scores += likeness.likeness_to_persons([group], self.embedder, persons)
        return scores


def table(heads: Sequence[Head]) -> str:
    """A row for each way to choose."""

    def row(name: str, take: Callable[[Head], int]) -> tuple[str, ...]:
        taken = [take(head) for head in heads]
        psnr = [head.psnr[own] for head, own in zip(heads, taken, strict=True)]
        gains = [own - mean(head.psnr) for own, head in zip(psnr, heads, strict=True)]
        best = mean(own == int(np.argmax(h.psnr)) for own, h in zip(taken, heads, strict=True))
        right = mean(head.right[own] for head, own in zip(heads, taken, strict=True))
        error = stdev(gains) / len(gains) ** 0.5
        gain = f"{mean(gains):+.2f} ± {error:.2f}"
        return name, f"{mean(psnr):.2f}", gain, f"{best:.0%}", f"{right:.1%}"

    every = mean(mean(head.psnr) for head in heads)
    right = mean(mean(head.right) for head in heads)
    count = len(heads[0].psnr)
    head = ("chosen by", "PSNR, dB", "above the mean, dB", "is the best", "attributes right")
    return markdown(head, [
        (f"mean of all {count}", f"{every:.2f}", "", f"{1 / count:.0%}", f"{right:.1%}"),
        row("first", lambda head: 0),
        *(row(name, lambda head, name=name: head.chosen(name)) for name in heads[0].scores),
        row("truth", lambda head: int(np.argmax(head.psnr))),
    ])  # fmt: skip


def introduction(scenes: int, count: int) -> str:
    return (
        "`python run.py bench variants --write`\n\n"
        f"{scenes} scenes of the miniature world, as under *Picture quality*, with {count} variants"
        " of each head. A score takes one of them; *above the mean* is what that gains over the "
        "mean of all, with its standard error, and *is the best* how often it takes the one that is"
        " nearest to the truth. *Reference similarity* is by the miniature's network of persons and"
        " one sharp picture of each, with another expression and another shirt; *detector "
        "confidence* is that of MTCNN, which was trained on photographs. The miniature has no "
        "network of pictures and texts, so *text similarity* is not measured."
    )


def main() -> int:
    options = bench_variants().parse_args()
    bench = VariantBench(Path(options.comfyui))
    report = Report(HEADING, introduction(options.scenes, options.variants))
    seeds = range(options.first, options.first + options.scenes)
    for denoise in DENOISES:
        heads = [
            head
            for seed in seeds
            for head in bench.heads(make_scene(seed), denoise, options.variants)
        ]
        spread = mean(stdev(head.psnr) for head in heads)
        report.add(
            f"Denoise {denoise:g}, {len(heads)} heads; the variants of a head lie {spread:.2f} dB "
            "apart (standard deviation):"
        )
        report.add(table(heads))
    if options.write:
        report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
