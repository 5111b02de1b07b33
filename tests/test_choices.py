"""core/graph/choices.py and core/graph/numbered_inputs.py: values that the host compares."""

import pytest
from detailers.core.graph.choices import Choices, LiveType, open_choices
from detailers.core.graph.numbered_inputs import expect_numbered, used_numbers


class Node:
    FUNCTION = "run"
    RETURN_TYPES = ("*",)
    names = ("a", "b")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"choice": (list(cls.names), {}), "number": ("INT", {})}}

    def run(self, choice, number=1):
        return (choice,)


@pytest.fixture
def opened():
    node = type("Opened", (), dict(vars(Node)))
    open_choices(node)
    return node


@pytest.mark.parametrize("other", [["a"], [], ["b", "c"], "COMBO", ("COMBO")])
def test_a_choice_takes_every_other_one(other):
    mine = Choices(["a", "b"])
    assert not (other != mine)  # noqa: SIM202 - what the host asks
    assert not (mine != other)  # noqa: SIM202


@pytest.mark.parametrize("other", ["MODEL", "*", "INT", None, 3])
def test_a_choice_takes_nothing_else(other):
    assert other != Choices(["a", "b"])


def test_a_choice_is_a_list_to_all_others(opened):
    kind = opened.INPUT_TYPES()["required"]["choice"][0]
    assert isinstance(kind, Choices)
    assert kind == ["a", "b"]
    assert opened.INPUT_TYPES()["required"]["number"] == ("INT", {})


def test_types_are_asked_for_when_they_are_needed():
    names = ["a"]
    node = type("Live", (), {"RETURN_TYPES": LiveType(lambda: (Choices(names),))})
    names.append("b")
    assert node.RETURN_TYPES == (["a", "b"],)


def test_the_numbers_of_inputs_that_prompts_use():
    expect_numbered(["input2", "input7", "value", "x0", "input99999999"])
    assert {2, 7} <= set(used_numbers())
    assert not {0, 99999999} & set(used_numbers())
