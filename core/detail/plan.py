"""The plan of a detailer run: which segments are sampled, how, and in which order.

The plan is made before anything is sampled. It reads no pixels; it only checks that masks are not
empty.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from operator import itemgetter

import torch

from ...utils.arrays import to_tensor
from ...utils.notes import note
from ...wildcards.deal import Dealt, Segment, deal
from ..bounds import MOST_SAMPLED, check_pixels
from ..geometry import Box, Size, Skip, working_size
from ..noise import variant_seed
from ..pixels.rotated_crop import RotatedCrop
from ..prompts.segment_text import NOTHING_ADDED, AddedText
from ..segs.seg import SEG, padded
from ..settings import Detail
from .segment_plan import UNCHOSEN, UNSTEERED, Chosen, Overrides, Steering, joined

BY_SKIP = "its text is [SKIP]"  # reasons why a segment text leaves a segment as it is
BY_STOP = "the segment text ends the run before it ([STOP])"


@dataclass(frozen=True)
class Job:
    """One segment that will be sampled."""

    position: int  # in the SEGS
    seg: SEG
    bbox: Box
    region: Box  # where the crop is taken and pasted
    size: Size  # working size, before padding to the model's grid
    seed: int
    detail: Detail  # its settings: the node's, with what the segment plan sets in their place
    text: str | None = None  # segment text, not yet expanded; None keeps the node's positive
    concat: bool = False  # the text is added to the positive instead of replacing it
    rotated: RotatedCrop | None = None  # the rotated crop, if the segment is sampled upright
    variant: int = 0  # the first one is pasted, the others are only kept
    added: AddedText = NOTHING_ADDED  # what the segment plan adds to the text
    chosen: Chosen = UNCHOSEN  # what the segment plan sets

    def variants(self, count: int) -> list[Job]:
        """This job `count` times, each with a seed of its own; the one that is pasted comes last.

        So all of them are cropped from an image in which none of them is seen.
        """
        others = [
            replace(self, seed=variant_seed(self.seed, number), variant=number)
            for number in range(1, count)
        ]
        return [*others, self]

    @property
    def name(self) -> str:
        """What messages call it."""
        segment = f"segment {self.position}"
        return f"variant {self.variant} of {segment}" if self.variant else segment

    @property
    def steps(self) -> int:
        """Steps of the sampler, all cycles together."""
        return self.detail.sampling.cycle * self.detail.sampling.steps

    def reseeded(self, seed: int) -> Job:
        """The job for another seed of the node; a seed that the segment plan sets stays."""
        return replace(self, seed=self.chosen.overrides.seed_of(seed))


@dataclass(frozen=True)
class Skipped:
    """One segment that stays as it is."""

    position: int
    seg: SEG
    reason: str
    by_size: bool = False  # True: nothing is wrong with it, but sampling at its size is pointless

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"segment {self.position}"


@dataclass(frozen=True)
class Plan:
    """Every segment of a run, in working order."""

    entries: tuple[Job | Skipped, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The segments that will be sampled, in working order."""
        return tuple(entry for entry in self.entries if isinstance(entry, Job))

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The segments that stay as they are, in working order."""
        return tuple(entry for entry in self.entries if isinstance(entry, Skipped))

    @cached_property
    def levels(self) -> list[list[int]]:
        """Indices of the jobs, level by level. The function `levels` groups their regions."""
        return levels([job.region for job in self.jobs])

    def report(self) -> None:
        """Tell the user which segments are skipped, and why."""
        for entry in self.skipped:
            note("skipped", f"{entry.name} skipped: {entry.reason}")


def make_plan(
    segs: Sequence[SEG],
    image: Size,
    detail: Detail,
    seed: int,
    touch_size: Callable[[Size], Size] = lambda size: size,
    rotate: Callable[[SEG, Detail], tuple[SEG, RotatedCrop, Size] | None] = lambda seg, own: None,
    steering: Steering = UNSTEERED,
) -> Plan:
    """Decide settings, size, seed and text of every segment.

    Args:
        segs: segments whose regions lie inside the image.
        image: its size.
        detail: the node's settings. Its segment text may also set the working order.
        seed: the node's seed. Segment i in working order gets seed + i, unless its text or the
            segment plan names another seed.
        touch_size: takes a working size and gives the one to use, of at most MOST_SAMPLED pixels.
        rotate: gives the segment with its rotated crop and the size of the thing in it, as the
            functions of `core/segs/tilt.py` do, for a segment and its settings. None: the segment
            is not rotated.
        steering: what the segment plan sets for these segments.

    Raises:
        ValueError: a working size has more than MOST_SAMPLED pixels.
    """
    order = steering.order or range(len(segs))
    own = [Segment(tuple(segs[place].bbox), str(segs[place].label)) for place in order]
    dealt = [replace(entry, index=order[entry.index]) for entry in deal(detail.text, own, seed)]
    entries: list[Job | Skipped] = []
    for entry in dealt:
        seg, chosen = segs[entry.index], steering.of(entry.index)
        reason = _why_skipped(seg, entry, chosen.overrides)
        if reason:
            entries.append(Skipped(entry.index, seg, reason))
            continue
        entries.append(_job_of(seg, image, detail, entry, chosen, touch_size, rotate))
    reached = {entry.index for entry in dealt}
    entries += [
        Skipped(position, seg, BY_STOP)
        for position, seg in enumerate(segs)
        if position not in reached
    ]
    return Plan(tuple(entries))


def _why_skipped(seg: SEG, dealt: Dealt, overrides: Overrides) -> str:
    """Why a segment is skipped, whatever its size; empty if it is not."""
    if overrides.skip:
        return overrides.reason or "a rule of the segment plan skips it"
    if dealt.skip and overrides.skip is None:
        return BY_SKIP
    return _unusable(seg, Box.of(seg.bbox), Box.of(seg.crop_region))


def _job_of(
    seg: SEG,
    image: Size,
    detail: Detail,
    dealt: Dealt,
    chosen: Chosen,
    touch_size: Callable[[Size], Size],
    rotate: Callable[[SEG, Detail], tuple[SEG, RotatedCrop, Size] | None],
) -> Job | Skipped:
    """The job of a segment; see `make_plan`."""
    original, bbox = seg, Box.of(seg.bbox)
    overrides = chosen.overrides
    detail = overrides.applied(detail, min(bbox.size))
    if overrides.crop_padding:
        seg = padded(seg, overrides.crop_padding, image)
    rotation = rotate(seg, detail)
    if rotation is None:
        rotated, size = None, working_size(bbox, Box.of(seg.crop_region), detail.sizing)
    else:
        seg, rotated, thing = rotation
        size = working_size(Box(0, 0, *thing), rotated.frame, detail.sizing)
    if isinstance(size, Skip):
        return Skipped(dealt.index, original, size.reason, by_size=True)
    size = touch_size(size)
    check_pixels(
        size, f"The working size of segment {dealt.index}", MOST_SAMPLED,
        "Lower 'max_size' or 'guide_size', or disconnect the hook that asks for it.",
    )  # fmt: skip
    text, concat, added = _worded(dealt, overrides)
    return Job(
        dealt.index, seg, bbox, Box.of(seg.crop_region), size, overrides.seed_of(dealt.seed),
        detail, text, concat, rotated, added=added, chosen=chosen,
    )  # fmt: skip


def _worded(dealt: Dealt, overrides: Overrides) -> tuple[str | None, bool, AddedText]:
    """A segment's text, whether it is added to the node's positive, and what is added to both."""
    own, concat = dealt.text, dealt.concat
    if overrides.text is not None:
        own, concat = overrides.text, False
    before, after = overrides.text_before, overrides.text_after
    is_blank = own is None or not own.strip()
    if is_blank or concat:  # the node's positive is a part of it
        own, concat = joined("" if is_blank else own, after) or own, concat or bool(after)
    else:
        own, before = joined(joined(before, own), after), ""
    if not (before or overrides.negative is not None or overrides.loras):
        return own, concat, NOTHING_ADDED
    return own, concat, AddedText(before, overrides.negative, overrides.loras)


def _unusable(seg: SEG, bbox: Box, region: Box) -> str:
    if region.empty or bbox.empty:
        return f"its {'crop region' if region.empty else 'bounding box'} has no area"
    if not torch.count_nonzero(to_tensor(seg.cropped_mask)):
        return "its mask is empty"
    return ""


def levels(regions: Sequence[Box]) -> list[list[int]]:
    """Group regions into levels, so that the regions of one level do not overlap one another.

    The level of a region is one more than the highest level of the earlier regions that it
    overlaps. Regions that overlap are thus worked on in their order. The regions of one level do
    not depend on one another: they may be sampled in any order, or together.

    Returns:
        Indices into `regions`, level by level.
    """
    level_of: list[int] = []
    cells = _Cells(regions)
    for region in regions:
        level_of.append(cells.highest_under(region) + 1)
        cells.add(region, level_of[-1])
    grouped: list[list[int]] = [[] for _ in range(max(level_of, default=-1) + 1)]
    for index, level in enumerate(level_of):
        grouped[level].append(index)
    return grouped


class _Cells:
    """Regions with their levels, by the cells of a grid that they touch.

    A cell is as large as the average region. Thus each region touches only a few cells, and a
    search for overlaps looks only at the regions of these cells.
    """

    def __init__(self, regions: Sequence[Box]) -> None:
        """`regions`: all regions that will be added."""
        count = max(1, len(regions))
        area = sum(region.area for region in regions) / count
        sides = sum(region.width + region.height for region in regions) / (2 * count)
        self.side = max(1, math.ceil(math.sqrt(area)), math.ceil(sides))
        self.cells: dict[tuple[int, int], list[tuple[int, Box]]] = {}  # the lowest level first

    def _touched(self, region: Box) -> Iterator[tuple[int, int]]:
        if region.empty:
            return iter(())
        columns = range(region.x1 // self.side, (region.x2 - 1) // self.side + 1)
        rows = range(region.y1 // self.side, (region.y2 - 1) // self.side + 1)
        return product(columns, rows)

    def add(self, region: Box, level: int) -> None:
        for key in self._touched(region):
            insort(self.cells.setdefault(key, []), (level, region), key=itemgetter(0))

    def highest_under(self, region: Box) -> int:
        """The highest level of a region that overlaps this one; -1 if none does."""
        highest = -1
        for key in self._touched(region):
            for level, other in reversed(self.cells.get(key, ())):
                if level <= highest:
                    break
                if other.intersects(region):
                    highest = level
                    break
        return highest


Place = tuple[int, Job]  # which image of the node's batch, and the job there


def batches(
    plans: Sequence[Plan],
    limit: int,
    grid: int = 1,
    variants: Callable[[Job], int] = lambda job: 1,
) -> list[list[Place]]:
    """The jobs of several images in waves, in the order in which the waves have to run.

    The jobs of a wave do not depend on one another: they are of different images, of one level, or
    variants of one segment. Their padded working sizes are equal, so that they can be sampled
    together. The variant of a segment that is pasted is in no earlier wave than the others.

    Args:
        plans: one for each image.
        limit: the most jobs of a wave. 1: image by image, in working order.
        grid: working sizes are padded to multiples of this.
        variants: the number of variants of a job.
    """
    if limit == 1:
        return [
            [(row, each)]
            for row, plan in enumerate(plans)
            for job in plan.jobs
            for each in job.variants(variants(job))
        ]
    by_level: dict[int, list[Place]] = {}
    for row, plan in enumerate(plans):
        jobs = plan.jobs
        for level, indices in enumerate(plan.levels):
            own = [jobs[index] for index in indices]
            by_level.setdefault(level, []).extend(
                (row, each) for job in own for each in job.variants(variants(job))
            )
    for places in by_level.values():
        places.sort(key=lambda place: place[1].variant == 0)  # what is pasted comes last
    return [
        [by_level[level][index] for index in indices]
        for level in sorted(by_level)
        for indices in of_one_size([job for _, job in by_level[level]], limit, grid)
    ]


def of_one_size(jobs: Sequence[Job], limit: int, grid: int = 1) -> list[list[int]]:
    """Indices of independent jobs, grouped by their padded working size.

    Args:
        limit: the most indices of a group. 1 keeps the order of the jobs.
        grid: working sizes are padded to multiples of this.
    """
    if limit == 1:
        return [[index] for index in range(len(jobs))]
    by_size: dict[Size, list[int]] = {}
    for index, job in enumerate(jobs):
        padded = Size(*(-(-side // grid) for side in job.size))
        by_size.setdefault(padded, []).append(index)
    return [
        indices[i : i + limit]
        for indices in by_size.values()
        for i in range(0, len(indices), limit)
    ]
