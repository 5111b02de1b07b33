"""FaceDetailer in the host, with detectors that find given boxes."""

import json

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import SAMPLING, SIZING, Graph

RED, GREEN = PIXELS["red"], PIXELS["green"]
FACES = [[8, 8, 40, 40, "face", 0.9], [56, 24, 88, 56, "face", 0.8], [0, 0, 20, 20, "face", 0.1]]
WIDGETS = {
    **SIZING,
    **SAMPLING,
    "feather": 0,
    "noise_mask": True,
    "force_inpaint": True,
    "bbox_threshold": 0.5,
    "bbox_dilation": 0,
    "bbox_crop_factor": 1.0,
    "sam_detection_hint": "center-1",
    "sam_dilation": 0,
    "sam_threshold": 0.93,
    "sam_bbox_expansion": 0,
    "sam_mask_hint_threshold": 0.7,
    "sam_mask_hint_use_negative": "False",
    "drop_size": 5,
    "cycle": 1,
    "noise_mask_feather": 0,
}


def same(actual, expected, atol=1e-4):
    np.testing.assert_allclose(actual, np.broadcast_to(expected, actual.shape), atol=atol)


@pytest.fixture
def graph():
    graph = Graph()
    graph.painter = graph.model("image8", prior_std=0.0)
    graph.models = graph.parts(graph.painter)
    graph.detector = graph.add("DetailersTestDetector", boxes=json.dumps(FACES))[0]

    def face(image, **changed):
        inputs = {"bbox_detector": graph.detector, "wildcard": "", **WIDGETS, **changed}
        return graph.add("FaceDetailer", image=image, **graph.models, **inputs)

    def pipe(image, detailer_pipe, **changed):
        inputs = {"detailer_pipe": detailer_pipe, "refiner_ratio": 0.2, **WIDGETS, **changed}
        return graph.add("FaceDetailerPipe", image=image, **inputs)

    graph.face, graph.face_pipe = face, pipe
    return graph


def face_mask(*boxes, height=64, width=96):
    mask = np.zeros((height, width), bool)
    for x1, y1, x2, y2, *_ in boxes:
        mask[y1:y2, x1:x2] = True
    return mask


def test_faces_are_found_and_redrawn(graph, results):
    image = graph.image(96, 64, batch=2)
    detailed = graph.face(image)
    names = ("image", "refined", "alpha", "mask", "pipe", "control")
    out = results(graph, before=image, **{name: detailed[i] for i, name in enumerate(names)})
    before, after, mask = out["before"]["t0"], out["image"]["t0"], out["mask"]["t0"]
    faces = face_mask(*FACES[:2])
    np.testing.assert_array_equal(mask, np.stack([faces, faces]))
    np.testing.assert_array_equal(after[:, ~faces], before[:, ~faces])
    same(after[:, faces], RED)
    assert list(out["refined"]) == list(out["alpha"]) == ["stats", "t0", "t1", "t2", "t3"]
    for i in range(4):
        assert out["refined"][f"t{i}"].shape == (1, 32, 32, 3)
        same(out["refined"][f"t{i}"], RED)
        same(out["alpha"][f"t{i}"], [*RED, 1.0])
    assert list(out["control"]) == ["stats", "t0"]
    np.testing.assert_array_equal(out["control"]["t0"], np.zeros((1, 64, 64, 3)))
    assert len(json.loads(str(out["pipe"]["s0"]))) == 14


def test_a_batch_equals_its_singles_and_both_nodes_agree(graph, results):
    graph.painter = graph.model("image8", prior_std=0.6)  # shows the seeds
    graph.models = graph.parts(graph.painter)
    image = graph.image(96, 64, batch=2)
    single = graph.add("ImageFromBatch", image=image, batch_index=1, length=1)[0]
    changed = {"denoise": 0.6, "noise_mask_feather": 4, "feather": 5, "bbox_crop_factor": 1.5}
    batch = graph.face(image, **changed)
    by_pipe = graph.face_pipe(single, batch[4], **changed)
    out = results(graph, batch=batch[0], by_pipe=by_pipe[0], mask=by_pipe[3])
    np.testing.assert_allclose(out["batch"]["t0"][1:], out["by_pipe"]["t0"], atol=1e-5)
    np.testing.assert_array_equal(out["mask"]["t0"], face_mask(*FACES[:2])[None])


def test_an_outline_detector_cuts_the_masks_down(graph, results):
    boxes = json.dumps([[8, 8, 24, 56, "head", 0.9]])
    detector = graph.add("DetailersTestDetector", boxes=boxes)[0]
    outline = graph.add("ImpactSelectNthItemOfAnyList", any_list=detector, index=0)[0]
    image = graph.image(96, 64)
    detailed = graph.face(image, segm_detector_opt=outline)
    out = results(graph, before=image, after=detailed[0], mask=detailed[3])
    cut = face_mask([8, 8, 24, 40])
    np.testing.assert_array_equal(out["mask"]["t0"], cut[None])
    same(out["after"]["t0"][:, face_mask([8, 8, 18, 40])], RED)  # off the noise mask's edge
    np.testing.assert_array_equal(out["after"]["t0"][:, ~cut], out["before"]["t0"][:, ~cut])


def test_text_and_hook_reach_the_segments(graph, results):
    hook = graph.hook(name="first", post_decode=0.1)
    image = graph.image(96, 64)
    detailed = graph.face(image, wildcard="green", detailer_hook=hook[0])
    graph.add("DetailersTestSave", value=hook[1], after=detailed[0], name="log")
    after = results(graph, after=detailed[0])["after"]["t0"]
    same(after[:, face_mask(*FACES[:2])], np.array(GREEN) + 0.1, atol=1e-3)


def test_the_refiner_of_a_pipe_runs_the_last_steps(graph, results):
    other = graph.parts(graph.model("image8", prior_std=0.0), positive="green")
    base = graph.add("ToBasicPipe", **graph.models)[0]
    pipe = graph.add(
        "BasicPipeToDetailerPipeSDXL",
        base_basic_pipe=base,
        refiner_basic_pipe=graph.add("ToBasicPipe", **other)[0],
        bbox_detector=graph.detector,
        wildcard="",
        **{
            "Select to add LoRA": "Select the LoRA to add to the text",
            "Select to add Wildcard": "Select the Wildcard to add to the text",
        },
    )[0]
    image = graph.image(96, 64)
    refined = graph.face_pipe(image, pipe, refiner_ratio=0.5)
    base_only = graph.face_pipe(image, graph.face(image)[4])
    # A detailer pipe without a refiner gives a refiner's pipe that stands for none.
    split = graph.add("DetailerPipeToBasicPipe", detailer_pipe=graph.face(image)[4])
    segs = graph.segs(96, 64, {"bbox": [8, 8, 40, 40], "mask": "full"})
    none = graph.detail("DetailerForEachPipe", image, segs, graph.painter)
    graph[none.key]["inputs"] |= {"basic_pipe": split[0], "refiner_basic_pipe_opt": split[1]}
    out = results(graph, refined=refined[0], base=base_only[0], none=none[0])
    faces = face_mask(*FACES[:2])
    same(out["refined"]["t0"][:, faces], GREEN, atol=1e-3)
    same(out["base"]["t0"][:, faces], RED, atol=1e-3)
    same(out["none"]["t0"][:, face_mask(FACES[0])], RED, atol=1e-3)


def test_no_face_leaves_the_image_as_it_is(graph, results):
    image = graph.image(96, 64, batch=2, channels=4)
    detailed = graph.face(image, bbox_threshold=0.95)
    links = {"after": detailed[0], "refined": detailed[1], "mask": detailed[3]}
    out = results(graph, before=image, **links)
    np.testing.assert_array_equal(out["after"]["t0"], out["before"]["t0"])
    np.testing.assert_array_equal(out["refined"]["t0"], np.zeros((1, 64, 64, 3)))
    np.testing.assert_array_equal(out["mask"]["t0"], np.zeros((2, 64, 96)))


def test_a_missing_detector_is_told(graph, server):
    detailed = graph.face(graph.image(96, 64), bbox_detector=graph.value(None))
    graph.add("DetailersTestSink", value=detailed[0])
    done = server.run(graph)
    assert "'bbox_detector' should be a detector with detect() but is None" in done.error.message


def test_mask_detailer_takes_a_mask_for_each_image(graph, results):
    image = graph.image(96, 64, batch=2)
    shapes = ([8, 8, 40, 40, "r"], [56, 24, 88, 56, "r"])
    each = graph.mask(96, 64, *shapes, per_item=True)
    options = {"crop_factor": 1.0, "noise_mask_feather": 0}
    own = graph.detail("MaskDetailerPipe", image, each, graph.painter, **options)
    single = graph.add("ImageFromBatch", image=image, batch_index=0, length=1)[0]
    united = graph.detail("MaskDetailerPipe", single, each, graph.painter, **options)
    hook = graph.hook(post_crop_region=8)
    one = graph.mask(96, 64, shapes[0])
    moved = graph.detail(
        "MaskDetailerPipe", single, one, graph.painter, **options, detailer_hook=hook[0]
    )
    out = results(graph, before=image, own=own[0], united=united[0], crop=moved[1])
    before, after = out["before"]["t0"], out["own"]["t0"]
    for row, shape in enumerate(shapes):
        mask = face_mask(shape)
        same(after[row, mask], RED)
        np.testing.assert_array_equal(after[row, ~mask], before[row, ~mask])
    same(out["united"]["t0"][0, face_mask(*shapes)], RED)
    crop = out["crop"]["t0"]
    assert crop.shape == (1, 48, 48, 3)
    same(crop[:, face_mask([12, 12, 36, 36])[:48, :48]], RED)  # off the noise mask's edge
    far = ~face_mask([4, 4, 44, 44])[:48, :48]
    assert np.abs(crop[:, far] - before[:1, :48, :48][:, far]).mean() < 0.02  # there and back
