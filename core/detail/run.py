"""One run of a detailer: what its segments share, and the plan of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..backend import Backend
from ..geometry import NATIVE, Size, Sizing
from ..hook_protocol import Hook
from ..noise import seed_for
from ..pixels.blend import Blending
from ..prompts.segment_text import SegmentTexts
from ..sampling.scheduler import MemoryBudget
from ..segs.seg import SEG
from ..segs.tilt import turned
from ..settings import Detail
from .plan import Job, Plan, make_plan
from .references import References

MOST_SIDE_BY_SIDE = 16  # crops that are under way at once


class Run:
    """One execution of a detailer node: what its segments share."""

    def __init__(self, detail: Detail, backend: Backend, image: torch.Tensor | None = None) -> None:
        """`image`: [B,H,W,C], the node's images or the frames of its clip, which references in the
        conditioning may show."""
        self.detail = detail
        self.backend = backend
        self.hook = Hook(detail.hook)
        self.blending = Blending(detail.masking.feather, detail.pasting)
        self.texts = SegmentTexts(backend, detail.models)
        self.references = References(
            detail.references, image, detail.models.vae, backend, detail.tiling.encode
        )
        self.rows = 1 if image is None else len(image)
        self.budget = MemoryBudget()
        self._bar: Callable = lambda done, model, latent: None
        self._steps = 0  # that all jobs have gone
        self._shown = 0  # on the bar

    @property
    def batch_limit(self) -> int:
        """How many crops may walk side by side; memory decides how many are sampled at once."""
        if not self.hook.shares_batches:
            return 1
        return self.detail.batch or MOST_SIDE_BY_SIDE

    @property
    def grid(self) -> int:
        """What crops are padded to multiples of."""
        models = self.detail.models
        return self.backend.grid(models.model, models.vae)

    def plan(self, segs: list[SEG], image: Size, row: int | None = 0, version: int = 0) -> Plan:
        """Decide the jobs for the segments of an image and log who is left out.

        Args:
            image: its size.
            row: which image of the node's batch it is; None: each segment says it, or it is the
                first.
            version: v has the node's seed + v.
        """
        detail = self.detail
        seed = seed_for(detail.sampling.seed, version)
        margin = self.blending.reach + max(0, detail.pasting.mask_grow) + 1
        plan = make_plan(
            segs, self._sizing(), seed, detail.text, self.hook.touch_scaled_size,
            lambda seg: turned(
                seg, detail.upright, image, _row(seg) if row is None else row, margin
            ),
        )  # fmt: skip
        plan.report()
        return plan

    def _sizing(self) -> Sizing:
        """The node's sizing, with the model's own area and grid where it asks for them."""
        sizing = self.detail.sizing
        if sizing.policy != NATIVE:
            return sizing
        area = sizing.area or self.backend.native_area(self.detail.models.model)
        return replace(sizing, area=area, grid=sizing.grid or self.grid)

    def start(self, jobs: int) -> None:
        """Open the node's one progress bar, for this many jobs in all."""
        sampling = self.detail.sampling
        self._bar = self.backend.progress(jobs * sampling.cycle * sampling.steps)
        self._steps, self._shown = 0, 0

    def advance(self, steps: int, model: Any, latent: torch.Tensor | None) -> None:
        """Count steps that a job has gone on, and show the bar at its furthest so far."""
        self._steps += steps
        if self._steps >= self._shown:  # less while a job that went wrong is made again
            self._shown = self._steps
            self._bar(self._shown, model, latent)

    def after_paste(self, image: torch.Tensor) -> None:
        """Let the hook change the image that a result was just pasted into, in place."""
        changed = self.hook.post_paste(image)
        if changed is not image:
            image.copy_(changed)


def segment_name(job: Job, size: Size) -> str:
    """A segment as messages name it."""
    return f"segment {job.position} at {size.width} x {size.height} pixels"


def _row(seg: SEG) -> int:
    """Which image of the node's batch a segment belongs to."""
    image = seg.batch_image
    return 0 if image is None else image.index or 0
