"""Detail the segments of images: crop, enhance, check, and paste them or only return them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from ..segs.seg import (
    SEG,
    SEGS,
    BatchImage,
    Variant,
    as_variant,
    normalise,
    of_image,
    own_picture,
)
from ..settings import Detail, KeptCrops
from ..timing import PASTE, stage
from .crop import Crop, Enhanced
from .crop_pipeline import enhance, enhance_each
from .plan import Job, Place, Plan, Skipped, of_one_size
from .report import Record
from .run import Run, blending_of, reported


@dataclass
class Detailed:
    """The results of a detailer node.

    Each list holds one picture for each sampled segment and image of the batch, at the size of the
    segment's crop. A list that the settings' `kept` does not ask for is empty.
    """

    image: torch.Tensor  # [B,H,W,C]
    segs: SEGS
    cropped: list[torch.Tensor] = field(default_factory=list)  # [1,h,w,3], before
    refined: list[torch.Tensor] = field(default_factory=list)  # [1,h,w,3], after
    refined_alpha: list[torch.Tensor] = field(default_factory=list)  # [1,h,w,4], mask as alpha
    control_images: list[torch.Tensor] = field(default_factory=list)
    variants: list[SEG] = field(default_factory=list)  # of each segment in turn, as `as_variant`
    report: str = ""  # JSON, see `core/detail/report.py`

    @property
    def variant_segs(self) -> SEGS:
        """All variants of all segments, segment by segment; empty unless they were kept."""
        return self.segs[0], self.variants

    @property
    def pictures(self) -> tuple[list[torch.Tensor], ...]:
        """All four lists: the crops before [1,h,w,3], after [1,h,w,3], after with alpha [1,h,w,4],
        and the pictures that ControlNets saw [N,h,w,C]."""
        return self.cropped, self.refined, self.refined_alpha, self.control_images


@reported
def detail_image(image: torch.Tensor, segs: SEGS, detail: Detail, backend: Backend) -> Detailed:
    """Detail the segments of every image and paste the results.

    Args:
        image: [B,H,W,C] 0..1; C is 1, 3 or 4. Each image of the batch is detailed by the segments
            that belong to it and by those that belong to no single image. It gets the seeds and
            texts that it would get if it were the only one.
        segs: made for any image size; they are scaled to the size of `image`.

    Returns:
        The image and the segments. In the image everything outside the feathered masks is
        bit-identical; a grey image gets three channels. The segments are in working order, image
        by image, with their refined crops. A segment that belongs to every image comes once, with
        the crops of all images. A segment that was skipped because of its size keeps its place
        without a crop; other skipped segments are not returned.
    """
    run = Run(detail, backend, image)
    size, count = _size(image), len(image)
    header, items = normalise(segs, size, "segs")
    own, plans = plans_by_image(items, count, lambda segs, row: run.plan(segs, size, row))
    result = Detailed(image, (header, []))
    rows = _detail_rows(plans, run, result, count)
    result.segs[1].extend(_gathered(plans, own, rows))
    result.report = run.ended(image, result.image)
    return result


def plans_by_image(
    items: Sequence[SEG], count: int, plan: Callable[[list[SEG], int], Plan]
) -> tuple[list[list[int]], list[Plan]]:
    """The plan of every image of a batch, by the segments that hold for it.

    Args:
        items: of `seg.normalise`.
        count: images of the batch.
        plan: makes the plan of the segments of image `row`.

    Returns:
        For each image which of `items` its segments are, and its plan.
    """
    own = positions_by_image(items, count)
    plans = [
        plan([in_image(items[place], row, count) for place in places], row)
        for row, places in enumerate(own)
    ]
    return own, plans


def detail_each(
    image: torch.Tensor, segs: Sequence[SEGS], detail: Detail, backend: Backend
) -> Detailed:
    """Detail every image of a batch by its own segments, and paste the results.

    Args:
        image: [B,H,W,C] 0..1; C is 1, 3 or 4.
        segs: one SEGS for each image. The image gets the seeds and texts that it would get if it
            were the only one.

    Returns:
        As `detail_image`. The segments are in the order of the images.
    """
    return detail_versions(image, segs, detail, backend, 1)


@reported
def detail_versions(
    image: torch.Tensor, segs: Sequence[SEGS], detail: Detail, backend: Backend, count: int
) -> Detailed:
    """Make `count` versions of the same images; version v is sampled with the node's seed + v.

    The versions share waves, as the images of a batch do.

    Args:
        image: [B,H,W,C] 0..1; C is 1, 3 or 4.
        segs: one SEGS for each image.

    Returns:
        As `detail_each` for a batch [count*B,H,W,C] that holds one version after another.
    """
    run = Run(detail, backend, image)
    size = _size(image)
    items = [normalise(own, size, "segs")[1] for own in segs]
    plans = [
        run.plan(own, size, row, version)
        for version in range(count)
        for row, own in enumerate(items)
    ]
    copies = image.repeat(count, 1, 1, 1) if count > 1 else image
    result = Detailed(copies, ((size.height, size.width), []))
    rows = _detail_rows(plans, run, result, len(image))
    own = [[None] * len(plan.entries) for plan in plans]
    result.segs[1].extend(_gathered(plans, own, rows))
    result.report = run.ended(image, result.image)
    return result


def _size(image: torch.Tensor) -> Size:
    return Size(image.shape[2], image.shape[1])


def _detail_rows(
    plans: Sequence[Plan], run: Run, result: Detailed, count: int
) -> list[dict[int, np.ndarray | None]]:
    """Carry out the plan of each image of `result.image`, and put the new images there.

    Args:
        count: number of the node's images; `result.image` may hold each of them several times.

    Returns:
        For each image, its refined crops by the positions of the segments.
    """
    rgb, alpha = to_rgb(result.image)
    jobs = [job for plan in plans for job in plan.jobs]
    run.start(each for job in jobs for each in run.each(job))
    working = widened(rgb).clone() if jobs else rgb
    done: dict[tuple[int, int, int], _Done] = {}
    for batch in run.waves(plans):
        pieces = _detail_in_place(working, batch, run, count)
        for (row, job), piece in zip(batch, pieces, strict=True):
            done[row, job.position, job.variant] = piece
    for row, plan in enumerate(plans):  # in working order, which the order of waves may not be
        image = BatchImage(row, len(plans)) if len(plans) > 1 else None
        for job in plan.jobs:
            done[row, job.position, 0].add_to(result)
            if run.detail.kept.variants:
                own = job.seg if image is None else of_image(job.seg, image)
                pictures = [
                    (each, done[row, each.position, each.variant].picture) for each in run.each(job)
                ]
                result.variants += as_variants(own, pictures)
    result.image = merge_alpha(working.to(rgb), alpha).contiguous()  # grey is an expanded view
    return [
        {job.position: done[row, job.position, 0].picture for job in plan.jobs}
        if run.detail.kept.segs
        else {}
        for row, plan in enumerate(plans)
    ]


def as_variants(seg: SEG, pictures: Sequence[tuple[Job, np.ndarray | None]]) -> list[SEG]:
    """The variants of a segment that have a picture, by their numbers.

    Args:
        pictures: each [N,h,w,3] with the job that it is of.
    """
    return [
        as_variant(seg, Variant(job.position, job.variant, job.seed), picture)
        for job, picture in sorted(pictures, key=lambda drawn: drawn[0].variant)
        if picture is not None
    ]


def _gathered(
    plans: Sequence[Plan],
    places: Sequence[Sequence[int | None]],
    rows: Sequence[dict[int, np.ndarray | None]],
) -> list[SEG]:
    """The segments of all images with their refined crops, in working order.

    Args:
        plans: one for each image.
        places: for each position of a plan, the index of the segment in the node's SEGS. None: no
            other image has the segment.
        rows: the refined crops of each image, by the positions of the plan.
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
    """The results of one segment in the images to which it belongs.

    They are one segment if it has the same region in all images of the batch.
    """
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
    """The pictures of one segment of one image that are kept."""

    control_images: list[torch.Tensor]
    cropped: torch.Tensor | None = None  # [1,h,w,3]
    refined: torch.Tensor | None = None  # [1,h,w,3]
    refined_alpha: torch.Tensor | None = None  # [1,h,w,4]
    picture: np.ndarray | None = None  # [1,h,w,3], for the SEG

    @classmethod
    def of(
        cls, own: Crop, enhanced: Enhanced, weight: torch.Tensor | None, kept: KeptCrops
    ) -> _Done:
        """`weight` [1,h,w] is the mask with which it was pasted. None: it was not pasted."""
        control_images = enhanced.control_images if kept.control_images else []
        if weight is None:
            return cls(control_images)
        pixels, alpha, picture = enhanced.pixels, None, None
        if kept.refined_alpha:
            alpha = torch.cat([pixels, weight[..., None]], dim=-1)
        if kept.segs or kept.variants:
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
    """Detail independent segments of `images` [n*count,H,W,3] together, and paste them there."""
    rows = [images[row : row + 1] for row, _ in batch]
    crops = [
        Crop(
            job, _size(image), _pixels(image, job, run), still_mask(job.seg, image), row % count,
            record=Record(version=row // count),
        )
        for (row, job), image in zip(batch, rows, strict=True)
    ]  # fmt: skip
    if run.hook.has("post_paste"):  # the hook may change pixels in the regions of other segments
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
    """The region [1,h,w,3] of a job in an image [1,H,W,3].

    It is a copy if it is kept after the paste into that region, or if foreign code sees it.
    """
    part = crop(image, job.region)
    seen = run.detail.hook is not None or job.seg.control_net_wrapper is not None
    return part.clone() if seen or run.detail.kept.cropped or run.variants(job) > 1 else part


def _paste_in_place(image: torch.Tensor, own: Crop, enhanced: Enhanced, run: Run) -> _Done:
    kept = run.detail.kept
    if enhanced.fault:
        run.view.over(own.record, None)
        report_fault(own.job, enhanced.fault)
        return _Done.of(own, enhanced, None, kept)
    if own.job.variant:
        run.view.over(own.record, None)
        return _Done([], picture=to_numpy(enhanced.pixels))
    blending, region = blending_of(own.job.detail), own.job.region
    with stage(PASTE):
        weight = own.persist(lambda: blending.weight(own.mask, region, _size(image)), "pasted")
        own.persist(lambda: blending.paste(image, enhanced.pixels, weight, region), "pasted")
        run.after_paste(image)
    run.view.over(own.record, crop(image, region))
    return _Done.of(own, enhanced, weight, kept)


@reported
def detail_segs(
    image: torch.Tensor, segs: SEGS, detail: Detail, backend: Backend, batch_size: int = 1
) -> Detailed:
    """Detail every segment without pasting.

    Args:
        image: [B,H,W,C] 0..1. A segment is cut from the images to which it belongs. If a segment
            has its own `cropped_image`, that is used instead.
        batch_size: how often all segments are sampled. Round b uses the seed + 1 + b for every
            segment, because shared workflows were made so.

    Returns:
        The unchanged image, and the segments of all rounds with the refined crops. A segment that
        was skipped because of its size has its unrefined crop. Other skipped segments come back
        unchanged.
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
    versions = [
        [job.reseeded(seed_for(detail.sampling.seed, index + 1)) for job in plan.jobs]
        for index in range(batch_size)
    ]
    drawn = [each for jobs in versions for job in jobs for each in run.each(job)]
    run.start(job for job in drawn for _ in sources[job.position].rows)
    enhanced = iter(_enhance_apart(drawn, sources, size, run, result, batch_size))
    for version, jobs in enumerate(versions):
        refined: dict[int, torch.Tensor] = {}
        for job in jobs:
            own = [(each, next(enhanced)) for each in run.each(job)]
            refined[job.position] = own[-1][1]
            if detail.kept.variants:
                result.variants += _variants_apart(own, sources[job.position], version)
        for entry in plan.entries:
            if isinstance(entry, Skipped) and not entry.by_size:
                result.segs[1].append(entry.seg)
                continue
            source = sources[entry.position]
            pixels = refined.get(entry.position)
            if pixels is None:  # a copy, since the picture of a SEG shares no memory with the image
                pixels = source.pixels.clone()
            seg = entry.seg._replace(cropped_image=to_numpy(pixels), control_net_wrapper=None)
            result.segs[1].append(seg if source.image is None else of_image(seg, source.image))
    result.report = run.ended(image, None)
    return result


def _variants_apart(
    drawn: Sequence[tuple[Job, torch.Tensor | None]], source: _Source, version: int
) -> list[SEG]:
    """The variants of a segment in a run of all segments; those of later runs are further ones.

    Args:
        drawn: [N,h,w,3] with the job of each.
    """
    seg = drawn[0][0].seg._replace(control_net_wrapper=None)
    if source.image is not None:
        seg = of_image(seg, source.image)
    pictures = [
        (
            replace(job, variant=version * len(drawn) + job.variant),
            None if pixels is None else to_numpy(pixels),
        )
        for job, pixels in drawn
    ]
    return as_variants(seg, pictures)


@dataclass(frozen=True)
class _Source:
    """The pictures of one segment before sampling."""

    pixels: torch.Tensor  # [N,h,w,3]
    rows: Sequence[int]  # for each picture, the index of its image in the node's batch
    count: int  # images of the node's batch
    image: BatchImage | None = None  # the images that the result belongs to; None: as before

    @classmethod
    def of(cls, seg: SEG, images: torch.Tensor, rows: Sequence[int]) -> _Source:
        """The segment's own pictures. If it has none, its region of the images it belongs to.

        Args:
            images: [B,H,W,3] 0..1.
            rows: indices of the images to which the segment belongs.
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

    def crops(self, job: Job, size: Size, version: int) -> list[Crop]:
        """The pictures as crops of a job; `size` is that of the images."""
        return [
            Crop(
                job,
                size,
                own,
                still_mask(in_image(job.seg, row, self.count), own),
                row,
                record=Record(version=version),
            )
            for row, own in zip(self.rows, self.pixels.split(1), strict=True)
        ]


def _enhance_apart(
    jobs: Sequence[Job],
    sources: dict[int, _Source],
    size: Size,
    run: Run,
    result: Detailed,
    versions: int,
) -> list[torch.Tensor | None]:
    """Enhance every picture of every job by itself. A picture that fails stays as it is.

    Args:
        versions: how often the same jobs come one after another.

    Returns:
        [N,h,w,3] for each job; None for a variant of which something failed.
    """
    each = len(jobs) // versions
    crops = [
        own
        for place, job in enumerate(jobs)
        for own in sources[job.position].crops(job, size, place // max(1, each))
    ]
    done: dict[int, Enhanced] = {}
    for indices in of_one_size([own.job for own in crops], run.batch_limit(jobs), run.grid):
        part = enhance(run, [crops[index] for index in indices])
        for index, enhanced in zip(indices, part, strict=True):
            run.view.over(crops[index].record, None if enhanced.fault else enhanced.pixels)
        done.update(zip(indices, part, strict=True))
    rows: list[torch.Tensor | None] = []
    for index, own in enumerate(crops):
        enhanced = done[index]
        if not own.job.variant:
            result.control_images += enhanced.control_images
        if enhanced.fault:
            report_fault(own.job, enhanced.fault)
            rows.append(None if own.job.variant else own.pixels.clone())
        else:
            rows.append(enhanced.pixels)
    following = iter(rows)
    parts = [[next(following) for _ in sources[job.position].rows] for job in jobs]
    return [None if any(row is None for row in part) else joined_rows(part) for part in parts]


def still_mask(seg: SEG, like: torch.Tensor) -> torch.Tensor:
    """A segment's mask [1,h,w] 0..1, on the device of `like`. The masks of a clip are united."""
    mask = to_tensor(seg.cropped_mask, like=like)
    return union(mask) if mask.ndim == 3 else mask[None]


def report_fault(job: Job, fault: str) -> None:
    """Tell the user why a segment keeps its original pixels; `fault` is a whole clause."""
    if job.variant:
        note("fault", f"There is no {job.name}: {fault}")
    else:
        note("fault", f"Segment {job.position} keeps its original pixels: {fault}")


def _array_of_all(rows: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """The refined crops of all images as one array [B,h,w,3]. None if an image has none."""
    if any(row is None for row in rows):
        return None
    return rows[0] if len(rows) == 1 else np.concatenate(list(rows))
