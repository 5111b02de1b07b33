"""Choose Variants in the editor: the grid, clicks on it, subgraphs, and a page that is reloaded."""

import itertools
import json

import pytest
from detailers.tests.editor.test_flow import node, runs_of
from detailers.tests.editor.test_notes import ENTER, IN_SIGHT, drawn  # noqa: F401
from detailers.tests.editor.test_subgraphs import shown_outside
from detailers.tests.editor.test_widgets import graph_of
from detailers.tests.host.graphs import box

SEEDS = itertools.count(1)
CELLS = """() => [...document.querySelectorAll(".detailers-variant")]
    .map(({dataset}) => [dataset.choice, dataset.state])"""
# One that is clicked as a user does it: a press and a release of the pointer, and the click.
CLICK = """(choice) => {
    const cell = document.querySelector(`.detailers-variant[data-choice="${choice}"]`);
    for (const type of ["pointerdown", "pointerup"]) {
        cell.dispatchEvent(new PointerEvent(type, {bubbles: true}));
    }
    cell.click();
}"""
LOADED = """() => {
    const pictures = [...document.querySelectorAll(".detailers-variant img")];
    return pictures.length > 0 && pictures.every((one) => one.complete && one.naturalWidth > 0);
}"""
VALUE = """([id, name]) => window.app.graph.getNodeById(id).widgets
    .find((widget) => widget.name === name).value"""
SAVED = """(id) => (window.app.rootGraph ?? window.app.graph).serialize().nodes
    .find((node) => node.id === id).widgets_values"""


def choosing(choices=""):
    """Nodes 1 to 3: two segments with two variants each, and the choice among them."""
    boxes = [box(0, 0, 32, 32), box(32, 0, 64, 32)]
    size = [64, 32]
    nodes = [
        node(1, "DetailersTestImage", [*size, 1, next(SEEDS), 3],
             outputs=[("IMAGE", "IMAGE", [1, 2])]),
        node(2, "DetailersTestSegs", [*size, json.dumps([*boxes, *boxes])],
             [("image", "IMAGE", 1)], [("SEGS", "SEGS", [3])]),
        node(3, "ChooseVariants", ["sharpness", choices, 5],
             [("image", "IMAGE", 2), ("variants", "SEGS", 3)]),
    ]  # fmt: skip
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 1, 0, 3, 0, "IMAGE"], [3, 2, 0, 3, 1, "SEGS"]]
    return nodes, links


def workflow(choices="", **more):
    nodes, links = choosing(choices)
    return graph_of(*nodes, links=links) | more


def cells(editor, count=6):
    editor.page.wait_for_function(f"({CELLS})().length === {count}")
    editor.page.wait_for_function(LOADED)
    return dict(editor.page.evaluate(CELLS))


def states(first, second):
    """Of the original and the two variants of each segment."""
    names = ("original", "0", "1")
    return {
        f"{segment}:{name}": state
        for segment, row in enumerate((first, second))
        for name, state in zip(names, row, strict=True)
    }


NONE, HAND, SCORE = "none", "hand", "score"


def test_a_click_chooses_and_queues_nothing(drawn):  # noqa: F811
    drawn.load(workflow())
    page = drawn.page
    saved = page.evaluate(SAVED, 3)
    drawn.queue()
    page.evaluate(IN_SIGHT, 3)
    assert cells(drawn) == states((NONE, SCORE, NONE), (NONE, SCORE, NONE))
    assert page.evaluate(SAVED, 3) == saved
    runs = runs_of(drawn)
    page.evaluate(CLICK, "1:1")
    assert page.evaluate(VALUE, [3, "choices"]) == "1:1"
    assert dict(page.evaluate(CELLS)) == states((NONE, SCORE, NONE), (NONE, NONE, HAND))
    page.evaluate(CLICK, "0:original")
    page.evaluate(CLICK, "1:0")
    assert page.evaluate(VALUE, [3, "choices"]) == "0:original, 1:0"
    assert runs_of(drawn) == runs
    assert drawn.prompt()["3"]["inputs"]["choices"] == "0:original, 1:0"
    shown = drawn.queue().outputs["3"]["detailers_variants"][0]["segments"]
    assert [(one["chosen"], one["chosen_by"]) for one in shown] == [(None, "hand"), (0, "hand")]
    assert cells(drawn) == states((HAND, NONE, NONE), (NONE, HAND, NONE))
    page.evaluate(CLICK, "0:original")  # takes it back
    page.evaluate(CLICK, "1:0")
    assert page.evaluate(VALUE, [3, "choices"]) == ""
    assert dict(page.evaluate(CELLS)) == states((NONE,) * 3, (NONE,) * 3)


def test_in_a_subgraph_the_click_counts_where_the_value_does(drawn):  # noqa: F811
    nodes, links = choosing()
    content = shown_outside(nodes, [(3, "choices", "STRING")], ["1:1"], inner_links=links)
    drawn.load(content)
    drawn.queue()
    drawn.page.evaluate(ENTER, 5)
    drawn.page.evaluate(IN_SIGHT, 3)
    assert cells(drawn) == states((NONE, SCORE, NONE), (NONE, NONE, HAND))
    drawn.page.evaluate(CLICK, "0:1")
    inside = drawn.page.evaluate("() => (window.app.rootGraph ?? window.app.graph)"
                                 ".getNodeById(5).widgets.map(({value}) => value)")  # fmt: skip
    assert inside == ["0:1, 1:1"]
    (inputs,) = [one["inputs"] for one in drawn.prompt().values() if "choices" in one["inputs"]]
    assert inputs["choices"] == "0:1, 1:1"


@pytest.mark.once
def test_a_page_that_is_opened_anew_shows_the_last_run(editor):
    content = workflow("1:0", id="3f0c2a52-7f3e-4f7e-9f55-aa00bb11cc22")
    editor.load(content)
    editor.queue()
    editor.page.evaluate(IN_SIGHT, 3)
    before = cells(editor)
    editor.open()
    editor.load(content)
    editor.page.evaluate(IN_SIGHT, 3)
    assert cells(editor) == before == states((NONE, SCORE, NONE), (NONE, HAND, NONE))
