"""ComfyUI's VIDEO as a source of frames, and new ones that are written frame by frame.

Neither holds the frames of a file in memory. Files are read and written with PyAV, which ComfyUI
needs itself; it is imported only when a VIDEO is used.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch

from ...utils.check import check_image
from ..clips import FrameSource, HeldFrames
from .video_read import FileFrames, Trim
from .video_sound import FileSound, HeldSound, Sound
from .video_write import FORMATS, Encoding, FileSink, Still, format_for

__all__ = ["FORMATS", "Clip", "Encoding", "opened", "shown_file", "video_of"]

_SHOWN = (".mp4", ".webm")


class Clip:
    """A VIDEO that is read.

    Attributes:
        frames: its frames, as a source.
    """

    def __init__(self, video: Any, name: str) -> None:
        self._name = name
        self._file: FileFrames | None = None
        self._parts: Any = None
        if _is_in_file(video):
            self._file = FileFrames(video.get_stream_source(), _trim_of(video), _check, name)
            self.frames: FrameSource = self._file
            return
        self._parts = video.get_components()
        frames = _with_alpha(self._parts.images, getattr(self._parts, "alpha", None))
        check_image(frames, name)
        self.frames = HeldFrames(frames)
        self._still = Still(
            len(frames),
            self.frames.size,
            frames.shape[-1],
            Fraction(self._parts.frame_rate).limit_denominator(1_000_000),
            video.get_bit_depth() if hasattr(video, "get_bit_depth") else 8,
        )

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return self._still.rate if self._file is None else self._file.rate

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    @contextmanager
    def writing(self, encoding: Encoding) -> Iterator[tuple[FileSink, Path]]:
        """A context with a sink for the changed frames, and the file that is there afterwards.

        The file is in ComfyUI's temporary folder. It has the sound of this clip, its frame rate and
        time stamps. If the context ends with an error or an interrupt, no file is left.
        """
        form = format_for(self._file or self._still, encoding)
        path = _new_file(form.ending)
        sound = self._sound()
        again = self._file.again() if self._file is not None else None
        try:
            with FileSink(path, again or self._still, sound, form, encoding.crf) as sink:
                yield sink, path
        finally:
            sound.close()
            if again is not None:
                again.close()

    def _sound(self) -> Sound:
        if self._file is not None:
            return FileSound(self._file.file, _check, self._name)
        return HeldSound(self._parts.audio)


@contextmanager
def opened(video: Any, name: str = "video") -> Iterator[Clip]:
    """A context with a VIDEO whose frames can be read.

    Args:
        video: the value of a VIDEO link; only the part to which it was trimmed is used.
        name: of the input, for errors and notes.

    Raises:
        ValueError: it is no VIDEO, or has no frame that can be read.
    """
    if not hasattr(video, "get_components"):
        raise ValueError(
            f"'{name}' is no VIDEO but {type(video).__name__}. Connect 'Load Video' or "
            "'Create Video'."
        )
    clip = Clip(video, name)
    try:
        yield clip
        if clip._file is not None:
            clip._file.tell_faults()
    finally:
        clip.close()


def video_of(path: Path) -> Any:
    """The VIDEO of a file."""
    from comfy_api.latest import InputImpl

    return InputImpl.VideoFromFile(str(path))


def shown_file(path: Path) -> dict[str, Any]:
    """The UI output by which a node shows a file of the temporary folder; {} if no editor can."""
    if path.suffix not in _SHOWN:
        return {}
    entry = {"filename": path.name, "subfolder": "", "type": "temp"}
    return {"images": [entry], "animated": (True,)}


def _check() -> None:
    comfy.model_management.throw_exception_if_processing_interrupted()


def _is_in_file(video: Any) -> bool:
    """Whether it has a file to read. ComfyUI's own class for other values encodes one first."""
    from comfy_api.latest import Input

    source = getattr(type(video), "get_stream_source", None)
    return source is not None and source is not getattr(Input.Video, "get_stream_source", None)


def _trim_of(video: Any) -> Trim:
    """The part to which a VIDEO was trimmed."""
    window = getattr(video, "get_active_trim_window", None)
    if window is not None:
        start, duration = window()
    else:  # older ComfyUI keeps it to itself
        kept = vars(video)
        start = kept.get("_VideoFromFile__start_time", 0) or 0
        duration = kept.get("_VideoFromFile__duration", 0) or 0
        if start < 0:
            whole = type(video)(video.get_stream_source()).get_duration()
            start = max(whole + start, 0)
    return Trim(float(start), float(duration))


def _with_alpha(images: torch.Tensor, alpha: torch.Tensor | None) -> torch.Tensor:
    if alpha is None or images.shape[-1] != 3:
        return images
    return torch.cat([images, alpha.view(*images.shape[:3], 1).to(images)], -1)


def _new_file(ending: str) -> Path:
    """A path in the temporary folder at which there is no file."""
    folder = Path(folder_paths.get_temp_directory())
    os.makedirs(folder, exist_ok=True)
    return folder / f"detailers_{secrets.token_hex(8)}.{ending}"
