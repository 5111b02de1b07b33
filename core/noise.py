"""The noise that sampling starts from, and the seeds that it is drawn with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..utils.seeds import MAX_SEED
from .streams import Latent, each, is_nested, picture, with_picture

# Between the seeds of two variants of a segment: far more than segments, cycles, retries and images
# take, so that no variant has the seed of another segment, and easy to add up.
BETWEEN_VARIANTS = 1_000_000
# Between the seeds of two frames of a clip: odd, so that no two places have the same seed, and so
# far apart that no place has the seed of a cycle, a retry or a variant of another one.
_BETWEEN_PLACES = 0x9E3779B97F4A7C15


def seed_for(seed: int, offset: int) -> int:
    """The seed plus `offset`, wrapped to 64 bits."""
    return (seed + offset) & MAX_SEED


def variant_seed(seed: int, variant: int) -> int:
    """The seed of a variant of a segment; variant 0 has the segment's own."""
    return seed_for(seed, variant * BETWEEN_VARIANTS)


def start_noise(
    latent: Latent,
    seed: int,
    device: torch.device | str = "cpu",
    rows: Sequence[int] | None = None,
) -> Latent:
    """Normal noise of the latent's shape, float32 on the CPU; streams are drawn in order.

    The numbers are those of the host's own noise for that seed and shape. The global random state
    is not changed.

    Args:
        latent: [N,C,h,w] or [N,C,T,h,w], or several streams.
        device: where the numbers are drawn; each kind of device draws different numbers.
        rows: for each row of the latent, its index in the batch that it was taken from.
    """
    generator = torch.Generator(device=device).manual_seed(seed & MAX_SEED)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32, device=device).cpu()

    def noise(stream: torch.Tensor) -> torch.Tensor:
        if rows is None:
            return draw(*stream.shape)
        drawn = [draw(1, *stream.shape[1:]) for _ in range(max(rows) + 1)]
        return torch.cat([drawn[row] for row in rows])

    return each(noise, latent)


def place_seeds(seed: int, places: Sequence[int]) -> tuple[int, ...]:
    """The seed of each place in a clip; place 0 has `seed` itself."""
    return tuple(seed_for(seed, place * _BETWEEN_PLACES) for place in places)


def noise_of_places(latent: Latent, seed: int, places: Sequence[int]) -> Latent:
    """Normal noise that depends on the seed and on the place in a clip alone, float32 on the CPU.

    Parts of a clip that are sampled one after another thus have the same noise in the frames that
    they share. Place 0 has the noise of a single picture with that seed. Other streams than the
    picture have the noise of `start_noise`.

    Args:
        latent: [N,C,h,w] with a frame in each row, or [1,C,T,h,w]; or several streams.
        places: of each row, or of each latent step.
    """
    own = picture(latent)
    axis = 2 if own.ndim == 5 else 0
    frame = [*own.shape[:axis], 1, *own.shape[axis + 1 :]]
    empty = torch.empty(frame, device="meta")
    noise = torch.cat([start_noise(empty, each) for each in place_seeds(seed, places)], dim=axis)
    return with_picture(start_noise(latent, seed), noise) if is_nested(latent) else noise


def mix_noise(
    noise: torch.Tensor, other: torch.Tensor, strength: float, method: str = "linear"
) -> torch.Tensor:
    """Noise [N,...] between two noises, with a variance of 1.

    Args:
        noise, other: [N,...], with a variance of 1.
        strength: 0 gives `noise`, 1 gives `other`.
        method: "linear" mixes and rescales; "slerp" interpolates each row on the sphere
            (K. Shoemake, "Animating rotation with quaternion curves", 1985).
    """
    if method != "slerp":
        mixed = (1 - strength) * noise + strength * other
        return mixed / math.hypot(1 - strength, strength)
    first, second = noise.flatten(1), other.flatten(1)
    angle = torch.acos(torch.cosine_similarity(first, second).clamp(-1, 1))[:, None]
    whole = torch.sin(angle)
    turned = torch.sin((1 - strength) * angle) * first + torch.sin(strength * angle) * second
    same = whole.abs() < 1e-6  # the same direction: there is nothing to interpolate
    return torch.where(same, first, turned / whole.where(~same, 1)).view_as(noise)
