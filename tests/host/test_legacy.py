"""Prompts of older versions in a real server: accepted, and with the result that they had."""

import urllib.error

import numpy as np
import pytest
from detailers.dev.server import PromptRefused
from detailers.tests.host.graphs import SAMPLING, Graph, box
from detailers.tests.onnx_files import columns, onnx_file

# The first version's inputs, and what it did without those that came later.
FIRST = {"guide_size": 64, "feather": 3, **SAMPLING}
LATER = {
    "guide_size_for": True, "max_size": 16384, "noise_mask": False, "force_inpaint": False,
    "wildcard": "", "cycle": 1, "inpaint_model": False, "noise_mask_feather": 0,
    "tiled_encode": False, "tiled_decode": False,
}  # fmt: skip


@pytest.fixture
def scene():
    graph = Graph()
    graph.picture = graph.image(96, 64)
    graph.segs = graph.segs(96, 64, box(8, 8, 40, 40, mask="e"))
    graph.models = graph.parts(graph.model("image8"))
    return graph


def detailed(graph, **inputs):
    common = {"image": graph.picture, "segs": graph.segs, **FIRST}
    return graph.add("DetailerForEach", **common, **inputs)[0]


def test_a_prompt_of_the_first_version_gives_what_it_gave(scene, results):
    first = {name: link for name, link in scene.models.items() if name != "clip"}
    out = results(
        scene,
        image=scene.picture,
        old=detailed(scene, **first),
        now=detailed(scene, **scene.models, **LATER),
        today=detailed(scene, **scene.models, **LATER | {"noise_mask": True}),
    )
    np.testing.assert_array_equal(out["old"]["t0"], out["now"]["t0"])
    assert np.abs(out["old"]["t0"] - out["image"]["t0"]).max() > 0.01
    assert np.abs(out["old"]["t0"] - out["today"]["t0"]).max() > 0.001


def test_text_is_taken_for_booleans(scene, results):
    said = {"guide_size_for": "crop_region", "noise_mask": "enabled", "force_inpaint": "enabled"}
    meant = {"guide_size_for": False, "noise_mask": True, "force_inpaint": True}
    out = results(
        scene,
        old=detailed(scene, **scene.models, **said),
        now=detailed(scene, **scene.models, **LATER | meant),
    )
    np.testing.assert_array_equal(out["old"]["t0"], out["now"]["t0"])


def test_ids_that_are_no_more(scene, results, models):
    detector = scene.add("UltralyticsDetectorProvider", model_name="bbox/old-face.onnx")[0]
    detect = {"image": scene.plain(64, 64, 0), "threshold": 0.5, "dilation": 0, "crop_factor": 2.0}
    mask = scene.mask(96, 64, [0, 0, 20, 64, "r"])
    old_masks = scene.add("Segs & Mask", segs=scene.segs, mask=mask)[0]
    new_masks = scene.add("ImpactSegsAndMask", segs=scene.segs, mask=mask)[0]
    out = results(
        scene,
        old_found=scene.add("BboxDetectorForEach", bbox_model=detector, **detect)[0],
        new_found=scene.add(
            "BboxDetectorSEGS", bbox_detector=detector, **detect, drop_size=1, labels="all"
        )[0],
        old_one=scene.add("SegsMaskCombine", segs=old_masks, image=scene.picture)[0],
        new_one=scene.add("SegsToCombinedMask", segs=new_masks)[0],
    )
    assert out["old_found"]["segs0_0_bbox"].tolist() == [8, 12, 24, 36]
    for name in ("found", "one"):
        assert out[f"old_{name}"].keys() == out[f"new_{name}"].keys()
        for key, value in out[f"old_{name}"].items():
            np.testing.assert_array_equal(value, out[f"new_{name}"][key])
    assert 0 < out["new_one"]["t0"].sum() < 32 * 12


def test_links_of_outputs_that_have_moved(scene, results, models):
    """Of the first FaceDetailer: image, mask, pipe."""
    detector = scene.add("UltralyticsDetectorProvider", model_name="bbox/old-face.onnx")[0]
    inputs = {"bbox_threshold": 0.5, "bbox_dilation": 0, "bbox_crop_factor": 2.0}
    inputs |= {"sam_detection_hint": "center-1", "sam_dilation": 0, "sam_threshold": 0.9}
    inputs |= {"sam_bbox_expansion": 0, "sam_mask_hint_threshold": 0.7}
    said = {"guide_size_for": "bbox", "noise_mask": "enabled", "force_inpaint": "disabled"}
    face = scene.add(
        "FaceDetailer", image=scene.picture, **scene.models, **FIRST, **inputs, **said,
        sam_mask_hint_use_negative="True", bbox_detector=detector,
    )  # fmt: skip
    out = results(scene, mask=scene.add("MaskToImage", mask=face[1])[0], image=face[0])
    assert out["mask"]["t0"].shape == out["image"]["t0"].shape == (1, 64, 96, 3)
    assert set(np.unique(out["mask"]["t0"])) <= {0.0, 1.0}  # a mask, and not the pipe
    assert len(np.unique(out["image"]["t0"])) > 1000


# Detectors of MMDetection


@pytest.fixture(scope="module")
def models(server):
    """A YOLO detector with the name of one of MMDetection."""
    folder = server.base / "models" / "ultralytics" / "bbox"
    folder.mkdir(parents=True, exist_ok=True)
    finds = columns((16, 24, 16, 24, 0.9, 0))
    onnx_file(folder / "old-face.onnx", [finds], metadata=[("names", "{0: 'face', 1: 'hand'}")])
    return folder


def test_a_namesake_takes_the_place_of_an_old_detector(scene, results, models):
    detect = {"image": scene.plain(64, 64, 0), "threshold": 0.5, "dilation": 0, "crop_factor": 2.0}
    loader = scene.add("MMDetLoader", model_name="bbox/old-face.pth")
    provider = scene.add("MMDetDetectorProvider", model_name="segm/old-face.pth")
    out = results(
        scene,
        loader=scene.add("BboxDetectorForEach", bbox_model=loader[0], **detect)[0],
        provider=scene.add("BboxDetectorSEGS", bbox_detector=provider[0], **detect)[0],
    )
    for found in out.values():
        assert found["segs0_0_bbox"].tolist() == [8, 12, 24, 36]


def test_an_old_detector_without_a_namesake_is_told(scene, server):
    detect = {"image": scene.picture, "threshold": 0.5, "dilation": 0, "crop_factor": 2.0}
    loader = scene.add("MMDetLoader", model_name="bbox/mmdet_anime-face_yolov3.pth")
    segs = scene.add("BboxDetectorForEach", bbox_model=loader[0], **detect)[0]
    scene.add("SEGSPreview", segs=segs)
    error = server.run(scene).error
    assert error.node_type == "MMDetLoader"
    for part in ("bbox/mmdet_anime-face_yolov3.pth", "UltralyticsDetectorProvider", "models/ultr"):
        assert part in error.message


# What stays the host's business


def test_what_was_always_needed_is_still_asked_for(scene, server):
    detail = detailed(scene, **scene.models)
    del scene[detail[0]]["inputs"]["denoise"]
    scene.add("PreviewImage", images=detail)
    with pytest.raises(PromptRefused, match="denoise"):
        server.queue(scene)


def test_a_prompt_may_be_upgraded_without_running(server):
    old = {"1": {"class_type": "SEGSPaste", "inputs": {"feather": 5}}}
    now = {"1": {"class_type": "SEGSPaste", "inputs": {"feather": 5, "alpha": 255}}}
    assert server.post("/detailers/upgrade", old) == {"prompt": now, "changed": ["1"]}
    assert server.post("/detailers/upgrade", now) == {"prompt": now, "changed": []}
    for odd in ([], "x", None, {"1": 2}, {"1": {"class_type": [1], "inputs": {}}}):
        assert server.post("/detailers/upgrade", odd) == {"prompt": odd, "changed": []}


def test_the_host_knows_what_took_their_place(server):
    try:
        replacements = server.get("/node_replacements")
    except urllib.error.HTTPError:
        pytest.skip("this ComfyUI has no node replacement")
    (found,) = replacements["BboxDetectorForEach"]
    assert found["new_node_id"] == "BboxDetectorSEGS"
    assert {"new_id": "bbox_detector", "old_id": "bbox_model"} in found["input_mapping"]
    assert {"new_id": "drop_size", "set_value": 1} in found["input_mapping"]
    assert set(replacements) >= {"Segs & Mask", "Segs & Mask ForEach", "SegsMaskCombine"}
