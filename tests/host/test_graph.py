"""Values, switches and bridges in the host: the nodes that run, their results, and messages."""

import io
import json

import numpy as np
import pytest
import torch
from detailers.core.files.latent_file import read_latent
from detailers.dev.server import PromptRefused
from detailers.tests.host.graphs import Graph, box
from PIL import Image


@pytest.fixture
def values(results):
    """values(graph, name=link, ...) -> {name: what came over the link, as JSON}."""

    def values(graph, **links):
        saved = results(graph, **links)
        return {name: json.loads(str(arrays["s0"])) for name, arrays in saved.items()}

    return values


@pytest.fixture
def told(server):
    """told(graph): the messages to the editor, (event, data), of a run that must succeed.

    Each names the run and the workflow, which is left out of `data`.
    """

    def told(graph, **options):
        with server.watch() as watch:
            done = server.run(graph, watch=watch, **options)
        assert done.ok, f"{done.error or done.messages}"
        workflow = options.get("extra_data", {}).get("extra_pnginfo", {}).get("workflow")
        whose = (done.prompt_id, None if workflow is None else workflow.get("id", ""))
        messages = []
        for event in watch.events:
            if event.type.startswith("detailers-"):
                data = dict(event.data)
                assert (data.pop("prompt_id"), data.pop("workflow_id")) == whose
                messages.append((event.type.removeprefix("detailers-"), data))
        return messages

    return told


# Values


def test_values_and_questions(values):
    graph = Graph()
    number = graph.add("ImpactInt", value=7)[0]
    real = graph.add("ImpactFloat", value=-2.5)[0]
    yes = graph.add("ImpactBoolean", value=True)[0]
    no = graph.add("ImpactNeg", value=yes)[0]
    convert = graph.add("ImpactConvertDataType", value=real)
    info = graph.add("ImpactImageInfo", value=graph.image(20, 12, batch=2, channels=4))
    latent = graph.add("ImpactLatentInfo", value=graph.empty_latent(64, 32, 3))
    nothing = graph.add("ImpactIfNone", signal=number)
    something = graph.add("ImpactIfNone", any_input=number)
    order = graph.add("ImpactExecutionOrderController", signal=real, value=number)
    segs = graph.segs(32, 24, box(1, 2, 9, 10))
    expected = {
        "number": (number, 7),
        "real": (real, -2.5),
        "no": (no, False),
        "more": (graph.add("ImpactCompare", cmp="a > b", a=number, b=real)[0], True),
        "xor": (
            graph.add("ImpactLogicalOperators", operator="xor", bool_a=yes, bool_b=no)[0],
            True,
        ),
        "least": (graph.add("ImpactMinMax", mode=False, a=number, b=real)[0], -2.5),
        "text": (convert[0], "-2.5"),
        "float": (convert[1], -2.5),
        "int": (convert[2], -2),
        "bool": (convert[3], True),
        "none": (nothing[1], False),
        "some": (something[1], True),
        "signal": (nothing[0], 7),
        "first": (order[0], -2.5),
        "second": (order[1], 7),
        "filled": (graph.add("ImpactIsNotEmptySEGS", segs=segs)[0], True),
        "empty": (graph.add("ImpactIsNotEmptySEGS", segs=graph.segs(32, 24))[0], False),
        "dummy": (graph.add("ImpactDummyInput")[0], "DUMMY"),
        "received": (graph.add("ImpactValueReceiver", typ="INT", value="41", link_id=0)[0], 41),
    }
    for name, node, sizes in (("i", info, (2, 12, 20, 4)), ("l", latent, (3, 32, 64, 4))):
        expected |= {f"{name}{slot}": (node[slot], size) for slot, size in enumerate(sizes)}
    out = values(graph, **{name: link for name, (link, _) in expected.items()})
    assert out == {name: value for name, (_, value) in expected.items()}


# Switches: a branch that must not run has a node that fails


def failing(graph):
    """A link to a node that raises when it runs."""
    return graph.add("ImpactMinMax", mode=True, a=graph.value("a"), b=graph.value(1))[0]


def test_only_the_chosen_input_runs(values):
    graph = Graph()
    bad, good = failing(graph), graph.value("good")
    second = {"select": graph.add("ImpactInt", value=2)[0], "input1": bad, "input2": good}
    links = {}
    for node_id in ("ImpactSwitch", "LatentSwitch", "SEGSSwitch"):
        for mode in (True, False):
            switch = graph.add(node_id, sel_mode=mode, **second, input3=bad)
            links |= {f"{node_id}{mode}{slot}": switch[slot] for slot in range(3)}
    truth = graph.add("ImpactBoolean", value=False)[0]
    for node_id in ("ImpactConditionalBranch", "ImpactConditionalBranchSelMode"):
        branch = graph.add(node_id, cond=truth, tt_value=bad, ff_value=good)
        links[f"{node_id}0"] = branch[0]
    expected = {"0": "good", "1": "input2", "2": 2}
    assert values(graph, **links) == {name: expected[name[-1]] for name in links}


def test_only_the_chosen_image_and_mask_run(results):
    graph = Graph()
    bad = failing(graph)
    bad_image = graph.add("ImpactSwitch", select=1, sel_mode=False, input1=bad)[0]
    image, mask = graph.image(9, 5, seed=3), graph.mask(9, 5, [0, 0, 4, 5, "r"])
    switch = graph.add(
        "ImageMaskSwitch", select=3, images1=bad_image, mask1_opt=bad_image, images2_opt=bad_image,
        images3_opt=image, mask3_opt=mask, mask4_opt=bad_image,
    )  # fmt: skip
    out = results(graph, image=switch[0], mask=switch[1], same=image)
    np.testing.assert_array_equal(out["image"]["t0"], out["same"]["t0"])
    assert out["mask"]["t0"].sum() == 20


def test_the_label_of_an_input_is_told(run, server):
    graph = Graph()
    switch = graph.add("ImpactSwitch", select=1, sel_mode=False, input1=graph.value(1))
    graph.add("DetailersTestSave", value=switch[1], name="label")
    slot = {"name": "input1", "label": "sky"}
    workflow = {"nodes": [{"id": int(switch.key), "type": "ImpactSwitch", "inputs": [slot]}]}
    run(graph, extra_data={"extra_pnginfo": {"workflow": workflow}})
    assert json.loads(str(server.result("label")["s0"])) == "sky"


def test_on_prompt_the_other_branch_may_be_incomplete(values):
    graph = Graph()
    broken = graph.add("ImpactNeg")[0]  # its input is missing
    good = graph.value("good")
    switch = graph.add("ImpactSwitch", select=2, sel_mode=True, input1=broken, input2=good)
    branch = {"tt_value": good, "ff_value": broken}
    select = graph.add("ImpactConditionalBranchSelMode", cond=True, **branch)
    assert values(graph, a=switch[0], b=select[0]) == {"a": "good", "b": "good"}


@pytest.mark.parametrize("on_prompt", [True, False])
def test_only_the_chosen_output_is_followed(server, run, on_prompt):
    graph = Graph()
    switch = graph.add(
        "ImpactInversedSwitch", select=3, sel_mode=on_prompt, input=graph.value("in")
    )
    sinks = [graph.add("DetailersTestSink", value=switch[slot]).key for slot in (0, 2, 70)]
    assert list(run(graph).outputs) == [sinks[1]]


def test_control_bridge_stops(run):
    graph = Graph()
    sinks = {}
    for mode, behavior in ((True, "Stop"), (False, "Stop"), (True, "Mute"), (False, "Mute")):
        bridge = graph.add(
            "ImpactControlBridge", value=graph.value(behavior), mode=mode, behavior=behavior
        )
        sinks[mode, behavior] = graph.add("DetailersTestSink", value=bridge[0]).key
    assert set(run(graph).outputs) == {sinks[True, "Stop"], sinks[True, "Mute"]}


@pytest.mark.parametrize(
    ("mode", "behavior", "now", "wanted"),
    [
        (False, "Mute", 0, 2),
        (False, "Bypass", 0, 4),
        (False, "Bypass", 4, None),
        (True, "Bypass", 0, None),
        (True, "Mute", 4, 0),
    ],
)
def test_control_bridge_has_the_editor_set_the_next_nodes(told, mode, behavior, now, wanted):
    graph = Graph()
    bridge = graph.add("ImpactControlBridge", value=graph.value(1), mode=mode, behavior=behavior)
    sink = graph.add("DetailersTestSink", value=bridge[0])
    number, target = int(bridge.key), int(sink.key)
    workflow = {
        "nodes": [{"id": number, "type": "A", "mode": 0}, {"id": target, "type": "B", "mode": now}],
        "links": [[1, number, 0, target, 0, "*"]],
    }
    messages = told(graph, extra_data={"extra_pnginfo": {"workflow": workflow}})
    expected = {"nodes": [sink.key], "mode": wanted, "queue": True}
    assert messages == ([] if wanted is None else [("mode", expected)])


# Messages to the editor


def test_flow_nodes_tell_the_editor(told, values):
    graph = Graph()
    signal = graph.value("signal")
    trigger = graph.add("ImpactQueueTrigger", signal=signal, mode=True)
    graph.add("ImpactQueueTrigger", signal=trigger[0], mode=False)
    assert told(graph) == [("queue", {})]
    assert told(graph) == [("queue", {})]  # a second time too

    graph = Graph()
    counts = {"mode": True, "total": 3}
    first = graph.add("ImpactQueueTriggerCountdown", count=0, signal=graph.value(1), **counts)
    last = graph.add("ImpactQueueTriggerCountdown", count=2, signal=first[0], **counts)
    assert told(graph) == [
        ("widget", {"node": first.key, "widget": "count", "value": 1}),
        ("queue", {}),
        ("widget", {"node": last.key, "widget": "count", "value": 0}),
    ]

    graph = Graph()
    sets = {"signal": graph.value("signal"), "node_id": 9, "widget_name": "x"}
    value = graph.add("ImpactFloat", value=0.5)[0]
    set_value = graph.add("ImpactSetWidgetValue", **sets, float_value=value)
    mute = graph.add("ImpactNodeSetMuteState", signal=set_value[0], node_id=4, set_state=False)
    slept = graph.add("ImpactSleep", signal=mute[0], seconds=0.01)[0]
    yes = graph.add("ImpactCompare", cmp="tt", a=slept, b=slept)[0]
    graph.add("ImpactConditionalStopIteration", cond=yes)
    assert told(graph) == [
        ("widget", {"sender": set_value.key, "node": "9", "widget": "x", "value": 0.5}),
        ("mode", {"sender": mute.key, "nodes": ["4"], "mode": 2}),
        ("stop", {}),
    ]
    assert values(graph, slept=slept) == {"slept": "signal"}


def test_remote_nodes_set_values_on_prompt(told, server):
    graph = Graph()
    number = graph.add("ImpactInt", value=1)
    truth = graph.add("ImpactBoolean", value=True)
    for name, key, value in (("Int", number.key, -5 + 12), ("Boolean", truth.key, False)):
        graph.add(f"ImpactRemote{name}", node_id=int(key), widget_name="value", value=value)
    graph.add("DetailersTestSave", value=number[0], name="int")
    graph.add("DetailersTestSave", value=truth[0], name="bool")
    assert told(graph) == [
        ("widget", {"node": number.key, "widget": "value", "value": 7}),
        ("widget", {"node": truth.key, "widget": "value", "value": False}),
    ]
    assert str(server.result("int")["s0"]) == "7"
    assert str(server.result("bool")["s0"]) == "false"


def test_the_log_is_written(run, server):
    graph = Graph()
    graph.add("ImpactLogger", data=graph.image(6, 4), text="note 5813")
    graph.add("ImpactLogger", data=graph.value([1, "two"]), text="note 5814")
    run(graph)
    assert "note 5813 Tensor [1, 4, 6, 3]" in server.log()
    assert "note 5814 [1, 'two']" in server.log()


def test_values_are_sent(told, server):
    graph = Graph()
    graph.add("ImpactValueSender", value=graph.add("ImpactFloat", value=1.0)[0], link_id=3)
    assert told(graph) == [
        ("send", {"kind": "value", "link_id": 3, "value": "1.0", "typ": "FLOAT"})
    ]
    graph = Graph()
    graph.add("ImpactValueSender", value=graph.image(4, 4), link_id=3)
    assert "'value' is a Tensor, which cannot be sent" in server.run(graph).error.message


# Images and latents sent


def test_images_are_sent_and_received(told, results, server):
    graph = Graph()
    image = graph.image(9, 5, batch=2)
    sender = graph.add("ImageSender", images=image, filename_prefix="sent/a", link_id=4)
    graph.add("DetailersTestSave", value=sender[0], name="sent")
    ((event, data),) = told(graph)
    assert (event, data["kind"], data["link_id"]) == ("send", "image", 4)
    assert data["value"].startswith("sent/a_0000")
    assert data["value"].endswith("_.png [temp]")
    graph = Graph()
    rest = {"link_id": 4, "save_to_workflow": False, "trigger_always": False}
    got = graph.add("ImageReceiver", image=data["value"], image_data="", **rest)[0]
    out = results(graph, got=got)["got"]["t0"]
    np.testing.assert_allclose(out, server.result("sent")["t0"][:1], atol=0.5 / 255 + 1e-6)


def test_an_image_kept_in_the_workflow_needs_no_file(results):
    import base64

    file = io.BytesIO()
    Image.fromarray(np.uint8([[[255, 0, 0, 255], [0, 0, 255, 0]]])).save(file, "png")
    data = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    graph = Graph()
    rest = {"link_id": 0, "trigger_always": False, "image": "gone.png [temp]"}
    node = graph.add("ImageReceiver", image_data=data, save_to_workflow=True, **rest)
    out = results(graph, image=node[0], mask=node[1])
    assert out["image"]["t0"].tolist() == [[[[1, 0, 0], [0, 0, 1]]]]
    assert out["mask"]["t0"].tolist() == [[[0, 1]]]


def test_latents_are_sent_and_received(told, results, server):
    graph = Graph()
    latent = graph.encode(graph.model("flat8"), graph.image(32, 16))
    sends = {"filename_prefix": "latents/a", "link_id": 2, "preview_method": "Latent2RGB-SD15"}
    graph.add("LatentSender", samples=latent, **sends)
    graph.add("DetailersTestSave", value=latent, name="sent")
    ((event, data),) = told(graph)
    assert (event, data["kind"], data["link_id"]) == ("send", "latent", 2)
    graph = Graph()
    receives = {"latent": data["value"], "link_id": 2, "trigger_always": False}
    out = results(graph, got=graph.add("LatentReceiver", **receives)[0])["got"]
    sent = server.result("sent")["latent0_samples"]
    np.testing.assert_array_equal(out["latent0_samples"], sent)
    file = server.output / data["value"].removesuffix(" [output]")
    assert torch.equal(read_latent(file)["samples"], torch.from_numpy(sent))
    with Image.open(file) as picture:
        assert picture.size == (sent.shape[3] * 8, sent.shape[2] * 8)


# Preview bridges


def paint(server, name, size, *box):
    """Write a picture that the mask editor could have saved; the value that it puts in `image`."""
    alpha = np.full((size[1], size[0]), 255, np.uint8)
    if box:
        x1, y1, x2, y2 = box
        alpha[y1:y2, x1:x2] = 0
    folder = server.input / "clipspace"
    folder.mkdir(exist_ok=True)
    pixels = np.dstack([np.full((*alpha.shape, 3), 99, np.uint8), alpha])
    Image.fromarray(pixels).save(folder / f"{name}.png")
    return f"clipspace/{name}.png [input]"


@pytest.fixture
def show(server):
    """show(node id, seed, image, ...) -> what is shown, the mask (None: blocked), messages."""

    def show(node_id, seed=0, image="", size=(24, 16), workflow=None, **options):
        graph = Graph({str(1000 + node_id): {}})
        node = {"images": graph.image(*size, seed=seed), "image": image, **options}
        graph[str(1000 + node_id)] = {"class_type": "PreviewBridge", "inputs": node}
        graph.add("DetailersTestSave", value=[str(1000 + node_id), 1], name="mask")
        (server.output / "mask.npz").unlink(missing_ok=True)
        extra = workflow and {"extra_pnginfo": {"workflow": {"id": workflow, "nodes": []}}}
        with server.watch() as watch:
            done = server.run(graph, watch=watch, extra_data=extra)
        assert done.ok, f"{done.error or done.messages}"
        shown = done.outputs[str(1000 + node_id)]["images"]
        mask = server.result("mask")["t0"] if (server.output / "mask.npz").exists() else None
        return shown, mask, [event.data["value"] for event in watch.of("detailers-widget")]

    return show


def test_a_painted_mask_stays_with_its_picture(show, server):
    shown, mask, _ = show(1)
    assert (mask.shape, mask.sum()) == ((1, 16, 24), 0)
    assert shown[0]["type"] == "temp"
    painting = paint(server, "p1", (24, 16), 4, 2, 10, 8)
    expected = np.zeros((1, 16, 24))
    expected[0, 2:8, 4:10] = 1
    shown, mask, told = show(1, image=painting)
    np.testing.assert_array_equal(mask, expected)
    assert shown == [{"filename": "p1.png", "subfolder": "clipspace", "type": "input"}]
    assert told == []
    shown, mask, told = show(1, seed=5, image=painting)  # another picture
    assert mask.sum() == 0
    assert (shown[0]["type"], told) == ("temp", [""])
    _, mask, _ = show(1, image=painting)  # the old one again
    np.testing.assert_array_equal(mask, expected)


def test_a_mask_is_restored_on_the_next_picture(show, server):
    painting = paint(server, "p2", (24, 16), 4, 2, 10, 8)
    show(2)
    show(2, image=painting)
    shown, mask, told = show(2, seed=6, image=painting, restore_mask="if_same_size")
    assert mask.sum() == 36
    file = f"clipspace/{shown[0]['filename']} [input]"
    assert told == [file]
    with Image.open(io.BytesIO(server.view(**shown[0]))) as picture:
        np.testing.assert_array_equal(np.asarray(picture)[..., 3] == 0, mask[0] == 1)
    _, mask, told = show(2, seed=6, image=file)  # as the editor then has it
    assert (mask.sum(), told) == (36, [])
    large = {"seed": 7, "image": painting, "size": (48, 32)}
    assert show(2, **large, restore_mask="if_same_size")[1].sum() == 0
    assert show(2, **large, restore_mask="always")[1].sum() == pytest.approx(4 * 36, abs=1)


def test_a_mask_of_one_workflow_is_not_lost_over_a_node_of_another(show, server):
    """Both have one number. A mask of a picture of the same workflow is dropped, which is told."""
    painting = paint(server, "p5", (24, 16), 4, 2, 10, 8)
    show(5, seed=1, workflow="first")
    assert show(5, seed=2, image=painting, workflow="second")[1].sum() == 36
    start = len(server.log())
    assert show(5, seed=1, image=painting, workflow="first")[1].sum() == 0
    told = server.log()[start:]
    assert f"The mask {painting!r} is not used, because it was painted on another picture" in told
    late = paint(server, "p6", (24, 16), 4, 2, 10, 8)
    assert show(5, seed=3, image=late)[1].sum() == 36  # of no workflow


def test_a_bridge_blocks_until_a_mask_is_painted(show, server):
    assert show(3, block=True)[1] is None
    assert show(3, image=paint(server, "empty", (24, 16)), block=True)[1] is None
    assert show(3, image=paint(server, "p3", (24, 16), 0, 0, 3, 3), block=True)[1].sum() == 9


def test_what_old_files_hold_is_no_mask(show, server):
    for value in ("$13-0", "#placeholder", str({"filename": "gone.png", "type": "temp"})):
        assert show(4, image=value)[1].sum() == 0
    (server.input / "text.png").write_text("no picture")
    assert show(4, image="text.png [input]")[1].sum() == 0
    paint(server, "p4", (24, 16), 0, 0, 3, 3)
    old = {"filename": "p4.png", "subfolder": "clipspace", "type": "input", "image_hash": 5}
    assert show(4, image=old)[1].sum() == 9


@pytest.mark.parametrize("by_vae", [True, False])
def test_a_latent_is_painted_on(results, server, by_vae):
    painting = paint(server, f"latent{by_vae}", (64, 32), 8, 8, 24, 16)

    def painted(**changed):
        graph = Graph()
        model = graph.model("flat8")
        latent = graph.encode(model, graph.image(64, 32))
        inputs = {"latent": latent, "image": painting, "preview_method": "Latent2RGB-SD15"}
        inputs |= {"vae_opt": model[2]} if by_vae else {}
        node = graph.add_as(f"painted {by_vae}", "PreviewBridgeLatent", **inputs | changed)
        return results(graph, latent=node[0], mask=node[1], was=latent)

    out = painted()
    assert (out["mask"]["t0"].shape, out["mask"]["t0"].sum()) == ((1, 32, 64), 16 * 8)
    np.testing.assert_array_equal(out["latent"]["latent0_noise_mask"], out["mask"]["t0"])
    np.testing.assert_array_equal(out["latent"]["latent0_samples"], out["was"]["latent0_samples"])
    out = painted(image="")
    assert out["mask"]["t0"].sum() == 0
    assert "latent0_noise_mask" not in out["latent"]


def test_a_noise_mask_that_is_there_is_shown(results, run):
    graph = Graph()
    latent = graph.add(
        "SetLatentNoiseMask", samples=graph.empty_latent(64, 32),
        mask=graph.mask(64, 32, [0, 0, 16, 8, "r"]),
    )[0]  # fmt: skip
    inputs = {"latent": latent, "image": "", "preview_method": "Latent2RGB-SD15"}
    node = graph.add("PreviewBridgeLatent", **inputs)
    assert results(graph, mask=node[1])["mask"]["t0"].sum() == 16 * 8


def test_a_preview_method_of_another_model_is_told(server):
    graph = Graph()
    inputs = {"latent": graph.empty_latent(64, 32), "image": "", "preview_method": "TAEF1"}
    graph.add("PreviewBridgeLatent", **inputs)
    message = server.run(graph).error.message
    assert (
        "'preview_method' is 'TAEF1', which is made for latents with 16 channels, but this latent"
        " has 4" in message
    )


def test_a_missing_file_is_told(server):
    graph = Graph()
    receives = {"latent": "gone.latent", "link_id": 2, "trigger_always": False}
    graph.add("DetailersTestSink", value=graph.add("LatentReceiver", **receives)[0])
    with pytest.raises(PromptRefused, match=r"'latent' is 'gone\.latent', and there is no such"):
        server.run(graph)


# Switches are checked before the run


@pytest.mark.parametrize("node_id", ["ImpactSwitch", "ImpactMakeAnyList"])
def test_what_leads_to_a_later_input_is_checked_like_the_first(server, node_id):
    graph = Graph()
    broken = graph.add("ImpactMinMax", mode=True, a=graph.value(1))  # without its 'b'
    stem = "input" if node_id == "ImpactSwitch" else "value"
    choose = {"select": 1, "sel_mode": False} if node_id == "ImpactSwitch" else {}
    links = {f"{stem}1": graph.value(1), f"{stem}2": broken[0]}
    made = graph.add(node_id, **choose, **links)
    graph.add("DetailersTestSink", value=made[0])
    with pytest.raises(PromptRefused, match="Required input is missing: b"):
        server.queue(graph)


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_missing_chosen_input_is_named_at_the_switch(server, is_linked):
    graph = Graph()
    select = graph.add("ImpactInt", value=2)[0] if is_linked else 2
    switch = graph.add("ImpactSwitch", select=select, sel_mode=False, input1=graph.value(1))
    graph.add("DetailersTestSink", value=switch[0])
    words = "'select' is 2, but 'input2' is not connected"
    if is_linked:
        error = server.run(graph).error
        assert (error.node_id, words in error.message) == (switch.key, True)
    else:
        with pytest.raises(PromptRefused, match=words) as refused:
            server.queue(graph)
        assert list(refused.value.node_errors) == [switch.key]


# Control bridges without an editor


@pytest.mark.parametrize(("behavior", "shape"), [("Bypass", (1, 8, 8, 3)), ("Mute", None)])
def test_a_control_bridge_acts_without_an_editor(server, run, behavior, shape):
    graph = Graph()
    bridge = graph.add(
        "ImpactControlBridge", value=graph.image(8, 8, seed=1), mode=False, behavior=behavior
    )
    half = graph.add("ImageScaleBy", image=bridge[0], upscale_method="bilinear", scale_by=0.5)
    graph.add("DetailersTestSave", value=half[0], name=f"alone{behavior}")
    done = run(graph)
    assert "detailers_notes" not in str(done.outputs)
    if shape:
        assert server.result(f"alone{behavior}")["t0"].shape == shape


def test_a_control_bridge_says_what_it_cannot_do(run):
    graph = Graph()
    off = graph.add("ImpactBoolean", value=False)[0]
    bridge = graph.add("ImpactControlBridge", value=graph.value(1), mode=off, behavior="Mute")
    graph.add("DetailersTestSink", value=bridge[0])
    (note,) = run(graph).outputs[bridge.key]["detailers_notes"]
    assert note["kind"] == "control_bridge"
    assert "could only be stopped" in note["text"]


# Seeds without effect


@pytest.mark.parametrize(
    ("mode", "text", "runs_again"),
    [("fixed", "{a|b}", True), ("populate", "plain", False), ("fixed", "plain", False)],
)
def test_a_seed_without_effect_runs_nothing_again(server, mode, text, runs_again):
    def cached(seed):
        graph = Graph()
        made = graph.add(
            "ImpactWildcardProcessor", wildcard_text=text, populated_text=text, mode=mode,
            seed=seed, **{"Select to add Wildcard": "Select the Wildcard to add to the text"},
        )  # fmt: skip
        graph.add("DetailersTestSink", value=made[0])
        return made.key in server.run(graph).cached

    cached(5)
    assert cached(6) is not runs_again
