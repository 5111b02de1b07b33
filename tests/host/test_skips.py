"""Segments that are skipped stay as they are; their index and reason are in the server's log."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import Graph, box

SEGMENTS = [
    box(8, 8, 40, 40, label="sound"),
    box(48, 8, 80, 40, label="blank", mask="empty"),
    box(8, 44, 120, 120, label="large"),
    box(88, 8, 88, 40, label="flat"),
    box(200, 200, 230, 230, label="outside"),
]
REASONS = {
    1: "its mask is empty",
    2: "its box of 112x76 is already at least guide_size 64 (force_inpaint is off)",
    3: "its crop region has no area",
    4: "its crop region has no area",
}


@pytest.fixture
def logged(server):
    """What the server's log says from here on."""
    start = len(server.log())
    return lambda: server.log()[start:]


def graph_of(node, *segments, **settings):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(128, 128)
    segs = graph.segs(128, 128, *segments)
    return graph, image, graph.detail(node, image, segs, model, **settings)


def test_what_is_left_out_is_logged_and_stays_as_it_was(results, logged):
    graph, image, node = graph_of("DetailerForEachPipe", *SEGMENTS, force_inpaint=False)
    out = results(graph, image=image, detailed=node[0], segs=node[1])
    expected = out["image"]["t0"].copy()
    expected[:, 8:40, 8:40] = PIXELS["red"]
    np.testing.assert_allclose(out["detailed"]["t0"], expected, atol=1e-5)
    for index, reason in REASONS.items():
        assert f"segment {index} skipped: {reason}\n" in logged()
    assert "segment 0 skipped" not in logged()
    # Left out by size keeps its place without a picture, the others are gone.
    segs = out["segs"]
    labels = [str(segs[f"segs0_{i}_label"]) for i in range(2)]
    assert labels == ["sound", "large"]
    assert "segs0_2_label" not in segs
    assert "segs0_1_image" not in segs


def test_a_segs_detailer_keeps_what_it_leaves_out(results, logged):
    graph, image, node = graph_of("SEGSDetailer", *SEGMENTS, force_inpaint=False)
    out = results(graph, image=image, segs=node[0])
    segs = out["segs"]
    labels = [str(segs[f"segs0_{i}_label"]) for i in range(5)]
    assert labels == [segment["label"] for segment in SEGMENTS]
    np.testing.assert_array_equal(segs["segs0_2_image"], out["image"]["t0"][:, 44:120, 8:120])
    assert "segs0_1_image" not in segs
    for index, reason in REASONS.items():
        assert f"segment {index} skipped: {reason}\n" in logged()


def test_crops_that_would_not_grow_are_left_out_unless_forced(results, logged):
    wide = box(8, 8, 120, 40)  # guide_size asks for twice the size, max_size for less than it has
    for force in (False, True):
        graph, image, node = graph_of("DetailerForEach", wide, max_size=96, force_inpaint=force)
        out = results(graph, image=image, detailed=node[0])
        expected = out["image"]["t0"].copy()
        if force:
            expected[:, 8:40, 8:120] = PIXELS["red"]
        np.testing.assert_allclose(out["detailed"]["t0"], expected, atol=1e-5)
        if not force:
            reason = "its crop of 112x32 would not be enlarged: scale 0.857"
            assert f"segment 0 skipped: {reason}" in logged()


def test_texts_that_skip_and_stop_are_logged(results, logged):
    three = [box(8, 8, 40, 40), box(48, 8, 80, 40), box(88, 8, 120, 40)]
    text = "[SKIP][SEP]green[SEP][STOP]"
    graph, image, node = graph_of("DetailerForEach", *three, wildcard=text)
    out = results(graph, image=image, detailed=node[0])
    expected = out["image"]["t0"].copy()
    expected[:, 8:40, 48:80] = PIXELS["green"]
    np.testing.assert_allclose(out["detailed"]["t0"], expected, atol=1e-5)
    assert "segment 0 skipped: its text is [SKIP]\n" in logged()
    assert "segment 2 skipped: the segment text ends the run before it ([STOP])\n" in logged()


@pytest.mark.parametrize(
    "node",
    [
        "DetailerForEachPipe",
        "SEGSDetailer",
        "MaskDetailerPipe",
        "DetailerForEachPipeForAnimateDiff",
    ],
)
def test_a_picture_that_is_not_finite_is_never_pasted(results, logged, node):
    graph = Graph()
    model = graph.model("flat8")
    image = graph.image(96, 64)
    shapes = graph.mask(96, 64, [8, 8, 40, 40, "r"])
    segs = shapes if node.startswith("Mask") else graph.segs(96, 64, box(8, 8, 40, 40))
    detailed = graph.detail(node, image, segs, model, "nan")
    out = results(graph, image=image, detailed=detailed[0])
    if node == "SEGSDetailer":
        kept = out["image"]["t0"][:, 8:40, 8:40]
        np.testing.assert_array_equal(out["detailed"]["segs0_0_image"], kept)
    else:
        np.testing.assert_array_equal(out["detailed"]["t0"], out["image"]["t0"])
    assert "Segment 0 keeps its original pixels: the model gave values" in logged()


def test_what_a_run_has_to_tell_is_in_the_history(run):
    settings = {"force_inpaint": False, "seed": 77}  # no node of an earlier run is the same
    graph, _, node = graph_of("DetailerForEachPipe", *SEGMENTS, **settings)
    graph.add("DetailersTestSave", value=node[0], name="told")
    told = [{"kind": "skipped", "text": f"segment {i} skipped: {REASONS[i]}"} for i in REASONS]
    assert run(graph).outputs[node.key]["detailers_notes"] == told
    quiet, _, node = graph_of("DetailerForEachPipe", SEGMENTS[0], seed=78)
    quiet.add("DetailersTestSave", value=node[0], name="quiet")
    assert node.key not in run(quiet).outputs
