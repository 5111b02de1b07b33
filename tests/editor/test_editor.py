"""dev/editor.py in the real editor, with stock nodes."""

import pytest
from detailers.dev.server import PromptRefused


def workflow(*more_nodes, upscale="bilinear"):
    """An image of 6x4 pixels, enlarged to 12x8 and shown."""
    nodes = [
        node(1, "EmptyImage", [6, 4, 1, 255], outputs=[("IMAGE", [1])]),
        node(
            2,
            "ImageScale",
            [upscale, 12, 8, "disabled"],
            inputs=[("image", 1)],
            outputs=[("IMAGE", [2])],
        ),
        node(3, "PreviewImage", [], inputs=[("images", 2)]),
        *more_nodes,
    ]
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]
    return {"nodes": nodes, "links": links, "groups": [], "config": {}, "extra": {}, "version": 0.4}


def node(id, type, values, inputs=(), outputs=()):
    return {
        "id": id,
        "type": type,
        "pos": [320 * id, 100],
        "size": [280, 160],
        "flags": {},
        "order": id,
        "mode": 0,
        "inputs": [{"name": name, "type": "IMAGE", "link": link} for name, link in inputs],
        "outputs": [{"name": name, "type": "IMAGE", "links": links} for name, links in outputs],
        "properties": {},
        "widgets_values": values,
    }


def test_widgets_and_links_are_where_the_file_says(editor):
    editor.load(workflow())
    scale = editor.node(2)
    assert scale.known
    assert scale.widgets == {
        "upscale_method": "bilinear",
        "width": 12,
        "height": 8,
        "crop": "disabled",
    }
    assert {slot.name: slot.ends for slot in scale.inputs}["image"] == [("1", 0)]
    assert [(slot.name, slot.ends) for slot in scale.outputs] == [("IMAGE", [("3", 0)])]
    assert editor.missing() == []


def test_missing_nodes_are_told(editor):
    editor.load(workflow(node(4, "NoSuchNode", [])))
    assert editor.missing() == ["NoSuchNode"]


def test_the_prompt_is_what_the_widgets_say(editor):
    editor.load(workflow())
    assert editor.prompt()["2"]["inputs"] == {
        "image": ["1", 0],
        "upscale_method": "bilinear",
        "width": 12,
        "height": 8,
        "crop": "disabled",
    }


def test_the_queue_runs_the_graph(editor):
    editor.load(workflow())
    run = editor.queue()
    assert run.ok, run.error
    assert len(run.outputs["3"]["images"]) == 1


def test_a_refused_graph_is_told(editor):
    editor.load(workflow(upscale="magic"))
    with pytest.raises(PromptRefused, match="magic"):
        editor.queue()


def test_screenshot_is_a_picture(editor, tmp_path):
    editor.load(workflow())
    editor.screenshot(tmp_path / "editor.png")
    assert (tmp_path / "editor.png").read_bytes().startswith(b"\x89PNG")
