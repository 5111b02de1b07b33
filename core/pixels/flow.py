"""How the parts of a picture move from one frame to another, on the device and in floats.

B. Lucas & T. Kanade, "An iterative image registration technique with an application to stereo
vision" (1981), from coarse to fine as in J.-Y. Bouguet, "Pyramidal implementation of the Lucas
Kanade feature tracker" (2000), here for every pixel. The estimate is averaged over a wide
neighbourhood, because what matters is that it is steady; it does not follow thin things.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .mask import softened

COARSEST = 24  # pixels of the shorter side at which the search begins
TRIES = 3  # steps at each size
AROUND = 5.0  # pixels: the neighbourhood that is taken to move alike
FLAT = 3e-3  # squared slope of an area that shows no motion; grain makes slopes, too
FARTHEST = 1.0  # pixels of one step
# Share of the squared difference of two pictures that is left without the motion. Grain is
# explained by chance down to CHANCE. From CERTAIN on the motion is followed wholly.
CHANCE, CERTAIN = 0.8, 0.5


def motion_between(before: torch.Tensor, after: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Where each pixel of a picture is in another one.

    Args:
        before, after: [1,h,w,1] float32 0..1; noise should be blurred away.
        weight: [1,h,w,1], how much each pixel of `before` says about the motion.

    Returns:
        [1,h,w,2]: x and y in pixels, from the place in `before` to that in `after`. It is 0 where
        it does not explain clearly more of the difference than motion taken from noise would.
    """
    flow: torch.Tensor | None = None
    levels = zip(*(_pyramid(picture) for picture in (before, after, weight)), strict=True)
    for one, other, counts in levels:
        flow = one.new_zeros(*one.shape[:3], 2) if flow is None else fitted_flow(flow, one)
        for _ in range(TRIES):
            flow = softened(flow + _step(one, moved_back(other, flow), counts), 1.0)
    still, moving = (
        softened((before - picture).square(), AROUND)
        for picture in (after, moved_back(after, flow))
    )
    left = moving / still.clamp(min=1e-12)
    return flow * ((CHANCE - left) / (CHANCE - CERTAIN)).clamp(0, 1)


def _pyramid(picture: torch.Tensor) -> list[torch.Tensor]:
    """The picture [1,h,w,1] at half the size again and again, the smallest first."""
    sizes = [picture]
    while min(sizes[-1].shape[1:3]) > COARSEST:
        sizes.append(F.avg_pool2d(sizes[-1].movedim(-1, 1), 2).movedim(1, -1))
    return sizes[::-1]


def _step(before: torch.Tensor, after: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """A better estimate of the small motion [1,h,w,2] that is left between two pictures."""
    middle, error = (before + after) / 2, before - after
    across, down = torch.zeros_like(middle), torch.zeros_like(middle)
    across[:, :, 1:-1] = (middle[:, :, 2:] - middle[:, :, :-2]) / 2
    down[:, 1:-1] = (middle[:, 2:] - middle[:, :-2]) / 2
    products = (across * across, across * down, down * down, across * error, down * error)
    products = torch.cat(products, dim=-1) * counts
    xx, xy, yy, xe, ye = softened(products, AROUND).split(1, dim=-1)
    xx, yy = xx + FLAT, yy + FLAT
    whole = xx * yy - xy * xy
    step = torch.cat([yy * xe - xy * ye, xx * ye - xy * xe], dim=-1) / whole
    return step.clamp(-FARTHEST, FARTHEST)


def moved_back(picture: torch.Tensor, flow: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """A later picture as it is where things were before.

    Args:
        picture: [1,h,w,C] of any range; beyond its border that is repeated.
        flow: [1,h,w,2] from the earlier picture to this one.
        mode: "bilinear" or "bicubic".
    """
    return sampled(picture, grid_of(flow), mode)


def grid_of(flow: torch.Tensor) -> torch.Tensor:
    """Where a flow [1,h,w,2] leads to, as `sampled` takes it: [1,h,w,2]."""
    _, height, width, _ = flow.shape
    y = (torch.arange(height, device=flow.device) + 0.5)[:, None] + flow[0, ..., 1]
    x = (torch.arange(width, device=flow.device) + 0.5)[None, :] + flow[0, ..., 0]
    return torch.stack([x / width, y / height], dim=-1)[None] * 2 - 1


def sampled(picture: torch.Tensor, grid: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """A picture [1,h,w,C] as `moved_back` has it, for several with one flow: [1,h,w,C].

    Args:
        grid: [1,h,w,2], `grid_of` the flow.
    """
    found = F.grid_sample(
        picture.movedim(-1, 1), grid, mode=mode, padding_mode="border", align_corners=False
    )
    return found.movedim(1, -1)


def chained(first: torch.Tensor, then: torch.Tensor) -> torch.Tensor:
    """The motion [1,h,w,2] of one after the other; `then` begins where `first` ends."""
    return first + moved_back(then, first)


def fitted_flow(flow: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The flow [1,h,w,2] for pictures of the size of `like` [1,H,W,C]: [1,H,W,2]."""
    height, width = like.shape[1:3]
    if flow.shape[1:3] == (height, width):
        return flow
    scale = flow.new_tensor([width / flow.shape[2], height / flow.shape[1]])
    wide = F.interpolate(
        flow.movedim(-1, 1), size=(height, width), mode="bilinear", align_corners=False
    )
    return wide.movedim(1, -1) * scale
