"""One crop before and after it is sampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from ...utils.notes import note
from .. import memory
from ..geometry import Size
from ..pixels.crop_view import Cut
from ..pixels.mask import feather
from ..pixels.resample import resize
from ..pixels.rotated_crop import RotatedCrop
from ..timing import RESIZE, stage
from .plan import Job
from .report import Record, Worked
from .run import segment_name

Result = TypeVar("Result")


@dataclass(frozen=True)
class ClipPart:
    """Which part of a longer clip the rows of a crop are."""

    first: int = 0  # the place of the first row in the clip, from 0
    kept: int = 0  # the first rows, which are a result already and stay as they are


@dataclass(frozen=True)
class Crop:
    """The pixels of a job before sampling."""

    job: Job
    image: Size  # size of the image that the crop is from
    pixels: torch.Tensor  # [N,h,w,3] 0..1, N > 1 for the frames of a clip
    mask: torch.Tensor  # [N or 1,h,w] 0..1; 1 is to be redrawn
    row: int = 0  # which image of the node's batch the crop is from
    video: bool = False  # the rows are one clip and are sampled together
    record: Record = field(default_factory=Record, compare=False)  # what becomes of it
    part: ClipPart | None = None  # of a clip that is sampled in parts

    @property
    def rotated(self) -> RotatedCrop | None:
        """The rotated crop in its region; None where the pixels are worked on as they are."""
        return self.job.rotated

    def cut(self, canvas: Size, ratio: int, rows: int) -> Cut:
        """How pictures of the whole image are cut to it.

        Args:
            canvas: that is sampled.
            ratio: pixels per latent pixel along a side.
            rows: number of the node's images.
        """
        job = self.job
        batch = (0, 1) if self.video else (min(self.row, rows - 1), rows)
        return Cut(self.image, job.region, job.size, canvas, ratio, job.rotated, *batch)

    @property
    def worked(self) -> Worked:
        """What the run's report keeps of it."""
        return Worked(self.job, self.row, self.record)

    @property
    def name(self) -> str:
        """The segment and its size, for messages."""
        return segment_name(self.job, self.job.size)

    def tell(self, kind: str, text: str) -> None:
        """Give a note about the crop."""
        note(kind, text)

    def persist(self, work: Callable[[], Result], verb: str) -> Result:
        """Do work on the crop, and do it again if memory runs out; see `memory.persist`."""
        return memory.persist(work, self.name, verb)

    def at_working_size(self, rows: slice) -> torch.Tensor:
        """These rows at the job's working size [n,H,W,3]. A rotated crop is made upright."""
        return self.at(self.job.size, rows)

    def at(self, size: Size, rows: slice) -> torch.Tensor:
        """These rows at a size [n,H,W,3]. A rotated crop is made upright."""
        rotated, pixels = self.rotated, self.pixels[rows]
        return resize(pixels, size) if rotated is None else rotated.extract(pixels, size)

    def from_working_size(self, pixels: torch.Tensor, rows: slice) -> torch.Tensor:
        """Pixels [n,H,W,3] of any size, brought back to the size and angle of the crop.

        Returns:
            [n,h,w,3]. A rotated crop keeps the crop's own pixels outside of its rectangle.
        """
        original = self.pixels[rows]
        pixels = pixels.to(original)
        if self.rotated is not None:
            return self.rotated.put_back(pixels, original)
        return resize(pixels, Size(original.shape[2], original.shape[1]))

    def enlarged(self, rows: slice) -> torch.Tensor:
        """As `at_working_size`, [n,H,W,3]. It is tried again if memory runs out."""
        with stage(RESIZE):
            return self.persist(lambda: self.at_working_size(rows), "enlarged")

    def shrunk(self, pixels: torch.Tensor, rows: slice) -> torch.Tensor:
        """As `from_working_size`, [n,h,w,3]. It is tried again if memory runs out."""
        with stage(RESIZE):
            return self.persist(
                lambda: self.from_working_size(pixels, rows), "brought back to its size"
            )

    def soft_mask(self, reach: int) -> torch.Tensor:
        """The mask with a soft edge.

        Args:
            reach: width of the soft edge in pixels of the crop.

        Returns:
            [N or 1,h,w] at the size of the crop. The mask of a rotated crop is upright and has the
            job's working size.
        """
        soft, rotated = feather(self.mask, reach), self.rotated
        return soft if rotated is None else rotated.extract(soft[..., None], self.job.size)[..., 0]

    @property
    def cell(self) -> float:
        """How many pixels of the crop one pixel of the working size covers, along one side."""
        rotated, (height, width) = self.rotated, self.pixels.shape[1:3]
        own = (width, height) if rotated is None else rotated.size
        return max(old / new for old, new in zip(own, self.job.size, strict=True))


@dataclass(frozen=True)
class Enhanced:
    """A job's result at the size of its crop."""

    pixels: torch.Tensor  # [N,h,w,3]
    control_images: list[torch.Tensor] = field(default_factory=list)
    fault: str = ""  # why the pixels must not be pasted
