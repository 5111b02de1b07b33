"""The canvas that is sampled: the working size of a crop, padded to the grid of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..geometry import Size, padding
from ..pixels.image import pad_edge, unpad
from ..pixels.resample import resize
from .crop import Crop

# Rows of a clip are enlarged, encoded, decoded and shrunk a slice at a time, so that memory does
# not grow with the clip: a slice holds about this many pixels of the working size.
SLICE_PIXELS = 2**22


@dataclass(frozen=True)
class Canvas:
    """The working size of a crop and its padding to the grid of VAE and model."""

    working: Size
    margin: tuple[int, int, int, int]  # left, right, top, bottom

    @classmethod
    def of(cls, crop: Crop, grid: int) -> Canvas:
        return cls(crop.job.size, padding(crop.job.size, grid))

    @property
    def size(self) -> Size:
        left, right, top, bottom = self.margin
        return Size(self.working.width + left + right, self.working.height + top + bottom)

    def pad(self, pixels: torch.Tensor) -> torch.Tensor:
        """A hook may have given other pixels: fit them first."""
        return pad_edge(resize(pixels, self.working), self.margin)

    def unpad(self, pixels: torch.Tensor) -> torch.Tensor:
        """A VAE may decode to another size than it encoded: fit first."""
        return unpad(resize(pixels, self.size), self.margin)

    def fit_mask(self, mask: torch.Tensor, *, enlarge: bool) -> torch.Tensor:
        """The crop's mask on the canvas.

        Without padding, and unless `enlarge` asks for the working size, it keeps its own
        resolution, which the sampler brings to the latent's in one step.
        """
        if not any(self.margin) and not enlarge:
            return mask
        width, height = self.working
        fitted = F.interpolate(mask[:, None].float(), size=(height, width), mode="bilinear")
        return F.pad(fitted, self.margin, mode="replicate")[:, 0]


def rows_of(masks: torch.Tensor, rows: slice) -> torch.Tensor:
    """The masks of these rows, where there is not one for all."""
    return masks if len(masks) == 1 else masks[rows]


def row_slices(rows: int, size: Size, whole: bool = False) -> Iterator[slice]:
    """Slices of a clip that hold about SLICE_PIXELS pixels each; `whole` makes it one."""
    step = rows if whole else max(1, SLICE_PIXELS // (size.width * size.height))
    return (slice(i, min(i + step, rows)) for i in range(0, rows, max(1, step)))


def lengthened(frames: torch.Tensor, length: int) -> torch.Tensor:
    """The clip, or its masks, with the last frame repeated up to `length`."""
    missing = length - len(frames)
    if missing <= 0:
        return frames
    return torch.cat([frames, frames[-1:].expand(missing, *frames.shape[1:])])


def mask_over_time(
    mask: torch.Tensor, steps: int, frames_of_steps: Callable[[int, int], list[slice]]
) -> torch.Tensor:
    """One mask for each latent step of a clip: the union of the masks of its frames.

    Args:
        mask: [F,h,w], or [1,h,w] for all frames.
        steps: latent steps of the clip.
        frames_of_steps: (steps, frames) -> the frames that each step may stand for.
    """
    if len(mask) == 1:
        return mask
    return torch.stack([mask[frames].amax(0) for frames in frames_of_steps(steps, len(mask))])
