"""What the editor shows of a run: the crops on their way, and each before and after.

All pictures are small and go to the viewer one by one, as each crop is there anyway. Nothing is
made where nobody looks.
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
from ..timing import REPORT, stage
from .report import Record, Worked

SHOWN = "detailers_view"  # where it stands in a node's UI output
CROP_SIDE = 160  # pixels, the longer side of a crop's picture
IMAGE_SIDE = 512  # that of a whole image's
MOST_PAIRS = 64  # crops of which there are pictures
MOST_IMAGES = 4  # images of a batch that can be compared
_PAUSE = 0.25  # seconds between two messages about steps

Entry = dict[str, str]  # a picture, as ComfyUI's editor asks for it


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
        self._shown: list[Worked] = []  # those with pictures, in the order of work
        self._of = self._begun = self._ended = 0  # crops in all, that have begun, that are over
        self._first: tuple[float, int] | None = None  # when a step was first told of, and which
        self._told = float("-inf")
        self._current: list[Entry] = []

    def starts(self, crops: int) -> None:
        """The run works on so many crops."""
        self._of = crops

    def wave(self, crops: Sequence[tuple[Worked, torch.Tensor]]) -> None:
        """These crops, each with its pixels [N,h,w,3], are worked on from now on."""
        self._begun += len(crops)
        if self.viewer is None:
            return
        with stage(REPORT):
            self._current = []
            for worked, pixels in crops:
                if worked.job.variant or len(self._pairs) >= MOST_PAIRS:
                    continue
                entry = self.viewer.picture(_middle(pixels), CROP_SIDE)
                size = Size(pixels.shape[2], pixels.shape[1])
                self._pairs[id(worked.record)] = _Pair(size, entry)
                self._shown.append(worked)
                self._current.append(entry)
            self._tell(None)

    def step(self, done: int, total: int) -> None:
        """So many of all steps are done."""
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
        """A crop is finished and looks like this now, [N,h,w,3]; None: nothing of it is used."""
        self._ended += 1
        pair = self._pairs.get(id(record))
        if self.viewer is None or pair is None or pixels is None:
            return
        with stage(REPORT):
            pair.after = self.viewer.picture(_middle(pixels), CROP_SIDE)

    def ends(self, before: torch.Tensor, after: torch.Tensor | None, seconds: float) -> None:
        """The run is over.

        Args:
            before: [B,H,W,C], the node's images.
            after: what they have become, perhaps several times over; None if they stay.
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
        """Whole images before and after: some of a batch, spread over it."""
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


def _middle(pixels: torch.Tensor) -> torch.Tensor:
    """The picture that stands for a crop, [1,h,w,3]: the one in the middle of a clip."""
    row = len(pixels) // 2
    return pixels[row : row + 1]
