"""Prompts whose wildcard texts are drawn before they are run."""

from detailers.core.prompt_lists import join_texts, labelled_prompts, select_text
from detailers.core.prompts import Populated, populate, record
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


def test_labelled_prompts_keep_order_tags_and_labels():
    text, labels = labelled_prompts("cat, dog\nbird, Cat", "\\n", "<", ">", "cat, bird", "dog")
    assert text == "[LAB]\n[1] <cat>\n[2] <bird, Cat>"
    assert labels == "1,2"


def test_labelled_prompts_of_nothing():
    assert labelled_prompts("", "\\n", "", "", "", "") == ("[LAB]", "")


def test_select_text_by_line_counts_round():
    assert [select_text("a\nb\nc", i, blocks=False) for i in (0, 2, 3, 7)] == ["a", "c", "a", "b"]


def test_select_text_by_block():
    text = "#one\nmore\n#two\n\n#three"
    assert [select_text(text, i, blocks=True) for i in range(4)] == [
        "one\nmore", "two", "three", "one\nmore",
    ]  # fmt: skip


def test_join_texts_reads_escapes():
    assert join_texts(["a", "b"], "\\n") == "a\nb"
    assert join_texts(["a", "b"], ", ") == "a, b"
