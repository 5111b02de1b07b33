"""Tracks that hide one another in a frame: what each leaves of those behind it.

The results in a frame are layers of one picture, pasted from back to front. So at an edge between
two of them the nearer one fades into the one behind it, and not into what was there before. But a
nearer thing may be pasted weakly or not at all, since it fades, has failed, or is not to be redrawn
at all. What is behind it must not cover it then, either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ...utils.arrays import to_tensor
from ..pixels.blend import Blending
from ..tracks.masks import cover_in, parted_mask_in
from .track_crops import WindowCrop
from .track_work import TrackFrame


@dataclass(frozen=True)
class Layer:
    """The soft mask of a track in one frame, and those of what is nearer."""

    weight: torch.Tensor  # [1,h,w] of the crop's `inner`, 0..1; as if nothing were nearer
    nearer: Mapping[int, torch.Tensor] = field(default_factory=dict)  # what covers it, by position

    @classmethod
    def of(cls, own: WindowCrop, frame: TrackFrame, blending: Blending) -> Layer:
        """The layer of a track in a frame."""
        met = frame.met
        if not met.nearer:
            return cls(blending.weight(own.inside(own.mask), own.inner, own.image))

        def on_device(mask: np.ndarray) -> torch.Tensor:
            return to_tensor(mask, device=own.mask.device)[None]

        whole = parted_mask_in(frame.sighting, replace(met, nearer={}), own.inner)
        soft = blending.weight(on_device(whole), own.inner, own.image)
        around = own.inner.grown(blending.reach + max(0, blending.options.mask_grow) + 1)
        around = around.clipped(own.image)
        x, y = own.inner.x1 - around.x1, own.inner.y1 - around.y1
        here = slice(None), slice(y, y + own.inner.height), slice(x, x + own.inner.width)
        plain = replace(blending, options=replace(blending.options, fade_inside=False))
        nearer = {
            position: plain.weight(on_device(cover_in(other, around)), around, own.image)[here]
            for position, other in met.nearer.items()
        }
        return cls(soft, {at: mask for at, mask in nearer.items() if (mask * soft).any()})

    @property
    def seen(self) -> torch.Tensor:
        """[1,h,w]: how much of each pixel shows the track, if all is pasted at full strength."""
        seen = self.weight
        for mask in self.nearer.values():
            seen = seen * (1 - mask)
        return seen

    def pasted(self, above: Mapping[int, float]) -> torch.Tensor:
        """[1,h,w]: the weight with which the track is pasted.

        Args:
            above: the strengths, 0..1, of what is pasted over it, by position. That hides this
                layer by itself, as far as it is strong.
        """
        weight = self.weight
        for position, mask in self.nearer.items():
            strength = above.get(position, 0.0)
            if strength < 1:
                weight = weight * ((1 - mask) / (1 - strength * mask))
        return weight


def back_to_front(layers: Mapping[int, Layer]) -> list[int]:
    """The positions of the layers of a frame in the order in which they are pasted.

    What is hidden comes before what hides it. Apart from that the order stays. Where each of some
    layers hides another one of them, the first of these comes first.
    """
    left, order = dict(layers), []
    while left:
        behind = {hidden: own.nearer.keys() & left.keys() for hidden, own in left.items()}
        free = [at for at in left if not any(at in nearer for nearer in behind.values())]
        order.append((free or list(left))[0])
        del left[order[-1]]
    return order
