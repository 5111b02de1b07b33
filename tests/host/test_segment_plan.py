"""Segment plans in the real host: which segment gets what, and that it is what widgets give."""

import numpy as np
import pytest
from detailers.tests.host.graphs import DETAILERS, Graph, box
from detailers.tests.host.test_texts import SEGMENTS, colours

SIZE = (160, 64)


def plan(graph, text, **links):
    return graph.add("SegmentPlan", plan=text, **links)


@pytest.fixture
def painted(results):
    """painted({plan: ...}) -> {plan: image}, "" being the image before; the positive is red."""

    def painted(plans, segments=SEGMENTS, **settings):
        graph = Graph()
        model = graph.model("flat8", prior_std=0.0)
        image, segs = graph.image(*SIZE), graph.segs(*SIZE, *segments)
        links = {"plan0": image}
        for place, text in enumerate(plans, start=1):
            own = {"segment_plan": plan(graph, text)[0], **settings}
            links[f"plan{place}"] = graph.detail("DetailerForEach", image, segs, model, **own)[0]
        out = results(graph, **links)
        return dict(zip(["", *plans], (out[name]["t0"] for name in links), strict=True))

    return painted


CHOSEN = {
    "# no rule": ["red", "red", "red"],
    "- text: blue": ["blue", "blue", "blue"],
    "- {label: hand, text: blue}": ["red", "blue", "red"],
    "- {select: left to right 2, text: blue}": ["red", "red", "blue"],
    "- {select: largest of label face, text: blue}": ["blue", "red", "red"],
    "- {select: index -1, text: blue}\n- {select: else, skip: true}": ["kept", "kept", "blue"],
    "- {select: width < 20, text: blue}\n- {select: 'x < 30%', text: green}": [
        "red", "green", "blue",
    ],
    "- text: blue\n- {label: face, text: green}\n- {select: size = 16, skip: too small}": [
        "green", "blue", "kept",
    ],
}  # fmt: skip


def test_rules_choose_their_segments(painted):
    images = painted(CHOSEN)
    for text, expected in CHOSEN.items():
        assert colours(images[text], images[""]) == expected, text


# Each setting


@pytest.mark.parametrize("node", [node for node in DETAILERS if node != "MaskDetailerPipe"])
def test_a_rule_sets_what_the_nodes_widget_sets(results, node):
    shown = box(40, 12, 88, 52, mask="e", crop=[24, 4, 104, 60])
    widgets = {
        "steps": 3, "cfg": 3.5, "denoise": 0.55, "sampler_name": "heun", "scheduler": "simple",
        "guide_size": 96, "max_size": 104, "seed": 77, "feather": 7, "noise_mask_feather": 5,
    }  # fmt: skip
    graph = Graph()
    model, image, segs = graph.model("image8"), graph.image(128, 64), graph.segs(128, 64, shown)
    takes = [name for name in widgets if name in DETAILERS[node] or name == "noise_mask_feather"]
    links = {"plain": graph.detail(node, image, segs, model, "red", "blue")[0]}
    for name in takes:
        setting = {name: widgets[name]}
        links[name] = graph.detail(node, image, segs, model, "red", "blue", **setting)[0]
        rule = plan(graph, f"- {{{name}: {widgets[name]}}}")
        ruled = graph.detail(node, image, segs, model, "red", "blue", segment_plan=rule[0])
        links[f"{name}_rule"] = ruled[0]
    out = results(graph, **links)
    assert len(takes) >= 9
    for name in takes:
        for key in out["plain"].keys() - {"stats"}:
            wanted, found = out[name][key], out[f"{name}_rule"][key]
            if name == "seed" and node.startswith("SEGSDetailer") and "Animate" not in node:
                continue  # of that node each segment has the seed + 1
            if wanted.dtype.kind == "U":
                assert found == wanted
                continue
            np.testing.assert_array_equal(found, wanted, err_msg=f"{name} {key}")
        pixels = [key for key in out["plain"] if out["plain"][key].ndim == 4]
        changed = [not np.array_equal(out[name][key], out["plain"][key]) for key in pixels]
        assert any(changed), name
