"""Pictures from files and texts that others may have shared, checked before they are unpacked.

A file of a few kilobytes can claim gigabytes, and for some formats another program is started. So
the format, the size and the number of frames are checked first.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.files import open_file

MOST_PIXELS = 2**27  # pixels of one picture: 11,585 x 11,585
MOST_IN_ALL = 2**29  # pixels of all frames of an animated picture
MOST_BYTES = 2**30  # size of a file
FORMATS = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA",
     "TIFF", "WEBP"}
)  # fmt: skip
_MOST_16 = 65535.0


@contextmanager
def opened(source: Path | bytes) -> Iterator[Any]:
    """A context with a Pillow picture that is not unpacked yet, and is small enough to unpack.

    Raises:
        ValueError: it is no picture, or is too large; the message is the end of a sentence. Errors
            of Pillow while the picture is in use become a ValueError too.
    """
    from PIL import Image

    try:
        with (
            (
                open_file(source, MOST_BYTES) if isinstance(source, Path) else io.BytesIO(source)
            ) as file,
            Image.open(file) as picture,
        ):
            _expect_usual(picture)
            yield picture
    except Exception as error:  # readers of damaged files raise all kinds
        if isinstance(error, ValueError) and type(error).__module__ == "builtins":
            raise
        reason = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"it cannot be read ({type(error).__name__}: {reason})") from error


def _expect_usual(picture: Any) -> None:
    if picture.format not in FORMATS:
        raise ValueError(f"it is in the format {picture.format}, which is not taken here")
    width, height = picture.size
    if width < 1 or height < 1:
        raise ValueError(f"it has {width} x {height} pixels")
    if width * height > MOST_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, more than the {MOST_PIXELS} allowed")
    frames = getattr(picture, "n_frames", 1)
    if width * height * frames > MOST_IN_ALL:
        raise ValueError(
            f"its {frames} frames of {width} x {height} pixels are more than the {MOST_IN_ALL} "
            "pixels allowed"
        )


def read_rgba(source: Path | bytes) -> np.ndarray:
    """The first frame of a picture, [H,W,4] float32 0..1; opaque if it has no transparency.

    Raises:
        ValueError: see `opened`.
    """
    with opened(source) as picture:
        if picture.mode.startswith("I"):  # 16 bits, maybe stored in 32
            return _grey(np.asarray(picture, dtype=np.float32) / _MOST_16)
        if picture.mode == "F":
            return _grey(np.asarray(picture))
        return np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255


def _grey(values: np.ndarray) -> np.ndarray:
    grey = np.nan_to_num(values).clip(0, 1)
    return np.stack([grey, grey, grey, np.ones_like(grey)], axis=-1)


def expect_picture(path: Path, name: str, value: Any) -> None:
    """Check that a file can be unpacked, before another reader gets it.

    A format that Pillow does not know is not checked.

    Args:
        name, value: name and value of the input that names the file.

    Raises:
        ValueError: the picture is too large, or the file is no picture.
    """
    from PIL import UnidentifiedImageError

    try:
        with opened(path):
            pass
    except ValueError as error:
        if not isinstance(error.__cause__, UnidentifiedImageError):
            raise unusable(name, value, error) from error


def unusable(name: str, value: Any, error: Exception) -> ValueError:
    """The error for an input `name` whose picture cannot be used."""
    return ValueError(
        f"'{name}' is {str(value)[:200]!r}, a picture that cannot be used: {str(error)[:300]}. "
        "Choose another file, or save the picture again as PNG."
    )
