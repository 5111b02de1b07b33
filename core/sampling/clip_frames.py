"""Which frames of a clip belong to which latent steps of a video VAE.

A VAE has two functions: the number of latent steps for a number of frames, and the number of frames
for a number of latent steps. Everything here is derived from these two.
"""

from __future__ import annotations

from collections.abc import Callable

Count = Callable[[int], int]

_FURTHEST = 1024  # the most frames that are added to a clip to reach a whole length


def whole_length(frames: int, steps_of: Count, frames_of: Count) -> int:
    """The smallest number of frames, from `frames` on, that the VAE encodes and decodes unchanged.

    Args:
        steps_of: number of frames -> number of latent steps that the VAE encodes them to.
        frames_of: number of latent steps -> number of frames that the VAE decodes them to.

    Returns:
        `frames` itself if no such number is found within 1024 more frames. The error for such a
        VAE is raised later, when its result is cut to the clip.
    """
    lengths = range(max(1, frames), frames + _FURTHEST + 1)
    return next((n for n in lengths if frames_of(steps_of(n)) == n), frames)


def causal(frames: int, steps: int) -> Count:
    """`frames_of` for a VAE without this function.

    The first step is assumed to hold one frame, and the others the same number of frames each.
    """
    every = -(-(frames - 1) // max(1, steps - 1))
    return lambda count: 1 + (count - 1) * every


def frames_of_steps(steps: int, frames: int, frames_of: Count) -> list[slice]:
    """The frames that belong to each latent step of a clip.

    The frames of a step are those that the VAE decodes with it and does not decode without it. If
    new frames appear only after several steps, they belong to each of these steps.

    Args:
        steps: latent steps of the clip.
        frames: frames of the clip, including those that were added to lengthen it.
        frames_of: number of latent steps -> number of frames that the VAE decodes them to.

    Returns:
        One slice for each step; none is empty.
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
