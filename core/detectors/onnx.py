"""Detectors in .onnx files, run on the CPU by onnxruntime or, without it, by OpenCV."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...utils.arrays import to_numpy
from ...utils.literal import read_literal
from ..geometry import Size
from .weights import WeightsError, class_names
from .yolo import Answer, Layout, Placement, YoloDetector, fit, guess_layout, letterbox

log = logging.getLogger(__name__)

LONGEST = 640  # pixels of the longer side where the file names no size
STRIDE = 32

Run = Callable[[np.ndarray], list[np.ndarray]]


def onnx_detector(path: str | Path, with_masks: bool = False) -> YoloDetector:
    """A detector from an .onnx file.

    Networks that take [1,3,h,w] get the image in RGB, 0..1, scaled into the size that the file
    names. They answer in a way of YOLOv5, YOLOv8 or their kin, with or without masks, or with
    boxes, scores and labels apart. Networks that take [1,h,w,3] get the image as it is, in BGR,
    0..255, and answer with boxes, scores and labels: the kind that ComfyUI-Impact-Pack takes.

    Args:
        with_masks: see `YoloDetector`.

    Raises:
        WeightsError: the file cannot be read, or takes something else than one image.
    """
    path = Path(path)
    about = read_about(path)
    names = class_names(_literal(about.metadata.get("names")))
    run = _session(path)
    if about.shape[-1] == 3 and about.shape[1] != 3:

        def place(image: torch.Tensor) -> tuple[torch.Tensor, Placement]:
            return image.movedim(-1, 0)[None], Placement((1.0, 1.0), 0, 0)

        def ask(pixels: torch.Tensor) -> Answer:
            bgr = to_numpy(pixels.movedim(1, -1).flip(-1) * 255)
            return read_outputs(run(np.ascontiguousarray(bgr)), _size(pixels), path)

        return YoloDetector(place, ask, names)

    height, width = about.shape[2:]
    fixed = Size(width, height) if width and height else None

    def scaled(image: torch.Tensor) -> tuple[torch.Tensor, Placement]:
        if fixed is not None:
            return fit(image, fixed)
        return letterbox(image, LONGEST, STRIDE)

    def asked(pixels: torch.Tensor) -> Answer:
        return read_outputs(run(to_numpy(pixels)), _size(pixels), path)

    return YoloDetector(scaled, asked, names, with_masks)


def _size(pixels: torch.Tensor) -> Size:
    return Size(pixels.shape[3], pixels.shape[2])


def _literal(text: str | None) -> Any:
    try:
        return read_literal(text) if text else None
    except ValueError:
        return None


# What the network answers


def read_outputs(outputs: Sequence[np.ndarray], size: Size, path: Path) -> Answer:
    """Predictions and prototypes among a network's outputs, told by their shapes.

    Args:
        size: of the network's input.
        path: the file, for the error.

    Raises:
        WeightsError: they are of no known kind.
    """
    shapes = ", ".join(str(list(output.shape)) for output in outputs)
    maps = [output for output in outputs if output.ndim == 4]
    tables = [output for output in outputs if output.ndim == 3]
    try:
        if len(outputs) == 2 and len(maps) == len(tables) == 1:
            prototypes = torch.from_numpy(maps[0][0])
            predictions = torch.from_numpy(tables[0][0])
            layout = guess_layout(predictions.shape, size, len(prototypes))
            return Answer(predictions, layout, prototypes)
        if len(outputs) == 1 and tables:
            predictions = torch.from_numpy(tables[0][0])
            return Answer(predictions, guess_layout(predictions.shape, size, 0))
        return Answer(_joined(outputs), Layout("finished", None))
    except ValueError as error:
        raise WeightsError(
            f"'{path.name}' answers with {shapes or 'nothing'}, from which no boxes can be read: "
            f"{error}"
        ) from error


def _joined(outputs: Sequence[np.ndarray]) -> torch.Tensor:
    """Boxes, scores and labels that come apart as [N,6]: corners, score, label.

    The scores may be a fifth column of the boxes. Rows with a label below 0 only fill up.
    """
    flat = [output[0] if output.ndim > 1 and len(output) == 1 else output for output in outputs]
    boxes = [output for output in flat if output.ndim == 2 and output.shape[1] in (4, 5)]
    lists = [output for output in flat if output.ndim == 1]
    if len(boxes) != 1 or {len(found) for found in lists} - {len(boxes[0])}:
        raise ValueError("they are not one list of boxes with scores and labels.")
    labels = [found for found in lists if _whole(found)]
    scores = [found for found in lists if not _whole(found)]
    if len(labels) > 1:  # scores of 0 and 1 alone, or nothing found
        labels.sort(key=lambda found: not np.issubdtype(found.dtype, np.integer))
        scores += labels[1:]
    if boxes[0].shape[1] == 5:
        scores.insert(0, boxes[0][:, 4])
    if not scores:
        raise ValueError("there are no scores among them.")
    label = labels[0] if labels else np.zeros(len(boxes[0]))
    table = np.column_stack([boxes[0][:, :4], scores[0], label]).astype(np.float32)
    return torch.from_numpy(table[table[:, 5] >= 0])


def _whole(values: np.ndarray) -> bool:
    return bool(np.all(values == np.floor(values)))


# Running the network


def _session(path: Path) -> Run:
    try:
        import onnxruntime
    except ImportError:
        return _opencv(path)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the package has classes of its own for every kind of fault
        raise _unreadable(path, error) from error
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})


def _opencv(path: Path) -> Run:
    import cv2

    log.info("%s is run by OpenCV; onnxruntime knows more models and is faster", path.name)
    try:
        network = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise _unreadable(path, error, "Install onnxruntime, which knows more models: ") from error
    names = network.getUnconnectedOutLayersNames()

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        network.setInput(pixels)
        return list(network.forward(names))

    return run


def _unreadable(path: Path, error: Exception, remedy: str = "") -> WeightsError:
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    remedy += "pip install onnxruntime. " if remedy else ""
    return WeightsError(
        f"'{path.name}' cannot be run ({type(error).__name__}: {reason}). {remedy}If it is "
        "damaged, download or export it again."
    )


# What the file says of itself. OpenCV does not tell, so it is read here, in the format of Protocol
# Buffers; the numbers are those of the fields in onnx.proto.


@dataclass
class About:
    """The network's input and the notes in the file."""

    shape: tuple[int, ...]  # of the input; 0 for a side that may vary
    metadata: dict[str, str] = field(default_factory=dict)


def read_about(path: Path) -> About:
    """What an .onnx file says of itself.

    Raises:
        WeightsError: it is no such file, or takes something else than one image.
    """
    try:
        metadata, inputs = _read_model(memoryview(path.read_bytes()))
    except (ValueError, IndexError, TypeError, OSError) as error:
        raise _unreadable(path, error) from error
    shapes = list(inputs.values())
    if len(shapes) != 1 or len(shapes[0]) != 4 or 3 not in (shapes[0][1], shapes[0][3]):
        told = ", ".join(f"{name} {list(shape)}" for name, shape in inputs.items())
        raise WeightsError(
            f"'{path.name}' takes {told or 'nothing'}, where a detector takes one image as "
            "[1,3,h,w] or [1,h,w,3]. Choose another model."
        )
    return About(shapes[0], metadata)


def _read_model(data: memoryview) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    metadata: dict[str, str] = {}
    inputs: dict[str, tuple[int, ...]] = {}
    weights = set()
    for number, value in _fields(data):
        if number == 14:  # metadata_props: key, value
            note = {key: _text(part) for key, part in _fields(value)}
            metadata[note.get(1, "")] = note.get(2, "")
        elif number == 7:  # graph
            for part, entry in _fields(value):
                if part == 11:  # input: name, type
                    about = dict(_fields(entry))
                    inputs[_text(about.get(1, b""))] = _read_shape(about.get(2, b""))
                elif part == 5:  # initializer, of which older files list each as an input too
                    weights.add(next((_text(v) for n, v in _fields(entry) if n == 8), ""))
    return metadata, {name: shape for name, shape in inputs.items() if name not in weights}


def _read_shape(kind: Any) -> tuple[int, ...]:
    tensor = dict(_fields(kind)).get(1, b"")
    shape = dict(_fields(tensor)).get(2, b"")
    sides = [dict(_fields(side)).get(1, 0) for number, side in _fields(shape) if number == 1]
    return tuple(side if isinstance(side, int) else 0 for side in sides)


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace") if not isinstance(value, int) else ""


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """The numbered fields of a message: whole numbers, or the bytes of what is longer."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("it ends too early")
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("it is no ONNX file")
        yield key >> 3, value


def _varint(data: Any, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("it is no ONNX file")
