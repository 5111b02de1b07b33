"""core/graph/node_calls.py: how the host calls a node, and what it shows of a run's notes."""

import pytest
from detailers.core.graph.node_calls import MOST_NOTES, NOTES, open_to_host
from detailers.utils.notes import note


def node(result, *texts):
    """An object of a class that tells texts and gives a result."""

    class Node:
        FUNCTION = "run"

        def run(self, *args, **inputs):
            for text in texts:
                note("kind", text)
            return result(*args, **inputs) if callable(result) else result

    open_to_host(Node)
    return Node()


def in_host(node, **inputs):
    return getattr(node, type(node).FUNCTION)(**inputs)


def test_a_node_that_has_nothing_to_tell_gives_its_own_result():
    result = (1, 2)
    assert in_host(node(result)) is result


def test_notes_are_part_of_the_ui_output():
    assert in_host(node((1,), "first", "second", "first")) == {
        "ui": {NOTES: [{"kind": "kind", "text": "first"}, {"kind": "kind", "text": "second"}]},
        "result": (1,),
    }


@pytest.mark.parametrize("texts", [(), ("told",)])
def test_a_ui_output_always_has_the_entry(texts):
    result = {"ui": {"images": [1]}, "result": (2,)}
    shown = [{"kind": "kind", "text": text} for text in texts]
    assert in_host(node(result, *texts)) == {
        "ui": {"images": [1], NOTES: shown},
        "result": (2,),
    }
    assert result == {"ui": {"images": [1]}, "result": (2,)}


def test_an_expanded_graph_stays_as_it_is():
    result = {"expand": {}, "result": ()}
    assert in_host(node(result, "told")) is result


def test_of_many_notes_the_first_are_shown():
    shown = in_host(node((), *map(str, range(MOST_NOTES + 3))))["ui"][NOTES]
    assert len(shown) == MOST_NOTES + 1
    assert shown[-1]["text"] == "And 3 more; ComfyUI's log has them all."


def test_direct_calls_give_the_plain_result():
    own = node(lambda a, b=2: (a, b), "told")
    assert own.run(1) == own.doit(1) == own.doit(a=1, b=2) == (1, 2)


def test_a_subclass_may_replace_the_older_entry_point():
    class Other(type(node((1,)))):
        def doit(self, **inputs):
            note("other", "hello")
            return ("theirs",)

    assert in_host(Other()) == {
        "ui": {NOTES: [{"kind": "other", "text": "hello"}]},
        "result": ("theirs",),
    }


def test_what_each_item_of_a_list_tells_is_told_once(caplog):
    class Each:
        FUNCTION = "run"

        def run(self, text):
            note("kind", "of all")
            note("kind", text)
            return (text,)

    runs = iter(["a", "a", "b", None, None])
    open_to_host(Each, lambda: next(runs))
    shown = [in_host(Each(), text=text)["ui"][NOTES] for text in ("1", "2", "3", "4", "5")]
    texts = [[entry["text"] for entry in entries] for entries in shown]
    assert texts == [["of all", "1"], ["2"], ["of all", "3"], ["of all", "4"], ["of all", "5"]]
    assert caplog.messages.count("of all") == 4


def test_a_class_is_opened_once():
    own = node((1,), "told")
    open_to_host(type(own))
    assert len(in_host(own)["ui"][NOTES]) == 1
