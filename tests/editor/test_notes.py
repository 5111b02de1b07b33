"""Notes of running nodes are shown in them, with both renderers, and never as HTML."""

import itertools

import pytest
from detailers.tests.editor.test_flow import VUE, node
from detailers.tests.editor.test_other_workflow import (  # noqa: F401
    SHOW,
    let_go,
    two,
    wait_until,
    waiting,
)
from detailers.tests.editor.test_subgraphs import shown_outside
from detailers.tests.editor.test_widgets import NO_LORA, NO_WILDCARD, graph_of

SIDES = itertools.count(72, 8)  # another mask is not in the host's cache
HTML = "<img src=x onerror=window.harmed=1>"
SHOWN = """(id) => {
    const graphs = [window.app.rootGraph ?? window.app.graph];
    for (const graph of graphs) {
        for (const node of graph.nodes) {
            if (node.subgraph) graphs.push(node.subgraph);
            if (String(node.id) !== String(id)) continue;
            const widget = node.widgets?.find(({name}) => name === "detailers_notes");
            if (widget) return [...widget.element.children].map((row) => row.textContent);
        }
    }
    return [];
}"""
IN_SIGHT = """(id) => {
  app.canvas.ds.scale = 1;
  app.canvas.centerOnNode(app.canvas.graph.getNodeById(id));
  app.canvas.setDirty(true, true);
}"""
ON_PAGE = """() => [...document.querySelectorAll(".detailers-notes")]
    .filter((element) => element.getBoundingClientRect().height > 20).length"""
HEIGHT = """(id) => LiteGraph.vueNodesMode
    ? document.querySelector(`[data-node-id="${id}"]`).offsetHeight
    : window.app.graph.getNodeById(id).size[1]"""
SAVED = "() => JSON.stringify((window.app.rootGraph ?? window.app.graph).serialize().nodes)"
SET = """([id, name, value]) => {
    const node = window.app.graph.getNodeById(id);
    const widget = node.widgets.find((w) => w.name === name);
    widget.value = value;
    widget.callback?.(value, window.app.canvas, node);
}"""
ENTER = "(id) => window.app.canvas.setGraph(window.app.graph.getNodeById(id).subgraph)"
MUTE = "(ids) => { for (const id of ids) window.app.graph.getNodeById(id).mode = 2; }"
FOLD = "(id) => window.app.graph.getNodeById(id).collapse(true)"
SCROLLS = """() => {
    const [list] = document.querySelectorAll(".detailers-notes");
    return [list.clientHeight <= 150, list.scrollHeight > list.clientHeight];
}"""


@pytest.fixture(params=["canvas", "vue"])
def drawn(editor, request):
    editor.page.evaluate(VUE, request.param == "vue")
    editor.page.evaluate("() => { delete window.harmed; }")
    yield editor
    editor.page.evaluate(VUE, False)


def filtering(labels, side=None):
    """Nodes 1 to 4, which filter the segments of a mask by label in node 3, and their links."""
    side = next(SIDES) if side is None else side
    nodes = [
        node(1, "SolidMask", [1.0, side, side], outputs=[("MASK", "MASK", [1])]),
        node(2, "MaskToSEGS", [False, 3.0, False, 10, True], [("mask", "MASK", 1)],
             [("SEGS", "SEGS", [2])]),
        node(3, "ImpactSEGSLabelFilter", ["all", labels], [("segs", "SEGS", 2)],
             [("filtered_SEGS", "SEGS", [3]), ("remained_SEGS", "SEGS", [])]),
        node(4, "DetailersTestSave", [f"notes{side}"], [("value", "*", 3)]),
    ]  # fmt: skip
    links = [[1, 1, 0, 2, 0, "MASK"], [2, 2, 0, 3, 0, "SEGS"], [3, 3, 0, 4, 0, "SEGS"]]
    return nodes, links


def told(label):
    return f"No segment has the label '{label}'. There are: 'A'."


def shown(editor, id=3):
    editor.page.wait_for_timeout(150)  # lists come and go with messages of the server
    return editor.page.evaluate(SHOWN, id)


def test_notes_are_shown_until_the_next_run(drawn):
    nodes, links = filtering(f"cat, {HTML}")
    drawn.load(graph_of(*nodes, links=links))
    page = drawn.page
    page.wait_for_timeout(200)
    height, saved, prompt = page.evaluate(HEIGHT, 3), page.evaluate(SAVED), drawn.prompt()
    errors = len(drawn.console)
    assert drawn.queue().ok
    both = [told(HTML), told("cat")]
    assert shown(drawn) == both
    assert page.evaluate(ON_PAGE) == 1
    assert page.evaluate("() => window.harmed") is None
    assert height < page.evaluate(HEIGHT, 3) < height + 120
    assert page.evaluate(SAVED) == saved
    assert drawn.prompt() == prompt
    drawn.queue()  # all is in the host's cache, and the result is what the notes are about
    assert shown(drawn) == both
    page.evaluate(SET, [3, "labels", "A"])
    drawn.queue()
    assert shown(drawn) == []
    assert page.evaluate(ON_PAGE) == 0
    assert page.evaluate(HEIGHT, 3) == height
    page.evaluate(SET, [3, "labels", f"cat, {HTML}"])
    assert page.evaluate(SAVED) == saved
    assert [text for kind, text in drawn.console[errors:] if kind == "pageerror"] == []


def test_many_notes_scroll_and_folded_nodes_show_none(drawn):
    nodes, links = filtering(",".join(f"label {number}" for number in range(30)))
    drawn.load(graph_of(*nodes, links=links))
    errors = len(drawn.console)
    drawn.queue()
    assert len(shown(drawn)) == 30
    assert drawn.page.evaluate(SCROLLS) == [True, True]
    drawn.page.evaluate(FOLD, 3)
    drawn._settle()
    assert drawn.page.evaluate(ON_PAGE) == 0
    drawn.page.evaluate(SET, [3, "labels", "dog"])
    drawn.queue()
    assert shown(drawn) == [told("dog")]
    assert [text for kind, text in drawn.console[errors:] if kind == "pageerror"] == []


def test_a_node_in_a_subgraph_shows_its_notes(drawn):
    nodes, links = filtering("cat")
    content = shown_outside(nodes, [(3, "labels", "STRING")], ["dog"], inner_links=links)
    drawn.load(content)
    saved = drawn.page.evaluate(SAVED)
    drawn.queue()
    assert shown(drawn) == [told("dog")]
    assert drawn.page.evaluate(SAVED) == saved
    drawn.page.evaluate(ENTER, 5)
    drawn.page.evaluate(IN_SIGHT, 3)
    drawn._settle()
    assert drawn.page.evaluate(ON_PAGE) == 1


def test_only_the_workflow_that_has_run_shows_notes(two, drawn):  # noqa: F811
    nodes, links = filtering("cat")
    wait = waiting(90, 4, [])
    nodes[0]["outputs"][0]["links"].append(4)
    other, its = filtering("A")
    first = graph_of(*nodes, wait, links=[*links, [4, 1, 0, 90, 0, "MASK"]])
    own, second = two(first, graph_of(*other, links=its))
    let_go(drawn)
    wait_until(drawn, lambda: not drawn.server.get("/queue")["queue_running"])
    assert shown(drawn) == []
    drawn.page.evaluate(SHOW, own)
    assert shown(drawn) == [told("cat")]
    drawn.page.evaluate(SHOW, second)
    assert shown(drawn) == []


def test_nodes_that_are_no_part_of_the_next_run_show_no_notes(editor):
    nodes, links = filtering("cat")
    nodes.append(node(7, "DetailersTestSave", ["rest"], [("value", "*", 4)]))
    nodes[0]["outputs"][0]["links"].append(4)
    editor.load(graph_of(*nodes, links=[*links, [4, 1, 0, 7, 0, "MASK"]]))
    editor.queue()
    assert shown(editor) == [told("cat")]
    editor.page.evaluate(MUTE, [3, 4])
    editor.queue()
    assert shown(editor) == []


HARM = "<img src=x class=harm onerror=window.harmed=1>"
LIST = "<svg/onload=window.harmed=1>"  # blanks in a list's name would become hyphens
HARMED = """() => [
    window.harmed ?? null, document.querySelectorAll(".harm, img[src=x], svg[onload]").length,
]"""
REFRESH = "async () => { delete window.harmed; await window.app.refreshComboInNodes(); }"
UNFOLD = "(id) => window.app.graph.getNodeById(id).toggleAdvanced?.()"
OPTIONS = """([id, name]) => {
    const {options} = window.app.graph.getNodeById(id).widgets.find((w) => w.name === name);
    return typeof options.values === "function" ? options.values() : [...options.values];
}"""


@pytest.fixture
def harmful(drawn):
    """The name of a wildcard list, a LoRA and a detector; and whether the page has come to harm."""
    models = drawn.server.base / "models"
    files = [models / "wildcards" / f"{LIST}.txt", models / "loras" / f"{HARM}.safetensors"]
    files.append(models / "ultralytics/bbox" / f"{HARM}.pt")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"drawn {HARM}\n")
    drawn.page.evaluate(REFRESH)
    yield HARM
    for file in files:
        file.unlink()
    files[0].parent.rmdir()
    drawn.open()  # refreshed lists change the order in which the oldest editor opens group nodes


def test_names_and_texts_of_others_are_no_html(drawn, harmful):
    """Of files, nodes and prompts: each is shown as it is written, and nothing of it runs."""
    page = drawn.page
    drawn_by = [f"__{LIST}__ {HARM}", HARM, "populate", 1, "fixed", NO_WILDCARD]
    titled = [
        node(1, "ToDetailerPipe", [HARM, NO_LORA, NO_WILDCARD]),
        node(2, "UltralyticsDetectorProvider", [f"bbox/{HARM}.pt"]),
        node(3, "ImpactWildcardProcessor", drawn_by, outputs=[("processed text", "STRING", [1])]),
        node(4, "FaceDetailer"),
        node(5, "DetailerForEach", [256, 7, False, 20, 8, HARM, "karras", 0.6, 5]),
        node(6, "PreviewBridge", [f"{HARM}.png [input]", True, "never"], mode=2),
        node(7, "ImpactSwitch", [1, False]),
        node(8, "ImpactLogger", [HARM], inputs=[("data", "*", 1)]),
    ]
    named = [saved | {"title": HARM} for saved in titled]
    drawn.load(graph_of(*named, links=[[1, 3, 0, 8, 0, "STRING"]]))
    added = {"LoRA": f"{HARM}.safetensors", "Wildcard": f"__{LIST}__"}
    for kind, value in added.items():
        assert value in page.evaluate(OPTIONS, [1, f"Select to add {kind}"])
        page.evaluate(SET, [1, f"Select to add {kind}", value])
    assert drawn.node(1).widgets["wildcard"] == f"{HARM}, <lora:{HARM}>, __{LIST}__"
    assert f"bbox/{HARM}.pt" in page.evaluate(OPTIONS, [2, "model_name"])
    page.evaluate(UNFOLD, 4)
    assert drawn.queue().ok
    assert drawn.node(3).widgets["populated_text"] == f"drawn {HARM} {HARM}"
    page.wait_for_timeout(300)
    assert page.evaluate(HARMED) == [None, 0]
