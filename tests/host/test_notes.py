"""Notes are in the history, in the outputs of their node."""

import pytest
from detailers.tests.host.graphs import Graph, box

THREE = box(64, 64, 67, 66, crop=[0, 0, 128, 128], mask="r")  # between what the latent looks at


@pytest.fixture(scope="module")
def told(server):
    """{what: its notes as (kind, text)} of one prompt with all of it."""
    graph, nodes = Graph(), {}
    model = graph.model("flat8", prior_std=0.0)
    image, three = graph.image(128, 128, seed=41), graph.image(128, 128, 3, seed=42)
    segs = graph.segs(128, 128, box(8, 8, 40, 40), box(48, 8, 80, 40))
    text = "<lora:nowhere:0.5> a __no_such_list__"
    nodes["texts"] = graph.detail("DetailerForEach", image, segs, model, wildcard=text)
    lost = graph.segs(128, 128, THREE)
    sizes = {"guide_size": 128, "max_size": 128, "seed": 43}
    nodes["lost"] = graph.detail("DetailerForEach", image, lost, model, **sizes)
    skipped = graph.segs(128, 128, box(8, 8, 40, 40, mask="empty"))
    nodes["skipped"] = graph.detail("DetailerForEach", image, skipped, model)
    wide = graph.segs(256, 128, box(8, 8, 40, 40))
    nodes["stretched"] = graph.detail("DetailerForEach", image, wide, model)
    labels = {"preset": "all", "labels": "cat, <b>dog"}
    nodes["labels"] = graph.add("ImpactSEGSLabelFilter", segs=segs, **labels)
    nodes["picks"] = graph.add("ImpactSEGSPicker", segs=segs, picks="1, 7")
    paste = {"image": image, "segs": segs, "feather": 0, "alpha": 255}
    nodes["pictures"] = graph.add("SEGSPaste", **paste)
    shapes = [[8, 8, 40, 40, "r"], [48, 8, 80, 40, "r"]]
    masks = graph.mask(128, 128, *shapes, per_item=True)
    nodes["counts"] = graph.detail("MaskDetailerPipe", three, masks, model)
    narrow = graph.mask(64, 128, shapes[0])
    single = graph.mask(128, 128, shapes[0])
    nodes["squeezed"] = graph.add("AddMask", mask1=single, mask2=narrow)
    each = graph.add("ImpactSEGSToMaskList", segs=segs)
    nodes["list"] = graph.add("AddMask", mask1=each[0], mask2=narrow)
    nodes["alone"] = graph.add("ImpactQueueTrigger", signal=single, mode=True)
    remote = {"node_id": 999, "widget_name": "steps", "value": 3}
    nodes["remote"] = graph.add("ImpactRemoteInt", **remote)
    for name, node in nodes.items():
        if name != "remote":
            graph.add("DetailersTestSave", value=node[0], name=f"told_{name}")
    start = len(server.log())
    done = server.run(graph)
    assert done.ok, done.error or done.messages
    log = server.log()[start:]

    once = set(nodes) - {"list", "squeezed"}  # these two say the same

    def notes(name):
        entries = done.outputs.get(nodes[name].key, {}).get("detailers_notes", [])
        assert all(log.count(entry["text"]) == 1 for entry in entries if name in once)
        return [(entry["kind"], entry["text"]) for entry in entries]

    return notes


def test_missing_loras_and_unknown_lists(told):
    by_kind = dict(told("texts"))  # wildcard files of other tests may have something to tell too
    assert {"lora", "text"} <= by_kind.keys() <= {"lora", "text", "wildcards"}
    assert "'__no_such_list__' stays in the text" in by_kind["text"]
    assert "'nowhere'" in by_kind["lora"]


def test_a_mask_that_vanishes_at_the_latents_size(told):
    ((kind, text),) = told("lost")
    assert kind == "mask"
    assert text.startswith(
        "The mask of segment 0 is too small for the latent: at the latent's size of 16x16"
    )


def test_skipped_segments(told):
    assert told("skipped") == [("skipped", "segment 0 skipped: its mask is empty")]


def test_labels_that_fit_nothing(told):
    assert told("labels") == [
        ("labels", "No segment has the label '<b>dog'. There are: 'A'."),
        ("labels", "No segment has the label 'cat'. There are: 'A'."),
    ]


def test_numbers_that_no_segment_has(told):
    ((kind, text),) = told("picks")
    assert kind == "picks"
    assert "names 7, but there are only 2 segments" in text


def test_segments_without_pictures(told):
    ((kind, text),) = told("pictures")
    assert kind == "no picture"
    assert text.startswith("2 of 2 segments have no picture of their own")


def test_counts_that_do_not_match(told):
    ((kind, text),) = told("counts")
    assert kind == "batch"
    assert text.startswith("There are 2 masks for 3 images")


@pytest.mark.parametrize(
    ("name", "kind", "sizes"),
    [("stretched", "size", ("256x128", "128x128")), ("squeezed", "mask", ("64x128", "128x128"))],
)
def test_what_is_stretched_to_another_shape(told, name, kind, sizes):
    ((given, text),) = told(name)
    assert given == kind
    assert all(size in text for size in sizes)


def test_a_run_for_each_item_of_a_list_tells_each_thing_once(told):
    assert [kind for kind, _ in told("list")] == ["mask"]


def test_what_no_editor_hears_of(told):
    ((kind, text),) = told("alone")
    assert kind == "editor"
    assert "it is not queued again" in text


def test_a_remote_value_without_a_place(told):
    ((kind, text),) = told("remote")
    assert kind == "remote"
    assert "there is no node 999" in text
