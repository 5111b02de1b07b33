"""Prompts of older versions in a real server: they are accepted, and give their old results."""

import json
import time
import urllib.error
import urllib.request

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


# Inputs that had other names, or were not there


def face_prompt(scene, detector, **inputs):
    said = {"guide_size_for": "bbox", "noise_mask": "enabled", "force_inpaint": "disabled"}
    values = {"bbox_threshold": 0.5, "bbox_dilation": 0, "bbox_crop_factor": 2.0}
    values |= {"sam_detection_hint": "center-1", "sam_dilation": 0, "sam_threshold": 0.9}
    values |= {"sam_bbox_expansion": 0, "sam_mask_hint_threshold": 0.7}
    return scene.add(
        "FaceDetailer", image=scene.picture, **FIRST, **values, **said, **inputs,
        sam_mask_hint_use_negative="False",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["bbox_model", "some_detector"])
def test_a_face_detailer_from_before_it_took_a_clip(scene, results, models, name):
    """Its detector had another name, and what comes after it finds a CLIP in its pipe."""
    detector = scene.add("UltralyticsDetectorProvider", model_name="bbox/old-face.onnx")[0]
    without = {part: link for part, link in scene.models.items() if part != "clip"}
    old = face_prompt(scene, detector, **without, **{name: detector})
    now = face_prompt(scene, detector, **scene.models, bbox_detector=detector)
    clip = scene.add("FromDetailerPipe_v2", detailer_pipe=[old[2][0], 3])[2]
    out = results(
        scene,
        image=scene.picture,
        old=old[0],
        now=now[0],
        clip=scene.add("ToBasicPipe", **scene.models | {"clip": clip})[0],
    )
    np.testing.assert_array_equal(out["old"]["t0"], out["now"]["t0"])
    assert np.abs(out["old"]["t0"] - out["image"]["t0"]).max() > 0.01


def test_providers_of_the_first_version(scene, server):
    """With a seed that was never used, and one strength of the noise."""
    pipe = scene.add("ToBasicPipe", **scene.models)[0]
    sampler = {"basic_pipe": pipe, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    advanced = scene.add("KSamplerAdvancedProvider", seed=7, **sampler)[0]
    noise = scene.add("NoiseInjectionDetailerHookProvider", source="CPU", seed=7, strength=1.5)[0]
    answer = server.post("/detailers/upgrade", dict(scene))
    assert answer["prompt"][advanced[0]]["inputs"] == sampler | {"sigma_factor": 1.0}
    assert answer["prompt"][noise[0]]["inputs"] == {
        "source": "CPU", "seed": 7, "schedule_for_cycle": "from_start", "start_strength": 1.5,
        "end_strength": 1.5,
    }  # fmt: skip


def test_a_strength_of_the_first_version_is_that_of_every_cycle(scene, results):
    noise = {"source": "CPU", "seed": 7}
    hook = "NoiseInjectionDetailerHookProvider"
    old = scene.add(hook, **noise, strength=1.5)[0]
    same = {"schedule_for_cycle": "from_start", "start_strength": 1.5, "end_strength": 1.5}
    now = scene.add(hook, **noise, **same)[0]
    out = results(
        scene,
        none=detailed(scene, **scene.models, **LATER),
        old=detailed(scene, **scene.models, **LATER, detailer_hook=old),
        now=detailed(scene, **scene.models, **LATER, detailer_hook=now),
    )
    np.testing.assert_array_equal(out["old"]["t0"], out["now"]["t0"])
    assert np.abs(out["old"]["t0"] - out["none"]["t0"]).max() > 0.01


def test_text_for_a_boolean_of_any_node(server):
    """Plain Python takes every text for true, "disable" too."""
    said = {"add_noise": "disable", "return_with_leftover_noise": "enable"}
    prompt = {
        "1": {"class_type": "ImpactKSamplerAdvancedBasicPipe", "inputs": dict(said)},
        "2": {"class_type": "ImpactSEGSRangeFilter", "inputs": {"mode": "outside"}},
        "3": {"class_type": "KSamplerAdvanced", "inputs": dict(said)},  # they are right there
    }
    answer = server.post("/detailers/upgrade", prompt)["prompt"]
    assert answer["1"]["inputs"] == {"add_noise": False, "return_with_leftover_noise": True}
    assert answer["2"]["inputs"] == {"mode": False}
    assert answer["3"]["inputs"] == said


# Whatever is sent

DEEP = b"[" * 100_000
BODIES = [
    b"", b"{", b"\xff\xfe", b'{"1": NaN}', b'"\\ud800"', DEEP, DEEP + b"]" * 100_000,
    b'{"1": ' * 500 + b"1" + b"}" * 500, b"9" * 5000, b"[]", b"5", b"null",
    b'{"1": {"class_type": "FaceDetailer", "inputs": {"model": ["1", 0], "image": [[], 0]}}}',
    b'{"1": {"class_type": "FaceDetailer", "inputs": {"bbox_model": ["1", -1]}}, "2": []}',
    b'{"1": {"class_type": "LatentSwitch", "inputs": {"latent1": ["9", 1e300], "": null}}}',
    b'{"1": {"class_type": "BboxDetectorForEach", "inputs": {"bbox_model": {"a": ["x", 0]}}}}',
    b'{"1": {"class_type": "DetailerForEach", "inputs": {"noise_mask": [[1], [2]]}}}',
    b'{"1": {"class_type": "ImpactWildcardEncode", "inputs": {"seed": {}}, "_meta": 5}}',
    b'{"1": {"class_type": "DetailerForEach", "inputs": {"x": %b%b}}}' % (DEEP[:900], b"]" * 900),
]  # fmt: skip


def answered(server, body, **headers):
    url = f"{server.url}/detailers/upgrade"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_every_body_is_answered(server, body):
    status, answer = answered(server, body)
    assert status in (200, 400)
    assert set(answer) == ({"prompt", "changed"} if status == 200 else {"error"})


def test_odd_encodings_are_answered(server):
    assert answered(server, b"{}", **{"Content-Type": "application/json; charset=none"})[0] == 400
    assert answered(server, b"{}", **{"Content-Type": "image/png"})[0] == 200


def test_a_prompt_of_4000_nodes_is_upgraded_in_a_moment(server):
    """Of old nodes whose links move, of which each has to find all."""
    prompt = {}
    for number in range(2000):
        image = [f"f{number - 1}", 0]
        prompt[f"f{number}"] = {"class_type": "FaceDetailer", "inputs": {"image": image}}
        shown = {"mask": [f"f{number}", 1]}
        prompt[f"s{number}"] = {"class_type": "MaskToImage", "inputs": shown}
    start = time.perf_counter()
    status, answer = answered(server, json.dumps(prompt).encode())
    spent = time.perf_counter() - start
    assert status == 200
    assert len(answer["changed"]) == 2000
    assert answer["prompt"]["s7"]["inputs"]["mask"] == ["f7", 3]
    assert spent < 4
