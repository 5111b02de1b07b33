"""Detectors in .onnx files, run on the CPU by onnxruntime or, without it, by OpenCV."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...utils.arrays import to_numpy
from ...utils.literal import read_literal
from ..geometry import Size
from .onnx_file import About, expect_inside, read_onnx, unreadable
from .safe_weights import WeightsError, class_names
from .yolo import Layout, NetworkOutput, Placement, YoloDetector, fit, guess_layout, letterbox

log = logging.getLogger(__name__)

LONGEST = 640  # pixels of the longer side if the file gives no size
STRIDE = 32

Run = Callable[[np.ndarray], list[np.ndarray]]


def onnx_detector(path: str | Path, with_masks: bool = False) -> YoloDetector:
    """One of the two detectors that `onnx_detectors` makes from a file.

    Args:
        with_masks: return the detector of shapes.

    Raises:
        WeightsError: as of `onnx_detectors`.
    """
    return onnx_detectors(path)[with_masks]


def onnx_detectors(path: str | Path) -> tuple[YoloDetector, YoloDetector]:
    """A detector of boxes and one of shapes from an .onnx file; both run the same network.

    Networks that take [1,3,h,w] get the image in RGB, 0..1, scaled into the size that the file
    gives. Their output has the form of YOLOv5, YOLOv8 or a related network, with or without masks,
    or consists of boxes, scores and labels. Networks that take [1,h,w,3] get the image in its own
    size, in BGR, 0..255. Their output consists of boxes, scores and labels, as ComfyUI-Impact-Pack
    expects; for these, both detectors find boxes.

    Raises:
        WeightsError: the file cannot be read, or its network takes something else than one image.
    """
    path = Path(path)
    data, about = read_onnx(path)
    names = class_names(_literal(about.metadata.get("names")))
    run = network_run(path, data, about)
    if about.shape[-1] == 3 and about.shape[1] != 3:

        def place(image: torch.Tensor) -> tuple[torch.Tensor, Placement]:
            return image.movedim(-1, 0)[None], Placement((1.0, 1.0), 0, 0)

        def ask(pixels: torch.Tensor) -> NetworkOutput:
            bgr = to_numpy(pixels.movedim(1, -1).flip(-1) * 255)
            return read_outputs(run(np.ascontiguousarray(bgr)), _size(pixels), path)

        boxes = YoloDetector(place, ask, names)
        return boxes, boxes

    height, width = about.shape[2:]
    fixed = Size(width, height) if width and height else None

    def scaled(image: torch.Tensor) -> tuple[torch.Tensor, Placement]:
        if fixed is not None:
            return fit(image, fixed)
        return letterbox(image, LONGEST, STRIDE)

    def asked(pixels: torch.Tensor) -> NetworkOutput:
        return read_outputs(run(to_numpy(pixels)), _size(pixels), path)

    boxes, shapes = (YoloDetector(scaled, asked, names, masks) for masks in (False, True))
    return boxes, shapes


def _size(pixels: torch.Tensor) -> Size:
    return Size(pixels.shape[3], pixels.shape[2])


def _literal(text: str | None) -> Any:
    try:
        return read_literal(text) if text else None
    except ValueError:
        return None


# The output of the network


def read_outputs(outputs: Sequence[np.ndarray], size: Size, path: Path) -> NetworkOutput:
    """Predictions [rows,columns] and prototypes [n,h,w] among outputs [...] of a network.

    They are recognised by their shapes.

    Args:
        size: size of the network's input.
        path: the file, for the error.

    Raises:
        WeightsError: the outputs are of no known kind.
    """
    shapes = ", ".join(str(list(output.shape)) for output in outputs)
    maps = [output for output in outputs if output.ndim == 4]
    tables = [output for output in outputs if output.ndim == 3]
    try:
        if len(outputs) == 2 and len(maps) == len(tables) == 1:
            prototypes = torch.from_numpy(maps[0][0])
            predictions = torch.from_numpy(tables[0][0])
            layout = guess_layout(predictions.shape, size, len(prototypes))
            return NetworkOutput(predictions, layout, prototypes)
        if len(outputs) == 1 and tables:
            predictions = torch.from_numpy(tables[0][0])
            return NetworkOutput(predictions, guess_layout(predictions.shape, size, 0))
        return NetworkOutput(_joined(outputs), Layout("finished", None))
    except ValueError as error:
        raise WeightsError(
            f"'{path.name}' answers with {shapes or 'nothing'}, from which no boxes can be read: "
            f"{error}"
        ) from error


def _joined(outputs: Sequence[np.ndarray]) -> torch.Tensor:
    """Separate boxes, scores and labels as one table [N,6]: corners, score, label.

    The scores may be a fifth column of the boxes. Rows with a label below 0 are padding.
    """
    flat = [output[0] if output.ndim > 1 and len(output) == 1 else output for output in outputs]
    boxes = [output for output in flat if output.ndim == 2 and output.shape[1] in (4, 5)]
    lists = [output for output in flat if output.ndim == 1]
    if len(boxes) != 1 or {len(found) for found in lists} - {len(boxes[0])}:
        raise ValueError("they are not one list of boxes with scores and labels.")
    labels = [found for found in lists if _whole(found)]
    scores = [found for found in lists if not _whole(found)]
    if len(labels) > 1:  # all scores are 0 or 1, or nothing was found
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


def network_run(path: Path, data: bytes, about: About) -> Run:
    """The function that runs the network of a file: from pixels [...] to all outputs [...].

    The engines get the bytes that were checked. A network with weights in other files is given by
    its path, but only to onnxruntime, because OpenCV would open such files anywhere.

    Raises:
        WeightsError: an engine cannot read the file, or a file with weights is not beside it.
    """
    try:
        import onnxruntime
    except ImportError:
        return _opencv(path, data, about)
    if about.outside:
        expect_inside(path, about)
    model = str(path) if about.outside else data
    try:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:  # the package has its own classes of errors
        raise unreadable(path, error) from error
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})


def _opencv(path: Path, data: bytes, about: About) -> Run:
    import cv2

    if about.outside:
        raise WeightsError(
            f"'{path.name}' takes weights from another file, {about.outside[0][:100]!r}, which "
            "OpenCV is not given. Install onnxruntime: pip install onnxruntime. Or save the model "
            "with its weights inside."
        )
    log.info("%s is run by OpenCV; onnxruntime knows more models and is faster", path.name)
    try:
        network = cv2.dnn.readNetFromONNX(np.frombuffer(data, dtype=np.uint8))
    except cv2.error as error:
        raise unreadable(path, error, "Install onnxruntime, which knows more models: ") from error
    names = network.getUnconnectedOutLayersNames()

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        network.setInput(pixels)
        return list(network.forward(names))

    return run
