"""Detailers show the crops on their way and each before and after: both ways of drawing, subgraphs,
a page that is opened anew, and not at all where the setting is off."""

import itertools
import json

import pytest
from detailers.tests.editor.test_flow import drawn, node
from detailers.tests.editor.test_notes import HEIGHT, IN_SIGHT
from detailers.tests.editor.test_other_workflow import wait_until
from detailers.tests.editor.test_subgraphs import shown_outside
from detailers.tests.editor.test_widgets import graph_of
from detailers.tests.host.graphs import box

__all__ = ["drawn"]  # a fixture

SEEDS = itertools.count(7000)  # another picture is not in the host's cache
SETTING = "Detailers.View"
WORKFLOW = "5e6f7a8b-0000-4000-8000-00000000{:04}"
SET_SETTING = "async ([name, on]) => { await window.app.extensionManager.setting.set(name, on); }"
WATCH = """() => {
    window.viewTexts = [];
    window.viewTold = [];
    if (window.viewWatched) return;
    window.viewWatched = true;
    new MutationObserver(() => {
        const text = document.querySelector(".detailers-view-head > span")?.textContent;
        if (text && window.viewTexts.at(-1) !== text) window.viewTexts.push(text);
    }).observe(document.body, {childList: true, subtree: true, characterData: true});
    window.app.api.addEventListener("detailers-view", ({detail}) => window.viewTold.push(detail));
}"""
SHOWN = """(id) => {
    const graphs = [window.app.rootGraph ?? window.app.graph];
    for (const graph of graphs) {
        for (const node of graph.nodes) {
            if (node.subgraph) graphs.push(node.subgraph);
            if (String(node.id) !== String(id)) continue;
            const element = node.widgets?.find(({name}) => name === "detailers_view")?.element;
            if (!element) return null;
            return {
                head: element.querySelector("span").textContent,
                pairs: [...element.querySelectorAll("figure")].map((own) => ({
                    lines: [...own.querySelectorAll("figcaption")].map((line) => line.textContent),
                    pictures: own.querySelectorAll("img").length,
                })),
            };
        }
    }
    return null;
}"""
LOADED = """() => {
    const pictures = [...document.querySelectorAll(".detailers-view img")];
    return pictures.length > 0 && pictures.every((own) => own.complete && own.naturalWidth > 0);
}"""
PRESS = """(text) => [...document.querySelectorAll(".detailers-view button")]
    .find((own) => own.textContent.startsWith(text)).click()"""
COMPARED = """() => {
    const own = document.querySelector(".detailers-view-compare");
    if (!own) return null;
    const slider = own.querySelector("input");
    slider.value = 25;
    slider.dispatchEvent(new Event("input"));
    const {width, height} = own.getBoundingClientRect();
    return [own.querySelectorAll("img").length, own.querySelectorAll("img")[1].style.clipPath,
            Math.round(100 * width / height) / 100];
}"""
SAVED = """() => JSON.stringify((window.app.rootGraph ?? window.app.graph).serialize().nodes
    .sort((one, other) => one.id - other.id))"""  # a click brings a node to the front
RESEED = """(seed) => {
    const widget = window.app.graph.getNodeById(2).widgets.find(({name}) => name === "seed");
    widget.value = seed;
}"""


def detailing():
    """Nodes 1 to 7, of which 6 details three segments one by one, and their links."""
    seed = next(SEEDS)
    segs = json.dumps([box(8, 8, 40, 40), box(48, 8, 80, 40), box(88, 8, 120, 40)])
    links = [
        [1, 1, 0, 6, 2, "MODEL"], [2, 1, 1, 6, 3, "CLIP"], [3, 1, 2, 6, 4, "VAE"],
        [4, 1, 1, 4, 0, "CLIP"], [5, 2, 0, 6, 0, "IMAGE"], [6, 3, 0, 6, 1, "SEGS"],
        [7, 4, 0, 6, 5, "CONDITIONING"], [8, 4, 0, 6, 6, "CONDITIONING"],
        [9, 6, 0, 7, 0, "IMAGE"],
    ]  # fmt: skip
    inputs = [
        ("image", "IMAGE", 5), ("segs", "SEGS", 6), ("model", "MODEL", 1), ("clip", "CLIP", 2),
        ("vae", "VAE", 3), ("positive", "CONDITIONING", 7), ("negative", "CONDITIONING", 8),
    ]  # fmt: skip
    widgets = [
        64, True, 256, 5, "fixed", 4, 1.0, "euler", "karras", 1.0, 0, True, True, "", 1, False, 0,
        False, False, 1, 0, 1,
    ]  # fmt: skip
    nodes = [
        node(1, "DetailersTestModel", ["flat8", 0.0],
             outputs=[("MODEL", "MODEL", [1]), ("CLIP", "CLIP", [2, 4]), ("VAE", "VAE", [3])]),
        node(2, "DetailersTestImage", [128, 64, 1, seed, "fixed", 3],
             outputs=[("IMAGE", "IMAGE", [5])]),
        node(3, "DetailersTestSegs", [128, 64, segs], outputs=[("SEGS", "SEGS", [6])]),
        node(4, "CLIPTextEncode", ["red"], [("clip", "CLIP", 4)],
             [("CONDITIONING", "CONDITIONING", [7, 8])]),
        node(6, "DetailerForEach", widgets, inputs,
             [("IMAGE", "IMAGE", [9]), ("report", "STRING", []), ("variants", "SEGS", [])]),
        node(7, "DetailersTestSave", [f"view{seed}"], [("value", "*", 9)]),
    ]  # fmt: skip
    return nodes, links, seed


def workflow():
    nodes, links, seed = detailing()
    return {"id": WORKFLOW.format(seed % 10000)} | graph_of(*nodes, links=links)


def shown(editor, id=6):
    return editor.page.evaluate(SHOWN, id)


def until_shown(editor, pairs, id=6):
    """What the node shows, once that are so many pairs."""
    wait_until(editor, lambda: len((shown(editor, id) or {"pairs": []})["pairs"]) == pairs)
    return shown(editor, id)


def test_a_run_is_shown_on_its_way_and_then_each_segment(drawn):
    page = drawn.page
    drawn.load(workflow())
    page.evaluate(IN_SIGHT, 6)
    drawn._settle()
    saved, prompt, height = page.evaluate(SAVED), drawn.prompt(), page.evaluate(HEIGHT, 6)
    errors = len(drawn.console)
    page.evaluate(WATCH)
    assert drawn.queue().ok
    found = until_shown(drawn, 3)
    assert found["head"].startswith("3 segments · ")
    first = found["pairs"][0]
    assert first["lines"][0] == "0 · A · 64×64"
    assert first["lines"][1].endswith(" s")
    assert [pair["pictures"] for pair in found["pairs"]] == [2, 2, 2]
    texts = page.evaluate("() => window.viewTexts")
    for place in (1, 2, 3):
        assert any(text.startswith(f"{place} of 3") for text in texts), texts
    wait_until(drawn, lambda: page.evaluate(LOADED))
    # The file and the prompt are what they were, and the node is but a little higher.
    assert page.evaluate(SAVED) == saved
    assert drawn.prompt() == prompt
    higher = page.evaluate(HEIGHT, 6)
    assert height < higher < height + 200
    # The whole picture under a slider.
    page.evaluate(PRESS, "Picture")
    wait_until(drawn, lambda: page.evaluate(LOADED))
    pictures, clip, aspect = page.evaluate(COMPARED)
    assert (pictures, clip) == (2, "inset(0px 75% 0px 0px)")
    assert aspect == pytest.approx(2.0, abs=0.1)
    assert page.evaluate(SAVED) == saved
    page.evaluate(PRESS, "Segments")
    assert len(shown(drawn)["pairs"]) == 3
    drawn._settle()
    assert page.evaluate(HEIGHT, 6) == pytest.approx(higher, abs=1)
    assert [text for kind, text in drawn.console[errors:] if kind == "pageerror"] == []


def test_a_detailer_in_a_subgraph(drawn):
    nodes, links, _ = detailing()
    for own in nodes:
        own["outputs"] = [{**slot, "links": slot["links"] or []} for slot in own["outputs"]]
    drawn.load(shown_outside(nodes, [(4, "text", "STRING")], ["red"], inner_links=links))
    saved = drawn.page.evaluate(SAVED)
    drawn.page.evaluate(WATCH)
    assert drawn.queue().ok
    assert until_shown(drawn, 3)["head"].startswith("3 segments · ")
    told = drawn.page.evaluate("() => window.viewTold")
    assert {message["node"] for message in told} == {"5:6"}
    assert drawn.page.evaluate(SAVED) == saved


@pytest.mark.once
def test_a_page_that_is_opened_anew_shows_it_again_and_a_setting_shows_nothing(editor):
    page = editor.page
    editor.load(workflow())
    assert editor.queue().ok
    before = until_shown(editor, 3)
    content = page.evaluate("() => window.app.graph.serialize()")
    editor.open()
    editor.load(content)
    assert until_shown(editor, 3) == before
    page.evaluate(SET_SETTING, [SETTING, False])
    try:
        assert shown(editor) is None
        page.evaluate(WATCH)
        page.evaluate(RESEED, next(SEEDS))
        run = editor.queue()
        assert run.ok
        assert "detailers_view" not in run.outputs.get("6", {})
        assert page.evaluate("() => window.viewTold") == []
        assert shown(editor) is None
    finally:
        page.evaluate(SET_SETTING, [SETTING, True])
