"""The frames of a video, as IMAGE or as VIDEO."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...core.clips import FrameSource, HeldFrames, Watch
from ...core.host.backend import ComfyBackend
from ...core.host.video import opened

VIDEO = "The video itself, in place of frames. It is read a few frames at a time."


@contextmanager
def given_frames(frames, video) -> Iterator[FrameSource | None]:
    """A context with the frames; None if neither is connected.

    Raises:
        ValueError: both are.
    """
    if frames is not None and video is not None:
        raise ValueError(
            "'frames' and 'video' are both connected, and it is not clear which to take. "
            "Disconnect one of them."
        )
    if video is None:
        yield None if frames is None else HeldFrames(frames)
        return
    with opened(video) as clip:
        yield clip.frames


def watch() -> Watch:
    """The node's progress bar, and ComfyUI's interrupts."""
    backend = ComfyBackend()
    return Watch(backend.check_interrupt, backend.progress)
