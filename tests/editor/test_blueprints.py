"""The pack's blueprints in the real editor: they are offered, open, are readable, and run."""

import json

import numpy as np
import pytest
from detailers.dev.blueprints import BLUEPRINTS
from detailers.dev.graph_file import Node, workflow_file
from detailers.dev.server import ROOT
from detailers.tests.onnx_files import columns, onnx_file
from PIL import Image

from .test_subgraphs import CHOOSE_SHOWN

SIDE = 64
FOUND = [32, 32, 40, 40, 0.9]  # middle and size of what the detectors find, and how sure they are
SHOWN = """() => {
    const node = window.app.graph.nodes.find((one) => one.subgraph);
    return node.widgets.map((widget) => [widget.label ?? widget.name, widget.value]);
}"""
# The parts of ComfyUI's models folder in which the blueprints' detectors are.
MODELS = {"Hand Detailer": "bbox", "Person by Person": "segm"}


@pytest.fixture(params=BLUEPRINTS, ids=lambda one: one.name)
def blueprint(request):
    return request.param


def read(blueprint):
    return json.loads((ROOT / "subgraphs" / f"{blueprint.name}.json").read_text(encoding="utf-8"))


def test_a_blueprint_is_offered_and_opens_with_few_readable_widgets(editor, blueprint):
    offered = editor.server.get("/global_subgraphs")
    (id,) = [
        id
        for id, one in offered.items()
        if (one["name"], one["source"]) == (blueprint.name, "custom_node")
    ]
    content = json.loads(editor.server.get(f"/global_subgraphs/{id}")["data"])
    assert content == read(blueprint)
    errors = [said for said in editor.console if said[0] == "pageerror"]
    editor.load(content)
    assert editor.missing() == []
    assert [said for said in editor.console if said[0] == "pageerror"] == errors
    shown = editor.page.evaluate(SHOWN)
    assert [label for label, _ in shown] == [label for label, _, _ in blueprint.shown]
    assert len(shown) <= 10
    (note,) = [node for node in editor.state() if node.type == "MarkdownNote"]
    assert len(next(iter(note.widgets.values()))) > 100
    values = {(node, name): value for (_, node, name), (_, value) in
              zip(blueprint.shown, shown, strict=True)}  # fmt: skip
    for key, node in blueprint.nodes.items():
        for name, value in node.values.items():
            assert values.get((key, name), value) == value


@pytest.fixture(scope="module")
def files(editor):
    """A picture, and the detectors' files; the page is opened anew, so that it knows them."""
    server = editor.server
    Image.fromarray(np.full((SIDE, SIDE, 3), 90, np.uint8)).save(server.input / "grey.png")
    outputs = {
        "bbox": [columns(FOUND, classes=1)],
        "segm": [columns([*FOUND, 1.0], classes=1, masks=1), np.ones((1, 1, 16, 16))],
    }
    for folder in MODELS.values():
        place = server.base / "models" / "ultralytics" / folder
        place.mkdir(parents=True, exist_ok=True)
        onnx_file(place / "middle.onnx", outputs[folder], metadata=[("names", "{0: 'it'}")])
    editor.open()


@pytest.mark.once
def test_a_blueprint_runs_by_its_shown_widgets(editor, files, blueprint):
    """Around it the least that it needs; its detector finds the middle of the picture."""
    server, folder = editor.server, MODELS.get(blueprint.name)
    image = next(iter(blueprint.inputs))
    links = {image: "image", "model": "model", "clip": "model.1", "vae": "model.2"}
    nodes = {
        "image": Node("LoadImage", 0, values={"image": "grey.png"}, upload=True),
        "model": Node("DetailersTestModel", 0, values={"family": "image8"}),
        "blueprint": Node(blueprint.name, 1, links),
        "result": Node("DetailersTestSave", 2, {"value": "blueprint"}, {"name": "result"}),
    }
    content = workflow_file(nodes, [blueprint], server.object_info(), "test")
    content["definitions"] = read(blueprint)["definitions"]
    for node in content["definitions"]["subgraphs"][0]["nodes"]:
        if node["type"] == "DetailersFaceDetectorProvider":  # this picture has no face
            node["type"] = "DetailersTestDetector"
            node["inputs"] = [{"name": "boxes", "type": "STRING", "widget": {"name": "boxes"}}]
            node["widgets_values"] = [json.dumps([[20, 20, 44, 44, "it", 0.9]])]
        if node["type"] == "DetailerForEach":
            node["widgets_values"][0] = 64  # guide_size, which not every blueprint shows
    editor.load(content)
    settings = {
        blueprint.shown[0][0]: "blue",
        "Steps": 2,
        "Redraw (denoise)": 0.8,
        "Draw at (pixels)": 64,
        "Tile size": 64,
    }
    if folder:
        settings |= {f"{blueprint.name.split()[0]} model": f"{folder}/middle.onnx"}
    (holder,) = [one.id for one in editor.state() if one.type == blueprint.id]
    names = dict(zip((label for label, _, _ in blueprint.shown),
                     editor.node(holder).widgets, strict=True))  # fmt: skip
    for label, value in settings.items():
        if label in names:
            editor.page.evaluate(CHOOSE_SHOWN, [int(holder), names[label], value])
    made = editor.prompt().values()
    (detailer,) = [node["inputs"] for node in made if "denoise" in node["inputs"]]
    assert (detailer["steps"], detailer["denoise"]) == (2, 0.8)
    run = editor.queue()
    assert run.ok, run.error
    result = server.result("result")["t0"][0]
    larger = 2 if blueprint.name == "Upscale by Tiles" else 1
    assert result.shape == (SIDE * larger, SIDE * larger, 3)
    assert np.abs(result - 90 / 255).max() > 0.001
