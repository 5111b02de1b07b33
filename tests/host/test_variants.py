"""Variants of segments in the real host: how often models are called, and what is kept."""

import json

import numpy as np
import pytest
from detailers.tests.host.graphs import DETAILERS, Graph, box

SIZE = (224, 64)
ROW = [box(x, 0, x + 64, 64, mask="e") for x in (0, 80, 160)]
STEP = 1_000_000  # between the seeds of two variants


class Scene(Graph):
    """Three segments of one size."""

    def __init__(self, family="flat8", batch=1, **options):
        super().__init__()
        self.test_model = self.model(family, **options)
        self.picture = self.image(*SIZE, batch=batch)
        self.found = self.segs(*SIZE, *ROW)
        self.masked = self.mask(*SIZE, *([x, 0, x + 64, 64, "e"] for x in (0, 80, 160)))

    def drawn(self, node="DetailerForEach", **settings):
        found = self.masked if node == "MaskDetailerPipe" else self.found
        return self.detail(node, self.picture, found, self.test_model, **settings)


def output_of(server, node, name):
    return server.object_info(node)["output_name"].index(name)


@pytest.fixture
def counted(run):
    """Run a graph; how often what was called, by the name of the counter."""

    def counters():
        graph = Graph()
        sink = graph.add("DetailersTestSink", value=graph.value(0))
        return json.loads(run(graph).outputs[sink.key]["text"][0])

    def counted(graph, **links):
        before = counters()
        for name, link in links.items():
            graph.add("DetailersTestSave", value=link, name=name)
        run(graph)
        after = counters()
        return {name: after[name] - before[name] for name in before}

    return counted


@pytest.mark.parametrize("node", DETAILERS)
def test_every_detailer_pastes_the_first_and_gives_all_variants(results, server, node):
    place = output_of(server, node, "variants")
    scene = Scene("video8" if node.endswith("AnimateDiff") else "flat8", batch=1)
    alone, several = (scene.drawn(node, variants=count, seed=5) for count in (1, 3))
    out = results(
        scene, plain=scene.drawn(node, seed=5)[0], alone=alone[0], several=several[0],
        variants=several[place], one=alone[place],
    )  # fmt: skip
    for key in out["plain"].keys() - {"stats"}:
        for other in ("alone", "several"):
            if out["plain"][key].dtype.kind == "U":
                assert out[other][key] == out["plain"][key]
            else:
                np.testing.assert_array_equal(out[other][key], out["plain"][key], err_msg=key)
    images = [key for key in out["variants"] if key.endswith("_image")]
    assert len(images) == 9
    assert len([key for key in out["one"] if key.endswith("_image")]) == 3
    first, second = (out["variants"][f"segs0_{place}_image"] for place in (0, 1))
    assert first.shape == second.shape
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(first, out["one"]["segs0_0_image"])


def test_variants_make_no_more_calls_of_the_model_than_one(counted):
    seen = {}
    for count in (1, 4):
        scene = Scene()
        drawn = scene.drawn(variants=count, steps=5, seed=11 + count)
        seen[count] = counted(scene, picture=drawn[0], all=drawn[1])
    assert seen[1]["model_calls"] == seen[4]["model_calls"] == 5
    assert (seen[1]["model_rows"], seen[4]["model_rows"]) == (15, 60)
    assert (seen[1]["decode_rows"], seen[4]["decode_rows"]) == (3, 12)


def test_where_nothing_takes_them_they_are_not_drawn_and_that_is_told(run, server):
    scene = Scene()
    drawn = scene.drawn(variants=4, steps=3, seed=31)

    def ran(name, link):
        """Notes of the detailer, and how often the model was called until then."""
        scene.add_as(name, "DetailersTestSave", value=link, name=name)
        notes = run(scene).outputs.get(drawn.key, {}).get("detailers_notes", [])
        stats = json.loads(str(server.result(name)["stats"]))
        return [note["kind"] for note in notes], stats["model_calls"], stats["model_rows"]

    _, calls, rows = ran("before", scene.picture)
    assert ran("picture", drawn[0]) == (["variants"], calls + 3, rows + 9)
    # What is in the cache has no variants, so it is not taken once something takes them.
    assert ran("all", drawn[1]) == ([], calls + 6, rows + 9 + 36)
    assert ran("again", drawn[1]) == ([], calls + 6, rows + 9 + 36)


def test_a_variant_is_what_its_seed_draws(results):
    scene = Scene()
    several = scene.drawn(variants=3)
    alone = scene.drawn(seed=5 + 2 * STEP)
    out = results(scene, several=several[1], alone=alone[1])
    for place in range(3):
        np.testing.assert_allclose(
            out["several"][f"segs0_{3 * place + 2}_image"], out["alone"][f"segs0_{place}_image"],
            atol=1e-5,
        )  # fmt: skip
