"""Detailing the segments of images: crop, enhance, check, and paste or only keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ...utils.arrays import to_numpy, to_tensor
from ...utils.notes import note
from ..backend import Backend
from ..geometry import Box, Size
from ..noise import seed_for
from ..pixels.batches import joined_rows
from ..pixels.image import crop, merge_alpha, to_rgb
from ..pixels.mask import union
from ..pixels.precision import widened
from ..segs.image_batch import images_of, in_image, positions_by_image
from ..segs.seg import SEG, SEGS, BatchImage, normalise, of_image, own_picture
from ..settings import Detail, KeptCrops
from .crop import Crop, Enhanced
from .crop_pipeline import enhance, enhance_each
from .plan import Job, Place, Plan, Skipped, batches, of_one_size
from .run import Run


@dataclass
class Detailed:
    """What a detailer node gives back.

    The lists hold one entry per segment that was sampled and image of the batch, at the size of
    the segment's crop. What the settings' `kept` leaves out is empty.
    """

    image: torch.Tensor  # [B,H,W,C]
    segs: SEGS
    cropped: list[torch.Tensor] = field(default_factory=list)  # [1,h,w,3], before
    refined: list[torch.Tensor] = field(default_factory=list)  # [1,h,w,3], after
    refined_alpha: list[torch.Tensor] = field(default_factory=list)  # [1,h,w,4], mask as alpha
    control_images: list[torch.Tensor] = field(default_factory=list)

    @property
    def pictures(self) -> tuple[list[torch.Tensor], ...]:
        """All four lists: before, after, after with alpha, and what ControlNets saw."""
        return self.cropped, self.refined, self.refined_alpha, self.control_images


def detail_image(image: torch.Tensor, segs: SEGS, detail: Detail, backend: Backend) -> Detailed:
    """Detail the segments of every image and paste the results.

    Args:
        image: [B,H,W,C], C 1, 3 or 4. Each image of the batch is detailed by the segments that
            belong to it and by those that belong to no single image, and gets the seeds and texts
            that it would get alone.
        segs: of any image size; they are brought to this one.

    Returns:
        `image` with everything outside the feathered masks bit-identical, grey expanded to three
        channels, and the segments in working order, image by image, with their refined crops: one
        that holds for every image once, with a crop of each. A segment that was left out because
        of its size keeps its place without a crop; others left out are gone.
    """
    run = Run(detail, backend, image)
    size, count = _size(image), len(image)
    header, items = normalise(segs, size, "segs")
    own = positions_by_image(items, count)
    plans = [
        run.plan([in_image(items[place], row, count) for place in places], size, row)
        for row, places in enumerate(own)
    ]
    run.start(sum(len(plan.jobs) for plan in plans))
    result = Detailed(image, (header, []))
    rows = _detail_rows(plans, run, result, count)
    result.segs[1].extend(_gathered(plans, own, rows))
    return result


def detail_each(
    image: torch.Tensor, segs: Sequence[SEGS], detail: Detail, backend: Backend
) -> Detailed:
    """Detail every image of a batch by segments of its own, and paste the results.

    Args:
        image: [B,H,W,C], C 1, 3 or 4.
        segs: those of each image, which gets the seeds and texts that it would get alone.

    Returns:
        As `detail_image`, the segments of all images one after another.
    """
    return detail_versions(image, segs, detail, backend, 1)


def detail_versions(
    image: torch.Tensor, segs: Sequence[SEGS], detail: Detail, backend: Backend, count: int
) -> Detailed:
    """As `detail_each`, `count` times from the same image, version v with the node's seed + v.

    Returns:
        As `detail_each` for a batch [count*B,H,W,C] that holds version after version. They share
        the waves as the images of a batch do.
    """
    run = Run(detail, backend, image)
    size = _size(image)
    items = [normalise(own, size, "segs")[1] for own in segs]
    plans = [
        run.plan(own, size, row, version)
        for version in range(count)
        for row, own in enumerate(items)
    ]
    run.start(sum(len(plan.jobs) for plan in plans))
    copies = image.repeat(count, 1, 1, 1) if count > 1 else image
    result = Detailed(copies, ((size.height, size.width), []))
    rows = _detail_rows(plans, run, result, len(image))
    own = [[None] * len(plan.entries) for plan in plans]
    result.segs[1].extend(_gathered(plans, own, rows))
    return result


def _size(image: torch.Tensor) -> Size:
    return Size(image.shape[2], image.shape[1])


def _detail_rows(
    plans: Sequence[Plan], run: Run, result: Detailed, count: int
) -> list[dict[int, np.ndarray | None]]:
    """Work off the plan of each image of `result.image`, which becomes what comes out.

    Args:
        count: number of the node's images; `result.image` may hold them several times over.

    Returns:
        For each image its refined crops by the segments' positions.
    """
    rgb, alpha = to_rgb(result.image)
    working = widened(rgb).clone() if any(plan.jobs for plan in plans) else rgb
    done: dict[tuple[int, int], _Done] = {}
    for batch in batches(plans, run.batch_limit, run.grid):
        pieces = _detail_in_place(working, batch, run, count)
        for (row, job), piece in zip(batch, pieces, strict=True):
            done[row, job.position] = piece
    for row, plan in enumerate(plans):  # in working order, however they were batched
        for job in plan.jobs:
            done[row, job.position].add_to(result)
    result.image = merge_alpha(working.to(rgb), alpha).contiguous()  # grey in memory of its own
    return [
        {job.position: done[row, job.position].picture for job in plan.jobs}
        for row, plan in enumerate(plans)
    ]


def _gathered(
    plans: Sequence[Plan],
    places: Sequence[Sequence[int | None]],
    rows: Sequence[dict[int, np.ndarray | None]],
) -> list[SEG]:
    """The segments of all images with their refined crops, in working order.

    Args:
        plans: one for each image.
        places: which of the node's segments each of a plan's positions is; None is one that no
            other image has.
        rows: the refined crops of each image by the plan's positions.
    """
    groups: dict[Any, list[tuple[int, SEG, np.ndarray | None]]] = {}
    for row, plan in enumerate(plans):
        for entry in plan.entries:
            if isinstance(entry, Skipped) and not entry.by_size:
                continue
            place = places[row][entry.position]
            key = (row, entry.position) if place is None else place
            refined = rows[row].get(entry.position)
            groups.setdefault(key, []).append((row, entry.seg, refined))
    return [seg for group in groups.values() for seg in _of_images(group, len(plans))]


def _of_images(group: Sequence[tuple[int, SEG, np.ndarray | None]], count: int) -> list[SEG]:
    """What became of one segment in the images that it holds for: one segment, if it has the same
    region in all of them."""
    regions = {seg.crop_region for _, seg, _ in group}
    if len(group) < count or len(regions) > 1:
        return [
            of_image(
                seg._replace(cropped_image=_array_of_all([refined])),
                BatchImage(row, count) if count > 1 else seg.batch_image,
            )
            for row, seg, refined in group
        ]
    masks = [seg.cropped_mask for _, seg, _ in group]
    first = group[0][1]
    if not all(mask is masks[0] or np.array_equal(mask, masks[0]) for mask in masks[1:]):
        first = first._replace(cropped_mask=np.stack(masks))
    first = first._replace(cropped_image=_array_of_all([refined for _, _, refined in group]))
    return [first if count == 1 else of_image(first, BatchImage(None, count))]


@dataclass(frozen=True)
class _Done:
    """What is kept of one segment of one image."""

    control_images: list[torch.Tensor]
    cropped: torch.Tensor | None = None  # [1,h,w,3]
    refined: torch.Tensor | None = None  # [1,h,w,3]
    refined_alpha: torch.Tensor | None = None  # [1,h,w,4]
    picture: np.ndarray | None = None  # [1,h,w,3], for the SEG

    @classmethod
    def of(
        cls, own: Crop, enhanced: Enhanced, weight: torch.Tensor | None, kept: KeptCrops
    ) -> _Done:
        """`weight` [1,h,w] is the mask as it was pasted, None where nothing could be."""
        control_images = enhanced.control_images if kept.control_images else []
        if weight is None:
            return cls(control_images)
        pixels, alpha, picture = enhanced.pixels, None, None
        if kept.refined_alpha:
            alpha = torch.cat([pixels, weight[..., None]], dim=-1)
        if kept.segs:
            picture = to_numpy(pixels.clone() if kept.refined else pixels)
        return cls(
            control_images,
            own.pixels if kept.cropped else None,
            pixels if kept.refined else None,
            alpha,
            picture,
        )

    def add_to(self, result: Detailed) -> None:
        result.control_images += self.control_images
        for picture, pictures in (
            (self.cropped, result.cropped),
            (self.refined, result.refined),
            (self.refined_alpha, result.refined_alpha),
        ):
            if picture is not None:
                pictures.append(picture)


def _detail_in_place(
    images: torch.Tensor, batch: Sequence[Place], run: Run, count: int
) -> list[_Done]:
    """Detail independent segments of `images` [n*count,H,W,3] at once and paste them there."""
    rows = [images[row : row + 1] for row, _ in batch]
    crops = [
        Crop(
            job, _size(image), _pixels(image, job, run), still_mask(job.seg, image), row % count
        )
        for (row, job), image in zip(batch, rows, strict=True)
    ]  # fmt: skip
    if run.hook.has("post_paste"):  # it may change what lies in the regions of the others
        return [
            _paste_in_place(image, own, enhanced, run)
            for image, own, enhanced in zip(rows, crops, enhance(run, crops), strict=True)
        ]
    done: dict[int, _Done] = {}

    def finished(place: int, enhanced: Enhanced) -> None:
        done[place] = _paste_in_place(rows[place], crops[place], enhanced, run)

    enhance_each(run, crops, finished)
    return [done[place] for place in range(len(crops))]


def _pixels(image: torch.Tensor, job: Job, run: Run) -> torch.Tensor:
    """A job's region of an image [1,H,W,3].

    It is a copy where it outlasts the paste into that region, or where code of others sees it.
    """
    part = crop(image, job.region)
    seen = run.detail.hook is not None or job.seg.control_net_wrapper is not None
    return part.clone() if seen or run.detail.kept.cropped else part


def _paste_in_place(image: torch.Tensor, own: Crop, enhanced: Enhanced, run: Run) -> _Done:
    kept = run.detail.kept
    if enhanced.fault:
        report_fault(own.job, enhanced.fault)
        return _Done.of(own, enhanced, None, kept)
    blending, region = run.blending, own.job.region
    weight = own.persist(lambda: blending.weight(own.mask, region, _size(image)), "pasted")
    own.persist(lambda: blending.paste(image, enhanced.pixels, weight, region), "pasted")
    run.after_paste(image)
    return _Done.of(own, enhanced, weight, kept)


def detail_segs(
    image: torch.Tensor, segs: SEGS, detail: Detail, backend: Backend, batch_size: int = 1
) -> Detailed:
    """Detail every segment without pasting.

    Args:
        image: [B,H,W,C]; a segment is cut from the images that it holds for, and one that brings
            its own `cropped_image` uses that instead.
        batch_size: runs of all segments. Run b uses the seed + 1 + b for every segment, which is
            what shared workflows were made with.

    Returns:
        The unchanged image, and the segments of all runs with the refined crops. A segment left
        out because of its size carries its unrefined crop, one left out otherwise is as it came.
    """
    rgb = widened(to_rgb(image)[0])
    size = Size(rgb.shape[2], rgb.shape[1])
    header, items = normalise(segs, size, "segs")
    run = Run(detail, backend, rgb)
    plan = run.plan(items, size, row=None)
    held = images_of(items, len(rgb))
    sources = {
        entry.position: _Source.of(entry.seg, rgb, held[entry.position])
        for entry in plan.entries
        if isinstance(entry, Job) or entry.by_size
    }
    result = Detailed(image, (header, []))
    jobs = [
        replace(job, seed=seed_for(detail.sampling.seed, index + 1))
        for index in range(batch_size)
        for job in plan.jobs
    ]
    run.start(sum(len(sources[job.position].rows) for job in jobs))
    enhanced = iter(_enhance_apart(jobs, sources, size, run, result))
    for _ in range(batch_size):
        refined = {job.position: next(enhanced) for job in plan.jobs}
        for entry in plan.entries:
            if isinstance(entry, Skipped) and not entry.by_size:
                result.segs[1].append(entry.seg)
                continue
            source = sources[entry.position]
            pixels = refined.get(entry.position)
            if pixels is None:  # a copy: a SEG's picture shares no memory with the image
                pixels = source.pixels.clone()
            seg = entry.seg._replace(cropped_image=to_numpy(pixels), control_net_wrapper=None)
            result.segs[1].append(seg if source.image is None else of_image(seg, source.image))
    return result


@dataclass(frozen=True)
class _Source:
    """The pictures of one segment that are worked on."""

    pixels: torch.Tensor  # [N,h,w,3]
    rows: Sequence[int]  # which image of the node's batch each is from
    count: int  # images of the node's batch
    image: BatchImage | None = None  # what the segment holds for from now on; None: as it did

    @classmethod
    def of(cls, seg: SEG, images: torch.Tensor, rows: Sequence[int]) -> _Source:
        """The segment's own pictures, or else its region of the images that it holds for.

        Args:
            images: [B,H,W,3].
            rows: the images that it holds for.
        """
        count = len(images)
        if len(rows) == 1:
            seg = in_image(seg, rows[0], count)
        own = own_picture(seg, like=images)
        if own is None:
            pixels = crop(images[rows[0] : rows[-1] + 1], Box.of(seg.crop_region))
            image = BatchImage(None, count) if len(rows) > 1 else None
            return cls(pixels, rows, count, image)
        own = to_rgb(own)[0]
        return cls(own, rows if len(rows) == len(own) else range(len(own)), count)

    def crops(self, job: Job, size: Size) -> list[Crop]:
        """The pictures as crops of a job, from images of this size."""
        return [
            Crop(job, size, own, still_mask(in_image(job.seg, row, self.count), own), row)
            for row, own in zip(self.rows, self.pixels.split(1), strict=True)
        ]


def _enhance_apart(
    jobs: Sequence[Job],
    sources: dict[int, _Source],
    size: Size,
    run: Run,
    result: Detailed,
) -> list[torch.Tensor]:
    """Enhance the rows of all jobs' sources [N,h,w,3], each by itself; what fails stays.

    Returns:
        [N,h,w,3] for each job.
    """
    crops = [own for job in jobs for own in sources[job.position].crops(job, size)]
    done: dict[int, Enhanced] = {}
    for indices in of_one_size([own.job for own in crops], run.batch_limit, run.grid):
        part = enhance(run, [crops[index] for index in indices])
        done.update(zip(indices, part, strict=True))
    refined = []
    for index, own in enumerate(crops):
        result.control_images += done[index].control_images
        if done[index].fault:
            report_fault(own.job, done[index].fault)
        refined.append(own.pixels.clone() if done[index].fault else done[index].pixels)
    rows = iter(refined)
    return [joined_rows([next(rows) for _ in sources[job.position].rows]) for job in jobs]


def still_mask(seg: SEG, like: torch.Tensor) -> torch.Tensor:
    """A segment's mask [1,h,w]; that of a clip is united over its frames."""
    mask = to_tensor(seg.cropped_mask, like=like)
    return union(mask) if mask.ndim == 3 else mask[None]


def report_fault(job: Job, fault: str) -> None:
    note("fault", f"Segment {job.position} keeps its original pixels: {fault}")


def _array_of_all(rows: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """The refined crops of all images as an array [B,h,w,3]; None unless every image has one."""
    if any(row is None for row in rows):
        return None
    return rows[0] if len(rows) == 1 else np.concatenate(list(rows))
