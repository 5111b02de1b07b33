"""Rotated crops: one resampling takes them out of the crop region, and one puts them back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..geometry import Box, Size
from .precision import in_float32
from .resample import resize


@dataclass(frozen=True)
class RotatedCrop:
    """A rotated rectangle in a crop region, which is turned upright for sampling.

    Lengths and places are in pixels of the crop region, from its top left.
    """

    region: Size  # size of the crop region
    centre: tuple[float, float]  # x and y
    size: tuple[float, float]  # width and height, along the sides of the rectangle
    angle: float  # radians, clockwise

    @property
    def frame(self) -> Box:
        """The upright crop in whole pixels of the image's resolution."""
        return Box(0, 0, *(max(1, round(side)) for side in self.size))

    @in_float32
    def extract(self, pixels: torch.Tensor, size: Size) -> torch.Tensor:
        """The picture in the rectangle, turned upright.

        Args:
            pixels: [N,h,w,C] 0..1, the whole crop in any resolution. Outside the crop its border
                pixels are repeated.
            size: width and height of the result.

        Returns:
            [N,size.height,size.width,C] 0..1.
        """
        finer = self._finer(Size(pixels.shape[2], pixels.shape[1]), self.region, size, self.size)
        finely = self.sample(pixels, Size(size[0] * finer, size[1] * finer))
        return resize(finely.clamp_(0, 1), size)

    def sample(self, values: torch.Tensor, size: Size, mode: str = "bicubic") -> torch.Tensor:
        """As `extract`, for values [N,h,w,C] of any range, and with one sample for each pixel."""
        across, down = _centres(size, values)
        x, y = self.places(across[None, :], down[:, None])
        x, y = x / self.region.width, y / self.region.height
        return _sampled(values, x, y, mode)

    def places(self, across: torch.Tensor, down: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x and y in the crop of places in the rectangle.

        Args:
            across, down: [...], shares of the rectangle's width and height, 0..1.
        """
        u, v = (across - 0.5) * self.size[0], (down - 0.5) * self.size[1]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return self.centre[0] + u * cos - v * sin, self.centre[1] + u * sin + v * cos

    @in_float32
    def put_back(self, pixels: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """The crop [N,h,w,C] with an upright picture put back into the rectangle.

        Args:
            pixels: [N,H,W,C] 0..1 of any size: the changed result of `extract`.
            original: [N,h,w,C], the crop; it is kept outside the rectangle.
        """
        size = Size(original.shape[2], original.shape[1])
        finer = self._finer(Size(pixels.shape[2], pixels.shape[1]), self.size, size, self.region)
        u, v = self._shares(Size(size.width * finer, size.height * finer), pixels)
        turned = resize(_sampled(pixels, u, v).clamp_(0, 1), size).to(original)
        return torch.where(self.inside(original)[..., None], turned, original)

    def inside(self, crop: torch.Tensor) -> torch.Tensor:
        """The pixels of a crop [N,h,w,C] that the rectangle covers, as [1,h,w] bool."""
        u, v = self._shares(Size(crop.shape[2], crop.shape[1]), crop)
        return ((u >= 0) & (u <= 1) & (v >= 0) & (v <= 1))[None]

    def placed(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        """Points (x, y) of the crop as shares of the rectangle's width and height."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        moved = [(x - self.centre[0], y - self.centre[1]) for x, y in points]
        return [
            ((x * cos + y * sin) / self.size[0] + 0.5, (y * cos - x * sin) / self.size[1] + 0.5)
            for x, y in moved
        ]

    @staticmethod
    def _finer(have: Size, covers: Sequence[float], new: Size, over: Sequence[float]) -> int:
        """How many samples per side of a new pixel are needed to miss no old pixel.

        Args:
            have, covers: old pixels, and the lengths that they cover.
            new, over: new pixels, and the lengths that they cover.
        """
        old_density = max(pixels / length for pixels, length in zip(have, covers, strict=True))
        new_density = min(pixels / length for pixels, length in zip(new, over, strict=True))
        return max(1, math.ceil(old_density / new_density - 0.01))

    def _shares(self, size: Size, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The pixels of a crop of this size as shares [h,w] of the rectangle's width and height."""
        across, down = _centres(size, like)
        x = (across * self.region.width - self.centre[0])[None, :]
        y = (down * self.region.height - self.centre[1])[:, None]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return (x * cos + y * sin) / self.size[0] + 0.5, (y * cos - x * sin) / self.size[1] + 0.5


def _centres(size: Size, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The centres of the pixels along width and height, as shares of that."""
    return tuple(
        (torch.arange(length, device=like.device, dtype=torch.float32) + 0.5) / length
        for length in size
    )


def _sampled(
    pixels: torch.Tensor, x: torch.Tensor, y: torch.Tensor, mode: str = "bicubic"
) -> torch.Tensor:
    """Values [N,h,w,C] sampled at places [H,W], given as shares of their width and height."""
    grid = torch.stack((x, y), dim=-1)[None] * 2 - 1
    found = F.grid_sample(
        pixels.float().movedim(-1, 1), grid.expand(len(pixels), -1, -1, -1),
        mode=mode, padding_mode="border", align_corners=False,
    )  # fmt: skip
    return found.movedim(1, -1).to(pixels)


def rotated_rectangle(
    points: torch.Tensor, angle: float, factor: tuple[float, float], margin: float
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """The rotated rectangle around points.

    Args:
        points: [K,2], x and y of the pixels that it contains.
        angle: of the rectangle, in radians, clockwise.
        factor: its width and height, relative to the smallest such rectangle.
        margin: the least number of pixels between the points and its sides.

    Returns:
        The centre, the size, and the size of the smallest such rectangle.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    axes = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    own = (points.double() + 0.5) @ axes
    low, high = own.amin(dim=0) - 0.5, own.amax(dim=0) + 0.5
    u, v = ((low + high) / 2).tolist()
    tight = tuple((high - low).tolist())
    size = tuple(max(side * f, side + 2 * margin) for side, f in zip(tight, factor, strict=True))
    return (u * cos - v * sin, u * sin + v * cos), size, tight


def enclosing_box(centre: tuple[float, float], size: tuple[float, float], angle: float) -> Box:
    """The smallest upright box, in whole pixels, around a rotated rectangle."""
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    half_width = (size[0] * cos + size[1] * sin) / 2
    half_height = (size[0] * sin + size[1] * cos) / 2
    return Box(
        math.floor(centre[0] - half_width),
        math.floor(centre[1] - half_height),
        math.ceil(centre[0] + half_width),
        math.ceil(centre[1] + half_height),
    )
