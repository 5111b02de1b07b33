"""The example workflows in the real editor."""

import pytest
from detailers.dev.demo import DETAILER, EXAMPLE, PHOTO
from detailers.dev.server import ROOT
from detailers.dev.workflow import Workflow
from detailers.tests.editor.test_flow import VUE

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))


ALL_SHOWN = """() => window.app.graph.nodes
    .filter((node) => node.showAdvanced).map((node) => node.title)"""


@pytest.fixture(scope="module")
def own_types(editor):
    """The types of the pack's nodes."""
    info = editor.server.object_info()
    return {type for type, node in info.items() if node["category"].startswith("Detailers")}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_loads_with_its_values_and_rare_ones_folded(editor, own_types, file):
    """What an example sets is what people change."""
    nodes = editor.load(file)
    assert editor.missing() == []
    ours = [node.id for node in nodes if node.type in own_types]
    assert len(ours) >= 2
    expected, made = Workflow.read(file).prompt(), editor.prompt()
    for id in ours:
        assert expected[id]["inputs"].items() <= made[id]["inputs"].items()
    assert editor.page.evaluate(ALL_SHOWN) == []


@pytest.mark.once
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_has_a_picture_and_is_offered(editor, file):
    assert file.stem in editor.server.get("/workflow_templates")["comfyui-detailers"]
    assert file.with_suffix(".jpg").read_bytes().startswith(b"\xff\xd8")


# Place and size of each node as it is drawn, its title included: [name, x, y, width, height].
BOXES = """(isElement) => window.app.graph.nodes.map((node) => {
    const element = document.querySelector(`[data-node-id="${node.id}"]`);
    const title = window.LiteGraph.NODE_TITLE_HEIGHT;
    const [width, height] = isElement
        ? [element.offsetWidth, element.offsetHeight] : [node.size[0], node.size[1] + title];
    return [node.title, node.pos[0], node.pos[1] - title, width, height];
})"""
SHOW_ALL = "() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView')"


@pytest.fixture(params=["canvas", "vue"])
def boxes(editor, request):
    """Call it with a file: the nodes' boxes as this renderer draws them."""
    is_element = request.param == "vue"
    editor.page.evaluate(VUE, is_element)

    def load(file):
        editor.load(file)
        editor.page.evaluate(SHOW_ALL)
        editor.page.wait_for_timeout(600)  # sizes settle over some frames
        return editor.page.evaluate(BOXES, is_element)

    yield load
    editor.page.evaluate(VUE, False)


@pytest.mark.once
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_no_nodes_of_an_example_lie_on_each_other(boxes, file):
    found = boxes(file)
    assert len(found) == len(Workflow.read(file).content["nodes"])
    for i, (name, x, y, width, height) in enumerate(found):
        for name2, x2, y2, width2, height2 in found[:i]:
            apart = x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y
            assert apart, f"{name2} and {name}"


def test_the_first_example_runs_from_the_editor(editor):
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
