"""Changes that running nodes ask for are made in the queued workflow, not in the visible one."""

import itertools
import time
import uuid

import pytest
from detailers.tests.editor.test_flow import VUE, node, runs_of, saved
from detailers.tests.editor.test_widgets import graph_of

NO_LIST = "Select the Wildcard to add to the text"
HELD = "runs.held"  # see the test pack's slow files
NUMBERS = itertools.count(1000)  # what the host has in its cache does not run again
# Workflows are told apart by their paths: after a page was opened anew, their order may differ.
SHOW = """async (path) => {
    const {workflow} = window.app.extensionManager;
    const one = workflow.openWorkflows.find((one) => one.path === path);
    await window.app.loadGraphData(one.activeState, true, true, one);
}"""
SHOWN_NOW = "() => window.app.extensionManager.workflow.activeWorkflow.path"
CLOSE = """async (path) => {
    const {workflow} = window.app.extensionManager;
    await workflow.closeWorkflow(workflow.openWorkflows.find((one) => one.path === path));
}"""


@pytest.fixture(params=["canvas", "vue"])
def drawn(editor, request):
    editor.page.evaluate(VUE, request.param == "vue")
    yield editor
    editor.page.evaluate(VUE, False)


@pytest.fixture
def two(drawn):
    """two(first, second): queues one workflow, and opens the other while it runs; their paths.

    Node 90 of the first waits until the test lets it go.
    """
    held = held_file(drawn)

    def two(first, second):
        held.touch()
        drawn.load(second)
        other = drawn.page.evaluate(SHOWN_NOW)
        drawn.load(first)
        own = drawn.page.evaluate(SHOWN_NOW)
        drawn.page.evaluate("() => { app.queuePrompt(0, 1); }")
        wait_until(drawn, lambda: drawn.server.get("/queue")["queue_running"])
        drawn.page.evaluate(SHOW, other)
        drawn._settle()
        return own, other

    yield two
    held.unlink(missing_ok=True)


def held_file(editor):
    return editor.server.output / HELD


def let_go(editor):
    """Let the workflow go on that `two` has queued."""
    assert editor.server.get("/queue")["queue_running"]
    held_file(editor).unlink()


def wait_until(editor, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come about"
        editor.page.wait_for_timeout(50)


def idle(editor):
    queue = editor.server.get("/queue")
    return not queue["queue_running"] and not queue["queue_pending"]


def waiting(id, link, out):
    """Passes its value on once the test lets it go; see `two`."""
    return node(id, "DetailersTestWait", [next(NUMBERS)], [("value", "*", link)], [("*", "*", out)])


def test_another_workflow_is_not_muted_or_set(two, drawn):
    """Both have nodes of the same numbers."""

    def content(sets):
        return graph_of(
            node(1, "ImpactInt", [5], outputs=[("INT", "INT", [1, 3])]),
            waiting(90, 1, [2]),
            node(2, "ImpactNodeSetMuteState", [4, False], [("signal", "*", 2)], [
                ("signal_opt", "*", [4]),
            ]),
            node(3, "ImpactSetWidgetValue", [5, "value"], [
                ("signal", "*", 4), ("boolean_value", "BOOLEAN", None), ("int_value", "INT", 3),
            ]),
            node(4, "ImpactInt", [3]),
            node(5, "ImpactInt", [1]),
            links=[[1, 1, 0, 90, 0, "INT"], [2, 90, 0, 2, 0, "*"], [3, 1, 0, 3, 2, "INT"],
                   [4, 2, 0, 3, 0, "*"]],
        )  # fmt: skip

    before = runs_of(drawn)
    own, _ = two(content(True), content(False))
    let_go(drawn)
    wait_until(drawn, lambda: runs_of(drawn) == before + 1)
    drawn.page.wait_for_timeout(500)
    modes = "() => Object.fromEntries(app.graph.nodes.map((node) => [node.id, node.mode]))"
    assert drawn.page.evaluate(modes)["4"] == 0
    assert drawn.node(5).widgets == {"value": 1}
    drawn.page.evaluate(SHOW, own)
    drawn._settle()
    assert drawn.page.evaluate(modes)["4"] == 2
    assert drawn.node(5).widgets == {"value": 5}


def counting(name, total=3):
    return graph_of(
        node(1, "ImpactInt", [5], outputs=[("INT", "INT", [1])]),
        waiting(90, 1, [2]),
        node(2, "ImpactQueueTriggerCountdown", [0, total, True], [("signal", "*", 2)], [
            ("signal_opt", "*", []), ("count", "INT", [3]), ("total", "INT", []),
        ]),
        node(3, "DetailersTestSave", [name], [("value", "*", 3)]),
        node(6, "KSampler", [7, "increment", 20, 8, "euler", "normal", 1]),
        links=[[1, 1, 0, 90, 0, "INT"], [2, 90, 0, 2, 0, "*"], [3, 2, 1, 3, 0, "INT"]],
    )  # fmt: skip


def test_a_workflow_goes_on_while_another_one_is_shown(two, drawn):
    other = graph_of(node(1, "ImpactInt", [7]), node(2, "ImpactInt", [9]))
    before = runs_of(drawn)
    own, _ = two(counting("away"), other)
    let_go(drawn)
    wait_until(drawn, lambda: runs_of(drawn) == before + 3)
    drawn.page.wait_for_timeout(700)
    assert runs_of(drawn) == before + 3
    assert saved(drawn, "away") == 2
    assert [drawn.node(id).widgets for id in (1, 2)] == [{"value": 7}, {"value": 9}]
    drawn.page.evaluate(SHOW, own)
    drawn._settle()
    assert drawn.node(2).widgets["count"] == 0
    assert drawn.node(6).widgets["seed"] == 10  # as after three runs


def test_a_closed_workflow_stops(two, drawn):
    other = graph_of(node(1, "ImpactInt", [7]), node(2, "ImpactInt", [9]))
    before = runs_of(drawn)
    own, _ = two(counting("closed"), other)
    drawn.page.evaluate(CLOSE, own)
    let_go(drawn)
    wait_until(drawn, lambda: idle(drawn) and runs_of(drawn) == before + 1)
    drawn.page.wait_for_timeout(1000)
    assert runs_of(drawn) == before + 1
    assert [drawn.node(id).widgets for id in (1, 2)] == [{"value": 7}, {"value": 9}]


def test_a_control_bridge_of_a_workflow_that_is_not_shown(two, drawn):
    """Node 3 halves the image: bypassed, the whole one arrives."""
    bridged = graph_of(
        node(1, "EmptyImage", [64, 48, 1, 255], outputs=[("IMAGE", "IMAGE", [1])]),
        waiting(90, 1, [5]),
        node(2, "ImpactControlBridge", [False, "Bypass"], [("value", "*", 5)], [
            ("value", "*", [2]),
        ]),
        node(3, "ImageScaleBy", ["bilinear", 0.5], [("image", "IMAGE", 2)], [
            ("IMAGE", "IMAGE", [3]),
        ]),
        node(4, "DetailersTestSave", ["bridged-away"], [("value", "*", 3)]),
        links=[[1, 1, 0, 90, 0, "IMAGE"], [5, 90, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "IMAGE"],
               [3, 3, 0, 4, 0, "IMAGE"]],
    )  # fmt: skip
    before = runs_of(drawn)
    two(bridged, graph_of(*(node(id, "ImpactInt", [id]) for id in range(1, 5))))
    let_go(drawn)
    wait_until(drawn, lambda: runs_of(drawn) == before + 2)
    assert drawn.server.result("bridged-away")["t0"].shape[1:3] == (48, 64)
    modes = "() => app.graph.nodes.map((node) => node.mode)"
    assert drawn.page.evaluate(modes) == [0, 0, 0, 0]


# Control bridges


def test_a_control_bridge_goes_on_with_the_same_values(drawn):
    """The second run has the first one's seed, and the seed moves on once."""
    drawn.load(
        graph_of(
            node(1, "ImpactInt", [1], outputs=[("INT", "INT", [1])]),
            node(2, "ImpactWildcardProcessor", ["{a|b|c} {d|e|f} {g|h|i}", "", "populate", 40,
                 "increment", NO_LIST], outputs=[("STRING", "STRING", [2, 5])]),
            node(3, "ImpactControlBridge", [False, "Mute"], [("value", "*", 2)], [
                ("value", "*", [3]),
            ]),
            node(4, "PreviewAny", [], [("source", "*", 3)]),
            node(5, "DetailersTestSave", ["bridge-text"], [("value", "*", 5)]),
            links=[[2, 2, 0, 3, 0, "STRING"], [3, 3, 0, 4, 0, "*"], [5, 2, 0, 5, 0, "STRING"]],
        )
    )  # fmt: skip
    before = runs_of(drawn)
    drawn.queue()
    wait_until(drawn, lambda: runs_of(drawn) == before + 2)
    drawn.page.wait_for_timeout(500)
    history = sorted(drawn.server.get("/history").values(), key=lambda entry: entry["prompt"][0])
    first, second = (entry["prompt"][2]["2"]["inputs"] for entry in history[-2:])
    assert first == second
    cached = [dict(entry["status"]["messages"])["execution_cached"] for entry in history[-2:]]
    assert "2" in cached[1]["nodes"]
    assert drawn.node(2).widgets["seed"] == 41
    assert drawn.node(2).widgets["populated_text"] == first["populated_text"]


# Nobody else's text


def prompt_of(text, seed):
    inputs = {
        "wildcard_text": text, "populated_text": "", "mode": "populate", "seed": seed,
        "Select to add Wildcard": NO_LIST,
    }  # fmt: skip
    return {
        "1": {"class_type": "ImpactWildcardProcessor", "inputs": inputs},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }


@pytest.mark.parametrize("own_client", [False, True])
def test_a_script_overwrites_nothing(editor, own_client):
    """Neither in an open editor that it does not know, nor in one whose client it names."""
    typed = ["{x}", "mine", "populate", 5, "fixed", NO_LIST]
    editor.load(graph_of(node(1, "ImpactWildcardProcessor", typed)))
    content = {"prompt": prompt_of("{from a script}", 3)}
    if own_client:
        content["client_id"] = editor.page.evaluate("() => app.api.clientId")
        content["prompt_id"] = str(uuid.uuid4())
    editor.server.post("/prompt", content)
    wait_until(editor, lambda: idle(editor))
    editor.page.wait_for_timeout(400)
    assert editor.node(1).widgets["populated_text"] == "mine"


@pytest.mark.parametrize(
    ("type", "values", "name"),
    [
        (
            "ImpactWildcardProcessor",
            ["{x}", "mine", "fixed", 5, "fixed", NO_LIST],
            "populated_text",
        ),
        ("ImpactStringSelector", ["mine", False, 0], "strings"),
    ],
)
def test_only_a_node_that_populates_takes_a_text(editor, type, values, name):
    editor.load(graph_of(node(1, type, values)))
    workflow = editor.page.evaluate("() => app.graph.id")
    editor.page.evaluate(
        """(workflow_id) => app.api.dispatchCustomEvent("detailers-populated",
            {workflow_id, prompt_id: "x", node: "1", text: "theirs"})""",
        workflow,
    )
    editor.page.wait_for_timeout(200)
    assert editor.node(1).widgets[name] == "mine"


def test_a_text_from_a_link_is_shown_once_it_is_drawn(drawn):
    seed = node(1, "ImpactInt", [next(NUMBERS)], outputs=[("INT", "INT", [1])])
    old = ["the {cat}", "an older text", "populate", 5, "fixed", NO_LIST]
    processor = node(
        2, "ImpactWildcardProcessor", old, [("seed", "INT", 1)], [("STRING", "STRING", [2])]
    )
    processor["inputs"][0]["widget"] = {"name": "seed"}
    show = node(3, "PreviewAny", [], [("source", "*", 2)])
    drawn.load(
        graph_of(seed, processor, show, links=[[1, 1, 0, 2, 0, "INT"], [2, 2, 0, 3, 0, "STRING"]])
    )
    assert drawn.queue().ok
    assert drawn.node(2).widgets["populated_text"] == "the cat"
