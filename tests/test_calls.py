"""core/graph/calls.py: how other packs call and inherit nodes."""

import inspect

import pytest
import torch
from detailers.core.graph.calls import Entry, OlderInputs, called_as, named, older_order
from detailers.core.graph.node_calls import open_to_host


class Paste:
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE", {}),
                "feather": ("INT", {"default": 5}),
                "mode": (["soft", "hard"], {}),
                "Select to add LoRA": (["x"], {}),
            },
            "optional": {"paste_options": ("PASTE_OPTIONS", {}), "alpha": ("INT", {"default": 9})},
        }

    def run(self, **inputs):
        return inputs


open_to_host(Paste)
IMAGE = torch.zeros(1, 2, 2, 3)


def test_inputs_by_position_are_those_of_the_older_node_first():
    assert older_order(Paste, ["image", "feather", "mode", "paste_options", "alpha"]) == [
        "image", "feather", "mode", "alpha", "paste_options",
    ]  # fmt: skip
    given = named(Paste, (IMAGE, 3, "hard", 7), {})
    assert given.pop("image") is IMAGE
    assert given == {"feather": 3, "mode": "hard", "alpha": 7, "Select to add LoRA": "x"}


def test_required_widgets_have_their_defaults_and_optional_ones_are_left_to_the_method():
    given = named(Paste, (), {"image": IMAGE})
    assert given.pop("image") is IMAGE
    assert given == {"feather": 5, "mode": "soft", "Select to add LoRA": "x"}


def test_too_many_and_double_inputs_are_refused():
    with pytest.raises(TypeError, match="Paste takes 5 inputs by position, but 6"):
        named(Paste, range(6), {})
    with pytest.raises(TypeError, match="Paste was given feather both"):
        named(Paste, (IMAGE, 3), {"feather": 3})


def test_pictures_in_a_list_are_one_batch():
    given = named(Paste, ([IMAGE[0], IMAGE],), {})
    assert given["image"].shape == (2, 2, 2, 3)


def test_the_entry_point_works_on_the_class_and_on_objects():
    for call in (Paste().doit, Paste.doit, lambda *args: Paste.doit(Paste(), *args)):
        assert call(IMAGE, 3)["feather"] == 3
    assert isinstance(inspect.getattr_static(Paste, "doit"), Entry)


def test_what_the_host_does_not_run_gives_the_plain_result():
    class Other:
        FUNCTION = "run"

        def run(self):
            return {"ui": {"text": ["a"]}, "result": (1,)}

    open_to_host(Other, is_run=lambda node: False)
    assert Other().run_in_host() == {"ui": {"text": ["a"]}, "result": (1,)}


def test_a_class_that_inherits_its_method_is_called_in_its_own_order():
    class DetailerForEach:
        FUNCTION = "run"

        @classmethod
        def INPUT_TYPES(cls):
            names = ("wildcard", "cycle", "detailer_hook")
            return {"required": {name: ("INT", {}) for name in names}}

        def run(self, **inputs):
            return inputs

    class DetailerForEachDebug(DetailerForEach):
        pass

    open_to_host(DetailerForEach)
    open_to_host(DetailerForEachDebug)
    assert DetailerForEach.doit(1, 2, 3) == {"wildcard": 1, "cycle": 2, "detailer_hook": 3}
    assert DetailerForEachDebug.doit(1, 2, 3) == {"wildcard": 1, "cycle": 3, "detailer_hook": 2}
    assert DetailerForEachDebug().run_in_host(wildcard=1) == {"wildcard": 1}


def test_a_function_may_be_called_as_another_one():
    @called_as("a, b=2, c=None, d='x', e=0.5, f=True")
    def function(**given):
        return given

    assert function(1) == {"a": 1, "b": 2, "c": None, "d": "x", "e": 0.5, "f": True}
    assert function(1, 3, f=False)["f"] is False
    assert list(inspect.signature(function).parameters) == list("abcdef")
    with pytest.raises(TypeError, match="'a'"):
        function()


def test_inputs_told_to_other_packs():
    declared = OlderInputs(vars(Paste)["INPUT_TYPES"].__func__, Paste)
    own = type("Own", (Paste,), {"INPUT_TYPES": declared, "__module__": "detailers.nodes.x"})
    theirs = type("Theirs", (own,), {"__module__": "their_pack"})
    assert list(own.INPUT_TYPES()["optional"]) == ["paste_options", "alpha"]
    assert list(theirs.INPUT_TYPES()["optional"]) == ["alpha"]
