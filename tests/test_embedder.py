"""Networks of persons in .onnx files: how they want their pixels, and what they answer."""

import sys

import numpy as np
import pytest
import torch
from detailers.core.detectors.embedder import OnnxEmbedder, PixelFormat, largest_finds
from detailers.core.detectors.safe_weights import WeightsError
from detailers.core.geometry import Box, Size
from detailers.dev.onnx_writer import model, node, tensor, value, wholes
from detailers.tests.fake_backend import make_seg, noise_image
from detailers.utils.notes import collected_notes

WIDTH = 8  # numbers of a vector here


@pytest.fixture(params=["onnxruntime", "OpenCV"], autouse=True)
def engine(request, monkeypatch):
    if request.param == "OpenCV":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    else:
        pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install onnxruntime")
    return request.param


def network(path, shape=("N", 3, 4, 6), first=None, notes=(), outputs=1):
    """A file whose vector is red, green and blue, averaged, and 0 in the places after them.

    Args:
        first: the kind of a first node, which changes pixels by 0 or by a factor of 1.
        outputs: how many; all but the last are something else than a vector.
    """
    weights = [tensor("kernel", np.eye(WIDTH, 3, dtype=np.float32)[..., None, None])]
    nodes, last = [], "pixels"
    if shape[1] != 3:
        nodes.append(node("Transpose", [last], "planes", wholes("perm", (0, 3, 1, 2))))
        last = "planes"
    if first:
        factor = np.full((1, 3, 1, 1), first in ("Mul", "Div"), np.float32)
        weights.append(tensor("factor", factor))
        nodes.append(node(first, [last, "factor"], "scaled"))
        last = "scaled"
    nodes.append(node("Conv", [last, "kernel"], "wide"))
    nodes.append(node("GlobalAveragePool", ["wide"], "pooled"))
    nodes.append(node("Flatten", ["pooled"], "vector"))
    given = [value("wide", ("N", WIDTH, 4, 6))] * (outputs > 1)
    given.append(value("vector", (shape[0], WIDTH)))
    path.write_bytes(model(nodes, weights, [value("pixels", shape)], given, notes))
    return path


PIXELS = torch.tensor([[0.25, 0.5, 1.0], [0.0, 1.0, 0.5]])[:, None, None].expand(2, 4, 6, 3)
RGB = [[0.25, 0.5, 1.0], [0.0, 1.0, 0.5]]


def answer(embedder, pictures=PIXELS):
    found = embedder.embed(pictures)
    assert found.dtype == torch.float32
    assert not found[:, 3:].any()
    return found[:, :3]


@pytest.mark.parametrize(
    ("values", "channels", "expected"),
    [
        ("0..1", "RGB", RGB),
        ("0..1", "BGR", [[1.0, 0.5, 0.25], [0.5, 1.0, 0.0]]),
        ("-1..1", "RGB", [[-0.5, 0.0, 1.0], [-1.0, 1.0, 0.0]]),
        ("0..255", "RGB", [[63.75, 127.5, 255.0], [0.0, 255.0, 127.5]]),
        ("ImageNet", "RGB", [[-1.0262, 0.1964, 2.64], [-2.1179, 2.4286, 0.4178]]),
    ],
)
def test_pixels_come_as_chosen(tmp_path, values, channels, expected):
    embedder = OnnxEmbedder(network(tmp_path / "a.onnx"), PixelFormat(channels, values))
    torch.testing.assert_close(answer(embedder), torch.tensor(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("first", "notes", "expected"),
    [
        (None, (), ("RGB", "-1..1")),
        ("Sub", (), ("RGB", "0..255")),
        ("Mul", (), ("RGB", "0..255")),
        (None, [("Image.NominalPixelRange", "Normalized_0_1")], ("RGB", "0..1")),
        ("Sub", [("Image.NominalPixelRange", "Normalized_1_1")], ("RGB", "-1..1")),
        (None, [("Image.BitmapPixelFormat", "Bgr8")], ("BGR", "-1..1")),
        (None, [("Image.BitmapPixelFormat", "purple")], ("RGB", "-1..1")),
    ],
)
def test_what_is_not_chosen_is_read_from_the_file(tmp_path, first, notes, expected):
    embedder = OnnxEmbedder(network(tmp_path / "a.onnx", first=first, notes=notes))
    assert (embedder.pixel_format.channels, embedder.pixel_format.values) == expected
    chosen = OnnxEmbedder(tmp_path / "a.onnx", PixelFormat("RGB", "0..1"))
    torch.testing.assert_close(answer(chosen), torch.tensor(RGB))


@pytest.mark.parametrize("choice", [{"channels": "GBR"}, {"values": "0..2"}])
def test_what_cannot_be_chosen_is_told(tmp_path, choice):
    (name,) = choice
    with pytest.raises(
        ValueError, match=rf"'{name}' is '.*', which does not exist\. Choose one of"
    ):
        OnnxEmbedder(network(tmp_path / "a.onnx"), PixelFormat(**choice))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (("N", 3, 4, 6), Size(6, 4)),
        ((1, 3, 4, 6), Size(6, 4)),
        ((1, 4, 6, 3), Size(6, 4)),
        (("N", "C3", 4, 6), None),
        (("N", 3, "h", "w"), Size(112, 112)),
    ],
)
def test_layout_and_size_are_the_files(tmp_path, shape, size):
    file = network(tmp_path / "a.onnx", shape)
    if size is None:
        with pytest.raises(WeightsError, match="one image"):
            OnnxEmbedder(file)
        return
    embedder = OnnxEmbedder(file, PixelFormat(values="0..1"))
    assert embedder.size == size
    pictures = PIXELS[:, :1, :1].expand(2, size.height, size.width, 3)
    torch.testing.assert_close(answer(embedder, pictures), torch.tensor(RGB), atol=1e-5, rtol=1e-5)


def test_pictures_go_in_together_where_the_file_takes_several(tmp_path):
    embedder = OnnxEmbedder(network(tmp_path / "a.onnx"))
    run, counts = embedder._run, []
    embedder._run = lambda pixels: counts.append(len(pixels)) or run(pixels)
    assert len(answer(embedder, noise_image(5, 4, 6))) == 5
    single = OnnxEmbedder(network(tmp_path / "b.onnx", (1, 3, 4, 6)))
    run_one = single._run
    single._run = lambda pixels: counts.append(-len(pixels)) or run_one(pixels)
    torch.testing.assert_close(
        answer(single, noise_image(5, 4, 6)), answer(embedder, noise_image(5, 4, 6))
    )
    assert counts == [5, -1, -1, -1, -1, -1, 5]


def test_an_engine_that_takes_one_at_a_time_gets_one_at_a_time(tmp_path):
    embedder = OnnxEmbedder(network(tmp_path / "a.onnx"))
    run = embedder._run

    def one_only(pixels):
        if len(pixels) > 1:
            raise RuntimeError("one picture only")
        return run(pixels)

    embedder._run = one_only
    assert len(answer(embedder, noise_image(3, 4, 6))) == 3
    assert embedder._one_by_one


def test_the_vector_is_found_among_several_answers(tmp_path):
    embedder = OnnxEmbedder(network(tmp_path / "a.onnx", outputs=2), PixelFormat(values="0..1"))
    torch.testing.assert_close(answer(embedder), torch.tensor(RGB))


@pytest.mark.parametrize("shape", [(2, 3), (2, 8, 2), (5, 8), ()])
def test_what_is_no_vector_is_told(tmp_path, shape):
    embedder = OnnxEmbedder(network(tmp_path / "a.onnx"))
    embedder._run = lambda pixels: [np.zeros(shape, np.float32)]
    with pytest.raises(WeightsError, match=r"'a\.onnx' answers with \[.* one vector for each"):
        embedder.embed(PIXELS)


def test_a_network_that_does_not_run_is_told(tmp_path):
    embedder = OnnxEmbedder(network(tmp_path / "a.onnx"))

    def fails(pixels):
        raise RuntimeError("an operator is missing\nand more")

    embedder._run = fails
    words = r"'a\.onnx' does not run on a picture of 6x4 pixels .*an operator is missing\)"
    with pytest.raises(WeightsError, match=words):
        embedder.embed(PIXELS)


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no network at all")
    with pytest.raises(WeightsError, match=r"'a\.onnx'"):
        OnnxEmbedder(tmp_path / "a.onnx")


# Where the persons are in their pictures


class Detector:
    """Finds what it is told to, picture by picture."""

    def __init__(self, *boxes):
        self.boxes = iter(boxes)

    def detect(self, image, threshold, dilation, crop_factor, drop_size=1, detailer_hook=None):
        segs = [make_seg(box) for box in next(self.boxes)]
        return (image.shape[1], image.shape[2]), segs


def test_the_largest_find_in_each_picture_is_taken():
    detector = Detector([(0, 0, 4, 4), (2, 2, 9, 9)], [], [(1, 1, 3, 3)])
    with collected_notes() as notes:
        found = largest_finds(noise_image(3, 12, 10), detector)
    assert found == [Box(2, 2, 9, 9), None, Box(1, 1, 3, 3)]
    (told,) = notes
    assert told.kind == "references"
    assert "picture 2 of 'references'" in told.text
