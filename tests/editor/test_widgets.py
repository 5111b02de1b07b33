"""The pack's own extensions in the editor: lists that add to a text, inputs that grow."""

import pytest
from detailers.tests.editor.test_editor import node

NO_LORA, NO_WILDCARD = (
    "Select the LoRA to add to the text",
    "Select the Wildcard to add to the text",
)

CHOOSE = """([id, name, value]) => {
    const node = window.app.graph.getNodeById(id);
    const widget = node.widgets.find((w) => w.name === name);
    widget.value = value;
    widget.callback(value, window.app.canvas, node);
}"""

CONNECT = """([from, to, name]) => {
    const graph = window.app.graph;
    const [source, target] = [from, to].map((id) => graph.getNodeById(id));
    const slot = target.inputs.findIndex((input) => input.name === name);
    if (slot < 0) throw new Error(`no input ${name}`);
    if (from === 0) target.disconnectInput(slot);
    else source.connect(0, target, slot);
}"""


def graph_of(*nodes, links=()):
    last = {"last_node_id": len(nodes), "last_link_id": len(links)}
    rest = {"groups": [], "config": {}, "extra": {}, "version": 0.4}
    return {"nodes": list(nodes), "links": list(links), **last, **rest}


def choose(editor, name, value):
    editor.page.evaluate(CHOOSE, [1, name, value])


@pytest.fixture
def pipe(editor):
    """A pipe node with the text "a face"."""
    editor.load(graph_of(node(1, "ToDetailerPipe", ["a face", NO_LORA, NO_WILDCARD])))
    return lambda: editor.node(1).widgets


def test_a_chosen_lora_or_list_is_added_to_the_text(editor, pipe):
    choose(editor, "Select to add LoRA", "styles/warm.v2.safetensors")
    choose(editor, "Select to add Wildcard", "__colour__")
    assert pipe() == {
        "wildcard": "a face, <lora:styles/warm.v2>, __colour__",
        "Select to add LoRA": NO_LORA,
        "Select to add Wildcard": NO_WILDCARD,
    }


def test_the_first_entry_adds_nothing(editor, pipe):
    choose(editor, "Select to add LoRA", NO_LORA)
    assert pipe()["wildcard"] == "a face"


@pytest.fixture
def images(editor):
    """Node 1 takes images, nodes 2 to 4 give some; connect(from, name) and the inputs' ends."""
    slots = [("image1", 1), ("image2", None)]
    makes = node(1, "ImpactMakeImageList", [], inputs=slots)
    sources = [
        node(number, "EmptyImage", [8, 8, 1, 0], outputs=[("IMAGE", [1] if number == 2 else [])])
        for number in (2, 3, 4)
    ]
    editor.load(graph_of(makes, *sources, links=[[1, 2, 0, 1, 0, "IMAGE"]]))

    def connect(source, name):
        editor.page.evaluate(CONNECT, [source, 1, name])

    def inputs():
        return {slot.name: [end for end, _ in slot.ends] for slot in editor.node(1).inputs}

    return connect, inputs


def test_inputs_grow_and_shrink_with_the_links(images):
    connect, inputs = images
    assert inputs() == {"image1": ["2"], "image2": []}
    connect(3, "image2")
    connect(4, "image3")
    assert inputs() == {"image1": ["2"], "image2": ["3"], "image3": ["4"], "image4": []}
    connect(0, "image2")  # a gap stays: the others keep their places
    assert inputs() == {"image1": ["2"], "image2": [], "image3": ["4"], "image4": []}
    connect(0, "image3")
    assert inputs() == {"image1": ["2"], "image2": []}


def test_a_file_that_ends_with_a_link_gets_a_free_input(editor):
    makes = node(1, "ImpactMakeMaskBatch", [], inputs=[])
    makes["inputs"] = [{"name": "mask1", "type": "MASK", "link": 1}]
    source = node(2, "SolidMask", [1, 8, 8], outputs=[("MASK", [1])])
    editor.load(graph_of(makes, source, links=[[1, 2, 0, 1, 0, "MASK"]]))
    assert [slot.name for slot in editor.node(1).inputs] == ["mask1", "mask2"]
    assert editor.node(1).inputs[1].type == "MASK"


def test_grown_inputs_run(editor, images):
    connect, _ = images
    connect(3, "image2")
    prompt = editor.prompt()["1"]["inputs"]
    assert prompt == {"image1": ["2", 0], "image2": ["3", 0]}


@pytest.mark.parametrize(
    ("node_id", "values"),
    [
        ("MaskRectArea", {"x": 10, "y": 20, "width": 30, "height": 40, "blur_radius": 5}),
        (
            "MaskRectAreaAdvanced",
            {
                "x": 4, "y": 2, "width": 10, "height": 6, "image_width": 40, "image_height": 20,
                "blur_radius": 3,
            },
        ),
    ],
)  # fmt: skip
def test_rectangles_of_old_files_keep_their_numbers(editor, node_id, values):
    drawing = None  # the picture that the old node drew was a widget too
    editor.load(graph_of(node(1, node_id, [*values.values(), drawing])))
    assert editor.node(1).widgets == values
    assert editor.prompt()["1"]["inputs"] == values
