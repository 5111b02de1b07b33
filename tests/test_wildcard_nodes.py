"""Prompts whose wildcard texts are drawn before they are run."""

import pytest
from detailers.core.prompts.wildcard_nodes import (
    Populated,
    client_of,
    fault_of,
    fault_of_modes,
    origin_of,
    part,
    populate,
    record,
    restore_seeds,
    settle_seeds,
)
from detailers.wildcards.grammar import WildcardError


def expand(text: str, seed: int) -> str:
    return f"{text} drawn with {seed}"


def wildcard_node(**inputs) -> dict:
    return {
        "class_type": "ImpactWildcardProcessor",
        "inputs": {
            "wildcard_text": "a", "populated_text": "", "mode": "populate", "seed": 3, **inputs
        },
    }  # fmt: skip


def test_populate_draws_the_text_once_and_fixes_it():
    prompt = {"7": wildcard_node(), "8": {"class_type": "SaveImage", "inputs": {}}}
    assert populate(prompt, expand) == [Populated("7", "a drawn with 3")]
    assert prompt["7"]["inputs"]["populated_text"] == "a drawn with 3"
    assert prompt["7"]["inputs"]["mode"] == "reproduce"
    assert populate(prompt, expand) == []


def test_populate_knows_nodes_that_live_beside_another_pack():
    prompt = {"7": {**wildcard_node(), "class_type": "ImpactWildcardEncode //Detailers"}}
    assert populate(prompt, expand) == [Populated("7", "a drawn with 3")]


def test_populate_leaves_other_modes_links_and_broken_nodes_alone():
    prompt = {
        "1": wildcard_node(mode="fixed"),
        "2": wildcard_node(mode="reproduce"),
        "3": wildcard_node(wildcard_text=["9", 0]),
        "4": wildcard_node(seed=["9", 0]),
        "5": "no node",
        "6": {"class_type": "ImpactWildcardEncode"},
    }
    before = repr(prompt)
    assert populate(prompt, expand) == []
    assert repr(prompt) == before


def test_populate_leaves_a_text_that_cannot_be_expanded_to_its_node():
    def fail(text: str, seed: int) -> str:
        raise WildcardError("no end")

    prompt = {"1": wildcard_node()}
    assert populate(prompt, fail) == []
    assert prompt["1"]["inputs"]["mode"] == "populate"


def test_record_finds_the_node_in_the_workflow_and_in_subgraphs():
    workflow = {
        "nodes": [
            {"id": 7, "type": "ImpactWildcardProcessor",
             "widgets_values": ["a", "", "populate", 3, "fixed", "choose"]},
            {"id": 5, "type": "sub"},
        ],
        "definitions": {"subgraphs": [{"id": "sub", "nodes": [
            {"id": 3, "widgets_values": ["b", "old", "populate"]}]}]},
    }  # fmt: skip
    record(workflow, [Populated("7", "x"), Populated("5:3", "y"), Populated("99", "z")])
    assert workflow["nodes"][0]["widgets_values"] == ["a", "x", "reproduce", 3, "fixed", "choose"]
    inner = workflow["definitions"]["subgraphs"][0]["nodes"][0]
    assert inner["widgets_values"] == ["b", "y", "reproduce"]


def test_record_takes_a_prompt_without_workflow():
    record(None, [Populated("7", "x")])
    record({}, [Populated("7", "x")])


@pytest.mark.parametrize(
    "workflow",
    [
        {"nodes": 5},
        {"nodes": [5, {"id": "7", "widgets_values": 3}], "definitions": []},
        {"nodes": [{"id": 7, "type": ["x"]}], "definitions": {"subgraphs": 5}},
        {"nodes": [{"id": 7, "type": {}}], "definitions": {"subgraphs": [{"id": []}, None]}},
        [],
        "text",
    ],
)
def test_record_leaves_a_strange_workflow_as_it_is(workflow):
    before = repr(workflow)
    record(workflow, [Populated("7", "x"), Populated("7:3", "y")])
    assert repr(workflow) == before


def test_populate_takes_inputs_that_are_none():
    prompt = {"7": {"class_type": "ImpactWildcardEncode", "inputs": []}}
    assert populate(prompt, expand) == []


def test_a_part_is_an_object_or_empty():
    content = {"a": {"b": {"c": 1}}, "d": []}
    assert part(content, "a", "b") == {"c": 1}
    assert part(content) is content
    for names in (("a", "x"), ("d",), ("d", "b"), ("a", "b", "c"), ("x", "y")):
        assert part(content, *names) == {}
    assert part(None, "a") == part([1], "a") == {}


def test_the_client_is_a_text_or_every_one():
    assert client_of({"client_id": "me"}) == "me"
    for request in ({}, {"client_id": []}, {"client_id": {}}, {"client_id": 5}, None, []):
        assert client_of(request) is None


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ([], "The body is no JSON object."),
        (None, "The body is no JSON object."),
        ({"prompt": []}, "'prompt' is no JSON object."),
        ({"prompt": None}, "'prompt' is no JSON object."),
        ({"prompt": {}, "extra_data": [1]}, "'extra_data' is no JSON object."),
        ({"prompt": {}, "client_id": ["x"]}, "'client_id' is no text."),
        ({"prompt": {"4": None}}, "Node 4 is no JSON object."),
        ({"prompt": {"4": {"inputs": None}}}, "The 'inputs' of node 4 are no JSON object."),
        ({"prompt": {"4": {"class_type": []}}}, "The 'class_type' of node 4 is no text."),
        ({}, ""),
        ({"prompt": {}, "extra_data": {}, "client_id": "x"}, ""),
        ({"prompt": {"4": {}, "5": {"class_type": "X", "inputs": {"a": ["4", 0]}}}}, ""),
    ],
)
def test_requests_that_the_host_would_fail_over_are_told_from_others(request_, fault):
    assert fault_of(request_) == fault


# Seeds without effect


def wildcard(mode, text, seed=7):
    inputs = {"wildcard_text": "w", "populated_text": text, "mode": mode, "seed": seed}
    return {
        "1": {"class_type": "ImpactWildcardProcessor", "inputs": inputs, "_meta": {"title": "T"}}
    }


def settled(text):
    return "{" not in text


@pytest.mark.parametrize("mode", ["fixed", "reproduce"])
@pytest.mark.parametrize("seed", [7, ["2", 0]])
def test_a_seed_without_effect_is_taken_out_and_put_back(mode, seed):
    prompt = wildcard(mode, "plain", seed)
    settle_seeds(prompt, settled)
    assert prompt["1"]["inputs"]["seed"] == 0
    assert prompt["1"]["_meta"]["title"] == "T"
    assert restore_seeds(prompt) == ["1"]
    assert prompt == wildcard(mode, "plain", seed)


@pytest.mark.parametrize(
    ("mode", "text"),
    [("fixed", "{a|b}"), ("populate", "plain"), (["2", 0], "plain"), ("fixed", ["3", 0])],
)
def test_a_seed_with_an_effect_stays(mode, text):
    prompt = wildcard(mode, text)
    settle_seeds(prompt, settled)
    assert prompt == wildcard(mode, text)


# Where a prompt comes from


def test_a_prompt_gets_a_number_and_tells_its_workflow():
    request = {"client_id": "me", "extra_data": {"extra_pnginfo": {"workflow": {"id": "w"}}}}
    origin = origin_of(request)
    assert origin.identity == {"prompt_id": request["prompt_id"], "workflow_id": "w"}
    assert origin.is_editor
    assert origin_of(request) == origin
    assert not origin_of({"extra_data": {"extra_pnginfo": {"workflow": {"id": "w"}}}}).is_editor
    assert not origin_of({"client_id": "me"}).is_editor


# In a saved workflow


def test_a_text_is_recorded_where_it_counts():
    """At the outermost subgraph node that shows it, and inside for older editors."""

    def inside(id, node, slot):
        return {
            "id": id, "nodes": [node], "inputs": [{"name": "n"}, {"name": "populated_text"}],
            "links": [{"id": 1, "origin_id": -10, "origin_slot": 1, "target_id": node["id"],
                       "target_slot": slot, "type": "STRING"},
                      {"id": 2, "origin_id": -10, "origin_slot": 0, "target_id": 99,
                       "target_slot": 0, "type": "INT"}],
        }  # fmt: skip

    text = {"name": "populated_text", "widget": {"name": "populated_text"}, "link": 1}
    inner = {"id": 3, "type": "W", "inputs": [text], "widgets_values": ["w", "", "populate", 5]}
    middle = {"id": 4, "type": "one", "inputs": [dict(text)], "widgets_values": ["old"]}
    outer = {
        "id": 5, "type": "two", "inputs": [{**text, "link": None}], "widgets_values": ["old"],
        "widgets_values_named": {"populated_text": "old"},
    }  # fmt: skip
    workflow = {
        "nodes": [outer],
        "definitions": {"subgraphs": [inside("one", inner, 0), inside("two", middle, 0)]},
    }
    record(workflow, [Populated("5:4:3", "drawn")])
    assert inner["widgets_values"] == ["w", "drawn", "reproduce", 5]
    assert outer["widgets_values"] == ["drawn"]
    assert outer["widgets_values_named"] == {"populated_text": "drawn"}
    assert middle["widgets_values"] == ["old"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"prompt": {"1": {"class_type": "X", "inputs": {}}}, "modes": {"1": 4}}, ""),
        ({"prompt": {}, "modes": {}}, ""),
        ([], "The body is no JSON object."),
        ({"prompt": {}}, "'modes' is no JSON object."),
        ({"modes": {}}, "'prompt' is no JSON object."),
        ({"prompt": {"1": None}, "modes": {}}, "Node 1 is no JSON object."),
        ({"prompt": {"1": {"inputs": {}}}, "modes": {}}, "Node 1 has no 'class_type'."),
        ({"prompt": {}, "modes": {"1": "x"}}, "The mode of node 1 is no whole number."),
    ],
)
def test_what_is_no_prompt_with_modes(content, fault):
    assert fault_of_modes(content) == fault
