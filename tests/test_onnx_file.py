"""Sizes and references in .onnx files are checked before an engine gets the files."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detailers.core.detectors import onnx_file as module
from detailers.core.detectors.onnx import onnx_detector
from detailers.core.detectors.onnx_file import read_about
from detailers.core.detectors.safe_weights import WeightsError
from detailers.dev.onnx_writer import message, node, tensor, value
from detailers.tests.onnx_files import columns, onnx_file


def external(place, name="told", shape=(1,), *more):
    """A tensor of floats that lies in another file."""
    location = message((1, "location"), (2, place))
    return message(
        *((1, side) for side in shape), (2, 1), (8, name), (13, location), (14, 1), *more
    )


def model(*parts, of_model=()):
    """A network that gives `told`, with these parts besides in its graph."""
    identity = node("Identity", ["told"], "out")
    graph = message((1, identity), *parts, (11, value("images", (1, 3, 64, 64))),
                    (12, value("out", (1,))), (2, "a"))  # fmt: skip
    return message((1, 8), (7, graph), (8, message((2, 11))), *of_model)


def in_attribute(number, part):
    """A node with an attribute that holds something in the field of this number."""
    attribute = message((1, "a"), (number, part), (20, 4))
    return (1, message((1, "told"), (2, "b"), (4, "Identity"), (5, attribute)))


def graph(*parts):
    return message(*parts, (2, "inner"))


PLACES = {
    "initializer": lambda t: model((5, t)),
    "sparse initializer": lambda t: model((15, message((1, t), (3, 1)))),
    "indices of a sparse one": lambda t: model((15, message((2, t), (3, 1)))),
    "attribute": lambda t: model(in_attribute(5, t)),
    "attribute's tensors": lambda t: model(in_attribute(10, t)),
    "attribute's sparse tensor": lambda t: model(in_attribute(22, message((1, t)))),
    "subgraph": lambda t: model(in_attribute(6, graph((5, t)))),
    "subgraph of a subgraph": lambda t: model(
        in_attribute(11, graph(in_attribute(6, graph((5, t)))))
    ),
    "function": lambda t: model(of_model=[(25, message((1, "f"), (7, in_attribute(5, t)[1])))]),
    "training": lambda t: model(of_model=[(20, message((1, graph((5, t)))))]),
    "second graph": lambda t: model(of_model=[(7, graph((5, t)))]),
}


@pytest.mark.parametrize("place", PLACES)
def test_weights_outside_are_found_wherever_they_lie(place, tmp_path):
    (tmp_path / "a.onnx").write_bytes(PLACES[place](external("weights.bin")))
    assert read_about(tmp_path / "a.onnx").outside == ("weights.bin",)


@pytest.fixture(params=["onnxruntime", "OpenCV"])
def engine(request, monkeypatch):
    if request.param == "OpenCV":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    else:
        pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install onnxruntime")
    return request.param


@pytest.mark.parametrize(
    "place",
    ["../secret.bin", "/etc/hostname", "link.bin", "pipe", "folder", "none.bin", "a\0b", "", "..",
     "//host/share/a.bin", "\\\\host\\share\\a.bin", "x" * 5000, "ring"],
)  # fmt: skip
def test_weights_outside_of_the_folder_are_refused(place, engine, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(np.float32([7]).tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "ring").symlink_to(folder / "ring")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "a.onnx").write_bytes(model((5, external(place))))
    start = time.process_time()
    with pytest.raises(WeightsError, match=r"'a.onnx' (is refused: it )?takes weights from"):
        onnx_detector(folder / "a.onnx")
    assert time.process_time() - start < 5


def test_weights_beside_the_file_are_used(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install onnxruntime")
    predictions = columns([32, 32, 20, 10, 0.1, 0.9])
    path = onnx_file(tmp_path / "a.onnx", [predictions])
    inside = tensor("told0", predictions)
    (tmp_path / "weights.bin").write_bytes(predictions.tobytes())
    outside = external("weights.bin", "told0", predictions.shape)
    content = path.read_bytes()
    graph_before = next(part for number, part in module._fields(content) if number == 7)
    graph_after = bytes(graph_before).replace(message((5, inside)), message((5, outside)))
    assert len(graph_after) < len(graph_before)
    rest = [
        (n, v if isinstance(v, int) else bytes(v)) for n, v in module._fields(content) if n != 7
    ]
    path.write_bytes(message(*rest, (7, graph_after)))
    (found,) = onnx_detector(path).find(torch.rand(64, 64, 3), 0.5)
    assert found.label == "1"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(WeightsError, match=r"takes weights from another file, 'weights.bin'.*pip"):
        onnx_detector(path)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("shape", [(1, 3, 20000, 20000), (1, 3, 10**9, 64), (1, 64, 5000, 3)])
def test_the_size_of_the_input_is_bounded(shape, tmp_path):
    path = onnx_file(tmp_path / "a.onnx", [columns()], shape)
    with pytest.raises(WeightsError, match=r"an input of \d+ pixels, beyond the 4096"):
        onnx_detector(path)


@pytest.mark.parametrize(
    "sides", [[(1, 2**40)], [(1, 2**20), (1, 2**20)], [(1, b"\x80\x80\x80\x08" * 3)]]
)
def test_a_tensor_that_claims_more_than_it_has_is_refused(sides, engine, tmp_path):
    claim = message(*sides, (2, 1), (8, "told"), (9, bytes(4)))
    path = write(tmp_path / "a.onnx", model((5, claim)))
    with pytest.raises(WeightsError, match=r"claims the shape .* more than its data"):
        onnx_detector(path)


def test_long_labels_are_cut_and_long_lists_are_not_read(tmp_path, engine):
    predictions = columns([32, 32, 20, 10, 0.1, 0.9])
    names = [("names", str({0: "a", 1: "x" * 100_000}))]
    path = onnx_file(tmp_path / "a.onnx", [predictions], metadata=names)
    assert onnx_detector(path).names == {0: "a", 1: "x" * 200}
    for text in ("[" * 100_000, "{0: 'a'," * 100_000, "-" * 100_000, str(["a"] * 200_000)):
        path = onnx_file(tmp_path / "a.onnx", [predictions], metadata=[("names", text)])
        start = time.process_time()
        assert onnx_detector(path).names == {}
        assert time.process_time() - start < 5


def test_graphs_in_graphs_and_fields_without_end_are_refused(tmp_path):
    deep = graph()
    for _ in range(300):
        deep = graph((1, message((5, message((6, deep))))))
    path = write(tmp_path / "a.onnx", model(of_model=[(7, deep)]))
    with pytest.raises(WeightsError, match="too deeply"):
        onnx_detector(path)
    path = write(tmp_path / "a.onnx", model((5, message((8, "told")) + b"\x20\x00" * 2_100_000)))
    with pytest.raises(WeightsError, match=r"more than 2000000 fields"):
        onnx_detector(path)
