"""The nodes that find faces without a model file, on a photograph."""

import importlib.util

import numpy as np
import pytest
from detailers.dev.photographs import PHOTOGRAPHS, compared
from detailers.tests.host.graphs import Graph
from detailers.tests.host.test_options import crop_options
from PIL import Image

LOOK = {"threshold": 0.5, "dilation": 0, "crop_factor": 1.5, "drop_size": 10}
MESH = {"crop_factor": 1.5, "bbox_fill": False, "crop_min_size": 10, "drop_size": 1, "dilation": 0}
LEAN = 23  # degrees: turned by 20, and the head itself leans by 3


@pytest.fixture(scope="module")
def photograph(server, tmp_path_factory):
    """photograph(name, turned=degrees clockwise): a LoadImage's file of it, and its faces."""
    if importlib.util.find_spec("facenet_pytorch") is None:
        pytest.skip("needs the weights of MTCNN: pip install --no-deps facenet-pytorch")

    def photograph(name, turned=0):
        (own,) = [each for each in PHOTOGRAPHS if each.name == name]
        if own.path is None:
            pytest.skip(f"{own.package} with {own.file} is not installed")
        file = tmp_path_factory.mktemp("photographs") / f"{name}_{turned}.png"
        with Image.open(own.path) as picture:
            picture.convert("RGB").rotate(-turned, Image.Resampling.BICUBIC).save(file)
        return server.upload_image(file), own.faces

    return photograph


def boxes(saved):
    keys = sorted(key for key in saved if key.startswith("segs0_") and key.endswith("_bbox"))
    return [tuple(saved[key].tolist()) for key in keys]


@pytest.mark.parametrize("name", ["zidane", "bus"])
def test_the_provider_finds_the_faces_of_a_photograph(results, photograph, name):
    file, faces = photograph(name)
    graph = Graph()
    provider = graph.add("DetailersFaceDetectorProvider", min_size=0)  # without "method": auto
    image = graph.add("LoadImage", image=file)[0]
    out = results(
        graph,
        segs=graph.add(
            "BboxDetectorSEGS", bbox_detector=provider[0], image=image, labels="face", **LOOK
        )[0],
    )
    assert compared(boxes(out["segs"]), faces) == ([], [])


def test_landmarks_turn_a_leaning_face_and_make_segments_of_its_parts(results, photograph, server):
    graph = Graph()
    upright, faces = photograph("astronaut")
    leaning, _ = photograph("astronaut", turned=20)
    images = [graph.add("LoadImage", image=file)[0] for file in (upright, leaning)]
    batch = graph.add("ImageBatch", image1=images[0], image2=images[1])[0]
    of_batch = graph.add("DetailersFaceLandmarks", image=batch, min_size=20, **LOOK)
    parts = graph.add(
        "DetailersFaceLandmarksToSEGS", face_landmarks=of_batch[0], face=True, mouth=True,
        left_eyebrow=False, left_eye=True, left_pupil=False, right_eyebrow=False, right_eye=True,
        right_pupil=False, video=False, **MESH,
    )[0]  # fmt: skip
    found = graph.add("DetailersFaceLandmarks", image=images[1], min_size=20, **LOOK)
    bare = graph.add("RemoveImageFromSEGS", segs=found[1])[0]
    model = graph.model("flat8")
    ways = {
        "off": {},
        "angle": {"upright": "angle", "angle": float(LEAN)},
        "landmarks": {"upright": "landmarks", "face_landmarks": found[0]},
    }
    links = {
        way: graph.detail(
            "SEGSDetailer", images[1], bare, model,
            crop_options=crop_options(graph, **options),
        )[0]
        for way, options in ways.items()
    }  # fmt: skip
    has_mask = "MediaPipeFaceMask" in server.object_info()
    if has_mask:
        links["mask"] = graph.add("MediaPipeFaceMask", face_landmarks=of_batch[0], regions="all")[0]
    out = results(graph, segs=of_batch[1], parts=parts, **links)

    first, second = boxes(out["segs"])
    assert compared([first], faces) == ([], [])
    assert abs(second[0] - first[0]) > 10  # the turned one is elsewhere
    labels = [str(out["parts"][f"segs0_{i}_label"]) for i in range(8)]
    assert labels == ["face", "mouth", "left_eye", "right_eye"] * 2
    centre = [np.add(box[:2], box[2:]) / 2 for box in boxes(out["parts"])]
    np.testing.assert_allclose(centre[3], (203, 101), atol=4)  # its right eye, upright
    np.testing.assert_allclose(centre[2], (248, 103), atol=4)

    crops = {way: out[way]["segs0_0_crop"] for way in ways}
    assert np.abs(crops["landmarks"] - crops["off"]).max() > 10
    assert np.abs(crops["landmarks"] - crops["angle"]).max() <= 4
    if has_mask:
        masks = out["mask"]["t0"]
        assert masks.shape == (2, 512, 512)
        x1, y1, x2, y2 = faces[0]
        inside = masks[0, y1:y2, x1:x2].sum()
        assert 0.6 * (x2 - x1) * (y2 - y1) < inside
        assert masks[0].sum() < 1.25 * inside
