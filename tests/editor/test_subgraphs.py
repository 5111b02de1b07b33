"""Subgraph nodes that show widgets of inner nodes: the values in the subgraph node count."""

import itertools

import pytest
from detailers.tests.editor.test_flow import VUE, after_all_runs, node, saved
from detailers.tests.editor.test_widgets import graph_of

COLOURS = itertools.count(1)  # another picture is not in the host's cache, and so is sent
NO_LIST = "Select the Wildcard to add to the text"
PROCESSOR = ["a {b}", "", "populate", 5, "fixed", NO_LIST]
LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
CHOOSE_SHOWN = """([id, name, value]) => {
    const node = window.app.graph.getNodeById(id);
    const widget = node.widgets.find((w) => w.name === name);
    widget.value = value;
    widget.callback?.(value, window.app.canvas, node);
}"""


@pytest.fixture(params=["canvas", "vue"])
def drawn(editor, request):
    editor.page.evaluate(VUE, request.param == "vue")
    yield editor
    editor.page.evaluate(VUE, False)


def subgraph_id(level):
    return f"d0d0d0d0-0000-4000-8000-00000000000{level}"


def shown_outside(inner, shown, values, depth=1, holders=(5,), outer=(), links=(), inner_links=()):
    """A workflow with nodes in a subgraph, whose node shows widgets of theirs.

    Args:
        shown: (node, widget, type) of each widget.
        values: of the widgets, at the outermost subgraph node.
        depth: how many subgraph nodes are around each other; those inside have numbers from 22.
        holders: numbers of the outermost subgraph nodes; more than one show the same subgraph.
    """
    definitions = [_inside(1, inner, shown, inner_links)]
    for level in range(2, depth + 1):
        within = node(20 + level, subgraph_id(level - 1), [None] * len(values))
        within["inputs"] = [_slot(name, kind, None) for _, name, kind in shown]
        outside = [(20 + level, name, kind) for _, name, kind in shown]
        definitions.append(_inside(level, [within], outside, ()))
    nodes = list(outer)
    for number, holder in enumerate(holders):
        its = values[number] if len(holders) > 1 else values
        made = node(holder, subgraph_id(depth), its)
        made["inputs"] = [_slot(name, kind, None) for _, name, kind in shown]
        nodes.append(made)
    return graph_of(*nodes, links=links) | {"definitions": {"subgraphs": definitions}}


def _slot(name, kind, link):
    return {"name": name, "type": kind, "widget": {"name": name}, "link": link}


def _inside(level, nodes, shown, links):
    ends = {"bounding": [0, 0, 120, 60]}
    made = [dict(zip(LINK, link, strict=True)) for link in links]
    inputs = []
    for number, (id, name, kind) in enumerate(shown):
        target = next(one for one in nodes if one["id"] == id)
        link = 50 + number
        slot = next((i for i, one in enumerate(target["inputs"]) if one["name"] == name), None)
        if slot is None:
            slot = len(target["inputs"])
            target["inputs"].append(_slot(name, kind, link))
        else:
            target["inputs"][slot]["link"] = link
        made.append(dict(zip(LINK, (link, -10, number, id, slot, kind), strict=True)))
        inputs.append(
            {"id": f"{level}{number:03}aaaa-0000-4000-8000-000000000001", "name": name,
             "type": kind, "linkIds": [link]}
        )  # fmt: skip
    return {
        "id": subgraph_id(level), "version": 1, "revision": 0, "config": {}, "name": f"in {level}",
        "state": {"lastGroupId": 0, "lastNodeId": 9, "lastLinkId": 99, "lastRerouteId": 0},
        "inputNode": {"id": -10, **ends}, "outputNode": {"id": -20, **ends},
        "inputs": inputs, "outputs": [], "widgets": [], "nodes": nodes, "groups": [],
        "links": made,
    }  # fmt: skip


def inner_path(editor, type):
    (found,) = [one.id for one in editor.state() if ":" in one.id and one.type == type]
    return found


def set_shown(editor, name, value, holder=5):
    editor.page.evaluate(CHOOSE_SHOWN, [holder, name, value])


def drawn_text(values, depth=1, **more):
    processor = node(1, "ImpactWildcardProcessor", PROCESSOR, outputs=[("STRING", "STRING", [1])])
    save = node(2, "DetailersTestSave", ["drawn"], [("value", "*", 1)])
    shown = [(1, "wildcard_text", "STRING"), (1, "populated_text", "STRING"), (1, "mode", "COMBO")]
    links = [[1, 1, 0, 2, 0, "STRING"]]
    return shown_outside([processor, save], shown, values, depth, inner_links=links, **more)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_drawn_text_is_shown_and_can_be_fixed(drawn, depth):
    drawn.load(drawn_text(["two {cats}", "", "populate"], depth))
    assert drawn.queue().ok
    assert saved(drawn, "drawn") == "two cats"
    assert drawn.node(5).widgets["populated_text"] == "two cats"
    set_shown(drawn, "mode", "fixed")
    set_shown(drawn, "wildcard_text", "no {dogs}")
    inputs = drawn.prompt()[inner_path(drawn, "ImpactWildcardProcessor")]["inputs"]
    assert (inputs["mode"], inputs["populated_text"]) == ("fixed", "two cats")
    drawn.queue()
    assert saved(drawn, "drawn") == "two cats"


def test_two_nodes_of_one_subgraph_keep_their_own_texts(editor, request):
    if request.node.callspec.params["editor"] == "oldest":
        pytest.skip("in this editor, nodes of one subgraph share its values")
    values = [["{one}", "", "populate"], ["{two}", "", "populate"]]
    editor.load(drawn_text(values, holders=(5, 6)))
    editor.queue()
    assert editor.node(5).widgets["populated_text"] == "one"
    assert editor.node(6).widgets["populated_text"] == "two"


def test_a_saved_picture_has_the_drawn_text_where_it_counts(editor):
    processor = node(1, "ImpactWildcardProcessor", PROCESSOR, outputs=[("STRING", "STRING", [1])])
    show = node(2, "PreviewAny", [], [("source", "*", 1)])
    shown = [(1, "populated_text", "STRING"), (1, "mode", "COMBO")]
    links = [[1, 1, 0, 2, 0, "STRING"]]
    content = shown_outside([processor, show], shown, ["", "populate"], inner_links=links)
    editor.load(content)
    run = editor.queue()
    history = editor.server.get(f"/history/{run.prompt_id}")[run.prompt_id]
    kept = history["prompt"][3]["extra_pnginfo"]["workflow"]
    editor.load(kept)
    assert editor.node(5).widgets == {"populated_text": "a b", "mode": "reproduce"}


@pytest.mark.parametrize("depth", [1, 2])
def test_a_reproduced_text_goes_back_to_populate(editor, depth):
    editor.load(drawn_text(["{x}", "a b", "reproduce"], depth))
    editor.queue()
    assert saved(editor, "drawn") == "a b"
    assert editor.node(5).widgets["mode"] == "populate"


@pytest.mark.parametrize("depth", [1, 2])
def test_a_receiver_inside_receives(drawn, depth):
    image = node(1, "EmptyImage", [8, 6, 1, next(COLOURS)], outputs=[("IMAGE", "IMAGE", [1])])
    sender = node(2, "ImageSender", ["sub", 3], [("images", "IMAGE", 1)])
    receiver = node(11, "ImageReceiver", ["gone.png [temp]", 3, True, "", False])
    content = shown_outside(
        [receiver], [(11, "image", "COMBO"), (11, "link_id", "INT")], ["gone.png [temp]", 3], depth,
        outer=[image, sender], links=[[1, 1, 0, 2, 0, "IMAGE"]],
    )  # fmt: skip
    drawn.load(content)
    assert drawn.queue().ok
    file = drawn.node(5).widgets["image"]
    assert file.startswith("sub_0")
    after_all_runs(
        drawn,
        "async () => Object.values((await app.graphToPrompt()).output)"
        ".some(({inputs}) => inputs.image_data?.startsWith('data:image/png'))",
    )
    path = inner_path(drawn, "ImageReceiver")
    assert drawn.prompt()[path]["inputs"]["image"] == file


@pytest.mark.parametrize("depth", [1, 2])
def test_values_are_set_inside(editor, depth):
    """By a node that sets a widget, and by one that does so as the graph is queued."""
    number = node(1, "ImpactInt", [1], outputs=[("INT", "INT", [1])])
    setter = node(2, "ImpactSetWidgetValue", [7, "value"], [
        ("signal", "*", 1), ("boolean_value", "BOOLEAN", None), ("int_value", "INT", 2),
    ])  # fmt: skip
    number["outputs"][0]["links"] = [1, 2]
    flag = node(8, "ImpactBoolean", [False])
    target = node(7, "ImpactInt", [1])
    remote = node(9, "ImpactRemoteBoolean", [8, "value", True])
    number["widgets_values"] = [41]
    content = shown_outside(
        [number, setter, target, flag, remote],
        [(7, "value", "INT")], [3], depth,
        inner_links=[[1, 1, 0, 2, 0, "INT"], [2, 1, 0, 2, 2, "INT"]],
    )  # fmt: skip
    editor.load(content)
    ids = {one.id.split(":")[-1]: one for one in editor.state() if one.type == "ImpactInt"}
    target_id = next(id for id, one in ids.items() if one.widgets["value"] != 41)
    boolean = inner_path(editor, "ImpactBoolean").split(":")[-1]
    for type, id in (("ImpactSetWidgetValue", target_id), ("ImpactRemoteBoolean", boolean)):
        editor.page.evaluate(
            """([path, id]) => {
                let node, graph = window.app.graph;
                for (const part of path.split(":")) {
                    node = graph.getNodeById(Number(part));
                    graph = node.subgraph;
                }
                node.widgets[0].value = id;
            }""",
            [inner_path(editor, type), int(id)],
        )
    assert editor.queue().ok
    assert editor.node(5).widgets == {"value": 41}
    assert editor.node(inner_path(editor, "ImpactBoolean")).widgets == {"value": True}


def test_a_second_seed_shown_outside_changes(editor):
    widgets = [5, "fixed", 9, "increment", 20, 2, 1.0, 10, True, "ratio between", "AUTO", 0.3]
    content = shown_outside([node(1, "RegionalSampler", widgets)], [(1, "seed_2nd", "INT")], [70])
    editor.load(content)
    editor.page.evaluate(
        "() => [...window.app.graph.nodes].flatMap((n) => n.subgraph?.nodes ?? [])"
        ".forEach((n) => n.widgets?.forEach((w) => w.afterQueued?.({})))"
    )
    assert editor.node(5).widgets == {"seed_2nd": 71}


def test_a_chosen_list_is_added_to_the_text_outside(editor):
    processor = node(1, "ImpactWildcardProcessor", PROCESSOR)
    editor.load(shown_outside([processor], [(1, "wildcard_text", "STRING")], ["a face"]))
    editor.page.evaluate(
        """(value) => {
            const inner = window.app.graph.getNodeById(5).subgraph.nodes[0];
            const widget = inner.widgets.find((w) => w.name === "Select to add Wildcard");
            widget.value = value;
            widget.callback(value, window.app.canvas, inner);
        }""",
        "__colour__",
    )
    assert editor.node(5).widgets == {"wildcard_text": "a face, __colour__"}


def test_a_text_that_is_drawn_cannot_be_typed_outside(drawn):
    drawn.load(drawn_text(["two {cats}", "", "populate"]))
    drawn.page.wait_for_timeout(300)
    read_only = (
        "() => [...document.querySelectorAll('textarea')].filter((t) => t.offsetParent)"
        ".map((t) => t.readOnly)"
    )
    assert drawn.page.evaluate(read_only).count(True) == 1
    set_shown(drawn, "mode", "fixed")
    drawn.page.evaluate(
        "() => document.body.dispatchEvent(new FocusEvent('focusin', {bubbles: true}))"
    )
    drawn.page.wait_for_timeout(300)
    assert drawn.page.evaluate(read_only).count(True) == 0
