"""Nodes that act on the editor, and masks from its mask editor, with both renderers."""

import json

import pytest
from detailers.tests.editor.test_widgets import CONNECT, graph_of

VUE = "(on) => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
MODES = "() => Object.fromEntries(window.app.graph.nodes.map((node) => [node.id, node.mode]))"
OPEN_MASK_EDITOR = """(id) => {
    window.app.canvas.selectNode(window.app.graph.getNodeById(id));
    window.app.extensionManager.command.execute("Comfy.MaskEditor.OpenMaskEditor");
}"""


def node(id, type, values=(), inputs=(), outputs=(), mode=0):
    """A node of a workflow file; inputs are (name, type, link), outputs (name, type, links)."""
    return {
        "id": id,
        "type": type,
        "pos": [300 * (id % 5), 260 * (id // 5)],
        "size": [260, 200],
        "flags": {},
        "order": id,
        "mode": mode,
        "inputs": [dict(zip(("name", "type", "link"), slot, strict=True)) for slot in inputs],
        "outputs": [dict(zip(("name", "type", "links"), slot, strict=True)) for slot in outputs],
        "properties": {},
        "widgets_values": list(values),
    }


@pytest.fixture(params=["canvas", "vue"])
def drawn(editor, request):
    """The editor, with nodes drawn on the canvas and as elements of the page."""
    editor.page.evaluate(VUE, request.param == "vue")
    yield editor
    editor.page.evaluate(VUE, False)


def after_all_runs(editor, condition):
    """Wait for what runs that the editor has queued by itself bring about."""
    editor.page.wait_for_function(condition, timeout=20_000)


def runs_of(editor):
    """How many prompts have ended."""
    return len(editor.server.get("/history"))


def saved(editor, name):
    return json.loads(str(editor.server.result(name)["s0"]))


# Masks


def open_mask_editor(editor, id):
    """As a user does: by the command, or where nodes are elements by the button on the picture."""
    page = editor.page
    picture = page.locator(f"[data-node-id='{id}'] img").first
    if picture.count():
        picture.hover(force=True)
        page.get_by_role("button", name="Edit or mask image").click()
    else:
        page.evaluate(OPEN_MASK_EDITOR, id)
    dialog = page.locator("[role=dialog]:has(canvas)")
    dialog.locator("canvas").first.wait_for()
    page.wait_for_timeout(1000)  # the pictures load
    return dialog


def test_a_mask_is_painted_in_the_mask_editor(drawn):
    image = node(1, "EmptyImage", [64, 48, 1, 255], outputs=[("IMAGE", "IMAGE", [1])])
    bridge = node(
        2, "PreviewBridge", ["#placeholder", True, "never"], [("images", "IMAGE", 1)],
        [("IMAGE", "IMAGE", []), ("MASK", "MASK", [2])],
    )  # fmt: skip
    save = node(3, "DetailersTestSave", ["painted"], [("value", "*", 2)])
    drawn.load(
        graph_of(image, bridge, save, links=[[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 1, 3, 0, "MASK"]])
    )
    assert drawn.node(2).widgets["image"] == ""
    field = drawn.page.locator("[data-node-id='2'] input").first
    assert not field.count() or field.input_value() == ""  # what is seen, where it is an element
    assert set(drawn.queue().outputs) == {"2"}  # blocked: nothing is painted yet
    page = drawn.page
    dialog = open_mask_editor(drawn, 2)
    box = dialog.locator("canvas").first.bounding_box()
    left, middle = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    page.mouse.move(left, middle)
    page.mouse.down()
    page.mouse.move(left + box["width"] / 8, middle, steps=5)
    page.mouse.up()
    dialog.get_by_role("button", name="Save").click()
    dialog.wait_for(state="detached")
    file = drawn.node(2).widgets["image"]
    assert "clipspace-painted-masked" in file
    assert drawn.queue().ok
    mask = drawn.server.result("painted")["t0"]
    assert mask.shape == (1, 48, 64)
    assert mask[0, 24, 20] > 0.9
    assert mask[0, :, 48:].sum() == 0
    drawn.page.evaluate("() => { window.app.graph.getNodeById(1).widgets[3].value = 255 * 256; }")
    assert set(drawn.queue().outputs) == {"2"}  # another picture: blocked again
    assert drawn.node(2).widgets["image"] == ""


def test_what_old_files_name_is_kept(editor):
    old = {"filename": "m.png", "subfolder": "clipspace", "type": "input", "image_hash": 1}
    bridges = [node(1, "PreviewBridge", [old]), node(2, "PreviewBridgeLatent", ["$2-0", "TAEF1"])]
    editor.load(graph_of(*bridges))
    assert editor.node(1).widgets["image"] == "clipspace/m.png [input]"
    widgets = {"image": "$2-0", "preview_method": "TAEF1", "block": False, "restore_mask": "never"}
    assert editor.node(2).widgets == widgets


# Queue, mute, set


def test_a_countdown_queues_until_it_is_done(drawn):
    before = runs_of(drawn)
    count = node(1, "ImpactQueueTriggerCountdown", [0, 3, True], outputs=[
        ("signal_opt", "*", []), ("count", "INT", [1]), ("total", "INT", []),
    ])  # fmt: skip
    save = node(2, "DetailersTestSave", ["count"], [("value", "*", 1)])
    drawn.load(graph_of(count, save, links=[[1, 1, 1, 2, 0, "INT"]]))
    counted = "() => window.app.graph.getNodeById(1).widgets[0].value"
    drawn.queue()
    after_all_runs(drawn, f"() => ({counted})() === 0")
    drawn.page.wait_for_timeout(500)
    assert runs_of(drawn) - before == 3
    assert saved(drawn, "count") == 2


def runs_at_rest(editor):
    """How many prompts have run once none comes any more, for a second and with none waiting."""
    for _ in range(60):
        before = runs_of(editor)
        editor.page.wait_for_timeout(1000)
        queue = editor.server.get("/queue")
        if runs_of(editor) == before and not any(queue.values()):
            return before
    pytest.fail("prompts go on without end")


def test_a_trigger_queues_until_it_is_switched_off(drawn):
    before = runs_of(drawn)
    trigger = node(1, "ImpactQueueTrigger", [True], [("signal", "*", 1)])
    signal = node(2, "ImpactInt", [1], outputs=[("INT", "INT", [1])])
    drawn.load(graph_of(trigger, signal, links=[[1, 2, 0, 1, 0, "INT"]]))
    drawn.queue()
    while runs_of(drawn) < before + 2:
        drawn.page.wait_for_timeout(20)
    drawn.page.evaluate("() => { window.app.graph.getNodeById(1).widgets[0].value = false; }")
    ended = runs_at_rest(drawn)
    assert drawn.queue().ok
    assert runs_at_rest(drawn) == ended + 1


def test_nodes_are_muted_and_set(drawn):
    signal = node(1, "ImpactInt", [5], outputs=[("INT", "INT", [1, 3])])
    mutes = node(2, "ImpactNodeSetMuteState", [4, False], [("signal", "*", 1)], [
        ("signal_opt", "*", [2]),
    ])  # fmt: skip
    sets = node(3, "ImpactSetWidgetValue", [5, "value"], [
        ("signal", "*", 2), ("boolean_value", "BOOLEAN", None), ("int_value", "INT", 3),
    ])  # fmt: skip
    muted = node(4, "ImpactInt", [3])
    target = node(5, "ImpactInt", [1])
    remote = node(6, "ImpactRemoteBoolean", [7, "value", True])
    switched = node(7, "ImpactBoolean", [False], outputs=[("BOOLEAN", "BOOLEAN", [4])])
    save = node(8, "DetailersTestSave", ["switched"], [("value", "*", 4)])
    links = [
        [1, 1, 0, 2, 0, "INT"],
        [2, 2, 0, 3, 0, "*"],
        [3, 1, 0, 3, 2, "INT"],
        [4, 7, 0, 8, 0, "BOOLEAN"],
    ]
    drawn.load(graph_of(signal, mutes, sets, muted, target, remote, switched, save, links=links))
    assert drawn.queue().ok
    assert drawn.page.evaluate(MODES)["4"] == 2
    assert drawn.node(5).widgets == {"value": 5}
    assert saved(drawn, "switched") is True
    assert drawn.node(7).widgets == {"value": True}


def test_a_control_bridge_bypasses_the_next_node(drawn):
    """Node 3 halves the image: bypassed, the whole one arrives."""
    before = runs_of(drawn)
    image = node(1, "EmptyImage", [64, 48, 1, 255], outputs=[("IMAGE", "IMAGE", [1])])
    bridge = node(2, "ImpactControlBridge", [False, "Bypass"], [("value", "*", 1)], [
        ("value", "*", [2]),
    ])  # fmt: skip
    half = node(3, "ImageScaleBy", ["bilinear", 0.5], [("image", "IMAGE", 2)], [
        ("IMAGE", "IMAGE", [3]),
    ])  # fmt: skip
    save = node(4, "DetailersTestSave", ["bridged"], [("value", "*", 3)])
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"], [3, 3, 0, 4, 0, "IMAGE"]]
    drawn.load(graph_of(image, bridge, half, save, links=links))

    def shape_after(mode, runs):
        drawn.queue()
        after_all_runs(drawn, f"() => window.app.graph.getNodeById(3).mode === {mode}")
        while runs_of(drawn) < before + runs:
            drawn.page.wait_for_timeout(100)
        drawn.page.wait_for_timeout(500)
        assert runs_of(drawn) == before + runs
        return drawn.server.result("bridged")["t0"].shape[1:3]

    assert shape_after(mode=4, runs=2) == (48, 64)
    assert shape_after(mode=4, runs=3) == (48, 64)
    drawn.page.evaluate("() => { window.app.graph.getNodeById(2).widgets[0].value = true; }")
    assert shape_after(mode=0, runs=5) == (24, 32)


def test_queueing_by_itself_is_ended(editor):
    cond = node(1, "ImpactBoolean", [True], outputs=[("BOOLEAN", "BOOLEAN", [1])])
    stop = node(2, "ImpactConditionalStopIteration", [], [("cond", "BOOLEAN", 1)])
    editor.load(graph_of(cond, stop, links=[[1, 1, 0, 2, 0, "BOOLEAN"]]))
    mode = "window.app.extensionManager.queueSettings.mode"
    editor.page.evaluate(f"() => {{ {mode} = 'change'; }}")
    editor.queue()
    assert editor.page.evaluate(f"() => {mode}") == "disabled"


def in_subgraph(inner, *outer, links=()):
    """A workflow with subgraph node 5 around the inner nodes."""
    holder = node(5, "d0d0d0d0-0000-4000-8000-000000000001")
    ends = {"bounding": [0, 0, 120, 60]}
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    subgraph = {
        "id": holder["type"], "version": 1, "revision": 0, "config": {}, "name": "inside",
        "state": {"lastGroupId": 0, "lastNodeId": 9, "lastLinkId": 9, "lastRerouteId": 0},
        "inputNode": {"id": -10, **ends}, "outputNode": {"id": -20, **ends},
        "inputs": [], "outputs": [], "widgets": [], "nodes": list(inner), "groups": [],
        "links": [dict(zip(keys, link, strict=True)) for link in links],
    }  # fmt: skip
    return graph_of(*outer, holder) | {"version": 1, "definitions": {"subgraphs": [subgraph]}}


def inside(editor, type):
    """The node of a type within the subgraph node."""
    (found,) = [node for node in editor.state() if ":" in node.id and node.type == type]
    return found


def test_a_countdown_in_a_subgraph(drawn):
    before = runs_of(drawn)
    inner = node(1, "ImpactQueueTriggerCountdown", [0, 2, True])
    drawn.load(in_subgraph([inner], node(1, "ImpactInt", [7])))
    drawn.queue()
    while runs_of(drawn) < before + 2:
        drawn.page.wait_for_timeout(100)
    drawn.page.wait_for_timeout(500)
    assert runs_of(drawn) == before + 2
    assert inside(drawn, "ImpactQueueTriggerCountdown").widgets["count"] == 0
    assert drawn.node(1).widgets == {"value": 7}


def test_nodes_are_muted_and_set_in_a_subgraph(drawn):
    """Numbers of nodes mean those of the same subgraph, then those around it."""
    inner = [
        node(1, "ImpactInt", [5], outputs=[("INT", "INT", [1, 3])]),
        node(2, "ImpactBoolean", [False]),
        node(3, "ImpactNodeSetMuteState", [2, False], [("signal", "*", 1)], [
            ("signal_opt", "*", [2]),
        ]),
        node(4, "ImpactSetWidgetValue", [9, "value"], [
            ("signal", "*", 2), ("boolean_value", "BOOLEAN", None), ("int_value", "INT", 3),
        ]),
    ]  # fmt: skip
    links = [[1, 1, 0, 3, 0, "INT"], [2, 3, 0, 4, 0, "*"], [3, 1, 0, 4, 2, "INT"]]
    workflow = in_subgraph(inner, node(2, "ImpactInt", [1]), node(9, "ImpactInt", [1]), links=links)
    drawn.load(workflow)
    setter = inside(drawn, "ImpactNodeSetMuteState").id.split(":")[0]
    target = inside(drawn, "ImpactBoolean").id.split(":")[1]
    choose = """([path, value]) => {
        const [outer, type] = path;
        const graph = window.app.graph.getNodeById(outer).subgraph;
        const node = graph.nodes.find((node) => node.type === type);
        node.widgets[0].value = value;
    }"""
    drawn.page.evaluate(choose, [[int(setter), "ImpactNodeSetMuteState"], int(target)])
    assert drawn.queue().ok
    assert drawn.page.evaluate(MODES)["2"] == 0
    modes = f"(id) => window.app.graph.getNodeById({setter}).subgraph.getNodeById(id).mode"
    assert drawn.page.evaluate(modes, int(target)) == 2
    assert drawn.node(9).widgets == {"value": 5}


def test_a_mask_bridge_in_a_subgraph(editor):
    """It blocks, and forgets its mask with another picture, as it does outside."""
    inner = [
        node(1, "EmptyImage", [64, 48, 1, 255], outputs=[("IMAGE", "IMAGE", [1])]),
        node(2, "PreviewBridge", ["gone.png [temp]", True, "never"], [("images", "IMAGE", 1)], [
            ("IMAGE", "IMAGE", []), ("MASK", "MASK", [2]),
        ]),
        node(3, "DetailersTestSave", ["inside"], [("value", "*", 2)]),
    ]  # fmt: skip
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 1, 3, 0, "MASK"]]
    editor.load(in_subgraph(inner, links=links))
    bridge = inside(editor, "PreviewBridge")
    assert bridge.widgets["image"] == "gone.png [temp]"
    run = editor.queue()
    assert run.ok
    assert set(run.outputs) == {bridge.id}
    assert inside(editor, "PreviewBridge").widgets["image"] == ""


# Sent and received


def test_values_and_images_arrive(editor):
    value = node(1, "ImpactFloat", [2.0], outputs=[("FLOAT", "FLOAT", [1])])
    sender = node(2, "ImpactValueSender", [6], [("value", "*", 1)])
    receiver = node(3, "ImpactValueReceiver", ["STRING", "", 6])
    deaf = node(4, "ImpactValueReceiver", ["STRING", "", 7])
    image = node(5, "EmptyImage", [8, 6, 1, 255], outputs=[("IMAGE", "IMAGE", [2])])
    image_sender = node(6, "ImageSender", ["a", 6], [("images", "IMAGE", 2)])
    keeps = node(7, "ImageReceiver", ["gone.png [temp]", 6, True, "", False])
    links = [[1, 1, 0, 2, 0, "FLOAT"], [2, 5, 0, 6, 0, "IMAGE"]]
    editor.load(graph_of(value, sender, receiver, deaf, image, image_sender, keeps, links=links))
    editor.queue()
    assert editor.node(3).widgets == {"typ": "FLOAT", "value": "2.0", "link_id": 6}
    assert editor.node(4).widgets == {"typ": "STRING", "value": "", "link_id": 7}
    widgets = editor.node(7).widgets
    assert widgets["image"].startswith("a_0")
    assert widgets["image"].endswith(" [temp]")
    assert widgets["image_data"] == "[IMAGE DATA]"
    assert editor.prompt()["7"]["inputs"]["image_data"].startswith("data:image/png;base64,")
    assert editor.load(editor.page.evaluate("() => window.app.graph.serialize()"))
    assert editor.prompt()["7"]["inputs"]["image_data"].startswith("data:image/png;base64,")


def test_latents_arrive(drawn):
    latent = node(1, "EmptyLatentImage", [64, 48, 2], outputs=[("LATENT", "LATENT", [1])])
    sender = node(
        2, "LatentSender", ["latents/x", 4, "Latent2RGB-SDXL"], [("samples", "LATENT", 1)]
    )
    receiver = node(3, "LatentReceiver", ["", 4, False], outputs=[("LATENT", "LATENT", [2])])
    save = node(4, "DetailersTestSave", ["latent"], [("value", "*", 2)])
    links = [[1, 1, 0, 2, 0, "LATENT"], [2, 3, 0, 4, 0, "LATENT"]]
    drawn.load(graph_of(latent, sender, receiver, links=links[:1]))
    assert drawn.queue().ok
    file = drawn.node(3).widgets["latent"]
    assert "x_0" in file
    receiver["widgets_values"][0] = file
    drawn.load(graph_of(receiver, save, links=links[1:]))
    assert drawn.queue().ok
    assert drawn.server.result("latent")["latent0_samples"].shape == (2, 4, 6, 8)


# Sockets


def test_switches_grow(editor):
    number = node(1, "ImpactInt", [1], outputs=[("INT", "INT", [])])
    switch = node(2, "ImpactSwitch", [1, False], [("input1", "*", None)])
    inverse = node(3, "ImpactInversedSwitch", [1, False], [("input", "*", None)], [("*", "*", [])])
    sinks = [node(id, "PreviewAny", [], [("source", "*", None)]) for id in (4, 5)]
    editor.load(graph_of(number, switch, inverse, *sinks))

    def inputs():
        slots = editor.node(2).inputs
        return {slot.name: len(slot.ends) for slot in slots if slot.name.startswith("input")}

    editor.page.evaluate(CONNECT, [1, 2, "input1"])
    editor.page.evaluate(CONNECT, [1, 2, "input2"])
    assert inputs() == {"input1": 1, "input2": 1, "input3": 0}

    connect = """([slot, id]) => {
        const graph = window.app.graph;
        graph.getNodeById(3).connect(slot, graph.getNodeById(id), 0);
    }"""
    for slot, sink in enumerate((4, 5)):
        editor.page.evaluate(connect, [slot, sink])
    assert [len(slot.ends) for slot in editor.node(3).outputs] == [1, 1, 0]
    assert editor.prompt()["5"]["inputs"]["source"] == ["3", 1]
    editor.page.evaluate("() => window.app.graph.getNodeById(5).disconnectInput(0)")
    assert [len(slot.ends) for slot in editor.node(3).outputs] == [1, 0]


def test_saved_switches_keep_their_outputs(editor):
    names = [(f"output{i}", "IMAGE", [i] if i == 3 else []) for i in (1, 2, 3)]
    inverse = node(1, "ImpactInversedSwitch", [3, True], [("input", "IMAGE", None)], names)
    sink = node(2, "PreviewImage", [], [("images", "IMAGE", 3)])
    editor.load(graph_of(inverse, sink, links=[[3, 1, 2, 2, 0, "IMAGE"]]))
    assert [len(slot.ends) for slot in editor.node(1).outputs] == [0, 0, 1, 0]
    assert editor.prompt()["2"]["inputs"]["images"] == ["1", 2]
