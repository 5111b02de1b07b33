"""core/graph/switches.py: switches that are decided on a prompt, and links in a workflow."""

import pytest
from detailers.core.graph.switches import (
    BYPASSED,
    MUTED,
    Slots,
    choose_on_prompt,
    input_label,
    nearest,
    obey_bridges,
    output_count,
    remote_place,
    set_modes,
    set_remotely,
    targets,
    tell_targets,
)


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def kind(node):
    return node["class_type"] if node["class_type"].startswith("Impact") else ""


def is_required(class_type, name):
    return class_type == "Needs"


def choose(prompt):
    choose_on_prompt(prompt, kind, is_required)
    return prompt


# On prompt


def test_a_remote_value_is_set():
    prompt = {
        "1": node("ImpactRemoteInt", node_id=7, widget_name="steps", value=3),
        "7": node("KSampler", steps=20, seed=["9", 0]),
    }
    done = set_remotely(prompt, kind)
    assert prompt["7"]["inputs"]["steps"] == 3
    assert [(change.node_id, change.widget, change.value) for change in done] == [("7", "steps", 3)]
    assert remote_place(prompt, "1") == "7"


@pytest.mark.parametrize("change", [{"node_id": 8}, {"widget_name": "x"}, {"widget_name": "seed"}])
def test_a_remote_value_without_a_place_is_not_set(change):
    remote = {"node_id": 7, "widget_name": "steps", "value": 3} | change
    prompt = {
        "1": node("ImpactRemoteBoolean", **remote),
        "7": node("K", steps=20, seed=["9", 0]),
    }
    assert set_remotely(prompt, kind) == []
    assert prompt["7"]["inputs"] == {"steps": 20, "seed": ["9", 0]}
    assert remote_place(prompt, "1") is None


def test_the_nearest_node_of_a_number_is_meant():
    known = {"7", "5:7", "5:3:8", "9"}
    assert nearest("1", 7, known) == "7"
    assert nearest("5:1", 7, known) == "5:7"
    assert nearest("5:3:1", 7, known) == "5:7"
    assert nearest("5:3:1", 9, known) == "9"
    assert nearest("5:1", 8, known) is None


def switch(**changed):
    inputs = {"select": 2, "sel_mode": True} | {f"input{i}": [str(i), 0] for i in (1, 2, 12)}
    return node("ImpactSwitch", **inputs | changed)


def test_a_switch_on_prompt_keeps_its_choice_alone():
    prompt = choose({"9": switch()})
    assert prompt["9"]["inputs"] == {"select": 2, "sel_mode": True, "input2": ["2", 0]}


@pytest.mark.parametrize("changed", [{"sel_mode": False}, {"select": ["4", 0]}])
def test_a_switch_that_is_not_decided_keeps_all(changed):
    assert choose({"9": switch(**changed)}) == {"9": switch(**changed)}


def test_a_switch_of_another_pack_is_left_alone():
    other = switch() | {"class_type": "Switch"}
    assert choose({"9": other})["9"]["inputs"].keys() == switch()["inputs"].keys()


def test_what_the_inversed_switch_does_not_choose_is_cut():
    prompt = choose(
        {
            "1": node("ImpactInversedSwitch", select=2, sel_mode=True, input=["0", 0]),
            "2": node("Needs", image=["1", 0]),
            "3": node("Needs", image=["1", 1]),
            "4": node("Takes", a=["1", 2], b=["3", 0]),
            "5": node("Takes", image=["2", 0]),
            "6": node("Needs", image=["2", 0]),
        }
    )
    assert {key: item["inputs"] for key, item in prompt.items() if key != "1"} == {
        "3": {"image": ["1", 1]},
        "4": {"b": ["3", 0]},
        "5": {},
    }


def test_the_branch_that_is_not_chosen_is_cut():
    branch = {"tt_value": ["1", 0], "ff_value": ["2", 0]}
    prompt = choose({"9": node("ImpactConditionalBranchSelMode", cond=False, **branch)})
    assert prompt["9"]["inputs"] == {"cond": False, "ff_value": ["2", 0]}


def test_broken_prompts_pass():
    broken = {"1": {"class_type": "ImpactSwitch", "inputs": {}}, "2": {"class_type": "X"}, "3": 5}

    def careful(item):
        return kind(item) if isinstance(item, dict) and "inputs" in item else ""

    choose_on_prompt(broken, careful, is_required)
    assert set_remotely(broken, careful) == []


def test_outputs_are_enough_for_every_link():
    class Running:
        nodes = {"1": node("S"), "2": node("T", a=["1", 99], b=["1", 0], c=["7", 200])}
        all_node_ids = nodes.keys
        get_node = nodes.get

    running = Running()
    assert output_count(running, "1") == 100
    assert output_count(running, "2") == 64


# In the workflow


@pytest.fixture
def workflow():
    """Node 1 leads to 2, to 3 by way of two reroutes, and into a subgraph, 5; inside, 7 leads to 8
    and out of it to 6."""
    inner = [
        {"id": 1, "origin_id": 7, "origin_slot": 0, "target_id": 8, "target_slot": 0},
        {"id": 2, "origin_id": 7, "origin_slot": 0, "target_id": -20, "target_slot": 1},
        {"id": 3, "origin_id": 7, "origin_slot": 1, "target_id": 9, "target_slot": 0},
    ]
    return {
        "nodes": [
            {"id": 1, "type": "A", "mode": 0, "inputs": [{"name": "a", "label": "sky"}]},
            {"id": 2, "type": "A", "mode": 4},
            {"id": 3, "type": "A", "mode": 2},
            {"id": 5, "type": "sub", "mode": 0},
            {"id": 6, "type": "A"},
            {"id": 10, "type": "Reroute", "mode": 0},
            {"id": 11, "type": "Reroute", "mode": 0},
        ],
        "links": [
            [1, 1, 0, 2, 0, "X"],
            [2, 1, 0, 10, 0, "X"],
            [3, 10, 0, 11, 0, "X"],
            [4, 11, 0, 3, 0, "X"],
            [5, 1, 0, 5, 0, "X"],
            [6, 1, 1, 6, 0, "X"],
            [7, 5, 1, 6, 1, "X"],
        ],
        "definitions": {
            "subgraphs": [
                {
                    "id": "sub",
                    "nodes": [
                        {"id": 7, "type": "A", "inputs": [{"name": "b"}]},
                        {"id": 8, "type": "A", "mode": 4},
                        {"id": 9, "type": "A", "mode": 4},
                    ],
                    "links": inner,
                }
            ]
        },
    }


def test_targets_are_found(workflow):
    assert targets(workflow, "1") == {"2": 4, "3": 2, "5": 0}
    assert targets(workflow, "5:7") == {"5:8": 4, "6": 0}
    assert targets(workflow, "4") == {}
    assert targets({}, "5:7") == {}


def test_bridges_are_told_their_targets(workflow):
    prompt = {"1": node("ImpactControlBridge"), "2": node("Other")}
    tell_targets(prompt, workflow, kind)
    assert prompt["1"]["inputs"] == {"targets": {"2": 4, "3": 2, "5": 0}}
    assert prompt["2"]["inputs"] == {}
    tell_targets(prompt, None, kind)
    assert prompt["1"]["inputs"] == {"targets": {}}


def test_labels_of_inputs(workflow):
    assert input_label(workflow, "1", "a") == "sky"
    assert input_label(workflow, "5:7", "b") == "b"
    assert input_label(None, "1", "a") == "a"


# Muted and bypassed


def slots_of(class_type):
    return {
        "Scale": Slots({"mask": "MASK", "image": "IMAGE", "size": "INT"}, ("IMAGE", "INT")),
        "Show": Slots({"image": "IMAGE"}, ()),
        "Needs": Slots({"image": "IMAGE"}, ("IMAGE",)),
        "Any": Slots({"value": "*"}, ("*",)),
    }.get(class_type)


def chain(last="Show"):
    return {
        "1": node("Load"),
        "2": node("Scale", mask=["1", 1], image=["1", 0], size=3),
        "3": node(last, image=["2", 0]),
    }


def test_a_bypassed_node_is_gone_around_by_type():
    prompt = chain()
    set_modes(prompt, {"2": BYPASSED, "9": MUTED}, slots_of, is_required)
    assert prompt == {"1": node("Load"), "3": node("Show", image=["1", 0])}


def test_two_bypassed_nodes_are_gone_around():
    prompt = chain() | {"4": node("Scale", image=["2", 0]), "5": node("Show", image=["4", 0])}
    set_modes(prompt, {"2": BYPASSED, "4": BYPASSED}, slots_of, is_required)
    assert prompt["5"] == node("Show", image=["1", 0])


def test_without_a_way_around_the_link_is_taken_out():
    prompt = chain()
    del prompt["2"]["inputs"]["image"]
    set_modes(prompt, {"2": BYPASSED}, slots_of, is_required)
    assert prompt["3"] == node("Show")


def test_what_cannot_do_without_a_muted_node_goes_with_it():
    prompt = chain("Needs") | {"4": node("Show", image=["3", 0]), "5": node("Any", value=["2", 0])}
    set_modes(prompt, {"2": MUTED}, slots_of, is_required)
    assert prompt == {"1": node("Load"), "4": node("Show"), "5": node("Any")}


@pytest.mark.parametrize(
    ("behavior", "mode", "left"),
    [("Bypass", 4, ["1", "2", "4"]), ("Mute", 2, ["1", "2", "4"])],
)
def test_bridges_are_obeyed_where_no_editor_is(behavior, mode, left):
    prompt = {
        "1": node("Load"),
        "2": node("ImpactControlBridge", value=["1", 0], mode=False, behavior=behavior),
        "3": node("Scale", image=["2", 0]),
        "4": node("Show", image=["3", 0]),
    }
    obey_bridges(prompt, kind, slots_of, is_required)
    assert sorted(prompt) == left
    assert prompt["2"]["inputs"]["targets"] == {"3": mode}
    assert prompt["4"]["inputs"] == ({"image": ["2", 0]} if behavior == "Bypass" else {})


@pytest.mark.parametrize("change", [{"mode": True}, {"mode": ["9", 0]}, {"behavior": "Stop"}])
def test_bridges_that_cannot_or_need_not_be_obeyed(change):
    inputs = {"value": ["1", 0], "mode": False, "behavior": "Mute"} | change
    prompt = {"1": node("Load"), "2": node("ImpactControlBridge", **inputs),
              "3": node("Show", image=["2", 0])}  # fmt: skip
    obey_bridges(prompt, kind, slots_of, is_required)
    assert list(prompt) == ["1", "2", "3"]
    assert prompt["2"]["inputs"] == {**inputs, "targets": {}}
