"""The example workflows in the real editor."""

import shutil

import pytest
from detailers.dev.demo import DETAILER, EXAMPLE, PHOTO
from detailers.dev.server import ROOT
from detailers.dev.workflow import Workflow

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_loads_with_its_values(editor, file):
    nodes = editor.load(file)
    assert editor.missing() == []
    info = editor.server.object_info()
    ours = [
        node.id
        for node in nodes
        if node.type in info and info[node.type]["category"].startswith("Detailers")
    ]
    assert len(ours) >= 2
    expected, made = Workflow.read(file).prompt(), editor.prompt()
    for id in ours:
        assert expected[id]["inputs"].items() <= made[id]["inputs"].items()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_has_a_picture_and_is_offered(editor, file):
    assert file.stem in editor.server.get("/workflow_templates")["comfyui-detailers"]
    assert file.with_suffix(".jpg").read_bytes().startswith(b"\xff\xd8")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_no_nodes_of_an_example_lie_on_each_other(file):
    """Titles, 30 pixels above the position, included."""
    boxes = [(*node["pos"], *node["size"]) for node in Workflow.read(file).content["nodes"]]
    for i, (x, y, width, height) in enumerate(boxes):
        for x2, y2, width2, height2 in boxes[:i]:
            apart = x + width <= x2 or x2 + width2 <= x
            assert apart or y + height <= y2 - 30 or y2 + height2 <= y - 30


def test_the_first_example_runs_from_the_editor(editor):
    shutil.copy(PHOTO, editor.server.input / PHOTO.name)
    editor.open()  # so that it knows the new file
    workflow = Workflow.read(EXAMPLE)
    workflow["LoadImage", "image"] = PHOTO.name
    workflow.replace(
        "CheckpointLoaderSimple", "DetailersTestModel", "Model", family="image8", prior_std=0.6
    )
    workflow[DETAILER, "steps"] = 2
    workflow[DETAILER, "guide_size"] = 64
    editor.load(workflow.content)
    run = editor.queue()
    assert run.ok, run.error
    assert len(run.outputs[workflow.id("Result")]["images"]) == 1
    assert len(run.outputs[workflow.id("Faces after")]["images"]) == 1
