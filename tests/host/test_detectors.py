"""Detectors, SAMs and bridges in the host, with model files of random or told answers."""

import json

import numpy as np
import pytest
import torch
from detailers.core.detectors.isolated_import import import_ultralytics
from detailers.core.detectors.network import CpuNetwork
from detailers.core.detectors.sam.load import load_sam
from detailers.core.detectors.sam.questions import Prompt
from detailers.core.geometry import Box
from detailers.tests import sam_models
from detailers.tests.host.graphs import Graph, box
from detailers.tests.host.test_pipes import BASIC, LISTS
from detailers.tests.onnx_files import columns, onnx_file
from detailers.tests.test_detectors_models import hostile, yolo
from detailers.tests.test_host_data import CONNECTIONS, POINTS

WIDE = (128, 64)  # the images' width and height; half of it goes into the networks of 64 x 64
PREDICTED = [32, 32, 20, 10, 0.1, 0.9]  # in a network's pixels
FOUND = (44, 22, 84, 42)  # the same in the image's
SIMPLE = {
    "bbox_threshold": 0.5, "bbox_dilation": 0, "crop_factor": 1.0, "drop_size": 5,
    "sub_threshold": 0.5, "sub_dilation": 0, "sub_bbox_expansion": 0,
    "sam_mask_hint_threshold": 0.7,
}  # fmt: skip
HINTS = {
    "detection_hint": "center-1", "dilation": 0, "threshold": 0.0, "bbox_expansion": 0,
    "mask_hint_threshold": 0.7, "mask_hint_use_negative": "False",
}  # fmt: skip


@pytest.fixture(scope="module")
def models(server):
    """The server's models folder with all the files."""
    folder = server.base / "models"
    for name in ("ultralytics/bbox", "ultralytics/segm", "onnx", "sams"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = [("names", "{0: 'face', 1: '手'}")]
    onnx_file(folder / "ultralytics/bbox/told.onnx", [columns(PREDICTED)], metadata=names)
    halves = -np.ones((1, 1, 16, 16), np.float32)
    halves[..., 8:] = 1  # the right half of the picture
    shapes = [columns([*PREDICTED, 1.0], masks=1), halves]
    onnx_file(folder / "ultralytics/segm/half.onnx", shapes, metadata=names)
    apart = np.float32([[FOUND]]), np.float32([[0.9]]), np.float32([[7]])
    onnx_file(folder / "onnx/older.onnx", apart, (1, "h", "w", 3))
    sam = sam_models.sam()
    sam.save_pretrained(folder / "temporary")
    (folder / "temporary/model.safetensors").rename(folder / "sams/sam.safetensors")
    torch.save({"model": sam_models.sam2().state_dict()}, folder / "sams/sam2.1.pt")
    return folder


@pytest.fixture
def graph(models):
    graph = Graph()
    yolo_node = graph.add("UltralyticsDetectorProvider", model_name="segm/half.onnx")
    graph.boxes, graph.shapes = yolo_node[0], yolo_node[1]
    graph.picture = graph.image(*WIDE)
    return graph


def found(arrays, index=0):
    """A saved segment: its box, label, confidence, and how much its mask covers."""
    part = {name: arrays[f"segs0_{index}_{name}"] for name in ("bbox", "label", "mask")}
    sure = round(float(arrays[f"segs0_{index}_confidence"]), 4)
    return tuple(part["bbox"].tolist()), str(part["label"]), sure, part["mask"].sum()


def test_boxes_and_shapes_are_found(graph, results):
    only_boxes = graph.add("UltralyticsDetectorProvider", model_name="bbox/told.onnx")[0]
    older = graph.add("ONNXDetectorProvider", model_name="older.onnx")[0]
    settings = {
        "image": graph.picture, "threshold": 0.5, "dilation": 0, "crop_factor": 2.0,
        "drop_size": 5, "labels": "all",
    }  # fmt: skip
    mask = {"image": graph.picture, "threshold": 0.5, "dilation": 0}
    out = results(
        graph,
        boxes=graph.add("BboxDetectorSEGS", bbox_detector=only_boxes, **settings)[0],
        other=graph.add(
            "BboxDetectorSEGS", bbox_detector=only_boxes, **settings | {"labels": "face"}
        )[0],
        shapes=graph.add("SegmDetectorSEGS", segm_detector=graph.shapes, **settings)[0],
        older=graph.add("ONNXDetectorSEGS", bbox_detector=older, **settings)[0],
        box_mask=graph.add(
            "BboxDetectorCombined_v2", bbox_detector=graph.boxes, **mask | {"dilation": 3}
        )[0],
        shape_mask=graph.add("SegmDetectorCombined_v2", segm_detector=graph.shapes, **mask)[0],
        unsure=graph.add(
            "SegmDetectorCombined_v2", segm_detector=graph.shapes, **mask | {"threshold": 0.95}
        )[0],
    )
    assert found(out["boxes"]) == (FOUND, "手", 0.9, 800)
    assert out["boxes"]["segs0_0_crop"].tolist() == [24, 12, 104, 52]
    assert "segs0_0_bbox" not in out["other"]
    assert found(out["shapes"]) == (FOUND, "手", 0.9, 400)
    assert found(out["older"]) == (FOUND, "7", 0.9, 800)
    assert out["box_mask"]["t0"].shape == (1, 64, 128)
    assert out["box_mask"]["t0"].sum() == 42 * 22
    assert out["shape_mask"]["t0"][0, 22:42, 64:84].all()
    assert out["shape_mask"]["t0"].sum() == 400
    assert out["unsure"]["t0"].sum() == 0


def test_simple_detectors_narrow_the_masks(graph, results):
    frames = graph.image(*WIDE, batch=3)
    pipe = graph.add(
        "ToDetailerPipe",
        **{name: graph.value(name) for name in BASIC},
        bbox_detector=graph.boxes,
        segm_detector_opt=graph.shapes,
        wildcard="",
        **LISTS,
    )[0]
    simple = {"bbox_detector": graph.boxes, "image": graph.picture, **SIMPLE}
    video = {
        "bbox_detector": graph.boxes, "image_frames": frames, **SIMPLE,
        "segm_detector_opt": graph.shapes,
    }  # fmt: skip
    out = results(
        graph,
        plain=graph.add("ImpactSimpleDetectorSEGS", **simple)[0],
        narrowed=graph.add(
            "ImpactSimpleDetectorSEGS", **simple, segm_detector_opt=graph.shapes
        )[0],
        piped=graph.add(
            "ImpactSimpleDetectorSEGSPipe", detailer_pipe=pipe, image=graph.picture, **SIMPLE,
            post_dilation=-3,
        )[0],
        video=graph.add(
            "ImpactSimpleDetectorSEGS_for_AD", **video, masking_mode="Don't combine",
            segs_pivot="1st frame mask",
        )[0],
        pivot=graph.add("ImpactSimpleDetectorSEGS_for_AD", **video)[0],
    )  # fmt: skip
    assert found(out["plain"])[3] == 800
    assert found(out["narrowed"])[3] == 400
    assert found(out["piped"])[3] == 19 * 20  # the crop's own borders do not eat into it
    assert out["video"]["segs0_0_mask"].shape == (3, 20, 40)
    assert found(out["video"])[3] == 1200
    assert found(out["pivot"])[0] == (64, 22, 84, 42)


def own_masks(path, image, boxes, threshold=0.0):
    """What the same SAM marks here, asked about the middles of boxes."""
    model = load_sam(path, CpuNetwork)
    questions = []
    for values in boxes:
        area = Box(*values)
        middle = (area.x1 + area.x2) / 2, (area.y1 + area.y2) / 2
        questions.append(Prompt((middle,), (1,), area))
    return torch.stack(model.masks(torch.from_numpy(image), questions, threshold)).numpy()


@pytest.mark.parametrize("name", ["sam.safetensors", "sam2.1.pt"])
def test_sam_marks_segments(graph, results, models, name):
    places = [(10, 10, 40, 50), (70, 5, 120, 60)]
    segs = graph.segs(*WIDE, *(box(*place) for place in places))
    sam = graph.add("SAMLoader", model_name=name, device_mode="AUTO")[0]
    asked = {"sam_model": sam, "image": graph.picture}
    combined = graph.add("SAMDetectorCombined", **asked, segs=segs, **HINTS)
    segmented = graph.add("SAMDetectorSegmented", **asked, segs=segs, **HINTS)
    nothing = graph.add("SAMDetectorSegmented", **asked, segs=graph.segs(*WIDE), **HINTS)
    simple = graph.add(
        "ImpactSimpleDetectorSEGS", bbox_detector=graph.boxes, image=graph.picture,
        **SIMPLE | {"sub_threshold": 0.0}, sam_model_opt=sam,
    )  # fmt: skip
    out = results(
        graph, image=graph.picture, combined=combined[0], united=segmented[0], each=segmented[1],
        nothing=nothing[1], simple=simple[0],
    )  # fmt: skip
    image = out["image"]["t0"][0]
    expected = own_masks(models / "sams" / name, image, [*places, FOUND])
    assert 0.02 < expected.mean() < 0.98
    assert out["each"]["t0"].shape == (2, 64, 128)
    assert np.abs(out["each"]["t0"] - expected[:2]).mean() < 1e-3
    assert np.abs(out["combined"]["t0"] - expected[:2].max(0)).mean() < 1e-3
    np.testing.assert_array_equal(out["combined"]["t0"], out["united"]["t0"])
    assert out["nothing"]["t0"].shape == (1, 64, 128)
    assert out["nothing"]["t0"].sum() == 0
    x1, y1, x2, y2 = FOUND
    assert np.abs(out["simple"]["segs0_0_mask"] - expected[2, y1:y2, x1:x2]).mean() < 1e-3


def test_sam2_follows_things_through_a_video(graph, results, models):
    frames = graph.image(*WIDE, batch=2)
    sam = graph.add("SAMLoader", model_name="sam2.1.pt", device_mode="CPU")[0]
    places = [[10, 10, 40, 50, "cup", 0.8]]
    detector = graph.add("DetailersTestDetector", boxes=json.dumps(places))[0]
    segs = graph.add(
        "ImpactSAM2VideoDetectorSEGS", image_frames=frames, bbox_detector=detector, sam2_model=sam,
        bbox_threshold=0.5, sam2_threshold=0.5, crop_factor=1.0, drop_size=1,
    )[0]  # fmt: skip
    out = results(graph, frames=frames, segs=segs)
    follow = load_sam(models / "sams/sam2.1.pt", CpuNetwork).follow
    (masks,) = follow(torch.from_numpy(out["frames"]["t0"]), [places[0][:4]], 0.0)
    masks = masks.numpy()
    assert masks.mean() > 0.01
    assert found(out["segs"])[1:3] == ("cup", 0.8)
    x1, y1, x2, y2 = out["segs"]["segs0_0_crop"]
    assert np.abs(out["segs"]["segs0_0_mask"] - masks[:, y1:y2, x1:x2]).mean() < 1e-3


def test_clipseg_finds_what_a_text_names(graph, results, models):
    sam_models.clipseg(models / "clipseg" / "clipseg-rd64-refined", bias=5.0)
    detector = graph.add(
        "CLIPSegDetectorProvider", text="a cup", blur=7.0, threshold=0.4, dilation_factor=4
    )[0]
    mask = graph.add(
        "BboxDetectorCombined_v2", bbox_detector=detector, image=graph.picture, threshold=0.5,
        dilation=0,
    )[0]  # fmt: skip
    simple = {"bbox_detector": detector, "image": graph.picture, **SIMPLE}
    out = results(graph, mask=mask, segs=graph.add("ImpactSimpleDetectorSEGS", **simple)[0])
    assert out["mask"]["t0"].all()
    assert found(out["segs"]) == ((0, 0, 128, 64), "A", 1.0, 128 * 64)


def test_a_yolo_file_of_the_package_is_loaded(graph, results, models):
    try:
        tasks = import_ultralytics().nn.tasks
    except ImportError:
        pytest.skip("needs ultralytics: pip install ultralytics")
    network = yolo(tasks)
    torch.save({"model": network, "train_args": {"imgsz": 64}}, models / "ultralytics/segm/a.pt")
    node = graph.add("UltralyticsDetectorProvider", model_name="segm/a.pt")
    settings = {
        "image": graph.picture, "threshold": 0.3, "dilation": 0, "crop_factor": 1.0,
        "drop_size": 1, "labels": "all",
    }  # fmt: skip
    out = results(
        graph,
        image=graph.picture,
        boxes=graph.add("BboxDetectorSEGS", bbox_detector=node[0], **settings)[0],
        shapes=graph.add("SegmDetectorSEGS", segm_detector=node[1], **settings)[0],
    )
    from detailers.core.detectors.safe_weights import read_yolo
    from detailers.core.detectors.yolo import ultralytics_detector

    file = read_yolo(models / "ultralytics/segm/a.pt")
    image = torch.from_numpy(out["image"]["t0"])
    for name, with_masks in (("boxes", False), ("shapes", True)):
        detector = ultralytics_detector(file, CpuNetwork(file.network), with_masks)
        _, segs = detector.detect(image, 0.3, 0, 1.0)
        assert len(segs) >= 3
        for index, seg in enumerate(segs):
            assert found(out[name], index)[:2] == (seg.bbox, seg.label)
            assert found(out[name], index)[3] == pytest.approx(seg.cropped_mask.sum(), rel=0.02)


# Bridges

MESH = {"crop_factor": 1.0, "bbox_fill": False, "crop_min_size": 10, "drop_size": 1, "dilation": 0}
PARTS = dict.fromkeys(
    ("mouth", "left_eyebrow", "left_eye", "left_pupil", "right_eyebrow", "right_eye",
     "right_pupil"), False,
)  # fmt: skip


def test_bridges_to_the_hosts_own_detection(graph, results):
    rows = [{"x": 10, "y": 5, "width": 20, "height": 10, "label": "cat", "score": 0.75}]
    boxes = graph.value([rows])
    making = {"dilation": 0, "crop_factor": 1.0, "drop_size": 1}
    to_segs = {"threshold": 0.5, **making, "labels": "all", "video": False}
    segs = graph.add("DetailersBoundingBoxToSEGS", image=graph.picture, bboxes=boxes, **to_segs)[0]
    frames = graph.image(*WIDE, batch=2)
    video = graph.add(
        "DetailersBoundingBoxToSEGS", image=frames, bboxes=boxes, **to_segs | {"video": True}
    )[0]
    masks = graph.mask(*WIDE, [0, 0, 20, 20, "r"], [40, 0, 50, 30, "r"], per_item=True)
    landmarks = {
        "frames": [[{"landmarks_xy": POINTS, "score": 0.75}]],
        "image_size": [64, 128],
        "connection_sets": CONNECTIONS,
    }
    out = results(
        graph,
        segs=segs,
        back=graph.add("DetailersSEGSToBoundingBox", segs=segs, box=True)[0],
        video=video,
        masks=graph.add(
            "DetailersMasksToSEGS", mask=masks, **making, bbox_fill=False, label="thing",
            bboxes=graph.value([rows * 2]),
        )[0],
        face=graph.add(
            "DetailersFaceLandmarksToSEGS", face_landmarks=graph.value(landmarks), face=True,
            **MESH, **PARTS,
        )[0],
        mesh=graph.add(
            "MediaPipeFaceMeshToSEGS", image=graph.plain(*WIDE, 0x0AC80A), face=True, **MESH,
            **PARTS | {"mouth": True},
        )[0],
    )  # fmt: skip
    assert found(out["segs"]) == ((10, 5, 30, 15), "cat", 0.75, 200)
    assert json.loads(str(out["back"]["s0"])) == [rows]
    assert out["video"]["segs0_0_mask"].shape == (2, 10, 20)
    assert found(out["masks"]) == ((0, 0, 20, 20), "cat", 0.75, 400)
    assert found(out["masks"], 1) == ((40, 0, 50, 30), "cat", 0.75, 300)
    assert found(out["face"]) == ((10, 10, 50, 50), "face", 0.75, 1600)
    assert found(out["mesh"]) == ((0, 0, 128, 64), "face", 1.0, 128 * 64)
    assert "segs0_1_bbox" not in out["mesh"]


def test_the_hosts_own_nodes_take_our_boxes(server, graph, results):
    """A node of ComfyUI 0.30 cuts out what our boxes say."""
    if "CropByBBoxes" not in server.object_info():
        pytest.skip("this ComfyUI has no CropByBBoxes")
    segs = graph.segs(*WIDE, box(32, 0, 96, 64))
    boxes = graph.add("DetailersSEGSToBoundingBox", segs=segs, box=True)[0]
    crop = graph.add(
        "CropByBBoxes", image=graph.picture, bboxes=boxes, output_width=64, output_height=64,
        padding=0, keep_aspect="stretch",
    )[0]  # fmt: skip
    out = results(graph, image=graph.picture, crop=crop)
    assert np.abs(out["crop"]["t0"] - out["image"]["t0"][:, :, 32:96]).max() < 0.01


# What cannot work says why


@pytest.fixture
def refused(server):
    """refused(graph, node): the message of the error that the node raises."""

    def refused(graph, node):
        sink = {"class_type": "DetailersTestSink", "inputs": {"value": node[0]}}
        done = server.run({**graph, "sink": sink})
        assert not done.ok
        assert done.error.node_id == node.key, done.error
        return done.error.message

    return refused


def test_a_hostile_file_is_refused_and_does_nothing(graph, refused, models, tmp_path):
    target = tmp_path / "created"
    for folder, node in (
        ("ultralytics/bbox", "UltralyticsDetectorProvider"),
        ("sams", "SAMLoader"),
    ):
        hostile(models / folder / "evil.pt", target)
        inputs = {"model_name": "bbox/evil.pt"}
        if node == "SAMLoader":
            inputs = {"model_name": "evil.pt", "device_mode": "CPU"}
        message = refused(graph, graph.add(node, **inputs))
        assert "'evil.pt' is refused" in message
        assert "system" in message
    assert not target.exists()


def test_broken_files_are_named(graph, refused, models):
    for folder, node, name in (
        ("ultralytics/bbox", "UltralyticsDetectorProvider", "bbox/broken.pt"),
        ("ultralytics/bbox", "UltralyticsDetectorProvider", "bbox/broken.onnx"),
        ("onnx", "ONNXDetectorProvider", "broken.onnx"),
    ):
        file = name.rpartition("/")[2]
        (models / folder / file).write_bytes(b"no network")
        assert f"'{file}'" in refused(graph, graph.add(node, model_name=name))
    (models / "sams/broken.safetensors").write_bytes(b"")
    node = graph.add("SAMLoader", model_name="broken.safetensors", device_mode="AUTO")
    assert "'broken.safetensors'" in refused(graph, node)


def test_what_a_model_cannot_do_is_said(graph, refused):
    boxes = graph.add("UltralyticsDetectorProvider", model_name="bbox/told.onnx")
    node = graph.add(
        "SegmDetectorCombined_v2", segm_detector=boxes[1], image=graph.picture, threshold=0.5,
        dilation=0,
    )  # fmt: skip
    assert "'bbox/told.onnx' finds only boxes" in refused(graph, node)
    sam = graph.add("SAMLoader", model_name="sam.safetensors", device_mode="AUTO")[0]
    node = graph.add(
        "ImpactSAM2VideoDetectorSEGS", image_frames=graph.picture, bbox_detector=graph.boxes,
        sam2_model=sam, bbox_threshold=0.5, sam2_threshold=0.5, crop_factor=1.0, drop_size=1,
    )  # fmt: skip
    assert "'sam2_model' cannot follow" in refused(graph, node)
    segs = graph.segs(*WIDE, box(8, 8, 40, 40))
    node = graph.add(
        "SAMDetectorCombined", sam_model=graph.value("a SAM"), segs=segs, image=graph.picture,
        **HINTS,
    )  # fmt: skip
    assert "'sam_model' is a str" in refused(graph, node)
