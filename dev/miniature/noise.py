"""How much noise the rows of a training step have, and how far from the truth they lie."""

from __future__ import annotations

import numpy as np
import torch

DEGRADED = 0.6  # share of the rows up to the last of BEGINS that come from a degraded picture
BEGINS = (150, 700)  # timesteps at which a detailer adds its noise
# Timesteps of rows in turn: where a picture's layout is made, and a denoise of 0.1 to 0.7.
SPANS = ((400, 1000), (50, 700))
MASKED = 0.75  # share of the rows that are painted under a mask
POOR = 0.75  # of these, share whose surroundings are as a base model gave them


def signal_share() -> torch.Tensor:
    """The clean latent's share of the variance at each of the 1000 timesteps."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def left_to_go(
    times: torch.Tensor, signal: torch.Tensor, random: np.random.Generator
) -> torch.Tensor:
    """How far each row [B] is from the truth on the way from its degraded picture: 0 is there.

    A detailer adds noise to a picture and a sampler then goes straight from there to what the
    network takes for the truth, so that the picture's faults shrink as the noise does. Some rows
    lie on that way, from a random beginning, and have to find to the truth all the same. So the
    network mends what it is given sooner than it learns to draw from nothing.
    """
    noise = spread(signal[times])
    earliest, latest = (spread(signal[time]) for time in BEGINS)
    least, most = noise / latest, (noise / earliest).clamp(max=1)
    place, chance = (torch.from_numpy(random.random((2, len(times)))).to(noise)).unbind()
    chosen = (chance < DEGRADED) & (least < most)
    return torch.where(chosen, torch.lerp(least, most, place), 0.0)


def as_in_a_detailer(
    mask: torch.Tensor, way: torch.Tensor, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """How much of each cell a row has to paint, and how far each cell is from the truth.

    Where a detailer samples under a noise mask, the host puts what was there, poor or sharp, around
    the mask again at every step. What the network says there is thrown away.

    Args:
        mask: [B,1,h,w], 0..1, what a detailer would paint.
        way: [B,1,1,1], 0..1, of what is painted; see `left_to_go`.

    Returns:
        Both [B,1,h,w], 0..1. Rows without a mask are painted whole.
    """
    masked, poor = (
        torch.from_numpy(random.random(len(mask)) < chance).view(-1, 1, 1, 1).to(mask.device)
        for chance in (MASKED, POOR)
    )
    painted = torch.where(masked, mask, 1.0)
    return painted, torch.lerp(poor.to(mask).expand_as(mask), way.expand_as(mask), painted)


def spread(share: torch.Tensor) -> torch.Tensor:
    """The noise's standard deviation beside a clean latent of spread 1, from the latent's share."""
    return ((1 - share) / share).sqrt()


def draw_times(random: np.random.Generator, count: int) -> torch.Tensor:
    """Timesteps [count] in turn, evenly within each of SPANS."""
    first, end = np.array(SPANS)[np.arange(count) % len(SPANS)].T
    return torch.from_numpy(random.integers(first, end))
