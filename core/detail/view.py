"""What the editor shows of a run: the crops that are being sampled, then each one before and after.

All pictures are small. Each is made when its crop is in memory anyway. Without a viewer no picture
is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...utils.shown import show
from ..backend import Viewer
from ..geometry import Size
from ..pixels.image import middle
from ..timing import REPORT, stage
from .report import Record, Worked

SHOWN = "detailers_view"  # key in a node's UI output
CROP_SIDE = 160  # longer side of the picture of a crop, in pixels
IMAGE_SIDE = 512  # longer side of the picture of a whole image, in pixels
MOST_PAIRS = 64  # the most crops that get pictures
MOST_IMAGES = 4  # the most images of a batch that get pictures
_PAUSE = 0.25  # seconds between two messages about steps

Entry = dict[str, str]  # names the file of a picture, as ComfyUI's editor asks for it


@dataclass
class _Pair:
    """A crop before and after."""

    crop_size: Size
    before: Entry
    after: Entry | None = None


class RunView:
    """Shows one run to a viewer, or to nobody."""

    def __init__(self, viewer: Viewer | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.viewer, self.clock = viewer, clock
        self._pairs: dict[int, _Pair] = {}  # by the id of the crop's record
        self._shown: list[Worked] = []  # crops with pictures, in working order
        self._of = self._begun = self._ended = 0  # crops: all, started, finished
        self._first: tuple[float, int] | None = None  # time and number of the first step
        self._told = float("-inf")
        self._current: list[Entry] = []

    def starts(self, crops: int) -> None:
        """The run starts. `crops`: the number of crops that it will sample."""
        self._of = crops

    def wave(
        self,
        crops: Sequence[tuple[Worked, torch.Tensor]],
        lasting: Callable[[Worked], bool] = lambda worked: True,
    ) -> None:
        """A wave starts.

        Args:
            crops: its crops, each with its pixels [N,h,w,3] 0..1.
            lasting: whether a crop gets pictures before and after.
        """
        self._begun += len(crops)
        if self.viewer is None:
            return
        with stage(REPORT):
            self._current = []
            for worked, pixels in crops:
                if worked.job.variant or not lasting(worked) or len(self._pairs) >= MOST_PAIRS:
                    continue
                entry = self.viewer.picture(middle(pixels), CROP_SIDE)
                size = Size(pixels.shape[2], pixels.shape[1])
                self._pairs[id(worked.record)] = _Pair(size, entry)
                self._shown.append(worked)
                self._current.append(entry)
            self._tell(None)

    def step(self, done: int, total: int) -> None:
        """`done` of `total` steps of the sampler are done, counted over all crops."""
        if self.viewer is None:
            return
        now = self.clock()
        if self._first is None:
            self._first = now, done
        if now - self._told < _PAUSE:
            return
        with stage(REPORT):
            begun, first = self._first
            left = None
            if done > first:
                left = (now - begun) / (done - first) * max(0, total - done)
            self._tell(left, done / max(1, total))

    def over(self, record: Record, pixels: torch.Tensor | None) -> None:
        """A crop is finished. `pixels`: its result [N,h,w,3] 0..1, or None if it is not used."""
        self._ended += 1
        pair = self._pairs.get(id(record))
        if self.viewer is None or pair is None or pixels is None:
            return
        with stage(REPORT):
            pair.after = self.viewer.picture(middle(pixels), CROP_SIDE)

    def ends(self, before: torch.Tensor, after: torch.Tensor | None, seconds: float) -> None:
        """The run is over.

        Args:
            before: the node's images [B,H,W,C] 0..1.
            after: the result [n*B,H,W,C] 0..1; None if the node does not change the images.
            seconds: that the run took.
        """
        if self.viewer is None or not self._shown:
            return
        with stage(REPORT):
            images = [] if after is None else self._images(before, after)
            show(
                SHOWN,
                {
                    "pairs": [self._told_of(own) for own in self._shown],
                    "more": max(0, self._ended - len(self._shown)),
                    "images": images,
                    "image_size": [before.shape[2], before.shape[1]],
                    "seconds": round(seconds, 2),
                },
            )

    def _images(self, before: torch.Tensor, after: torch.Tensor) -> list[dict[str, Entry]]:
        """Pictures of whole images before and after; of a large batch, evenly spread ones."""
        count = len(after)
        step = -(-count // MOST_IMAGES)
        return [
            {
                "before": self.viewer.picture(before[row % len(before)][None], IMAGE_SIDE),
                "after": self.viewer.picture(after[row][None], IMAGE_SIDE),
            }
            for row in range(0, count, step)
        ]

    def _told_of(self, worked: Worked) -> dict[str, Any]:
        job, row, record = worked
        pair = self._pairs[id(record)]
        return {
            "segment": job.position,
            "image": row,
            "label": str(job.seg.label).encode("utf-8", "replace").decode("utf-8"),
            "crop": list(pair.crop_size),
            "size": list(job.size),
            "seconds": round(record.seconds, 2),
            "retries": record.retries,
            "fault": record.fault,
            "before": pair.before,
            "after": pair.after,
        }

    def _tell(self, left: float | None, done: float = 0.0) -> None:
        self._told = self.clock()
        first = min(self._ended + 1, self._begun)
        self.viewer.tell(
            first=first,
            last=self._begun,
            of=self._of,
            left=None if left is None else round(left, 1),
            done=round(done, 4),
            pictures=self._current,
        )
