"""How frames and the latent steps of video VAEs belong together.

A VAE tells two functions: how many latent steps it makes of so many frames, and how many frames
come back from so many steps. Everything here is read from these two.
"""

from __future__ import annotations

from collections.abc import Callable

Count = Callable[[int], int]

_FURTHEST = 1024  # frames that a clip may be lengthened by in search of a whole length


def whole_length(frames: int, steps_of: Count, frames_of: Count) -> int:
    """The least number of frames, at least `frames`, that comes back from the VAE whole.

    Args:
        steps_of: latent steps that the VAE makes of so many frames.
        frames_of: frames that it makes of so many latent steps.

    Returns:
        `frames` itself where no length up to 1024 frames more comes back whole. A VAE that never
        gives back as many frames as it got ends in an error when its result is cut to the clip.
    """
    lengths = range(max(1, frames), frames + _FURTHEST + 1)
    return next((n for n in lengths if frames_of(steps_of(n)) == n), frames)


def causal(frames: int, steps: int) -> Count:
    """Frames of so many steps where the VAE does not tell: the first alone, the others evenly."""
    every = -(-(frames - 1) // max(1, steps - 1))
    return lambda count: 1 + (count - 1) * every


def frames_of_steps(steps: int, frames: int, frames_of: Count) -> list[slice]:
    """The frames that each latent step of a clip may stand for.

    A step stands for the frames that are there with it and were not without it. Where it takes
    several steps for the next frames to appear, each of them stands for all of these, as the VAE
    does not say which is for which.

    Args:
        steps: latent steps of the clip.
        frames: frames of the clip, those it was lengthened by included.
        frames_of: frames that the VAE makes of so many latent steps.

    Returns:
        One slice, never empty, for each step.
    """
    groups: list[slice] = []
    start = 0
    for count in range(1, steps + 1):
        end = min(frames_of(count), frames)
        if count == steps:
            end = frames
        if end > start:
            groups += [slice(start, end)] * (count - len(groups))
            start = end
    groups += [slice(frames - 1, frames)] * (steps - len(groups))
    return groups
