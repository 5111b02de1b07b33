"""The messages of a running detailer to a client: one bar and previews; and interrupts."""

import io
import time

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS, stats
from detailers.tests.host.graphs import Graph, box
from PIL import Image

THREE = [box(8, 8, 40, 40), box(48, 8, 80, 40), box(88, 8, 120, 40)]
PREVIEWS = {"preview_method": "latent2rgb"}


@pytest.fixture
def watched(server):
    """Run one detailer: its own bar's values in order, their maximum, and the previews."""

    def watched(kind="DetailerForEach", frames=1, entries=THREE, family="flat8", **settings):
        graph = Graph()
        model = graph.model(family, prior_std=0.0)
        image = graph.image(128, 48, batch=frames)
        segs = graph.segs(128, 48, *entries)
        if kind == "MaskDetailerPipe":
            segs = graph.mask(128, 48, *([*entry["bbox"], "r"] for entry in entries))
        node = graph.detail(kind, image, segs, model, "red", **settings)
        graph.add("DetailersTestSink", value=node[0])
        with server.watch() as watch:
            done = server.run(graph, watch=watch, extra_data=PREVIEWS)
        assert done.ok, done.error
        states = watch.progress_of(node.key)
        bar = [(state["value"], state["max"]) for state in states if state["state"] == "running"]
        previews = [
            event.image for event in watch.of("preview") if event.data["node_id"] == node.key
        ]
        return [value for value, _ in bar], bar[-1][1], previews

    return watched


@pytest.mark.parametrize(
    ("kind", "frames", "settings", "steps"),
    [
        ("DetailerForEach", 1, {}, 3 * 4),
        ("DetailerForEach", 2, {"cycle": 2, "steps": 3}, 2 * 3 * 2 * 3),
        ("DetailerForEach", 1, {"wildcard": "[SKIP][SEP]red"}, 4),
        ("DetailerForEach", 1, {"denoise": 0.3, "sampler_name": "dpm_2"}, 3 * 4),
        ("DetailerForEachPipe", 1, {"cycle": 2}, 3 * 2 * 4),
        ("SEGSDetailer", 1, {"batch_size": 2}, 2 * 3 * 4),
        ("MaskDetailerPipe", 1, {"batch_size": 2}, 2 * 3 * 4),
        ("SEGSDetailerForAnimateDiff", 3, {}, 3 * 4),
        ("DetailerForEachPipeForAnimateDiff", 3, {}, 3 * 4),
    ],
)
def test_one_bar_runs_over_segments_cycles_and_steps(watched, kind, frames, settings, steps):
    values, total, _ = watched(kind, frames, **settings)
    assert total == steps
    assert values == sorted(values)
    assert values[-1] == steps
    # It moves with every step, of all segments that are sampled together.
    assert len(set(values)) > settings.get("steps", 4) * settings.get("cycle", 1)


def test_a_refiner_shares_the_bar(server):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    segs = graph.segs(128, 48, *THREE)
    settings = {"refiner_basic_pipe_opt": graph.pipe(model, "green"), "refiner_ratio": 0.5}
    node = graph.detail("DetailerForEachPipe", graph.image(128, 48), segs, model, **settings)
    graph.add("DetailersTestSink", value=node[0])
    with server.watch() as watch:
        assert server.run(graph, watch=watch).ok
    values = [state["value"] for state in watch.progress_of(node.key) if state["max"] > 1]
    assert values == sorted(values)
    assert values[-1] == 12


@pytest.mark.parametrize("family", ["flat8", "video8"])
def test_previews_show_the_crop_being_sampled(watched, family):
    *_, previews = watched(family=family)
    assert len(previews) >= 3
    for preview in (previews[0], previews[-1]):
        image = np.asarray(Image.open(io.BytesIO(preview)).convert("RGB")) / 255
        assert image.shape[0] == image.shape[1]  # the crop, not the image of 128x48
        np.testing.assert_allclose(image.mean((0, 1)), PIXELS["red"], atol=0.03)


# Stopping


def long_run(steps, fresh, **settings):
    """A detailer at work for a good while with many steps; `fresh` keeps it out of the cache."""
    graph = Graph()
    model = graph.model("flat8", delay=0.02 if steps > 100 else 0.0, oom_rows=1000 + fresh)
    image = graph.image(128, 48, seed=40)
    segs = graph.segs(128, 48, *THREE)
    node = graph.detail("DetailerForEach", image, segs, model, steps=steps, **settings)
    return graph, image, node


def test_a_run_is_interrupted_between_steps_and_the_next_one_works(server, results):
    graph, image, node = long_run(4, fresh=0)
    expected = results(graph, image=image, detailed=node[0])
    before = stats(expected["detailed"])["model_calls"]

    graph, image, node = long_run(1000, fresh=1)
    graph.add("DetailersTestSink", value=node[0])
    with server.watch() as watch:
        prompt_id = server.queue(graph, watch=watch)
        watch.wait_for_progress(node.key, 3)
        asked = time.monotonic()
        server.interrupt()
        done = server.wait(prompt_id)
        waited = time.monotonic() - asked
    assert done.interrupted
    assert waited < 20  # of the 60 s that the whole run takes at the very least

    graph, image, node = long_run(4, fresh=2)
    again = results(graph, image=image, detailed=node[0])
    np.testing.assert_array_equal(again["detailed"]["t0"], expected["detailed"]["t0"])
    np.testing.assert_array_equal(again["image"]["t0"], expected["image"]["t0"])
    calls = stats(again["detailed"])["model_calls"] - before
    assert 12 + 3 <= calls < 1000  # the second run's and some of the interrupted one's


def test_an_interrupted_segment_leaves_the_cached_image_alone(server, results):
    """The second segment is interrupted once the first is pasted into the working copy."""
    graph, image, _ = long_run(4, fresh=3)
    expected = results(graph, image=image)["image"]["t0"]
    graph, image, node = long_run(200, fresh=4, wildcard="red[SEP]green[SEP]blue")
    graph.add("DetailersTestSink", value=node[0])
    with server.watch() as watch:
        prompt_id = server.queue(graph, watch=watch)
        watch.wait_for_progress(node.key, 201)
        server.interrupt()
        assert server.wait(prompt_id).interrupted
    graph, image, _ = long_run(4, fresh=5)
    np.testing.assert_array_equal(results(graph, image=image)["image"]["t0"], expected)
