"""One run of a detailer node: the things that its segments share, and the plan of an image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

import torch

from ...utils.notes import heard_notes, note
from ..backend import Backend
from ..geometry import NATIVE, Size
from ..hook_protocol import Hook
from ..noise import seed_for
from ..pixels.blend import Blending
from ..pixels.rotated_crop import RotatedCrop
from ..prompts.segment_text import SegmentTexts
from ..sampling.scheduler import MemoryBudget
from ..segs.image_batch import positions_by_image
from ..segs.seg import SEG
from ..segs.tilt import with_rotated_crop
from ..settings import Detail
from ..timing import claimed, current
from .plan import Job, Place, Plan, batches, make_plan
from .references import References
from .report import RunReport, Worked
from .segment_plan import (
    MOST_TOLD,
    NOTE,
    STRENGTH,
    UNSTEERED,
    Chosen,
    Coverage,
    SegmentPlan,
    Steering,
    scene_of,
    segments_named,
)
from .strength import strength_of
from .view import RunView

Result = TypeVar("Result")
MOST_SIDE_BY_SIDE = 16  # the most segments that are worked on at the same time
MOST_CROPS = 64  # the most crops, where segments have variants


class Run:
    """One run of a detailer node: the things that its segments share."""

    def __init__(self, detail: Detail, backend: Backend, image: torch.Tensor | None = None) -> None:
        """`image`: [B,H,W,C], the images of the node or the frames of its clip. References in the
        conditioning are compared with it."""
        self.backend = backend
        self.detail = detail = self._resolved(detail)
        self.hook = Hook(detail.hook)
        self.texts = SegmentTexts(backend, detail.models)
        self.references = References(
            detail.references, image, detail.models.vae, backend, detail.tiling.encode
        )
        self.rows = 1 if image is None else len(image)
        size = Size(0, 0) if image is None else Size(image.shape[2], image.shape[1])
        self.report = RunReport(detail, self.rows, size)
        self.view = RunView(backend.viewer())
        self._memory = backend.watched_memory()
        self.budget = MemoryBudget()
        self._coverage = None if detail.segment_plan is None else Coverage(detail.segment_plan)
        self._bar: Callable = lambda done, model, latent: None
        self._total = 0  # steps of all jobs
        self._steps = 0  # steps that all jobs have done
        self._shown = 0  # steps that the bar shows

    def batch_limit(self, jobs: Iterable[Job]) -> int:
        """The most crops of a wave. How many of them are sampled at once depends on memory.

        Args:
            jobs: of all images; the more variants they have, the more crops may be in a wave.
        """
        if not self.hook.shares_batches:
            return 1
        most = max((self.variants(job) for job in jobs), default=1)
        return self.detail.batch or min(MOST_SIDE_BY_SIDE * most, MOST_CROPS)

    def variants(self, job: Job) -> int:
        """How often a segment is drawn."""
        return job.detail.variants if self.detail.kept.variants else 1

    def each(self, job: Job) -> list[Job]:
        """A job and its variants, in the order in which they run."""
        return job.variants(self.variants(job))

    @property
    def grid(self) -> int:
        """The sides of a canvas are multiples of this, in pixels."""
        models = self.detail.models
        return self.backend.grid(models.model, models.vae)

    def waves(self, plans: Sequence[Plan]) -> list[list[Place]]:
        """The jobs of the plans of all images, wave by wave, in the order in which they run."""
        jobs = [job for plan in plans for job in plan.jobs]
        return batches(plans, self.batch_limit(jobs), self.grid, self.variants)

    def plan(self, segs: list[SEG], image: Size, row: int | None = 0, version: int = 0) -> Plan:
        """Decide the jobs as `decide` does, and tell and report them."""
        plan = self.decide(segs, image, row, version)
        plan.report()
        self.report.planned(plan, row, version, self._places(segs, row))
        several = any(job.detail.variants > 1 for job in plan.jobs)
        if several and not self.detail.kept.variants:
            note(
                "variants",
                "Each segment is drawn only once, as nothing takes the variants. Connect the output"
                " 'variants' to 'Choose Variants', or set 'variants' back to 1.",
            )
        return plan

    def _places(self, segs: list[SEG], row: int | None) -> dict[int, tuple[int, int]]:
        """Of each position its image, the first of several, and its place among those of it."""
        places: dict[int, tuple[int, int]] = {}
        for image, own in self._by_image(segs, row).items():
            for index, position in enumerate(own):
                places.setdefault(position, (image, index))
        return places

    def _by_image(self, segs: list[SEG], row: int | None) -> dict[int, list[int]]:
        """The positions of the segments of each image, or of the one that all are of."""
        if row is None:
            return dict(enumerate(positions_by_image(segs, self.rows)))
        return {row: list(range(len(segs)))}

    def decide(self, segs: list[SEG], image: Size, row: int | None = 0, version: int = 0) -> Plan:
        """Decide the jobs for the segments of an image.

        Args:
            image: size of the image.
            row: index of the image in the node's batch. None: each segment says which image it
                belongs to; a segment that does not say it belongs to the first image.
            version: version v is sampled with the node's seed + v.
        """
        detail = self.detail
        seed = seed_for(detail.sampling.seed, version)

        def rotate(seg: SEG, own: Detail) -> tuple[SEG, RotatedCrop, Size] | None:
            margin = blending_of(own).reach + max(0, own.pasting.mask_grow) + 1
            return with_rotated_crop(
                seg, own.upright, image, _row(seg) if row is None else row, margin
            )

        return make_plan(
            segs, image, detail, seed, self.hook.touch_scaled_size, rotate,
            self._steering(segs, image, row),
        )  # fmt: skip

    def _steering(self, segs: list[SEG], image: Size, row: int | None) -> Steering:
        """What the segment plan sets for the segments of an image, or of all of them (row None)."""
        plan: SegmentPlan | None = self.detail.segment_plan
        if plan is None:
            return UNSTEERED
        chosen: dict[int, Chosen] = {}
        order: list[int] = []
        for index, places in self._by_image(segs, row).items():
            scene = scene_of([segs[place] for place in places], image, index, self.rows)
            own = plan.choose(scene)
            self._coverage.add(scene, own, places)
            for at in plan.working_order(scene):
                if places[at] not in chosen:  # one of all images goes by the first
                    chosen[places[at]] = own[at]
                    order.append(places[at])
        return Steering(tuple(chosen[place] for place in range(len(segs))), tuple(order))

    def _resolved(self, detail: Detail) -> Detail:
        """The settings with the area and the grid of the model, for the policy "native"."""
        sizing, models = detail.sizing, detail.models
        if sizing.policy != NATIVE:
            return detail
        area = sizing.area or self.backend.native_area(models.model)
        grid = sizing.grid or self.backend.grid(models.model, models.vae)
        return replace(detail, sizing=replace(sizing, area=area, grid=grid))

    def start(self, jobs: Iterable[Job]) -> None:
        """Tell how the segment plan was used, and start the node's progress bar.

        Args:
            jobs: all that will be sampled, each variant by itself. A collection is gone through
                several times, and may make them only then.
        """
        jobs = jobs if isinstance(jobs, Collection) else list(jobs)
        self.view.starts(len(jobs))
        if self._coverage is not None:
            self._coverage.tell()
            self._tell_strengths(jobs)
        self._total = sum(job.steps for job in jobs)
        self._bar = self.backend.progress(self._total)
        self._steps, self._shown = 0, 0

    def _tell_strengths(self, jobs: Iterable[Job]) -> None:
        """Tell at which noise level each segment starts, where the plan has a say in that."""
        if not any(job.chosen.overrides.sets(*STRENGTH) for job in jobs):
            return
        same: dict[Hashable, tuple[Job, set[int]]] = {}  # the first job, and all positions
        for job in jobs:
            own = job.detail.sampling
            key = own.denoise, own.steps, own.sampler_name, own.scheduler, id(own.scheduler_func)
            same.setdefault(key, (job, set()))[1].add(job.position)
        told = []
        for first, positions in same.values():
            sampling = first.detail.sampling
            strength = strength_of(self.backend, self.detail.models.model, sampling)
            if strength is not None:
                where = f" ({segments_named(positions)})"
                told.append(
                    f"denoise {sampling.denoise:.3g} with {sampling.steps} steps at {strength}"
                    + (where if self.rows == 1 else "")
                )
        if told:
            note(NOTE, f"Sampling starts for {'; for '.join(told[:MOST_TOLD])}.")

    def advance(self, steps: int, model: Any, latent: torch.Tensor | None) -> None:
        """Count steps that a job has done, and show them on the bar, which never goes back.

        Args:
            steps: new steps; negative if the job starts again.
            latent: denoised [N,C,h,w] for a preview, or None.
        """
        self._steps += steps
        if self._steps >= self._shown:  # it is less while a job is done again
            self._shown = self._steps
            self._bar(self._shown, model, latent)
            self.view.step(self._shown, self._total)

    def begin_wave(self, crops: Sequence[tuple[Worked, torch.Tensor]]) -> None:
        """These crops, each with its pixels [N,h,w,3], are worked on side by side from now on."""
        self.report.wave([worked for worked, _ in crops])
        self.view.wave(crops)

    def ended(self, before: torch.Tensor, after: torch.Tensor | None) -> str:
        """The run is over: show it.

        Args:
            before: [B,H,W,C], the node's images.
            after: what they have become; None if they stay.

        Returns:
            What was done and what it took, as JSON; see `core/detail/report.py`.
        """
        watch = current()
        self.view.ends(before, after, watch.read()[0])
        with heard_notes() as notes:
            return self.report.as_text(watch, self._memory(), self.backend.about(), tuple(notes))

    def after_paste(self, image: torch.Tensor) -> None:
        """Let the hook change the image [B,H,W,3] into which a result was just pasted, in place."""
        changed = self.hook.post_paste(image)
        if changed is not image:
            image.copy_(changed)


def reported(detail: Callable[..., Result]) -> Callable[..., Result]:
    """A function that makes one Run: its time and notes are kept apart from those of others."""

    @wraps(detail)
    def run(*args: Any, **options: Any) -> Result:
        with claimed(), heard_notes():
            return detail(*args, **options)

    return run


def blending_of(detail: Detail) -> Blending:
    """How the result of a job with these settings is pasted."""
    return Blending(detail.masking.feather, detail.pasting)


def segment_name(job: Job, size: Size) -> str:
    """The name of a segment in messages."""
    return f"{job.name} at {size.width} x {size.height} pixels"


def _row(seg: SEG) -> int:
    """Index of the image of the node's batch to which a segment belongs."""
    image = seg.batch_image
    return 0 if image is None else image.index or 0
