"""Preview Tracks in the editor: a moving picture in the node, also when it is loaded again."""

import json
import re

import numpy as np
import pytest
from detailers.tests.editor.test_flow import drawn, node
from detailers.tests.editor.test_notes import HEIGHT, IN_SIGHT, SAVED
from detailers.tests.editor.test_widgets import graph_of
from PIL import Image

__all__ = ["drawn"]  # a fixture

FRAMES, WIDTH, HEIGHT_OF_FRAME = 8, 160, 96
MISSED = (3, 4)  # frames without a mask
FOLLOWING = [0.5, 0, 2.0, 1, "all", 12, 3, "left to right", 0, 25, 51, 0, 0]
# The pictures that a node shows, once they are loaded: [left, top, width, height] on the page.
PICTURES = """(id) => {
    const widgets = app.canvas.graph.getNodeById(id)?.widgets ?? [];
    const parts = LiteGraph.vueNodesMode
        ? [...document.querySelectorAll(`[data-node-id="${id}"]`)]
        : widgets.map(({element}) => element).filter((element) => element?.isConnected);
    return parts.flatMap((part) => [...part.querySelectorAll("img")])
        .filter((one) => one.complete && one.naturalWidth > 1)
        .map((one) => one.getBoundingClientRect())
        .filter(({width, height}) => width > 0 && height > 0)
        .map(({left, top, width, height}) => [left, top, width, height]);
}"""
PLAYERS = """(id) => [...document.querySelectorAll(`[data-node-id="${id}"]`)]
    .reduce((sum, one) => sum + one.querySelectorAll("video").length
        + (one.textContent.match(/failed|error/gi) ?? []).length, 0)"""
ENDED = """([id, output]) => app.api.dispatchCustomEvent("executed",
    {node: String(id), display_node: String(id), prompt_id: "x", output})"""


def following():
    """Nodes 1 to 5: a clip, masks of its frames, tracks, their preview and its frames."""
    squares = [
        [0, 0, 0, 0, "r"] if i in MISSED else [8 + 6 * i, 12, 40 + 6 * i, 52, "r"]
        for i in range(FRAMES)
    ]
    size = [WIDTH, HEIGHT_OF_FRAME]
    nodes = [
        node(1, "DetailersTestImage", [*size, FRAMES, 1, 3], outputs=[("IMAGE", "IMAGE", [1, 4])]),
        node(2, "DetailersTestMask", [*size, json.dumps(squares), True],
             outputs=[("MASK", "MASK", [2])]),
        node(3, "TrackSegments", FOLLOWING, [("frames", "IMAGE", 1), ("masks", "MASK", 2)],
             [("tracks", "SEGS_TRACKS", [3])]),
        node(4, "PreviewTracks", [768, 1], [("tracks", "SEGS_TRACKS", 3), ("frames", "IMAGE", 4)],
             [("image", "IMAGE", [5]), ("text", "STRING", [])]),
        node(5, "PreviewImage", [], [("images", "IMAGE", 5)]),
    ]  # fmt: skip
    links = [[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "MASK"], [3, 3, 0, 4, 0, "SEGS_TRACKS"],
             [4, 1, 0, 4, 1, "IMAGE"], [5, 4, 0, 5, 0, "IMAGE"]]  # fmt: skip
    return graph_of(*nodes, links=links)


def picture_of(editor, id):
    """Where on the page the one picture of a node is, as the editor draws it at its own size."""
    editor.page.evaluate(IN_SIGHT, id)
    editor.page.wait_for_function(f"(id) => ({PICTURES})(id).length === 1", arg=id)
    editor._settle()
    (place,) = editor.page.evaluate(PICTURES, id)
    return place


def moves(editor, place):
    """Whether the page shows at least three different pictures at a place, sooner or later."""
    left, top, width, height = place
    clip = {"x": left, "y": top, "width": width, "height": height}
    seen = set()
    for _ in range(60):
        seen.add(editor.page.screenshot(clip=clip))
        if len(seen) == 3:
            return True
        editor.page.wait_for_timeout(50)
    return False


def test_tracks_move_in_the_node_and_do_so_again_later(drawn):
    errors = len(drawn.console)
    drawn.load(following())
    page = drawn.page
    done = drawn.queue()
    assert done.ok, done.error
    assert len(done.outputs["5"]["images"]) == FRAMES
    place = picture_of(drawn, 4)
    assert place[2] > 200 and place[3] > 100  # large enough to read numbers
    assert moves(drawn, place)
    assert page.evaluate(PLAYERS, 4) == 0
    first, second = page.locator(".detailers-text").inner_text().splitlines()
    assert first == f"1 track in {FRAMES} frames of {WIDTH}x{HEIGHT_OF_FRAME}"
    told = rf"1 A: frames 0-{FRAMES - 1} \({FRAMES}\), \d\d-\d\d px, {len(MISSED)} bridged"
    assert re.fullmatch(told, second)
    height = page.evaluate(HEIGHT, 4)
    again = {**following(), "nodes": json.loads(page.evaluate(SAVED))}
    drawn.load(again)
    assert page.evaluate(PICTURES, 4) == []
    drawn.queue()  # all is in the host's cache
    place = picture_of(drawn, 4)
    assert place[3] > 100
    assert moves(drawn, place)
    assert page.evaluate(PLAYERS, 4) == 0
    assert abs(page.evaluate(HEIGHT, 4) - height) <= 2
    assert [text for kind, text in drawn.console[errors:] if kind == "pageerror"] == []


@pytest.mark.parametrize("drawn", ["vue"], indirect=True)
@pytest.mark.parametrize("type", ["PreviewTracks", "LabelTracksByPerson"])
def test_what_a_node_with_a_video_shows_is_no_video(drawn, type):
    """Nodes 2.0 takes what such nodes show for a video, if nothing tells it otherwise."""
    pixels = np.full((40, 64, 3), 90, np.uint8)
    Image.fromarray(pixels).save(drawn.server.input / "people.png")
    drawn.load(graph_of(node(4, type, inputs=[("tracks", "SEGS_TRACKS", None)])))
    shown = {"images": [{"filename": "people.png", "subfolder": "", "type": "input"}]}
    drawn.page.evaluate(ENDED, [4, shown])
    picture_of(drawn, 4)
    assert drawn.page.evaluate(PLAYERS, 4) == 0
