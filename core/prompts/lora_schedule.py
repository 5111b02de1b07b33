"""A strength that changes over the sampling steps, and a picture of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

# The easing curves from 0 to 1, with the names that animation software gives them.
EASINGS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "ease_in": lambda t: t**2,
    "ease_out": lambda t: 1 - (1 - t) ** 2,
    "ease_in_out": lambda t: 2 * t**2 if t < 0.5 else 1 - 2 * (1 - t) ** 2,
}


@dataclass(frozen=True)
class Ramp:
    """A strength that goes from `start` to `end` between two points (shares 0..1) of the run."""

    start: float
    end: float
    easing: str
    start_percent: float
    end_percent: float

    def keyframes(self, count: int) -> list[tuple[float, float]]:
        """`count` points (share of the run 0..1, strength) of the ramp, and one at 0 before it."""
        ease = EASINGS[self.easing]
        points = [] if self.start_percent == 0 else [(0.0, self.start)]
        for index in range(count):
            t = index / (count - 1)
            share = self.start_percent + (self.end_percent - self.start_percent) * t
            points.append((share, self.start + (self.end - self.start) * ease(t)))
        return points


def draw_steps(
    points: Sequence[tuple[float, float]], width: int = 512, height: int = 256
) -> torch.Tensor:
    """A picture [1,H,W,3] 0..1 of strengths, each of which lasts until the next point.

    Args:
        points: (share of the run 0..1, strength), sorted by share.
    """
    from PIL import Image, ImageDraw

    strengths = [0.0, *(strength for _, strength in points)]
    low, high = min(strengths), max(strengths)
    span = (high - low) or 1.0
    margin = 24

    def place(share: float, strength: float) -> tuple[float, float]:
        x = margin + share * (width - 2 * margin)
        return x, height - margin - (strength - low) / span * (height - 2 * margin)

    picture = Image.new("RGB", (width, height), (32, 32, 36))
    pen = ImageDraw.Draw(picture)
    pen.line([place(0, 0), place(1, 0)], fill=(90, 90, 96))
    line = []
    for (share, strength), (following, _) in zip(points, [*points[1:], (1.0, 0.0)], strict=True):
        line += [place(share, strength), place(following, strength)]
    pen.line(line, fill=(120, 190, 255), width=3)
    for share, strength in points:
        x, y = place(share, strength)
        pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=(255, 210, 120))
    pen.text((4, 4), f"{high:g}", fill=(200, 200, 204))
    pen.text((4, height - 16), f"{low:g}", fill=(200, 200, 204))
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.reshape(1, height, width, 3).float() / 255
