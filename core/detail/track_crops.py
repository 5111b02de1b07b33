"""One frame of a track before it is sampled: the region around its window, and its mask there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ...utils.arrays import to_tensor
from ...utils.notes import note
from ..clips import Frame
from ..geometry import Box
from ..pixels.image import to_rgb
from ..pixels.precision import widened
from ..pixels.window import Window, covered
from ..tracks.masks import parted_mask_in
from .crop import Crop
from .track_work import Stretch

NOWHERE = Box(0, 0, 0, 0)
Tell = Callable[[str, str], None]  # takes the kind and the text of a note


@dataclass(frozen=True)
class WindowCrop(Crop):
    """The region of a frame around a window, and the mask there.

    The job's `rotated` is the window in that region. So the pipeline of crops cuts it out at its
    sub-pixel place, and puts it back there.
    """

    inner: Box = NOWHERE  # pixels of the frame that the window covers as a whole
    told: Tell = field(default=note, compare=False)

    @classmethod
    def of(cls, stretch: Stretch, place: int, frame: Frame, told: Tell) -> WindowCrop:
        """A frame of a stretch as a crop. It holds the frame, or the region alone."""
        own, job = stretch.frames[place], stretch.job(place)
        pixels = widened(to_rgb(frame.part(job.region))[0])
        mask = to_tensor(parted_mask_in(own.sighting, own.met, job.region), device=pixels.device)
        inner = covered(own.window, frame.size)
        return cls(job, frame.size, pixels, mask[None], own.frame, inner=inner, told=told)

    def tell(self, kind: str, text: str) -> None:
        """Give a note about the crop, once for all frames of its track."""
        self.told(kind, text)

    @property
    def window(self) -> Window:
        """The window in the region."""
        return self.job.rotated

    def inside(self, region: torch.Tensor) -> torch.Tensor:
        """The part [n,h,w,...] of `inner` in a tensor [n,h,w,...] of the region, as a view."""
        box = self.inner.shifted(-self.job.region.x1, -self.job.region.y1)
        return region[:, box.y1 : box.y2, box.x1 : box.x2]
