"""Detectors from model files: they are read safely, run, and their outputs are read."""

import importlib.util
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from detailers.core.detectors import onnx as onnx_files
from detailers.core.detectors.isolated_import import import_ultralytics
from detailers.core.detectors.network import CpuNetwork
from detailers.core.detectors.onnx import onnx_detector, read_outputs
from detailers.core.detectors.onnx_file import read_about
from detailers.core.detectors.safe_weights import WeightsError, class_names, read_tensors, read_yolo
from detailers.core.detectors.yolo import (
    Candidates,
    Layout,
    NetworkOutput,
    Placement,
    YoloDetector,
    box_mask,
    candidates,
    fit,
    guess_layout,
    letterbox,
    outer_box,
    suppress,
    ultralytics_detector,
)
from detailers.core.files.objects import stand_in
from detailers.core.geometry import Box, Size
from detailers.tests.onnx_files import columns, onnx_file
from hypothesis import given, settings
from hypothesis import strategies as st

# Into the network


def test_an_image_is_scaled_and_filled_up_to_the_stride():
    image = torch.rand(40, 100, 3)
    pixels, placement = letterbox(image, 50, 32)
    assert pixels.shape == (1, 3, 32, 64)
    assert placement == Placement((0.5, 0.5), 7, 6)
    assert (pixels[0, :, :6] == 114 / 255).all()
    assert (pixels[0, :, 6:26, :7] == 114 / 255).all()
    expected = (image[0:2, 0:2].sum((0, 1))) / 4  # the middle between four pixels
    assert torch.allclose(pixels[0, :, 6, 7], expected, atol=1e-6)


def test_a_fixed_input_holds_the_whole_image():
    pixels, placement = fit(torch.ones(100, 40, 3), Size(64, 64))
    assert pixels.shape == (1, 3, 64, 64)
    assert placement == Placement((26 / 40, 0.64), 19, 0)
    assert torch.allclose(pixels[0, 0, :, 19:45], torch.ones(64, 26))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(8, 200))
def test_boxes_find_back_to_the_image(width, height, longest):
    pixels, placement = letterbox(torch.zeros(height, width, 3), longest, 32)
    assert all(side % 32 == 0 for side in pixels.shape[2:])
    corners = [[0, 0, width, height]]
    inner = torch.tensor(corners) * torch.tensor(placement.scale * 2)
    inner += torch.tensor([placement.left, placement.top] * 2)
    assert (inner >= 0).all()
    assert inner[0, 2] <= pixels.shape[3] + 1e-4  # float32 rounds either way
    assert inner[0, 3] <= pixels.shape[2] + 1e-4
    back = placement.to_image(inner)
    assert torch.allclose(back, torch.tensor(corners).float(), rtol=1e-4, atol=1e-3)


# Out of the network


@pytest.mark.parametrize(
    ("shape", "masks", "kind", "classes"),
    [
        ((84, 8400), 0, "columns", 80),
        ((5, 8400), 0, "columns", 1),
        ((37, 8400), 32, "columns", 1),
        ((25200, 85), 0, "objects", 80),
        ((25200, 6), 0, "objects", 1),
        ((25200, 117), 32, "objects", 80),
        ((300, 6), 0, "finished", None),
        ((300, 38), 32, "finished", None),
        ((6, 100), 0, "columns", 2),  # cells of another stride
    ],
)
def test_layouts_are_known_by_their_shapes(shape, masks, kind, classes):
    layout = guess_layout(shape, Size(640, 640), masks)
    assert layout == Layout(kind, classes, masks)


def test_an_unknown_layout_is_an_error():
    with pytest.raises(ValueError, match=r"the shape \[10, 3\].*yolo export"):
        guess_layout((10, 3), Size(640, 640), 0)


def test_predictions_of_every_layout_say_the_same():
    columns = torch.tensor([[20.0, 30, 10, 20, 0.1, 0.9, 7, 8], [50, 50, 10, 10, 0.3, 0.2, 1, 2]]).T
    objects = torch.tensor([[20.0, 30, 10, 20, 0.9, 0.1, 1.0, 7, 8]])
    finished = torch.tensor([[15.0, 20, 25, 40, 0.9, 1, 7, 8], [0, 0, 1, 1, 0.3, 0, 1, 2]])
    for predictions, layout in (
        (columns, Layout("columns", 2, 2)),
        (objects, Layout("objects", 2, 2)),
        (finished, Layout("finished", None, 2)),
    ):
        found = candidates(predictions, layout, 0.5)
        assert found.boxes.tolist() == [[15, 20, 25, 40]]
        assert found.scores.tolist() == pytest.approx([0.9])
        assert found.classes.tolist() == [1]
        assert found.masks.tolist() == [[7, 8]]


def proposals(boxes, scores, classes=None):
    classes = [0] * len(boxes) if classes is None else classes
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    masks = torch.zeros(len(boxes), 0)
    return Candidates(boxes, torch.tensor(scores), torch.tensor(classes), masks)


def test_of_boxes_that_overlap_the_surest_stays():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60]]
    found = suppress(proposals(boxes, [0.6, 0.9, 0.8, 0.7, 0.1], [0, 0, 1, 0, 0]))
    # the first overlaps the second by 9/11, the fourth by 6/14
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.1])
    assert found.classes.tolist() == [0, 1, 0, 0]


def test_boxes_of_two_classes_never_suppress_one_another_wherever_they_are():
    boxes = [[-5, -5, 5, 5], [-4, -5, 6, 5], [-5, -5, 5, 5], [90, 90, 100, 100]]
    found = suppress(proposals(boxes, [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 0]))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])


def test_an_endless_box_suppresses_no_other():
    boxes = [[0, 0, float("inf"), 10], [0, float("nan"), 10, 10], [20, 20, 30, 30]]
    found = suppress(proposals(boxes, [0.9, 0.8, 0.7]))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_thousands_of_boxes_come_down_to_the_surest_few():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40000, 2, generator=generator) * 10000
    boxes = torch.cat([corners, corners + 5], dim=1)
    scores = torch.rand(40000, generator=generator)
    found = suppress(Candidates(boxes, scores, torch.zeros(40000).long(), torch.zeros(40000, 0)))
    assert len(found.scores) == 300
    assert found.scores.min() > 0.98
    same = suppress(Candidates(boxes[:1].expand(40000, -1), scores, torch.zeros(40000).long(),
                               torch.zeros(40000, 0)))  # fmt: skip
    assert same.scores.tolist() == [scores.sort().values[-30000:].max()]


def test_no_box_is_nothing():
    assert len(suppress(proposals([], [])).scores) == 0


def test_boxes_are_rounded_outwards_and_odd_numbers_do_no_harm():
    assert outer_box([1.2, 2.0, 3.4, 4.0]) == Box(1, 2, 4, 4)
    assert outer_box([float("nan"), -float("inf"), float("inf"), 5]) == Box(0, -1000000, 1000000, 5)


def test_a_mask_is_read_off_the_prototypes_in_image_pixels():
    logits = -torch.ones(8, 8)
    logits[2:6, 2:4] = 1  # input pixels 8..16 by 8..24, as each is four wide
    placement = Placement((0.5, 0.5), 4, 0)  # of an image of 48 x 64 in an input of 32 x 32
    mask = box_mask(logits, Box(0, 0, 40, 64), placement, Size(32, 32))
    assert mask.shape == (64, 40)
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    assert (rows.min(), rows.max() + 1) == (16, 48)
    assert (columns.min(), columns.max() + 1) == (8, 24)
    part = box_mask(logits, Box(20, 40, 30, 50), placement, Size(32, 32))
    assert torch.equal(part, mask[40:50, 20:30])


def test_a_yolo_detector_puts_it_all_together():
    def ask(pixels):
        assert pixels.shape == (1, 3, 32, 64)
        predictions = torch.tensor(
            [[32.0, 16, 20, 10, 0.9, 0.0, 1], [33, 16, 20, 10, 0.8, 0.0, 1],
             [-50, -50, 9, 9, 0.7, 0, 1], [10, 16, 8, 8, 0.2, 0.6, -1]]
        ).T  # fmt: skip
        return NetworkOutput(predictions, Layout("columns", 2, 1), torch.ones(1, 8, 16))

    def place(image):
        return letterbox(image, 64, 32)

    image = torch.zeros(100, 200, 1)
    finds = YoloDetector(place, ask, {0: "手"}).find(image, 0.5)
    assert [(found.bbox, found.label) for found in finds] == [
        (Box(68, 34, 132, 66), "手"),
        (Box(18, 37, 44, 63), "1"),
    ]
    assert finds[0].confidence == pytest.approx(0.9)
    assert finds[0].mask is None
    (found,) = YoloDetector(place, ask, {}, with_masks=True).find(image, 0.5)
    assert found.mask.shape == (32, 64)
    assert found.mask.all()


# .onnx files


@pytest.fixture(params=["onnxruntime", "OpenCV"])
def engine(request, monkeypatch):
    if request.param == "OpenCV":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    else:
        pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install onnxruntime")
    return request.param


def test_an_onnx_file_finds_things(tmp_path, engine):
    predictions = columns([32, 32, 20, 10, 0.1, 0.9], [33, 32, 20, 10, 0.1, 0.8])
    names = [("names", "{0: 'face', 1: '手'}"), ("task", "detect")]
    path = onnx_file(tmp_path / "a.onnx", [predictions], metadata=names)
    detector = onnx_detector(path)
    (found,) = detector.find(torch.rand(128, 256, 3), 0.5)
    assert found.bbox == Box(88, 44, 168, 84)  # a pixel of the input is four of the image
    assert (found.label, round(found.confidence, 4)) == ("手", 0.9)
    assert detector.find(torch.rand(128, 256, 4), 0.95) == []


def test_an_onnx_file_with_masks(tmp_path, engine):
    predictions = columns([32, 32, 20, 20, 0.9, 1, -1], classes=1, masks=2)
    prototypes = np.zeros((1, 2, 16, 16), np.float32)
    prototypes[0, 0, :, 8:] = 1  # the right half
    prototypes[0, 1, 8:] = 2  # less the lower half
    path = onnx_file(tmp_path / "a.onnx", [predictions, prototypes])
    (found,) = onnx_detector(path, with_masks=True).find(torch.rand(64, 64, 3), 0.5)
    assert found.bbox == Box(22, 22, 42, 42)
    assert found.mask[2:8, 12:].all()
    assert not found.mask[:, :8].any()
    assert not found.mask[12:].any()
    (found,) = onnx_detector(path).find(torch.rand(64, 64, 3), 0.5)
    assert found.mask is None


def test_an_onnx_file_of_the_older_packs_kind(tmp_path, engine):
    boxes = np.float32([[[5, 6, 25, 36], [1, 1, 2, 2], [0, 0, 0, 0]]])
    scores, labels = np.float32([[0.9, 0.2, 0]]), np.float32([[3, 1, -1]])
    path = onnx_file(tmp_path / "a.onnx", [boxes, scores, labels], (1, 64, 48, 3))
    finds = onnx_detector(path).find(torch.rand(64, 48, 3), 0.1)
    assert [(found.bbox, found.label) for found in finds] == [
        (Box(5, 6, 25, 36), "3"),
        (Box(1, 1, 2, 2), "1"),
    ]


def test_outputs_with_the_score_beside_the_box_are_read(tmp_path):
    boxes, labels = np.float32([[[5, 6, 25, 36, 0.7]]]), np.int64([[2]])
    answer = read_outputs([boxes, labels], Size(64, 64), tmp_path / "a.onnx")
    assert answer.predictions.tolist() == [pytest.approx([5, 6, 25, 36, 0.7, 2])]
    assert answer.layout.kind == "finished"
    none = read_outputs([boxes[:, :0], labels[:, :0]], Size(64, 64), tmp_path / "a.onnx")
    assert none.predictions.shape == (0, 6)


@pytest.mark.parametrize(
    "outputs",
    [
        [np.zeros((1, 7), np.float32)],
        [np.zeros((1, 3, 3), np.float32)],
        [np.zeros((1, 9, 4), np.float32)] * 2,
        [np.zeros((1, 9, 4), np.float32), np.ones((1, 8), np.float32)],
        [],
    ],
)
def test_outputs_without_boxes_are_an_error(outputs, tmp_path):
    with pytest.raises(WeightsError, match=r"'a.onnx' answers with .* no boxes can be read"):
        read_outputs(outputs, Size(64, 64), tmp_path / "a.onnx")


def test_an_onnx_file_tells_its_input_and_notes(tmp_path):
    path = onnx_file(tmp_path / "a.onnx", [columns()], ("batch", 3, "h", "w"), [("a", "ü")])
    about = read_about(path)
    assert about.shape == (0, 3, 0, 0)
    assert about.metadata == {"a": "ü"}


@pytest.mark.parametrize("shape", [(1, 1000), (1, 4, 8, 8)])
def test_an_onnx_file_that_takes_no_image_is_refused(shape, tmp_path):
    path = onnx_file(tmp_path / "a.onnx", [columns()], shape)
    with pytest.raises(WeightsError, match=r"'a.onnx' takes images \[1, .*one image"):
        onnx_detector(path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_a_broken_onnx_file_is_an_error_that_names_it(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "broken.onnx"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"'broken.onnx'"):
        onnx_detector(path)


def test_a_cut_onnx_file_is_an_error(tmp_path, engine):
    path = onnx_file(tmp_path / "a.onnx", [columns()])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(WeightsError, match=r"'a.onnx' cannot be run"):
        onnx_detector(path)


def test_an_unknown_layer_is_an_error(tmp_path, engine):
    path = onnx_file(tmp_path / "a.onnx", [columns()])
    path.write_bytes(path.read_bytes().replace(b"ReduceMean", b"ReduceFoam"))
    with pytest.raises(WeightsError, match=r"'a.onnx' cannot be run"):
        onnx_detector(path)


def test_names_in_an_onnx_file_are_not_run():
    assert onnx_files._literal("__import__('os').getcwd()") is None


# Files of PyTorch


def hostile(path, target, through=os.system):
    """A file that creates `target` when it is loaded without care."""

    class Hostile:
        def __reduce__(self):
            command = f"touch {target}" if through is os.system else f"open({str(target)!r}, 'w')"
            return through, (command,)

    torch.save({"model": Hostile()}, path)
    return path


@pytest.mark.parametrize("read", [read_yolo, read_tensors])
@pytest.mark.parametrize("through", [os.system, eval, exec])
def test_a_hostile_file_is_refused_and_does_nothing(read, through, tmp_path):
    target = tmp_path / "created"
    path = hostile(tmp_path / "evil.pt", target, through)
    torch.load(path, weights_only=False)  # it does work
    assert target.exists()
    target.unlink()
    with pytest.raises(WeightsError, match=rf"'evil.pt' is refused: .*{through.__name__}"):
        read(path)
    assert not target.exists()


def test_a_hostile_file_is_refused_even_where_its_names_are_allowed(tmp_path):
    target = tmp_path / "created"
    path = hostile(tmp_path / "evil.pt", target, eval)
    with torch.serialization.safe_globals([eval]):
        allowed = set(torch.serialization.get_safe_globals())
        for read in (read_yolo, read_tensors):
            with pytest.raises(WeightsError, match=r"refused: .*eval"):
                read(path)
        assert set(torch.serialization.get_safe_globals()) == allowed
    assert not target.exists()


def test_a_plain_pickle_is_refused_and_does_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'created'}",)

    path = tmp_path / "old.pt"
    path.write_bytes(pickle.dumps(Hostile()))
    for read in (read_yolo, read_tensors):
        with pytest.raises(WeightsError, match=r"'old.pt' is no PyTorch file"):
            read(path)
    assert not (tmp_path / "created").exists()


def test_a_hostile_file_of_the_old_kind_is_refused_and_does_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'created'}",)

    path = tmp_path / "old.pt"
    content = {"model": {"a": torch.ones(1), "b": Hostile()}}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"'old.pt' is refused: .*system"):
        read_tensors(path)
    assert not (tmp_path / "created").exists()
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(WeightsError, match=r"'old.pt'"):
        read_tensors(path)


def test_getattr_reaches_nothing_but_forward_methods(tmp_path):
    """`getattr` is let through, as old segmentation models name it."""

    class Reach:
        def __reduce__(self):
            return getattr, (torch.nn.modules.conv.Conv2d, "__init__")

    layer = torch.nn.Sequential()
    layer.detect = Reach()
    torch.save({"model": layer}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="holds a Sequential, which does not find boxes"):
        read_yolo(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [{"a": 1}, [1], {}, {"model": {"weight": torch.ones(2)}}])
def test_a_file_without_a_network_is_no_detector(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"'a.pt' holds no network.*yolo export"):
        read_yolo(tmp_path / "a.pt")


@pytest.mark.parametrize("data", [b"", b"not a file of weights", b"PK\x03\x04 cut short"])
def test_a_broken_file_is_an_error_that_names_it(data, tmp_path):
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=rf"'{name}'"):
            read_tensors(tmp_path / name)
    with pytest.raises(WeightsError, match=r"'a.pt'"):
        read_yolo(tmp_path / "a.pt")


def test_a_file_cut_short_is_an_error(tmp_path):
    torch.save({"w": torch.rand(1000)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[:-500])
    with pytest.raises(WeightsError, match=r"'a.pt'"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize("archive", [True, False])  # files of today, and from before PyTorch 1.6
@pytest.mark.parametrize("wrap", [dict, lambda w: {"model": w}, lambda w: {"state_dict": w}])
def test_plain_weights_are_read(wrap, archive, tmp_path):
    tensors = {"a": torch.rand(2, 3), "b": torch.ones(1)}
    torch.save(wrap(tensors), tmp_path / "a.pth", _use_new_zipfile_serialization=archive)
    found = read_tensors(tmp_path / "a.pth")
    assert found.keys() == tensors.keys()
    assert torch.equal(found["a"], tensors["a"])


def test_class_names_may_be_a_list_or_a_mapping():
    assert class_names({"0": "a", 1: 2}) == {0: "a", 1: "2"}
    assert class_names(["a", "b"]) == {0: "a", 1: "b"}
    assert class_names(None) == {}


# YOLO, with the real package


@pytest.fixture(scope="module")
def tasks():
    needs = "needs ultralytics: pip install ultralytics"
    try:
        return import_ultralytics().nn.tasks
    except ImportError:
        pytest.skip(needs)


def yolo(tasks, config="yolov8n-seg.yaml"):
    """A network with random weights, the same every time, that finds things all over."""
    kind = tasks.SegmentationModel if "seg" in config else tasks.DetectionModel
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = kind(config, ch=3, nc=2, verbose=False).eval()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    head = network.model[-1]
    for name in ("cv2", "cv3", "cv4", "one2one_cv2", "one2one_cv3", "one2one_cv4"):
        for branch in getattr(head, name, None) or []:
            branch[-1].weight.data.normal_(0, 3, generator=generator)
            branch[-1].bias.data.zero_()
    network.names = {0: "face", 1: "手"}
    return network


def answers(network, pixels):
    with torch.no_grad():
        answer = network(pixels)
    while not isinstance(answer, torch.Tensor):
        answer = answer[0]
    return answer


@pytest.mark.parametrize(
    "config", ["yolov8n.yaml", "yolov8n-seg.yaml", "yolov9t.yaml", "yolov10n.yaml", "yolo11n.yaml"]
)
def test_a_yolo_file_gives_the_same_network(tasks, config, tmp_path):
    network = yolo(tasks, config)
    content = {"ema": None, "model": network, "train_args": {"imgsz": 320}, "date": "today"}
    torch.save(content, tmp_path / "a.pt")
    file = read_yolo(tmp_path / "a.pt")
    assert (file.names, file.image_size, file.stride) == ({0: "face", 1: "手"}, 320, 32)
    pixels = torch.rand(1, 3, 64, 96)
    assert torch.equal(answers(file.network, pixels), answers(network, pixels))
    assert all(type(part).__module__.split(".")[0] in ("torch", "ultralytics")
               for part in file.network.modules())  # fmt: skip


def test_a_fused_network_in_half_precision_is_read_too(tasks, tmp_path):
    network = yolo(tasks, "yolov8n.yaml").fuse(verbose=False)
    torch.save({"model": network.half()}, tmp_path / "a.pt")
    file = read_yolo(tmp_path / "a.pt")
    assert {parameter.dtype for parameter in file.network.parameters()} == {torch.float32}
    assert file.image_size == 640
    pixels = torch.rand(1, 3, 64, 64)
    assert torch.equal(answers(file.network, pixels), answers(network.float(), pixels))


def test_calls_in_a_yolo_file_are_not_made(tasks, tmp_path):
    """The package's own classes can be made to run code: their configuration is evaluated."""

    class Hostile:
        def __reduce__(self):
            command = f"__import__('os').system('touch {tmp_path / 'created'}')"
            config = {"nc": 1, "activation": command, "backbone": [], "head": []}
            return tasks.DetectionModel, (config,)

    torch.save({"model": Hostile()}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="does not find boxes"):
        read_yolo(tmp_path / "evil.pt")
    assert not (tmp_path / "created").exists()


def test_a_yolo_file_finds_what_the_package_itself_finds(tasks, tmp_path):
    package = import_ultralytics()
    network = yolo(tasks)
    network.task, network.args = "segment", {}
    torch.save({"model": network, "train_args": {"imgsz": 160}}, tmp_path / "a.pt")
    image = (torch.rand(90, 140, 3, generator=torch.Generator().manual_seed(0)) * 255).round()
    file = read_yolo(tmp_path / "a.pt")
    detector = ultralytics_detector(file, CpuNetwork(file.network), with_masks=True)
    threshold = detector.find(image / 255, 0.0)[4].confidence - 1e-3
    finds = detector.find(image / 255, threshold)
    bgr = image.flip(-1).byte().numpy()
    (result,) = package.YOLO(tmp_path / "a.pt")(bgr, conf=threshold, iou=0.7, verbose=False)
    assert len(finds) == len(result.boxes) >= 5
    theirs = sorted(zip(result.boxes.conf.tolist(), result.boxes.xyxy.tolist(), strict=True))
    ours = sorted((found.confidence, found.bbox.as_tuple()) for found in finds)
    for (sure, corners), (sure_too, box) in zip(theirs, ours, strict=True):
        assert sure == pytest.approx(sure_too, abs=2e-3)
        assert np.abs(np.subtract(corners, box)).max() < 2
    assert all(found.mask.shape == (found.bbox.height, found.bbox.width) for found in finds)


def test_without_the_package_the_error_says_what_to_do(tmp_path, monkeypatch):
    stand_in = type("Conv", (torch.nn.Module,), {"__module__": "ultralytics.nn.modules.conv"})
    module = type(sys)("ultralytics.nn.modules.conv")
    module.Conv = stand_in
    with monkeypatch.context() as patch:
        for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.modules"):
            patch.setitem(sys.modules, name, type(sys)(name))
        patch.setitem(sys.modules, "ultralytics.nn.modules.conv", module)
        torch.save({"model": stand_in()}, tmp_path / "a.pt")
    for name in [name for name in sys.modules if name.split(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(RuntimeError, match=r"pip install ultralytics.*onnx"):
        read_yolo(tmp_path / "a.pt")


def test_importing_the_package_changes_nothing_else():
    """In a process of its own, as a module is imported once."""
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("needs ultralytics: pip install ultralytics")
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import conftest
import os, threading, warnings, cv2, numpy, torch
from PIL import Image
def state():
    functions = (Image.open, torch.save, torch.load, cv2.imread, cv2.imwrite)
    printing = repr((torch._tensor_str.PRINT_OPTS, numpy.get_printoptions()))
    return functions, dict(os.environ), cv2.getNumThreads(), printing, list(warnings.filters)
os.environ["HOME"] = os.environ.get("HOME", "/")
os.environ["OMP_NUM_THREADS"] = "1"
before = state()
missing, done = [], threading.Event()
def watch():
    while not done.is_set():
        missing.extend(name for name in before[1] if name not in os.environ)
        done.wait(0)
other = threading.Thread(target=watch)
other.start()
def another():
    os.environ["SET_MEANWHILE"] = "1"
later = threading.Timer(0.3, another)
later.start()
from detailers.core.detectors.isolated_import import import_ultralytics
import_ultralytics()
later.join()
done.set()
other.join()
assert not missing, missing[:5]
assert os.environ.pop("SET_MEANWHILE") == "1"
assert state() == before, (state(), before)
from ultralytics.utils import AUTOINSTALL
assert not AUTOINSTALL
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_files_of_other_packages_are_refused(tmp_path):
    """YOLOv5's own repository pickles classes of a package named `models`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        data = b"\x80\x02cmodels.yolo\nModel\n)\x81."
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/version", "3\n")
    (tmp_path / "a.pt").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match=r"would run models.yolo.Model.*yolo export"):
        read_yolo(tmp_path / "a.pt")


def test_stand_ins_have_the_names_of_what_they_stand_for():
    kind = stand_in("ultralytics.nn.modules.conv.Conv")
    assert (kind.__module__, kind.__qualname__) == ("ultralytics.nn.modules.conv", "Conv")
    assert kind(1, a=2).arguments == (1,)
