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

# The rows of a clip are enlarged, encoded, decoded and shrunk in slices, so that the need of memory
# does not grow with the length of the clip. A slice holds about this many pixels of the canvas.
SLICE_PIXELS = 2**22


@dataclass(frozen=True)
class Canvas:
    """The working size of a crop and its padding to the grid of VAE and model."""

    working: Size
    margin: tuple[int, int, int, int]  # left, right, top, bottom

    @classmethod
    def of(cls, crop: Crop, grid: int) -> Canvas:
        """The canvas of a crop. Its sides are multiples of `grid` pixels."""
        return cls(crop.job.size, padding(crop.job.size, grid))

    @property
    def size(self) -> Size:
        """Width and height of the canvas, padding included."""
        left, right, top, bottom = self.margin
        return Size(self.working.width + left + right, self.working.height + top + bottom)

    def pad(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [N,h,w,C] on the canvas: [N,H,W,C].

        The pixels are first resized to the working size, since a hook may have given another size.
        """
        return pad_edge(resize(pixels, self.working), self.margin)

    def unpad(self, pixels: torch.Tensor) -> torch.Tensor:
        """The pixels [N,h,w,C] of the canvas without its padding: [N,H,W,C] of the working size.

        The pixels are first resized to the canvas, since a VAE may decode to another size.
        """
        return unpad(resize(pixels, self.size), self.margin)

    def fit_mask(self, mask: torch.Tensor, *, enlarge: bool) -> torch.Tensor:
        """The crop's mask on the canvas.

        Args:
            mask: [N,h,w] 0..1.
            enlarge: resize the mask to the working size even if the canvas has no padding.

        Returns:
            [N,H,W] of the canvas. If there is no padding, and `enlarge` is off, the mask keeps
            its own resolution: the sampler then brings it to the latent's size in one step.
        """
        if not any(self.margin) and not enlarge:
            return mask
        width, height = self.working
        fitted = F.interpolate(mask[:, None].float(), size=(height, width), mode="bilinear")
        return F.pad(fitted, self.margin, mode="replicate")[:, 0]


def rows_of(masks: torch.Tensor, rows: slice) -> torch.Tensor:
    """The masks [n,h,w] of these rows. A single mask [1,h,w] holds for all rows."""
    return masks if len(masks) == 1 else masks[rows]


def row_slices(rows: int, size: Size, whole: bool = False) -> Iterator[slice]:
    """Slices of a clip that hold about SLICE_PIXELS pixels each.

    Args:
        rows: frames of the clip.
        size: of a frame.
        whole: give all rows as one slice.
    """
    step = rows if whole else max(1, SLICE_PIXELS // (size.width * size.height))
    return (slice(i, min(i + step, rows)) for i in range(0, rows, max(1, step)))


def lengthened(frames: torch.Tensor, length: int) -> torch.Tensor:
    """The clip [F,H,W,C], or its masks [F,H,W], with the last frame repeated up to `length`."""
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
        frames_of_steps: takes the numbers of steps and of frames; gives the frames that each step
            stands for.

    Returns:
        [steps,h,w], or the mask [1,h,w] as it is.
    """
    if len(mask) == 1:
        return mask
    return torch.stack([mask[frames].amax(0) for frames in frames_of_steps(steps, len(mask))])
