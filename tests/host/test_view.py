"""What a run tells the editor that has queued it: messages on its way, and small pictures."""

import io

import pytest
from detailers.tests.host.graphs import Graph, box
from PIL import Image

MARK = {"_meta": {"detailers_view": True}}  # as the editor marks its prompts
SIDE = 1024


def marked(seed, mark=True):
    """Three segments of a picture, each sampled alone; the detailer's number is "detail"."""
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    segs = graph.segs(SIDE, 64, *[box(x, 8, x + 400, 60) for x in (8, 300, 600)])
    image = graph.image(SIDE, 64, seed=seed)
    node = graph.detail("DetailerForEach", image, segs, model, detail_batch=1, seed=seed)
    graph["detail"] = graph.pop(node.key)
    graph.add("DetailersTestSave", value=["detail", 0], name="view")
    if mark:
        graph["1"] |= MARK
    return graph


@pytest.fixture(scope="module")
def watched(server):
    """(messages of the run, the detailer's UI output) of a marked prompt."""
    events = []
    with server.watch(events.append) as watch:
        done = server.run(marked(81), watch=watch)
    assert done.ok, done.error
    told = [event.data for event in events if event.type == "detailers-view"]
    return told, done.outputs["detail"]


def test_the_editor_hears_how_far_it_is(watched):
    told, _ = watched
    assert all(message["node"] == "detail" and message["prompt_id"] for message in told)
    assert [(message["first"], message["of"]) for message in told if message["done"] == 0] == [
        (1, 3), (2, 3), (3, 3),
    ]  # fmt: skip
    assert all(len(message["pictures"]) == 1 for message in told)


def test_each_segment_is_there_before_and_after(watched, server):
    told, output = watched
    (view,) = output["detailers_view"]
    assert [pair["segment"] for pair in view["pairs"]] == [0, 1, 2]
    assert [message["pictures"][0] for message in told if message["done"] == 0] == [
        pair["before"] for pair in view["pairs"]
    ]
    pictures = [pair[name] for pair in view["pairs"] for name in ("before", "after")]
    sizes = [Image.open(io.BytesIO(server.view(**entry))).size for entry in pictures]
    assert {max(size) for size in sizes} == {160}
    (whole,) = view["images"]
    assert [Image.open(io.BytesIO(server.view(**whole[name]))).size for name in whole] == [
        (512, 32), (512, 32),
    ]  # fmt: skip


def test_nobody_is_told_where_no_editor_looks_on(server):
    """A program that queues with a client's number, and one that queues without."""
    events = []
    with server.watch(events.append) as watch:
        unmarked = server.run(marked(82, mark=False), watch=watch)
        alone = server.run(marked(83))
    assert unmarked.ok
    assert alone.ok
    assert [event for event in events if event.type == "detailers-view"] == []
    for done in (unmarked, alone):
        assert "detailers_view" not in done.outputs.get("detail", {})
