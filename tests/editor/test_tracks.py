"""Preview Tracks plays its frames and shows its text in the node."""

from detailers.tests.editor.test_flow import node
from detailers.tests.editor.test_widgets import graph_of

SHOWN = """(id) => {
    const node = window.app.graph.getNodeById(id);
    const text = node.widgets?.find(({name}) => name === "detailers_text")?.element.textContent;
    const [picture] = node.imgs ?? [];
    return [text ?? null, picture?.naturalWidth ?? null];
}"""
TRACK = [0.5, 0, 3.0, 10, "all", 12, 5, "left to right", 0, 25, 51, 0, 0]


def test_preview_tracks_shows_frames_and_text(editor):
    nodes = [
        node(1, "EmptyImage", [96, 64, 3, 0], outputs=[("IMAGE", "IMAGE", [1, 3])]),
        node(2, "SolidMask", [1.0, 96, 64], outputs=[("MASK", "MASK", [2])]),
        node(3, "TrackSegments", TRACK, [("frames", "IMAGE", 1), ("masks", "MASK", 2)],
             [("tracks", "SEGS_TRACKS", [4])]),
        node(4, "PreviewTracks", [48, 1], [("tracks", "SEGS_TRACKS", 4), ("frames", "IMAGE", 3)]),
    ]  # fmt: skip
    links = [
        [1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "MASK"], [3, 1, 0, 4, 1, "IMAGE"],
        [4, 3, 0, 4, 0, "SEGS_TRACKS"],
    ]  # fmt: skip
    editor.load(graph_of(*nodes, links=links))
    errors = len(editor.console)
    done = editor.queue()
    assert done.ok
    editor.page.wait_for_function(f"(id) => ({SHOWN})(id)[0] !== null", arg=4)
    text, _ = editor.page.evaluate(SHOWN, 4)
    assert text.splitlines() == [
        "1 track in 3 frames of 96x64",
        "1 A: frames 0-2 (3), 64-64 px",
    ]
    assert [text for kind, text in editor.console[errors:] if kind == "pageerror"] == []
