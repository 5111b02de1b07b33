"""Preview Segments in the editor: picture and table, and what a click in either does."""

import itertools
import json

import pytest
from detailers.tests.editor.test_flow import drawn, node
from detailers.tests.editor.test_notes import ENTER, SET
from detailers.tests.editor.test_other_workflow import SHOW, SHOWN_NOW
from detailers.tests.editor.test_subgraphs import shown_outside
from detailers.tests.editor.test_widgets import graph_of

__all__ = ["drawn"]  # a fixture

SIDE = 256
SEEDS = itertools.count(50, 100)  # what the host has in its cache is not sent again
SEGMENTS = [
    {"bbox": [20, 20, 120, 120], "crop": [0, 0, 160, 160], "label": "face"},
    {"bbox": [50, 50, 70, 70], "crop": [40, 40, 80, 80], "label": "eye", "mask": "full"},
    {"bbox": [150, 20, 246, 240], "label": "person"},
    {"bbox": [20, 180, 60, 220], "label": "<b>hand</b>"},
]
ROWS = ".detailers-segments-row"
IN_SIGHT = """(id) => {
    app.canvas.ds.scale = 0.8;
    app.canvas.centerOnNode(app.canvas.graph.getNodeById(id));
    app.canvas.setDirty(true, true);
}"""
# Of each row: its number, whether it is pressed, and its last line.
SHOWN = """() => [...document.querySelectorAll(".detailers-segments-row")].map((row) => [
    Number(row.dataset.number), row.getAttribute("aria-pressed") === "true",
    row.querySelector(".more").textContent,
])"""
GREY = """() => [...document.querySelectorAll(".detailers-segments-picture svg > g.stays")]
    .map((group) => Number(group.dataset.number)).sort()"""
POINT = """([x, y]) => {
    const {left, top, width, height} =
        document.querySelector(".detailers-segments-picture").getBoundingClientRect();
    return [left + x / 256 * width, top + y / 256 * height];
}"""
SAVED = "() => (window.app.rootGraph ?? window.app.graph).serialize()"


def looking(off="", seed=None):
    """Nodes 1 to 4: an image, its segments, the preview and what saves its SEGS; their links."""
    seed = next(SEEDS) if seed is None else seed
    values = [64, True, 512, seed, "fixed", False, "[SEP] a {b}", off, 5, 0, 0]
    nodes = [
        node(1, "EmptyImage", [SIDE, SIDE, 1, 4210752], outputs=[("IMAGE", "IMAGE", [1])]),
        node(2, "DetailersTestSegs", [SIDE, SIDE, json.dumps(SEGMENTS)],
             outputs=[("SEGS", "SEGS", [2])]),
        node(3, "PreviewSegments", values, [("image", "IMAGE", 1), ("segs", "SEGS", 2)],
             [("image", "IMAGE", []), ("table", "STRING", []), ("segs", "SEGS", [3])]),
        node(4, "DetailersTestSave", ["previewed"], [("value", "*", 3)]),
    ]  # fmt: skip
    links = [[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "SEGS"], [3, 3, 2, 4, 0, "SEGS"]]
    return nodes, links, seed


def see(editor, id=3):
    """Bring the node before the eye, once its table is there."""
    editor.page.locator(ROWS).first.wait_for(state="attached")
    editor.page.evaluate(IN_SIGHT, id)
    editor.page.locator(ROWS).first.wait_for(state="visible")
    editor._settle()


def click_at(editor, x, y):
    editor.page.mouse.click(*editor.page.evaluate(POINT, [x, y]))
    editor._settle()


def labels(editor):
    segs = editor.server.result("previewed")
    return [str(segs[f"segs0_{i}_label"]) for i in range(4) if f"segs0_{i}_label" in segs]


def test_a_click_switches_a_segment_off_and_on(drawn):
    nodes, links, seed = looking("2")
    drawn.load(graph_of(*nodes, links=links))
    errors = len(drawn.console)
    assert drawn.queue().ok
    see(drawn)
    page = drawn.page
    large = "skipped: its box of 100x100 is already at least guide_size 64 (force_inpaint is off)"
    rows = [
        [0, True, large], [1, True, f"seed {seed + 1} · wave 0 · a b"],
        [2, False, "switched off"], [3, True, f"seed {seed + 2} · wave 1"],
    ]  # fmt: skip
    assert page.evaluate(SHOWN) == rows
    assert page.evaluate(GREY) == [0, 2]
    assert page.locator(f"{ROWS} .label").nth(3).inner_text() == "<b>hand</b> 1.00"
    runs = len(drawn.server.get("/history"))
    click_at(drawn, 60, 60)  # in the face as well, which is larger
    assert drawn.node(3).widgets["off"] == "1, 2"
    assert page.evaluate(GREY) == [0, 1, 2]
    assert page.evaluate(SHOWN)[1] == [1, False, "switched off"]
    page.locator(ROWS).nth(3).focus()
    page.keyboard.press("Enter")
    page.locator(ROWS).nth(2).focus()
    page.keyboard.press("Space")
    drawn._settle()
    assert drawn.node(3).widgets["off"] == "1, 3"
    assert page.evaluate(SHOWN)[2] == [2, True, "run again to see what it gets"]
    assert page.locator(".detailers-segments-note").inner_text() != ""
    click_at(drawn, 140, 140)  # in no box
    page.evaluate(SET, [3, "off", "0-1"])
    drawn._settle()
    assert page.evaluate(GREY) == [0, 1]
    assert len(drawn.server.get("/history")) == runs  # nothing is queued by itself
    assert drawn.prompt()["3"]["inputs"]["off"] == "0-1"
    drawn.queue()
    assert labels(drawn) == ["person", "<b>hand</b>"]
    assert page.locator(".detailers-segments-note").inner_text() == ""
    saved = page.evaluate(SAVED)
    (own,) = [one for one in saved["nodes"] if one["id"] == 3]
    assert own["widgets_values"][7:] == ["0-1", 5, 0, 0]
    assert [text for kind, text in drawn.console[errors:] if kind == "pageerror"] == []


def test_in_a_subgraph_the_value_is_set_where_it_counts(drawn):
    nodes, links, _ = looking()
    content = shown_outside(nodes, [(3, "off", "STRING")], ["0"], 1, inner_links=links)
    drawn.load(content)
    assert drawn.queue().ok
    drawn.page.evaluate(ENTER, 5)
    drawn._settle()
    see(drawn)
    assert [pressed for _, pressed, _ in drawn.page.evaluate(SHOWN)] == [False, True, True, True]
    drawn.page.locator(ROWS).nth(3).click()
    drawn._settle()
    assert drawn.node(5).widgets["off"] == "0, 3"
    assert drawn.page.evaluate(GREY) == [0, 2, 3]  # 2 is skipped
    drawn.queue()
    assert labels(drawn) == ["eye", "person"]


def test_only_its_own_workflow_shows_a_result_and_does_so_again_later(editor):
    nodes, links, _ = looking("1")
    other, its, _ = looking("3")
    editor.load(graph_of(*other, links=its))
    first = editor.page.evaluate(SHOWN_NOW)
    editor.load(graph_of(*nodes, links=links))
    second = editor.page.evaluate(SHOWN_NOW)
    editor.queue()
    see(editor)
    editor.page.evaluate(SHOW, first)
    editor._settle()
    assert editor.page.evaluate(SHOWN) == []
    editor.page.evaluate(SHOW, second)
    see(editor)
    assert editor.page.evaluate(SHOWN)[1] == [1, False, "switched off"]
    editor.page.locator(ROWS).nth(0).click()
    saved = editor.page.evaluate(SAVED)
    editor.open()  # the page anew: the result is in the server's history
    editor.load(saved)
    see(editor)
    assert [pressed for _, pressed, _ in editor.page.evaluate(SHOWN)] == [False, False, True, True]
    assert editor.node(3).widgets["off"] == "0, 1"


@pytest.mark.once
def test_indices_are_read_and_written_as_in_python(editor):
    texts = ["", "3", "1, 4-6", "6 - 4;1", "0-2, 9", "5 6 7", "1–3"]
    script = """async (texts) => {
        const path = performance.getEntriesByType("resource")
            .map(({name}) => name).find((name) => name.includes("detailers_indices.js"));
        const own = await import(path);
        return texts.map((text) => {
            const ranges = own.readIndices(text);
            const there = own.toggledIndex(ranges, 5);
            return [own.writtenIndices(ranges), own.writtenIndices(there),
                own.writtenIndices(own.toggledIndex(there, 5))];
        });
    }"""
    assert editor.page.evaluate(script, texts) == [
        ["", "5", ""], ["3", "3, 5", "3"], ["1, 4-6", "1, 4, 6", "1, 4-6"],
        ["1, 4-6", "1, 4, 6", "1, 4-6"], ["0-2, 9", "0-2, 5, 9", "0-2, 9"],
        ["5-7", "6, 7", "5-7"], ["1-3", "1-3, 5", "1-3"],
    ]  # fmt: skip
