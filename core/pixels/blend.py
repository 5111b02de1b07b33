"""Blend a result into the image so that no edge shows: by weight, by colour, by bands.

By default this is `core/pixels/image.paste` with a feathered mask. `Pasting` has the options for
everything else here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from ..geometry import Box, Size
from ..settings import MULTIBAND, Pasting
from .colour import ColourChange, FrameColours, frames_of, rim, surroundings
from .image import crop, paste, usable
from .mask import SIGMAS_OF_REACH, blur_image, fade, feather, grow
from .precision import in_float32

RIM = 20  # pixels on either side of a mask's edge where colours are compared
CENTRE = 0.5  # a band is blended separately only if its weight reaches this somewhere
COARSE_BANDS = 2
LITTLE = 1e-4  # the least share of the mask within reach for a mean
CORNER = 4  # a fade towards the border takes at most one part in this many of a side


@dataclass(frozen=True)
class Blending:
    """How results are blended into an image: the node's feather and its paste options."""

    feather: int
    options: Pasting = field(default_factory=Pasting)

    @property
    def reach(self) -> int:
        """Pixels over which the edge fades to either side."""
        fade_reach = self.options.fade
        return self.feather if fade_reach is None else fade_reach

    @in_float32
    def weight(self, mask: torch.Tensor, box: Box, image: Size) -> torch.Tensor:
        """How much of the result each pixel takes.

        Args:
            mask: [B,h,w] 0..1, of the box's size.
            box: the crop's place in the image; it lies inside.
            image: size of the image.

        Returns:
            [B,h,w] 0..1.
        """
        options = self.options
        mask = grow(mask, options.mask_grow)
        if options.fade is None:
            soft = feather(mask, self.feather)
        else:
            soft = fade(mask, options.fade)
        if not options.fade_inside:
            return soft
        return torch.minimum(soft, _towards_border(soft, 2 * self.reach, box, image))

    def change_of_colours(
        self, pixels: torch.Tensor, original: torch.Tensor, weight: torch.Tensor
    ) -> ColourChange | None:
        """The change that matches the colours at the rim to the image; None if it is not wanted.

        Args:
            pixels, original: [N,h,w,3].
            weight: [N or 1,h,w] 0..1, the result of `weight`.
        """
        return self.change_of_clip([(pixels, original, weight)])

    def change_of_clip(
        self, slices: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    ) -> ColourChange | None:
        """One change, as of `change_of_colours`, for all frames of a clip.

        Args:
            slices: pixels [N,h,w,3], original [N,h,w,3] and weight [N or 1,h,w] of some frames
                each. The result does not depend on how the clip is sliced.
        """
        if not self.options.colour_match:
            return None
        return ColourChange.of([frame for part in slices for frame in self.colours(*part)])

    def colours(
        self, pixels: torch.Tensor, original: torch.Tensor, weight: torch.Tensor
    ) -> list[FrameColours]:
        """What `change_of_clip` knows of some frames, for changes that are of several of them.

        Args:
            pixels, original: [N,h,w,3].
            weight: [N or 1,h,w] 0..1, the result of `weight`.
        """
        if not (self.options.colour_match and usable(pixels)):
            return []
        areas = rim(weight, RIM), surroundings(weight, RIM)
        return frames_of(pixels.float(), original.float(), *areas)

    def paste(
        self,
        image: torch.Tensor,
        pixels: torch.Tensor,
        weight: torch.Tensor,
        box: Box,
        change: ColourChange | None = None,
        opacity: float = 1.0,
    ) -> bool:
        """Do as `core/pixels/image.paste` does, with the options for colours and bands.

        Args:
            image: [B,H,W,3] 0..1, changed in place.
            pixels: [B or 1,h,w,3] 0..1.
            weight: [B or 1,h,w] 0..1, the result of `weight`.
            box: the place of the crop in the image.
            change: the change of colours; None computes it from the rims of these pixels.
            opacity: 0..1.

        Returns:
            Whether the crop was pasted; see `core/pixels/image.paste`.
        """
        if self.options.colour_match:
            change = change or self.change_of_colours(pixels, crop(image, box), weight)
            if change is not None:
                pixels = change.apply(pixels.float(), self.options.colour_match)
        if self.options.blend == MULTIBAND and usable(pixels):
            original = crop(image, box)
            rows = (original.float(), pixels.float(), weight.float())
            if len(weight) == 1:
                pixels = multiband(*rows, self.reach)
            else:  # each mask has bands of its own
                parts = zip(*(part.split(1) for part in rows), strict=True)
                pixels = torch.cat([multiband(*part, self.reach) for part in parts])
            weight = (weight > 0).to(weight)
        return paste(image, pixels.to(image), weight, box, opacity)


def _towards_border(like: torch.Tensor, width: int, box: Box, image: Size) -> torch.Tensor:
    """A weight [1,h,w] that falls to 0 at the crop's border, but not where the image ends."""
    height, length = like.shape[1:]
    across = _ramp(length, width, box.x1 > 0, box.x2 < image.width, like)
    down = _ramp(height, width, box.y1 > 0, box.y2 < image.height, like)
    return (down[:, None] * across[None, :])[None]


def _ramp(length: int, width: int, first: bool, last: bool, like: torch.Tensor) -> torch.Tensor:
    """A weight [length] that rises from 0 if `first` is true, and falls to 0 if `last` is."""
    width = min(width, length // CORNER)
    ramp = torch.ones(length, device=like.device, dtype=like.dtype)
    if width < 1:
        return ramp
    distance = torch.arange(length, device=like.device, dtype=like.dtype)
    for wanted, away in ((first, distance), (last, length - 1 - distance)):
        if wanted:
            share = (away / width).clamp(0, 1)
            ramp = torch.minimum(ramp, share * share * (3 - 2 * share))
    return ramp


@in_float32
def multiband(
    original: torch.Tensor, pixels: torch.Tensor, weight: torch.Tensor, reach: int
) -> torch.Tensor:
    """Blend fine detail over a narrow band and coarse colours over a wide one.

    P. Burt & E. Adelson, "A multiresolution spline with application to image mosaics" (1983). Here
    the difference of the pictures is split into bands at full resolution. Coarse bands fade from
    the edge of the mask inwards only. So nothing changes where the weight is 0, and where the
    pictures are equal the original stays bit-identical.

    Args:
        original, pixels: [B,h,w,3] float32 0..1.
        weight: [1,h,w] float32 0..1, the weight of the finest band.
        reach: pixels over which that weight fades to either side of its edge.

    Returns:
        [B,h,w,3] 0..1 where the weight is above 0; elsewhere the original.
    """
    rest = pixels - original
    result = original.clone()
    own = weight
    for wider, inner in _coarse_bands(weight, max(1, reach)):
        coarser = _coarser(rest, weight, wider)
        result += own[..., None] * (rest - coarser)
        rest, own = coarser, inner
    result += own[..., None] * rest
    return torch.where(weight[..., None] > 0, result.clamp_(0, 1), original)


def _coarse_bands(weight: torch.Tensor, reach: int) -> list[tuple[int, torch.Tensor]]:
    """The reach and the weight [1,h,w] of each coarse band, from fine to coarse.

    The bands reach 2, 4, 8, ... times as far as the finest one. The coarsest bands that fit into
    the mask are taken, because finer bands would split the edges of things.
    """
    core = (weight >= 0.5).to(weight)
    bands = []
    wide = 2 * reach
    while wide < 2 * max(weight.shape[1:]):
        inner = (2 * fade(core, wide) - 1).clamp_(min=0)
        peak = float(inner.amax())
        if peak < CENTRE:
            break
        bands.append((wide, torch.minimum(inner / peak, weight)))
        wide *= 2
    return bands[-COARSE_BANDS:]


def _coarser(difference: torch.Tensor, weight: torch.Tensor, reach: int) -> torch.Tensor:
    """The difference [B,h,w,C] without details that are finer than this reach.

    It is averaged inside the mask only, because outside a result may be anything.
    """
    sums = _blurred(difference * weight[..., None], reach)
    shares = _blurred(weight[..., None], reach)
    return sums / shares.clamp(min=LITTLE)


def _blurred(image: torch.Tensor, reach: int) -> torch.Tensor:
    """An image [B,h,w,C] blurred with a gaussian of this reach."""
    return blur_image(image, reach, reach / SIGMAS_OF_REACH)
