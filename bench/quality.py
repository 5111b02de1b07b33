"""How good the pictures are: heads of the miniature world, detailed, beside the truth.

    python run.py bench quality                     100 scenes, and 20 for each row of the sweeps
    python run.py bench quality --scenes 10 --variant 'wide={"feather": 20}'
    python run.py bench quality --variant 'x={"paste_options": {"node": ID, "inputs": {...}}}'

Each scene is rendered at 1024 x 1024, which is the truth, and at a fraction of that, blurred and
with grain, which stands for what a base model gave. Enlarged again it goes through Detailer (SEGS)
with a segment for each head and the captions as the segments' texts. A variant is a JSON object of
inputs of that node that differ from BASE; an input that another node gives is written as above.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import maximum_filter

from dev import metrics
from dev.contact_sheet import Cell, contact_sheet
from dev.miniature.look import ON_HEAD
from dev.miniature.world import Degradation

from .gpu import load
from .scenes import TestScene, make_scene, right_attributes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "RESULTS.md"
SHEET = ROOT / "bench" / "quality.jpg"
HEADING = "## Picture quality"
CROP_FACTOR = 2.0
BASE = {
    "guide_size": 256, "guide_size_for": False, "max_size": 512, "seed": 0, "steps": 8,
    "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.3, "feather": 5,
    "noise_mask": True, "force_inpaint": True, "cycle": 1, "detail_batch": 0,
}  # fmt: skip
SWEEPS = {
    "denoise": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "guide_size": (192, 256, 320),
    "feather": (0, 5, 10, 20),
    "detail_batch": (0, 1),
}


@dataclass
class Head:
    """What was measured of one head; values before, enlarged with Lanczos, and after detailing."""

    seed: int
    index: int
    psnr: tuple[float, float, float]
    ssim: tuple[float, float, float]
    seam: tuple[float, float, float]
    rim: tuple[float, float, float]
    right: list[dict[str, bool]] | None  # before and after

    @property
    def gain(self) -> float:
        return self.psnr[2] - self.psnr[0]


@dataclass
class Outcome:
    """A variant over its scenes."""

    name: str
    heads: list[Head] = field(default_factory=list)
    outside: float = 0.0  # largest change of a value outside the masks and their feather
    seconds: float = 0.0  # in the detailer


class Bench:
    """The host, the pack and the miniature, loaded once."""

    def __init__(self, tree: Path, how: Degradation):
        self.nodes = load(tree, cpu=not torch.cuda.is_available()).NODE_CLASS_MAPPINGS
        self.how = how
        from dev.miniature.nodes import DetailersMiniatureLoader

        self.model, self.clip, self.vae = DetailersMiniatureLoader().run()
        self.empty = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(""))

    def measure(
        self, name: str, widgets: dict[str, Any], seeds: Iterable[int], attributes: bool = False
    ) -> Outcome:
        outcome = Outcome(name)
        for seed in seeds:
            test = make_scene(seed, self.how)
            started = time.perf_counter()
            after = self.detail(test, widgets)
            outcome.seconds += time.perf_counter() - started
            reach = 2 * widgets["feather"] + 1
            touched = maximum_filter(np.maximum.reduce(test.masks), reach) > 0
            change = metrics.change_outside(test.before, after, touched)
            outcome.outside = max(outcome.outside, change)
            outcome.heads += [
                _measure_head(test, index, after, attributes) for index in range(len(test.masks))
            ]
        return outcome

    @torch.inference_mode()
    def detail(self, test: TestScene, widgets: dict[str, Any]) -> np.ndarray:
        """The picture that Detailer (SEGS) makes: [H,W,3]."""
        image = torch.from_numpy(test.before)[None]
        inputs = {name: self._value(value) for name, value in widgets.items()}
        (result,) = self._run(
            "DetailerForEach", image=image, segs=self.segs(test), model=self.model, clip=self.clip,
            vae=self.vae, positive=self.empty, negative=self.empty, wildcard=test.text, **inputs,
        )  # fmt: skip
        return result[0].numpy()

    def segs(self, test: TestScene) -> tuple:
        """A segment for each head, in the order of the captions."""
        found = [
            self._run(
                "MaskToSEGS", mask=torch.from_numpy(mask)[None], combined=False,
                crop_factor=CROP_FACTOR, bbox_fill=False, drop_size=1, contour_fill=True,
            )[0]
            for mask in test.masks
        ]  # fmt: skip
        return found[0][0], [seg for _, segs in found for seg in segs]

    def _run(self, node: str, **inputs: Any) -> tuple:
        kind = self.nodes[node]
        return getattr(kind(), kind.FUNCTION)(**inputs)

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict) and "node" in value:
            return self._run(value["node"], **value.get("inputs", {}))[0]
        return value


def _measure_head(test: TestScene, index: int, after: np.ndarray, attributes: bool) -> Head:
    rows, columns = test.box(index)
    truth, mask = test.truth[rows, columns], test.masks[index][rows, columns]
    pictures = [image[rows, columns] for image in (test.before, test.lanczos, after)]

    def each(measure) -> tuple[float, float, float]:
        return tuple(measure(picture, truth, mask) for picture in pictures)

    right = right_attributes(test, index, (test.before, after)) if attributes else None
    return Head(
        test.seed,
        index,
        each(metrics.psnr),
        each(metrics.ssim),
        each(metrics.seam_energy),
        each(metrics.rim_colour),
        right,
    )


# Tables


def table(outcomes: Sequence[Outcome], first: str) -> str:
    """A line for each outcome, means over its heads; the pictures before in the first two."""
    head = (
        first, "heads", "PSNR, dB", "gain, dB", "SSIM", "seam energy", "rim colour, ΔE",
        "largest change outside", "s a scene",
    )  # fmt: skip
    lines = [_line(head), f"| --- |{' ---: |' * (len(head) - 1)}"]
    for place, name in enumerate(("as it came", "Lanczos")):
        lines.append(_line(_cells(outcomes[0], name, place, ("", ""))))
    for outcome in outcomes:
        scenes = len({head.seed for head in outcome.heads})
        last = (f"{outcome.outside:g}", f"{outcome.seconds / scenes:.2f}")
        lines.append(_line(_cells(outcome, outcome.name, 2, last)))
    return "\n".join(lines)


def _cells(outcome: Outcome, name: str, place: int, last: tuple[str, str]) -> list[str]:
    def average(values: str) -> float:
        return mean(getattr(head, values)[place] for head in outcome.heads)

    gain = mean(head.psnr[place] - head.psnr[0] for head in outcome.heads)
    return [
        name, str(len(outcome.heads)), f"{average('psnr'):.2f}", f"{gain:+.2f}",
        f"{average('ssim'):.3f}", f"{1000 * average('seam'):.1f}", f"{average('rim'):.2f}", *last,
    ]  # fmt: skip


def attribute_table(outcome: Outcome) -> str:
    """How often each attribute is right before and after, and all of a head together."""
    lines = [_line(("attribute", "right before", "right after")), "| --- | ---: | ---: |"]

    def share(name: str, hits: Sequence[Sequence[bool]]) -> str:
        return _line((name, *(f"{mean(map(float, side)):.1%}" for side in hits)))

    sides = [[head.right[side] for head in outcome.heads] for side in (0, 1)]
    for attribute in ON_HEAD:
        name = attribute.replace("_", " ")
        lines.append(share(name, [[right[attribute] for right in side] for side in sides]))
    every = [[hit for right in side for hit in right.values()] for side in sides]
    lines.append(share("any of them", every))
    whole = [[all(right.values()) for right in side] for side in sides]
    lines.append(share("all of a head", whole))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def summary(outcome: Outcome) -> str:
    gains = sorted(head.gain for head in outcome.heads)
    over_lanczos = mean(head.psnr[2] - head.psnr[1] for head in outcome.heads)
    better = mean(gain > 0 for gain in gains)
    return (
        f"Inside the masks PSNR rises by {mean(gains):.2f} dB (median {median(gains):.2f}, worst "
        f"{gains[0]:.2f}, best {gains[-1]:.2f}), and by {over_lanczos:.2f} dB over Lanczos; "
        f"{better:.0%} of the heads come nearer to the truth."
    )


# Pictures


def best_median_worst(bench: Bench, outcome: Outcome, widgets: dict[str, Any]) -> Image.Image:
    """A contact sheet of heads by their gain: before, after and the truth."""
    heads = sorted(outcome.heads, key=lambda head: head.gain, reverse=True)
    middle = len(heads) // 2
    rows = []
    for name, head in (
        ("best", heads[0]), ("second", heads[1]), ("median", heads[middle]),
        ("next to it", heads[middle + 1]), ("last but one", heads[-2]), ("worst", heads[-1]),
    ):  # fmt: skip
        test = make_scene(head.seed, bench.how)
        place = test.box(head.index, margin=40)
        after = bench.detail(test, widgets)
        captions = (
            f"{name}: scene {head.seed}, {head.psnr[0]:.1f} dB",
            f"after: {head.psnr[2]:.1f} dB, {head.gain:+.1f}",
            "truth",
        )
        pictures = (test.before, after, test.truth)
        rows.append([Cell(_image(p[place]), c) for p, c in zip(pictures, captions, strict=True)])
    return contact_sheet("Heads by what detailing gains: before, after, truth", rows, width=300)


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(picture.clip(0, 1) * 255).astype(np.uint8))


# The command


def read_variant(text: str) -> tuple[str, dict[str, Any]]:
    """A variant's name and inputs from NAME=JSON."""
    name, equals, inputs = text.partition("=")
    try:
        inputs = json.loads(inputs) if equals else None
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}': the part after = is no JSON: {error}"
        ) from error
    if not isinstance(inputs, dict):
        raise argparse.ArgumentTypeError(f"'{text}' should read NAME={{\"input\": value, ...}}.")
    return name, inputs


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="run.py bench quality", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--comfyui", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--python", help=argparse.SUPPRESS)
    parser.add_argument("--scenes", type=int, default=100, help="scenes of the main table (100)")
    parser.add_argument("--sweep-scenes", type=int, default=20, help="of each other row (20)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first scene (0)")
    parser.add_argument("--variant", type=read_variant, action="append", default=[])
    parser.add_argument("--threads", type=int, default=2, help="of the CPU (2)")
    parser.add_argument("--write", action="store_true", help="into bench/RESULTS.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(options.comfyui, Degradation())
    seeds = range(options.first, options.first + options.scenes)
    report = Report()
    if options.variant:
        variants = [("base", {}), *options.variant]
        report.add(table([bench.measure(n, BASE | v, seeds) for n, v in variants], "variant"))
        return 0
    base = bench.measure("detailed", BASE, seeds, attributes=True)
    report.add(summary(base))
    report.add(table([base], "picture"))
    report.add(attribute_table(base))
    some = range(options.first, options.first + options.sweep_scenes)
    for widget, values in SWEEPS.items() if options.sweep_scenes else ():
        outcomes = [bench.measure(str(value), BASE | {widget: value}, some) for value in values]
        report.add(table(outcomes, widget))
    sheet = best_median_worst(bench, base, BASE)
    if options.write:
        sheet.save(SHEET, quality=88)
        report.write(f"![Best, median and worst heads before, after and in truth]({SHEET.name})")
    return 0


class Report:
    """Prints the parts of a report, and can put them into the results file."""

    def __init__(self):
        self.parts: list[str] = []

    def add(self, part: str) -> None:
        self.parts.append(part)
        print(part, end="\n\n", flush=True)

    def write(self, picture: str) -> None:
        """Replace what lies between the heading of this part and the next heading."""
        before, _, rest = RESULTS.read_text(encoding="utf-8").partition(f"{HEADING}\n")
        _, heading, after = rest.partition("\n## ")
        text = "\n\n".join([HEADING, INTRODUCTION, *self.parts, picture])
        RESULTS.write_text(f"{before.rstrip()}\n\n{text}\n{heading}{after}", encoding="utf-8")


INTRODUCTION = f"""\
`python run.py bench quality --write`

Scenes of the miniature world (`dev/miniature`) that its model was not trained on, at 1024 x 1024, \
through *Detailer (SEGS)* with the miniature and each character's caption as the text of its \
segment. What came in was rendered at a sixth of the size, blurred and given grain. Settings, \
but for the one that a table varies: {BASE["steps"]} steps of {BASE["sampler_name"]}, cfg \
{BASE["cfg"]:g}, denoise {BASE["denoise"]}, guide_size {BASE["guide_size"]} for the crop, \
crop_factor {CROP_FACTOR:g}, feather {BASE["feather"]}. Values are means over the heads. PSNR and \
SSIM are taken inside the masks. Seam energy is the mean gradient across the masks' rims that the \
truth does not have, in thousandths a pixel; rim colour the distance of the mean colours just \
inside. An attribute is right when the picture is nearest to the rendering that has it."""


if __name__ == "__main__":
    sys.exit(main())
