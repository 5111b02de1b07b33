"""Settings that few people change are folded away, and none of them is lost."""

import pytest
from detailers.tests.editor.test_flow import VUE, node
from detailers.tests.editor.test_subgraphs import shown_outside
from detailers.tests.editor.test_widgets import graph_of

NEW = """([type]) => {
    const node = LiteGraph.createNode(type);
    node.pos = [100, 100];
    window.app.graph.add(node);
    return node.id;
}"""
FOLDS = "() => 'getLayoutWidgets' in LiteGraph.LGraphNode.prototype"
# The settings that a node shows, by what each renderer goes by.
SHOWN = """([id, isElement]) => {
    const node = window.app.graph.getNodeById(id);
    if (!isElement) {
        const isShown = (w) => (node.isWidgetRowVisible ?? node.isWidgetVisible).call(node, w);
        return node.widgets.filter(isShown).map((w) => w.name);
    }
    const element = document.querySelector(`[data-node-id="${id}"]`);
    const texts = [...element.querySelectorAll("*")].map((part) => part.textContent.trim());
    return node.widgets.filter((w) => texts.includes(w.label ?? w.name)).map((w) => w.name);
}"""
TOGGLE = """(id) => {
    const node = window.app.graph.getNodeById(id);
    if (node.toggleAdvanced && !window.LiteGraph.vueNodesMode) node.toggleAdvanced();
    else node.showAdvanced = !node.showAdvanced;
}"""
HEIGHT = """([id, isElement]) => isElement
    ? document.querySelector(`[data-node-id="${id}"]`).offsetHeight
    : window.app.graph.getNodeById(id).size[1]"""
LINK_TO = """([from, to, name]) => {
    const graph = window.app.graph;
    const target = graph.getNodeById(to);
    const slot = target.inputs.findIndex((input) => input.name === name);
    graph.getNodeById(from).connect(0, target, slot);
}"""
SAVED = "() => window.app.graph.serialize()"
RARE = ["drop_size", "sub_bbox_expansion", "sam_mask_hint_threshold", "post_dilation"]
USUAL = ["bbox_threshold", "bbox_dilation", "crop_factor", "sub_threshold", "sub_dilation"]
DETECTOR = "ImpactSimpleDetectorSEGS"
VALUES = {
    "bbox_threshold": 0.5, "bbox_dilation": 0, "crop_factor": 3.0, "drop_size": 10,
    "sub_threshold": 0.5, "sub_dilation": 0, "sub_bbox_expansion": 0,
    "sam_mask_hint_threshold": 0.7, "post_dilation": 0,
}  # fmt: skip


@pytest.fixture(params=["canvas", "vue"])
def drawn(editor, request):
    editor.is_element = request.param == "vue"
    editor.page.evaluate(VUE, editor.is_element)
    yield editor
    editor.page.evaluate(VUE, False)


def folds(editor):
    """Whether this editor folds at all; an older one shows everything."""
    return editor.page.evaluate(FOLDS)


def new(editor, type=DETECTOR):
    editor.load(graph_of())
    id = editor.page.evaluate(NEW, [type])
    editor.page.wait_for_timeout(400)
    return id


def shown(editor, id):
    editor.page.wait_for_timeout(300)
    return editor.page.evaluate(SHOWN, [id, editor.is_element])


def test_a_new_node_shows_what_people_change(drawn):
    id = new(drawn)
    assert shown(drawn, id) == (USUAL if folds(drawn) else list(VALUES))
    assert drawn.node(id).widgets == VALUES


def height(editor, id):
    editor.page.wait_for_timeout(300)
    return editor.page.evaluate(HEIGHT, [id, editor.is_element])


def test_a_new_node_is_as_tall_as_what_it_shows(drawn):
    id = new(drawn, "FaceDetailer")
    before = height(drawn, id)
    drawn.page.evaluate(TOGGLE, id)
    rows = 15 if folds(drawn) else 0
    assert height(drawn, id) >= before + 20 * rows


def test_what_is_folded_is_shown_on_demand_and_hidden_again(drawn):
    id = new(drawn)
    before = height(drawn, id)
    drawn.page.evaluate(TOGGLE, id)
    assert shown(drawn, id) == list(VALUES)
    drawn.page.evaluate(TOGGLE, id)
    assert shown(drawn, id) == (USUAL if folds(drawn) else list(VALUES))
    if not drawn.is_element:
        assert height(drawn, id) == before


def test_a_linked_setting_stays_in_sight(drawn):
    id = new(drawn)
    number = drawn.page.evaluate(NEW, ["ImpactInt"])
    drawn.page.evaluate(LINK_TO, [number, id, "post_dilation"])
    assert "post_dilation" in shown(drawn, id)
    slots = {slot.name: slot.ends for slot in drawn.node(id).inputs}
    assert slots["post_dilation"] == [(str(number), 0)]


def test_a_file_with_other_values_opens_with_all_of_them_shown(drawn):
    values = list({**VALUES, "post_dilation": 7}.values())
    drawn.load(graph_of(node(1, DETECTOR, values), node(2, DETECTOR, list(VALUES.values()))))
    assert drawn.node(1).widgets == {**VALUES, "post_dilation": 7}
    assert shown(drawn, 1) == list(VALUES)
    assert shown(drawn, 2) == (USUAL if folds(drawn) else list(VALUES))


def test_a_node_opens_as_it_was_saved(drawn):
    """Hidden by the user with other values, or shown with the usual ones."""
    values = list({**VALUES, "post_dilation": 7}.values())
    hidden = {**node(1, DETECTOR, values), "showAdvanced": False}
    drawn.load(graph_of(hidden, {**node(2, DETECTOR, list(VALUES.values())), "showAdvanced": True}))
    assert shown(drawn, 1) == (USUAL if folds(drawn) else list(VALUES))
    assert shown(drawn, 2) == list(VALUES)
    saved = {one["id"]: one for one in drawn.page.evaluate(SAVED)["nodes"]}
    assert saved[1]["widgets_values"] == values
    assert saved[2]["widgets_values"] == list(VALUES.values())


def test_a_rare_setting_that_a_subgraph_node_shows_is_shown(drawn):
    detector = node(1, DETECTOR, list(VALUES.values()))
    names = [(1, "post_dilation", "INT"), (1, "bbox_dilation", "INT")]
    drawn.load(shown_outside([detector], names, [7, 3]))
    assert drawn.node(5).widgets == {"post_dilation": 7, "bbox_dilation": 3}
    assert shown(drawn, 5) == ["post_dilation", "bbox_dilation"]
