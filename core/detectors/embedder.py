"""Networks that convert a picture of a person to a vector, such as face recognition networks.

They are in .onnx files. They expect their pixels in different forms, and few files say in which. A
form that is not chosen is read from the file: from its notes (`Image.BitmapPixelFormat` and
`Image.NominalPixelRange`, see docs/MetadataProps.md of the ONNX standard), or from its first layer,
which in some networks scales pixels of 0..255. Otherwise it is RGB from -1 to 1, as most face
recognition networks are trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...utils.arrays import to_numpy
from ...utils.notes import note
from ..geometry import Box, Size
from ..memory import is_out_of_memory
from ..pixels.image import to_rgb
from .given import found_by
from .network import normalised
from .onnx import Run, network_run
from .onnx_file import About, read_onnx
from .safe_weights import WeightsError

AUTO = "auto"
CHANNELS = (AUTO, "RGB", "BGR")
UNIT, SIGNED, BYTES, IMAGENET = "0..1", "-1..1", "0..255", "ImageNet"
VALUES = (AUTO, SIGNED, UNIT, BYTES, IMAGENET)
SIDE = 112  # pixels of a side that the file leaves open
LEAST = 8  # numbers of a vector; an answer with fewer means something else

_FORMATS = {"rgb8": "RGB", "bgr8": "BGR"}
_RANGES = {"nominalrange_0_255": BYTES, "normalized_0_1": UNIT, "normalized_1_1": SIGNED}
_SCALES = frozenset({"Sub", "Mul", "Div", "Add", "BatchNormalization"})


@dataclass(frozen=True)
class PixelFormat:
    """How a network wants its pixels.

    Attributes:
        channels: one of CHANNELS.
        values: one of VALUES; ImageNet is 0..1 less the means of ImageNet, over its deviations.
    """

    channels: str = AUTO
    values: str = AUTO

    def of_file(self, about: About) -> PixelFormat:
        """The format with nothing left to be found out.

        Raises:
            ValueError: there is no such choice.
        """
        for name, value, known in (
            ("channels", self.channels, CHANNELS), ("values", self.values, VALUES),
        ):  # fmt: skip
            if value not in known:
                raise ValueError(
                    f"'{name}' is {value!r:.80}, which does not exist. Choose one of: "
                    f"{', '.join(known)}."
                )
        channels = _noted(about.metadata, "Image.BitmapPixelFormat", _FORMATS) or "RGB"
        scales_itself = not _SCALES.isdisjoint(about.first)
        values = _noted(about.metadata, "Image.NominalPixelRange", _RANGES)
        values = values or (BYTES if scales_itself else SIGNED)
        return PixelFormat(
            channels if self.channels == AUTO else self.channels,
            values if self.values == AUTO else self.values,
        )

    def applied(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels [N,3,h,w] RGB 0..1 as the network wants them."""
        if self.values == IMAGENET:
            pixels = normalised(pixels)
        elif self.values == SIGNED:
            pixels = 2 * pixels - 1
        elif self.values == BYTES:
            pixels = 255 * pixels
        return pixels.flip(1) if self.channels == "BGR" else pixels


def _noted(metadata: Mapping[str, str], key: str, known: Mapping[str, str]) -> str | None:
    return known.get(metadata.get(key, "").strip().lower())


class OnnxEmbedder:
    """An embedder of an .onnx file, run on the CPU.

    Attributes:
        size: width and height of the pictures that it takes.
    """

    def __init__(self, path: str | Path, how: PixelFormat = PixelFormat()) -> None:
        """
        Raises:
            WeightsError: the file cannot be read, or takes something else than one image.
            ValueError: `how` holds a choice that does not exist.
        """
        self._path = Path(path)
        data, about = read_onnx(self._path)
        self.pixel_format = how.of_file(about)
        self._run: Run = network_run(self._path, data, about)
        self._channels_last = about.shape[-1] == 3 and about.shape[1] != 3
        batch, *sides = about.shape
        height, width = sides[:2] if self._channels_last else sides[1:]
        self.size = Size(width or SIDE, height or SIDE)
        self._one_by_one = batch != 0  # those of a file made for some other number fail alike

    def embed(self, pictures: torch.Tensor) -> torch.Tensor:
        """A vector for each picture.

        Args:
            pictures: [N,h,w,3] RGB 0..1, of `size`.

        Returns:
            [N,D] float32 on the CPU.

        Raises:
            WeightsError: the network does not run, or gives no vector.
        """
        pixels = self.pixel_format.applied(pictures.movedim(-1, 1).float())
        pixels = pixels.movedim(1, -1) if self._channels_last else pixels
        pixels = np.ascontiguousarray(to_numpy(pixels))
        if not self._one_by_one:
            try:
                return self._vectors(self._run(pixels), len(pixels))
            except Exception as error:  # of engines that cannot do what the file says
                if len(pixels) == 1 or is_out_of_memory(error):
                    raise self._failed(error) from error
                self._one_by_one = True
        return torch.cat([self._vector_of(pixels[i : i + 1]) for i in range(len(pixels))])

    def _vector_of(self, pixels: np.ndarray) -> torch.Tensor:
        try:
            outputs = self._run(pixels)
        except Exception as error:  # each engine has classes of its own
            raise self._failed(error) from error
        return self._vectors(outputs, 1)

    def _failed(self, error: Exception) -> Exception:
        if is_out_of_memory(error) or isinstance(error, WeightsError):
            return error
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        return WeightsError(
            f"'{self._path.name}' does not run on a picture of {self.size.width}x"
            f"{self.size.height} pixels ({type(error).__name__}: {reason}). Choose another model."
        )

    def _vectors(self, outputs: Sequence[np.ndarray], count: int) -> torch.Tensor:
        """The vectors among a network's outputs: the first that has one for each picture."""
        for output in outputs:
            shape = np.shape(output)
            length = math.prod(shape[1:])
            is_flat = length == max(shape[1:], default=0)  # [N,D], [N,D,1,1], ...
            if len(shape) > 1 and shape[0] == count and length >= LEAST and is_flat:
                return torch.from_numpy(np.array(output, np.float32).reshape(count, length))
        shapes = ", ".join(str(list(np.shape(output))) for output in outputs)
        raise WeightsError(
            f"'{self._path.name}' answers with {shapes or 'nothing'} for {count} pictures, where "
            "one vector for each is wanted. Choose a network that tells people apart, such as one "
            "of face recognition."
        )


def largest_finds(images: torch.Tensor, detector: Any, threshold: float = 0.5) -> list[Box | None]:
    """The box of the largest find of a BBOX_DETECTOR in each image [B,H,W,C]; None tells of none.

    Raises:
        ValueError, RuntimeError: the detector gave no SEGS, or raised.
    """
    boxes: list[Box | None] = []
    for single in to_rgb(images)[0].split(1):
        _, found = found_by(detector, "bbox_detector", single, threshold, 0, 1.0, 1)
        known = [box for box in (Box.of(seg.bbox) for seg in found) if not box.empty]
        boxes.append(max(known, key=lambda box: box.area, default=None))
    missing = [str(index + 1) for index, box in enumerate(boxes) if box is None]
    if missing:
        note(
            "references",
            f"The detector finds nothing in picture {', '.join(missing)} of 'references', so all "
            "of it is compared. Give a picture in which the face shows, or leave the detector out "
            "and cut the pictures yourself.",
        )
    return boxes
