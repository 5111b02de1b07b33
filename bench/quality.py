"""The quality of pictures: detailed heads of the miniature world, compared with the truth.

    python run.py bench quality --help

Each scene is rendered at 1024 x 1024, which is the truth, and at a fraction of that, blurred and
with grain, which takes the place of the result of a base model. This is enlarged and goes through
Detailer (SEGS), with a segment for each head and the captions as the segments' texts. A variant is
a JSON object of inputs of that node that differ from BASE; an input from another node is written as
above.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from dev.contact_sheet import Cell, contact_sheet, to_image
from dev.options import QUALITY_TABLES as TABLES
from dev.options import bench_quality

from . import quality_loss, quality_pastes, quality_persons, quality_registration
from .quality_runs import BASE, Case, Part, Runs, pasting
from .quality_tables import AFTER, BEFORE, Outcome, attribute_table, summary, table
from .scenes import USUAL, Kind, make_scene

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "RESULTS.md"
SHEET = ROOT / "bench" / "quality.jpg"
HEADING = "## Picture quality"
BASIC = Case("detailed")
SWEEPS = {
    "denoise": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "guide_size": (192, 256, 320),
    "feather": (0, 5, 10, 20),
}


def _cropping(**inputs: Any) -> dict[str, Any]:
    return {"crop_options": {"node": "DetailersCropOptions", "inputs": inputs}}


SQUARE = Kind(heads_alone=True, boxes=True, crop_factor=1.0)
LARGE = Kind(characters=(1, 2), head_width=(220, 320))
LEANING = Kind(tilt=60)
PARTS = (
    Part("By cfg:", "cfg", tuple(Case(f"{cfg:g}", {"cfg": cfg}) for cfg in (1.0, 1.5, 2.0, 3.0))),
    Part(
        "Boxes for masks, and crops no larger than these (crop_factor 1): without fade_at_border "
        "an edge stays straight however far it is feathered.",
        "paste",
        (
            Case("feather 5", kind=SQUARE),
            Case("feather 20", {"feather": 20}, SQUARE),
            Case("feather 5, fade_at_border", pasting(fade_at_border=True), SQUARE),
            Case(
                "feather 20, fade_at_border",
                {"feather": 20} | pasting(fade_at_border=True),
                SQUARE,
            ),
        ),
    ),
    Part(
        f"Heads of {LARGE.head_width[0]} to {LARGE.head_width[1]} pixels, at the size of the crop "
        "and at the size that the model was made for.",
        "size",
        (
            Case("guide_size 256", kind=LARGE),
            Case("model, 256", _cropping(size_policy="model", native_size=256), LARGE),
        ),
    ),
    Part(
        f"Characters that lean by up to {LEANING.tilt:g} degrees to either side; the model has "
        "seen none that leans by more than 10.",
        "upright",
        (
            Case("off", kind=LEANING),
            Case("mask", _cropping(upright="mask"), LEANING),
            Case(
                "landmarks",
                _cropping(upright="landmarks", face_landmarks={"known": "landmarks"}),
                LEANING,
            ),
        ),
    ),
)

SECTIONS = {  # of the results file, each with tables of its own
    "pastes": quality_pastes,
    "loss": quality_loss,
    "persons": quality_persons,
    "registration": quality_registration,
}


# Pictures


def best_median_worst(runs: Runs, outcome: Outcome) -> Image.Image:
    """A contact sheet of heads by their gain: before, after and the truth."""
    heads = sorted(outcome.heads, key=lambda head: head.gain, reverse=True)
    middle = len(heads) // 2
    rows = []
    for name, head in (
        ("best", heads[0]), ("second", heads[1]), ("median", heads[middle]),
        ("next to it", heads[middle + 1]), ("last but one", heads[-2]), ("worst", heads[-1]),
    ):  # fmt: skip
        test = make_scene(head.seed)
        place = test.box(head.index, margin=40)
        after = runs.detailed(head.seed)
        captions = (
            f"{name}: scene {head.seed}, {head.seen[BEFORE].psnr:.1f} dB",
            f"after: {head.seen[AFTER].psnr:.1f} dB, {head.gain:+.1f}",
            "truth",
        )
        pictures = (test.before, after, test.truth)
        rows.append([Cell(to_image(p[place]), c) for p, c in zip(pictures, captions, strict=True)])
    return contact_sheet("Heads by what detailing gains: before, after, truth", rows, width=300)


# The command


def main() -> int:
    options = bench_quality().parse_args()
    options.comfyui = Path(options.comfyui)
    options.jobs = options.jobs or _jobs()
    seeds = range(options.first, options.first + options.scenes)
    tables = options.table or TABLES
    with Runs(options.comfyui, options.jobs) as runs:
        if options.variant:
            cases = [BASIC, *(Case(name, widgets) for name, widgets in options.variant)]
            Report().add(table(runs.measure(cases, seeds), "variant"))
            return 0
        if "scenes" in tables:
            report = Report()
            base = measure_sweeps(runs, seeds, report)
            measure_parts(runs, seeds[: options.part_scenes], report)
            if options.write:
                best_median_worst(runs, base).save(SHEET, quality=88)
                picture = (
                    f"![Best, median and worst heads before, after and in truth]({SHEET.name})"
                )
                report.write(picture)
        for name, section in SECTIONS.items():
            if name in tables:
                report = Report(section.HEADING, section.INTRODUCTION)
                for text in section.measure(runs, seeds[: options.part_scenes]):
                    report.add(text)
                if options.write:
                    report.write()
    return 0


def _jobs() -> int:
    """The number of processes: one for each core of a CPU, up to a limit; one for a GPU."""
    return 1 if torch.cuda.is_available() else min(4, os.cpu_count() or 1)


def measure_sweeps(runs: Runs, seeds: range, report: Report) -> Outcome:
    """The main table, tables in which one widget varies, and the outcome of the basic settings."""
    truth = Case("truth, pasted", truth=True)
    sweeps = {
        widget: [Case(str(value), {widget: value}) for value in values]
        for widget, values in SWEEPS.items()
    }
    every = [BASIC, truth, *(case for cases in sweeps.values() for case in cases)]
    found = iter(runs.measure(every, seeds))
    base = next(found)
    report.add(summary(base))
    report.add(table([base, next(found)], "picture"))
    report.add(attribute_table(base))
    for widget, cases in sweeps.items():
        report.add(table([next(found) for _ in cases], widget))
    return base


def measure_parts(runs: Runs, seeds: range, report: Report) -> None:
    """The tables with scenes or options of their own."""
    if not seeds:
        return
    difference = runs.one_by_one(seeds)
    report.add(
        f"All heads of a scene in one wave (`detail_batch` 0) and one by one (1), {len(seeds)} "
        f"scenes, pixel by pixel: the largest difference of a value is {difference:.1e} of full "
        f"range. The tables below are of {len(seeds)} scenes too."
    )
    for text in runs.tables(PARTS, seeds):
        report.add(text)


class Report:
    """Prints the parts of a report, and can put them into the results file.

    Args:
        heading: of the report in that file.
        introduction: what stands under it.
    """

    def __init__(self, heading: str = HEADING, introduction: str | None = None):
        self.heading = heading
        self.introduction = INTRODUCTION if introduction is None else introduction
        self.parts: list[str] = []

    def add(self, part: str) -> None:
        self.parts.append(part)
        print(part, end="\n\n", flush=True)

    def write(self, *more: str) -> None:
        """Replace the text between the heading of this part and the next heading.

        Args:
            more: texts that follow, such as a picture.
        """
        before, _, rest = RESULTS.read_text(encoding="utf-8").partition(f"{self.heading}\n")
        _, heading, after = rest.partition("\n## ")
        text = "\n\n".join([self.heading, self.introduction, *self.parts, *more])
        RESULTS.write_text(f"{before.rstrip()}\n\n{text}\n{heading}{after}", encoding="utf-8")


INTRODUCTION = f"""\
`python run.py bench quality --write`

Scenes of the miniature world (`dev/miniature`) that its model was not trained on, at 1024 x 1024, \
through *Detailer (SEGS)* with the miniature and each character's caption as the text of its \
segment. What came in was rendered at a sixth of the size, blurred and given grain. Settings, \
but for the one that a table varies: {BASE["steps"]} steps of {BASE["sampler_name"]}, cfg \
{BASE["cfg"]:g}, denoise {BASE["denoise"]}, guide_size {BASE["guide_size"]} for the crop, \
crop_factor {USUAL.crop_factor:g}, feather {BASE["feather"]}. Values are means over the heads. \
PSNR and SSIM are taken inside the masks. Seam energy is the mean gradient across the masks' rims \
that the truth does not have, in thousandths a pixel; rim colour the distance of the mean colours \
just inside. An attribute is right when, of the renderings of its values, what is drawn is nearest \
to the right one, once the head, which may be up to 15% of its size elsewhere and up to 18% larger \
or smaller, is brought back to its place; likeness is that of *Label SEGS by Person* to a sharp \
picture of the person. Seconds are the \
processor's."""


if __name__ == "__main__":
    sys.exit(main())
