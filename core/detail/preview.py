"""A preview of a detailer run: a picture and a table of its plan, made without a model.

The same code makes the plan of a detailer, so the preview shows what the run will do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from ...utils.arrays import to_numpy
from ...utils.indices import indices_within, read_indices
from ...utils.notes import note
from ...wildcards.grammar import Lora
from ..backend import Backend
from ..geometry import NATIVE, Box, Size
from ..pixels.image import to_rgb
from ..pixels.marks import (
    Colour,
    Pen,
    Tag,
    as_hex,
    can_draw,
    distinct_colour,
    frame,
    made_tag,
    outline,
    place_for_tag,
    put_tag,
    tint,
)
from ..pixels.mask import bbox as extent
from ..pixels.mask import contours
from ..pixels.precision import widened
from ..segs.image_batch import counted, in_image, rows_of
from ..segs.seg import SEG, SEGS, confidence, normalise
from ..settings import Detail
from .images import plans_by_image, still_mask
from .plan import Job, Plan
from .run import Run
from .segment_plan import PLAIN

VERSION = 1  # of the table's form
USUAL_GRID = 8  # pixels, of most VAEs
# Of a rule, beside those for which a row has names of its own.
_SETTINGS = tuple(name for name in PLAIN if name not in ("negative", "seed", "skip"))
_GREY: Colour = (0.72, 0.72, 0.72)
_TINT = 0.3  # how strongly masks are coloured
_REASON_WIDTH = 34  # letters of a line
_REASON_LINES = 3
_POLYGON = 0.004  # how far an outline may be off, as a share of its box's longer side
_POLYGON_LEAST = 0.75  # and in pixels


PLANNED, SKIPPED, OFF = "planned", "skipped", "off"  # the status of a segment


@dataclass(frozen=True)
class Row:
    """One segment in one image. Boxes are x1, y1, x2, y2 in pixels of the image.

    Values that the report of a run has too have the same names there.

    Attributes:
        number: index in the SEGS as they came, from 0.
        image: which image of the batch, from 0.
        confidence: 0..1.
        bbox, size: the bounding box of the thing, and its size.
        crop_region: the region that is cropped and pasted.
        angle: degrees clockwise by which the rotated crop is tilted; 0: it is not rotated.
        status: PLANNED, or SKIPPED or OFF if the segment stays as it is.
        reason: why the segment stays as it is; otherwise empty. Values that it then lacks are None.
        working_size: width and height at which it is sampled, before padding to the model's grid.
        seed: of its sampler run.
        text: the expanded text that replaces the positive prompt. None: the prompt is used.
        concat: the text is added to the positive prompt instead.
        text_before: the text that the segment plan puts before the positive prompt.
        negative: the text of the segment plan that replaces the negative prompt.
        loras: the LoRAs of texts and segment plan, each with `name`, `model_strength` and so on.
        rules: numbers, from 1, of the rules of the segment plan that match the segment.
        settings: other settings that these rules set, by the names of the widgets.
        level: segments of one level do not depend on one another.
        wave: segments of one wave are worked on side by side.
        colour: the colour in which it is drawn, such as #ff8000.
    """

    number: int
    image: int
    label: str
    confidence: float
    bbox: tuple[int, int, int, int]
    size: tuple[int, int]
    crop_region: tuple[int, int, int, int]
    angle: float = 0.0
    status: str = PLANNED
    reason: str = ""
    working_size: tuple[int, int] | None = None
    seed: int | None = None
    text: str | None = None
    concat: bool = False
    text_before: str | None = None
    negative: str | None = None
    loras: tuple[Lora, ...] = ()
    rules: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    level: int | None = None
    wave: int | None = None
    colour: str = ""

    @property
    def stays(self) -> bool:
        """Whether the segment stays as it is."""
        return self.status != PLANNED


@dataclass(frozen=True)
class Shown:
    """A row, and the data that are needed to draw it."""

    row: Row
    seg: SEG
    leaning: list[tuple[float, float]] = field(default_factory=list)  # corners of a rotated crop

    @property
    def colour(self) -> Colour:
        """The colour of the segment's marks."""
        return _GREY if self.row.stays else distinct_colour(self.row.number)


@dataclass(frozen=True)
class Preview:
    """The result of `preview`."""

    image: torch.Tensor  # [B,H,W,3], drawn
    segs: SEGS  # those that are switched on, as they came
    shown: list[Shown]  # image by image, in working order; then those that are switched off

    def table(self) -> dict[str, Any]:
        """The table as data for JSON."""
        count, height, width, _ = self.image.shape
        rows = [asdict(shown.row) for shown in self.shown]
        image = {"width": width, "height": height, "count": count}
        return {"version": VERSION, "image": image, "segments": rows}

    def text(self) -> str:
        """The table as a JSON text, with a line for each segment."""
        table = self.table()
        rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in table.pop("segments"))
        head = json.dumps(table, ensure_ascii=False)[:-1]
        text = f'{head}, "segments": [\n{rows}\n]}}' if rows else f'{head}, "segments": []}}'
        return text.encode("utf-8", "backslashreplace").decode("utf-8")  # half signs, as escapes


class PlanningRun(Run):
    """A run that only makes its plan, with or without models."""

    def __init__(self, detail: Detail, backend: Backend, image: torch.Tensor) -> None:
        super().__init__(detail, _Planning(backend), image)

    def tell_coverage(self, numbers: Sequence[Sequence[int]]) -> None:
        """Tell the user how the segment plan was used, after all images are planned.

        Args:
            numbers: for each image, the number of the segment at each position of its plan.
        """
        coverage = self._coverage
        if coverage is not None:
            coverage.without = {
                image: {numbers[image][position] for position in positions}
                for image, positions in coverage.without.items()
            }
            coverage.tell()


class _Planning:
    """A backend that also has a grid if there is no VAE."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def grid(self, model: Any, vae: Any) -> int:
        return USUAL_GRID if vae is None else self._backend.grid(model, vae)


def preview(image: torch.Tensor, segs: SEGS, off: str, detail: Detail, backend: Backend) -> Preview:
    """Plan every segment, and draw the plan.

    Args:
        image: [B,H,W,C] 0..1; C is 1, 3 or 4.
        segs: made for any image size; they are scaled to the size of `image`.
        off: indices of SEGs that are switched off, as a text for `read_indices`.
        detail: only the sizes of VAE and model are used, and both may be None.

    Raises:
        ValueError: `off` cannot be read, or the model's own size is needed but there is no model.
    """
    if detail.sizing.policy == NATIVE and not detail.sizing.area and detail.models.model is None:
        raise ValueError(
            "'model' is missing, but 'crop_options' asks for the size for which it was trained."
            " Connect the model, or set 'native_size' in Crop Options."
        )
    header, came = segs
    kept = _switched_on(off, len(came))
    size, count = Size(image.shape[2], image.shape[1]), len(image)
    _, items = normalise(segs, size, "segs")
    run = PlanningRun(detail, backend, image)
    own, plans = plans_by_image(
        [items[index] for index in kept], count, lambda part, row: run.decide(part, size, row)
    )
    numbers = [[kept[place] for place in places] for places in own]
    run.tell_coverage(numbers)
    shown = _planned(plans, numbers, run) + _switched_off(items, kept, count)
    drawn = widened(to_rgb(image)[0]).clone()
    for index, picture in enumerate(drawn):
        draw(picture, [one for one in shown if one.row.image == index])
    return Preview(drawn.to(image.dtype), (header, [came[index] for index in kept]), shown)


def _switched_on(off: str, count: int) -> list[int]:
    """The indices of `count` segments that a text does not switch off."""
    ranges = read_indices(off, "off")
    if ranges and ranges[-1][1] >= count:
        note(
            "off",
            f"'off' names segment {ranges[-1][1]}, but there are {counted(count, 'segment')},"
            " counted from 0. Indices that no segment has switch nothing off.",
        )
    switched_off = set(indices_within(ranges, count))
    return [index for index in range(count) if index not in switched_off]


def _planned(plans: Sequence[Plan], numbers: Sequence[Sequence[int]], run: Run) -> list[Shown]:
    """The rows for the entries of the plans.

    Args:
        numbers: for each image, the number of the SEG at each position of its plan.
    """
    waves: dict[tuple[int, int], int] = {}
    for wave, places in enumerate(run.waves(plans)):
        waves |= {(row, job.position): wave for row, job in places}
    shown = []
    for row, plan in enumerate(plans):
        level_of = {
            plan.jobs[index].position: level
            for level, indices in enumerate(plan.levels)
            for index in indices
        }
        for entry in plan.entries:
            number, place = numbers[row][entry.position], (row, entry.position)
            if isinstance(entry, Job):
                shown.append(_of_job(entry, number, row, level_of[place[1]], waves[place], run))
            else:
                told = _row(entry.seg, number, row, status=SKIPPED, reason=entry.reason)
                shown.append(Shown(told, entry.seg))
    return shown


def _of_job(job: Job, number: int, row: int, level: int, wave: int, run: Run) -> Shown:
    rotated = job.rotated
    told = _row(
        job.seg, number, row,
        angle=0.0 if rotated is None else round(math.degrees(rotated.angle), 2),
        working_size=tuple(job.size),
        seed=job.seed,
        rules=tuple(rule + 1 for rule in job.chosen.rules),
        settings=_settings_of(job),
        level=level,
        wave=wave,
        **_texts_of(job, run),
    )  # fmt: skip
    if rotated is None:
        return Shown(told, job.seg)
    shares = torch.tensor([[0.0, 1, 1, 0], [0.0, 0, 1, 1]])
    x, y = rotated.places(shares[0], shares[1])
    corners = torch.stack((x + job.region.x1, y + job.region.y1), dim=-1).tolist()
    return Shown(told, job.seg, [tuple(corner) for corner in corners])


def _texts_of(job: Job, run: Run) -> dict[str, Any]:
    """The texts and LoRAs of a job, as a row has them."""
    drawn = run.texts.drawn(job.text, job.seed, job.added)
    if drawn is None:
        return {}
    own = drawn.own[0]
    return {
        "text": own,
        "concat": job.concat and own is not None,
        "text_before": drawn.before[0],
        "negative": drawn.negative[0],
        "loras": drawn.loras,
    }


def _settings_of(job: Job) -> dict[str, Any]:
    """The settings of the segment plan for a job, without its seed and texts."""
    overrides = job.chosen.overrides
    settings = {name: getattr(overrides, name) for name in _SETTINGS}
    if settings["denoise"] is not None:
        settings["denoise"] = round(job.detail.sampling.denoise, 4)  # it may go by the size
    return {name: value for name, value in settings.items() if value is not None}


def _switched_off(items: Sequence[SEG], kept: Sequence[int], count: int) -> list[Shown]:
    on = set(kept)
    return [
        Shown(_row(seg, number, row, status=OFF, reason="it is switched off"), seg)
        for number, item in enumerate(items)
        if number not in on
        for row in rows_of(item, count)
        for seg in [in_image(item, row, count)]
    ]


def _row(seg: SEG, number: int, row: int, **more: Any) -> Row:
    """A row of the table, with what the SEG itself says."""
    bbox = Box.of(seg.bbox)
    return Row(
        number, row, seg.label, round(confidence(seg), 4), bbox.as_tuple(), tuple(bbox.size),
        Box.of(seg.crop_region).as_tuple(), colour=as_hex(distinct_colour(number)), **more,
    )  # fmt: skip


# As a picture


@dataclass(frozen=True)
class Scale:
    """Lengths of marks in pixels, by the size of the picture and how many segments it has."""

    line: int
    letters: int  # height of a tag's first line
    tag: Size  # that it does not exceed where less can be said

    @classmethod
    def of(cls, size: Size, count: int) -> Scale:
        """The scale for a picture of this size with `count` segments."""
        short, crowd = min(size), max(1.0, math.sqrt(count) / 4)  # 1 up to 16 segments
        most = max(3.0, 2 * math.sqrt(count))
        return cls(
            max(1, round(short / (320 * crowd))),
            max(10, round(short / (34 * crowd))),
            Size(int(size.width / most), int(size.height / most)),
        )

    def pen(self, shown: Shown, *, thin: bool = False) -> Pen:
        """That of a segment's lines."""
        width = max(1, self.line // 2) if thin else self.line
        dash = max(3, 4 * self.line) if shown.row.stays else 0
        return Pen(shown.colour, width, max(1, width // 2), dash)


def draw(image: torch.Tensor, shown: Sequence[Shown]) -> None:
    """Draw segments into their image [H,W,3], in place: masks, crop regions, boxes, numbers."""
    size = Size(image.shape[1], image.shape[0])
    scale = Scale.of(size, len(shown))
    for one in shown:
        _draw_mask(image, one, scale)
    for one in shown:
        region, pen = Box.of(one.row.crop_region), scale.pen(one, thin=True)
        if one.leaning:
            outline(image, one.leaning, pen)
        else:
            frame(image, region, pen)
    for one in shown:
        frame(image, Box.of(one.row.bbox), scale.pen(one))
    taken: list[Box] = []
    for one in shown:
        tag = _tag(one.row, scale)
        place = place_for_tag(tag.size, Box.of(one.row.bbox), size, taken)
        put_tag(image, tag, place, one.colour)
        taken.append(place)


def _draw_mask(image: torch.Tensor, one: Shown, scale: Scale) -> None:
    region = Box.of(one.row.crop_region)
    if region.empty:
        return
    mask = still_mask(one.seg, image)[0]
    covered = extent(mask)
    if covered is None:
        return
    part = mask[covered.y1 : covered.y2, covered.x1 : covered.x2]
    own = covered.shifted(region.x1, region.y1)
    tint(image, own, part, scale.pen(one, thin=True), 0 if one.row.stays else _TINT)


def _tag(row: Row, scale: Scale) -> Tag:
    """The tag of a segment: number, label and confidence, or why it is skipped. It is shortened if
    there is too little space."""
    letters, small = scale.letters, max(9, round(0.75 * scale.letters))
    number = str(row.number)
    if row.stays:
        reason = [] if row.status == OFF else _wrapped(row.reason)
        full = [(f"{number} {row.status}", letters), *((line, small) for line in reason)]
    else:
        label = f" {row.label}" if can_draw(row.label) else ""
        full = [(f"{number}{label[:24]} {row.confidence:.2f}", letters)]
    tags = (made_tag(lines) for lines in (full, full[:1], [(number, letters)]))
    for tag in tags:
        if tag.size.width <= max(scale.tag.width, row.size[0]) and (
            tag.size.height <= max(scale.tag.height, row.size[1])
        ):
            break
    return tag


def _wrapped(text: str) -> list[str]:
    """A text in lines. The end of a long text is left out."""
    import textwrap

    if not can_draw(text):
        return []
    return textwrap.wrap(text, _REASON_WIDTH, max_lines=_REASON_LINES, placeholder=" ...")


# For the editor


def outlines(shown: Shown) -> list[list[int]]:
    """The outlines of a segment's mask, each as x, y, x, y, ... in pixels of the image."""
    import cv2

    region = Box.of(shown.row.crop_region)
    if region.empty:
        return []
    mask = to_numpy(still_mask(shown.seg, torch.zeros(1)))[0]
    longest = max(region.size)
    found: list[list[int]] = []
    for contour in contours(mask, 0.5):
        simple = cv2.approxPolyDP(contour, max(_POLYGON_LEAST, _POLYGON * longest), True)
        if len(simple) > 2:
            found.append((simple[:, 0] + np.array([region.x1, region.y1])).ravel().tolist())
    return found
