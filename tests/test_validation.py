"""core/graph/valid*.py: the inputs of a node are checked against their declaration."""

import math
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detailers.core.graph.validation import checks_of, guard
from detailers.core.settings import NEGATIVE_PLACEHOLDER
from detailers.utils.notes import collected_notes
from hypothesis import given
from hypothesis import strategies as st

SEED = {"min": 0, "max": 2**64 - 1}
OtherSeg = namedtuple(
    "OtherSeg", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper"
)
SEG = OtherSeg(None, np.ones((4, 3)), 0.5, (0, 0, 3, 4), (0, 0, 3, 4), "A", None)
TEXT = [torch.zeros(1, 7, 8), {"pooled_output": None}]


def node(required=None, optional=None, **attributes):
    """A node whose inputs are checked, and whose method returns its inputs."""

    class Node:
        FUNCTION = "run"
        choices = ["a", "b"]

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": dict(required or {}), "optional": dict(optional or {})}

        def run(self, value="default", more="default", **others):
            return {"value": value, "more": more, **others}

    for name, value in attributes.items():
        setattr(Node, name, value)
    guard(Node, "Some Node")
    return Node()


def let_in(kind, value, name="value", **options):
    """The inputs that a node gets, and the notes."""
    own = node({name: (kind, options)})
    with collected_notes() as notes:
        return own.run(**{name: value})[name], [entry.text for entry in notes]


def refused(kind, value, name="value", **options):
    with pytest.raises(ValueError, match=rf"^Some Node: .*'{name}[.,']") as caught:
        let_in(kind, value, name, **options)
    return str(caught.value)


# Numbers


@pytest.mark.parametrize(
    "value", [7, 7.0, "7", " 7.0 ", np.int64(7), np.float32(7), torch.tensor(7.0), np.array([7])]
)
def test_a_whole_number_in_every_form_is_an_int(value):
    found, told = let_in("INT", value, min=1, max=10)
    assert (found, type(found), told) == (7, int, [])


@pytest.mark.parametrize("value", [0.5, "0.5", np.float64(0.5), torch.tensor([0.5])])
def test_a_number_in_every_form_is_a_float(value):
    found, told = let_in("FLOAT", value, min=0.0, max=1.0)
    assert (found, type(found), told) == (0.5, float, [])


@pytest.mark.parametrize("kind", ["INT", "FLOAT"])
@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, "nan", "1e400", 10**400, None, "many", "", [1], {}, (1,), 1j,
     torch.tensor([1, 2]), torch.tensor(math.nan), np.array([]), object(), torch.ones(1).to("meta"),
     "9" * 5000],
)  # fmt: skip
def test_what_is_no_finite_number_is_refused(kind, value):
    text = refused(kind, value, min=1, max=10)
    assert "number from 1 to 10 but is" in text
    assert len(text) < 400


def test_half_a_step_is_no_whole_number():
    text = refused("INT", 2.5, min=1, max=10)
    assert text == (
        "Some Node: 'value' should be a whole number from 1 to 10 but is a float, 2.5. Connect a "
        "whole number, or round it before."
    )


@pytest.mark.parametrize(
    ("kind", "value", "low", "high", "nearest"),
    [
        ("INT", -1, 0, 64, 0),  # detail_batch
        ("INT", 300, 0, 255, 255),  # alpha
        ("INT", 600, -512, 512, 512),  # dilation
        ("FLOAT", 0.5, 1.0, 100, 1.0),  # crop_factor
        ("FLOAT", 0.0, 0.1, 100.0, 0.1),  # sigma
        ("FLOAT", 1.25, 0.0, 1.0, 1.0),
        ("FLOAT", "32", 64, 16384, 64.0),
    ],
)
def test_a_number_near_its_range_is_brought_into_it_and_told(kind, value, low, high, nearest):
    found, told = let_in(kind, value, min=low, max=high)
    assert found == nearest
    assert len(told) == 1
    assert f"'value' is {float(value) if kind == 'FLOAT' else value}, which is outside" in told[0]
    assert f"so {nearest} is used" in told[0]


@pytest.mark.parametrize(
    ("kind", "value", "low", "high"),
    [
        ("INT", 0, 1, 10000),  # no steps are not one step
        ("INT", 0, 64, 4096),  # bbox_size
        ("INT", -1, 1, 10),  # max_retries
        ("FLOAT", -0.5, 0.0001, 1.0),  # denoise
        ("FLOAT", 50.0, 0.0, 1.0),  # a percentage
        ("INT", 9999, 0, 255),
        ("INT", 2**31, -512, 512),
        ("INT", -1, 0, 2**64 - 1),  # a seed
        ("INT", 2**64, 0, 2**64 - 1),
        ("INT", -1, 0, 2**63 - 1),  # an index
    ],
)
def test_a_number_whose_nearest_bound_means_something_else_is_refused(kind, value, low, high):
    assert f"from {low} to {high}" in refused(kind, value, min=low, max=high)


def test_which_one_to_take_is_no_amount():
    refused("INT", 5, name="select", min=1, max=4)


@given(st.one_of(st.integers(), st.floats(), st.text(max_size=30), st.booleans(), st.none()))
def test_what_comes_in_is_of_the_declared_range(value):
    for kind, low, high in (("INT", 1, 10), ("FLOAT", -1.0, 2.5), ("INT", 0, 2**64 - 1)):
        try:
            found, _ = let_in(kind, value, min=low, max=high)
        except ValueError as error:
            assert str(error).startswith("Some Node: 'value' should be a")
        else:
            assert low <= found <= high
            assert type(found) is (int if kind == "INT" else float)


@given(st.integers(1, 10))
def test_what_is_right_stays_what_it_is(value):
    assert let_in("INT", value, min=1, max=10) == (value, [])


# Other settings


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True), (0, False), (1.0, True), ("false", False), (" True ", True), ("bbox", True),
        ("crop_region", False), ("0", False), (np.bool_(False), False), (torch.tensor(True), True),
    ],
)  # fmt: skip
def test_booleans_in_every_form(value, expected):
    found, _ = let_in("BOOLEAN", value, label_on="bbox", label_off="crop_region")
    assert found is expected


@pytest.mark.parametrize("value", ["perhaps", "", None, [], [True], math.nan, {}, object()])
def test_what_is_no_boolean_is_refused(value):
    assert "true or false" in refused("BOOLEAN", value)


def test_numbers_are_texts():
    assert let_in("STRING", 5)[0] == "5"
    assert let_in("STRING", 0.25)[0] == "0.25"
    assert let_in("STRING", "__colour__\n")[0] == "__colour__\n"
    for value in (None, b"x", ["a"], {}, torch.ones(3), 10**400, "\ud800"):
        refused("STRING", value)


def test_names_of_files_have_no_odd_signs_and_an_end():
    assert let_in("STRING", "a/b %date%", name="filename_prefix")[0] == "a/b %date%"
    text = refused("STRING", "a" * 20000, "filename_prefix")
    assert "at most 200 characters but has 20000" in text
    assert "NUL" in refused("STRING", "a\0b", "temp_prefix")
    assert let_in("STRING", "a\0" * 20000)[0] == "a\0" * 20000


def test_choices_are_asked_for_again_where_one_is_missing():
    names, asked = ["a", "b"], []

    class Node:
        FUNCTION = "run"

        @classmethod
        def INPUT_TYPES(cls):
            asked.append(1)
            return {"required": {"choice": (list(names), {})}}

        def run(self, choice):
            return choice

    guard(Node, "Some Node")
    assert Node().run(choice="b") == "b"
    text = "^Some Node: 'choice' is 'c', which this ComfyUI does not have. Choose one of: a, b.$"
    with pytest.raises(ValueError, match=text):
        Node().run(choice="c")
    names.append("c")  # by a pack that loads later
    assert Node().run(choice="c") == "c"
    count = len(asked)
    for _ in range(5):
        Node().run("c")
    assert len(asked) == count
    for value in (None, [], ["a"], {}, 5, torch.ones(2)):
        with pytest.raises(ValueError, match="does not have"):
            Node().run(choice=value)


def test_choices_that_the_node_checks_take_others():
    own = node({"value": (["a"], {})}, VALIDATE_INPUTS=classmethod(lambda cls, value: True))
    assert own.run(value="c")["value"] == "c"


# None, lists, calls


def test_none_is_as_if_nothing_were_connected_where_that_may_be():
    own = node({"value": ("INT", {})}, {"more": ("INT", {})})
    assert own.run(value=1, more=None)["more"] == "default"
    with pytest.raises(ValueError, match=r"'value' .* None"):
        own.run(value=None)
    assert node({"value": ("INT", {})}, TAKES_NONE=("value",)).run(value=None)["value"] is None
    assert node({"value": ("IMAGE", {"lazy": True})}).run(value=None)["value"] is None
    assert node({"value": ("*", {})}).run(value=None)["value"] is None


def test_hidden_inputs_and_those_of_any_type_are_left_alone():
    own = node({"value": ("*", {}), "more": ("TYPE_OF_ANOTHER_PACK", {})})
    odd = object()
    assert own.run(value=odd, more=odd, prompt=odd) == {"value": odd, "more": odd, "prompt": odd}


def test_each_item_of_a_list_is_checked():
    own = node({"value": ("INT", {"min": 0, "max": 9}), "more": ("*", {})}, INPUT_IS_LIST=True)
    assert own.run(value=["5", 6.0], more=[None]) == {"value": [5, 6], "more": [None]}
    with pytest.raises(ValueError, match=r"'value' .* 'x'"):
        own.run(value=[5, "x"], more=[])
    with pytest.raises(ValueError, match="'more' should be a list"):
        own.run(value=[5], more=None)
    with pytest.raises(ValueError, match="'value' is an empty list"):
        own.run(value=[], more=[])


def test_inputs_of_which_there_is_any_number():
    class Numbered(dict):
        def __contains__(self, name):
            return name.startswith("mask")

        def __getitem__(self, name):
            return ("MASK", {})

    own = node(optional=None)
    type(own).INPUT_TYPES = classmethod(lambda cls: {"required": {}, "optional": Numbered()})
    assert own.run(mask7=torch.ones(2, 2, dtype=torch.bool))["mask7"].dtype == torch.float32
    with pytest.raises(ValueError, match=r"'mask9' .* str"):
        own.run(mask9="x")
    assert own.run(other="x")["other"] == "x"


def test_every_way_to_call_leads_through_the_door():
    class Node:
        FUNCTION = "run"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"value": ("INT", {"min": 0, "max": 9})}}

        def check_lazy_status(self, value):
            return value

        def run(self, value):
            return value

        def doit(self, value):
            return self.run(value)

    class Derived(Node):
        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"value": ("FLOAT", {"min": 0, "max": 1})}}

    guard(Node, "Some Node")
    guard(Node, "Some Node")
    for call in (Node().run, Node().doit, Node().check_lazy_status):
        assert call("5") == call(value="5") == 5
        with pytest.raises(ValueError, match="Some Node: 'value'"):
            call("x")
    assert Derived().run("0.5") == 0.5
    with pytest.raises(ValueError, match=r"Some Node: 'value' .* 0 to 1"):
        Derived().run(7)
    with pytest.raises(TypeError):
        Node().run(1, 2)
    with pytest.raises(TypeError):
        Node().run(1, value=2)
    assert checks_of(Node) is checks_of(Node)


# Tensors


def test_images_that_are_right_stay_the_same_object():
    image = torch.rand(1, 4, 5, 3)
    assert let_in("IMAGE", image)[0] is image


ODD_TENSORS = {
    "sparse": (torch.ones(1, 4, 4, 3).to_sparse(), "sparse_coo"),
    "meta": (torch.ones(1, 4, 4, 3).to("meta"), "meta"),
    "complex": (torch.ones(1, 4, 4, 3, dtype=torch.complex64), "complex64"),
    "float8": (torch.ones(1, 4, 4, 3).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "nested": (torch.nested.nested_tensor([torch.ones(4, 4, 3)]), "nested"),
    "bytes": (torch.ones(1, 4, 4, 3, dtype=torch.uint8), "uint8"),
    "nan": (torch.full((1, 4, 4, 3), math.nan), "not finite"),
    "mask": (torch.ones(1, 4, 4), "[1, 4, 4]"),
    "array": (np.ones((1, 4, 4, 3)), "ndarray"),
    "list": ([torch.ones(1, 4, 4, 3)], "a list of 1"),
    "none": (None, "None"),
    "text": ("cat.png" * 99, "'cat.png"),
}


@pytest.mark.parametrize("which", ODD_TENSORS)
def test_what_is_no_image_is_refused(which):
    value, words = ODD_TENSORS[which]
    text = refused("IMAGE", value)
    assert words in text
    assert len(text) < 400


def test_quantised_tensors_are_refused():
    value = torch.quantize_per_tensor(torch.ones(1, 4, 4, 3), 0.1, 0, torch.quint8)
    assert "quint8" in refused("IMAGE", value)


def test_masks_of_booleans_and_of_zeros_and_ones_are_masks():
    for kind in (torch.bool, torch.int64, torch.uint8):
        found, _ = let_in("MASK", torch.eye(3)[None].to(kind))
        assert found.dtype == torch.float32
        assert torch.equal(found, torch.eye(3)[None])
    refused("MASK", torch.full((1, 3, 3), 255, dtype=torch.uint8))
    half = torch.rand(1, 3, 3).half()
    assert let_in("MASK", half)[0] is half


def test_what_carries_gradients_is_taken_out_of_them():
    image = torch.rand(1, 4, 5, 3, requires_grad=True)
    found, _ = let_in("IMAGE", image)
    assert not found.requires_grad
    assert torch.equal(found, image)


def test_an_expanded_tensor_is_looked_at_once():
    image = torch.rand(1, 1, 1, 3).expand(1, 2**17, 2**17, 3)  # 200 GB if it were written out
    assert let_in("IMAGE", image)[0] is image


def test_latents():
    good = {"samples": torch.rand(1, 4, 8, 8), "noise_mask": torch.ones(1, 64, 64)}
    assert let_in("LATENT", good)[0] is good
    streams = SimpleNamespace(
        is_nested=True, unbind=lambda: [torch.rand(1, 4, 2, 8, 8), torch.rand(1, 8, 9)]
    )
    assert let_in("LATENT", {"samples": streams})[0]["samples"] is streams
    for samples in (None, "x", [1], torch.rand(8, 8), torch.zeros(1, 4, 0, 8), torch.rand(4, 8, 8),
                    torch.full((1, 4, 8, 8), math.nan), torch.ones(1, 4, 8, 8).to_sparse(),
                    torch.ones(1, 4, 8, 8, dtype=torch.int64)):  # fmt: skip
        assert "Connect" in refused("LATENT", {"samples": samples}) or samples is not None
    for mask in ("x", torch.zeros(0), torch.full((1, 8, 8), math.nan), 5):
        refused("LATENT", {**good, "noise_mask": mask})


# SEGS


def test_segs_of_another_class_stay_the_same_object():
    segs = ((4, 3), [SEG, SEG._replace(confidence=np.array([0.1, 0.9]), label=None)])
    assert let_in("SEGS", segs)[0] is segs


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("cropped_mask", [[1.0]], "a list of 1"),
        ("cropped_mask", "mask", "'mask'"),
        ("cropped_mask", np.ones((1, 1, 4, 3)), "[1, 1, 4, 3]"),
        ("cropped_mask", np.array([["a"]]), "[1, 1]"),
        ("cropped_mask", torch.ones(4, 3).to_sparse(), "Tensor"),
        ("crop_region", (0, 0, math.nan, 4), "nan"),
        ("crop_region", "abcd", "'abcd'"),
        ("bbox", (0, 0, 10**400, 4), "10**400"),
        ("confidence", math.nan, "nan"),
        ("confidence", "sure", "'sure'"),
        ("cropped_image", "x", "'x'"),
        ("cropped_image", np.ones(3), "[3]"),
        ("cropped_image", np.ones((0, 4, 3, 3)), "[0, 4, 3, 3]"),
        ("control_net_wrapper", 5, "an int, 5"),
    ],
)
def test_segs_of_which_a_part_is_wrong(field, value, words):
    text = refused("SEGS", ((4, 3), [SEG, SEG._replace(**{field: value})]))
    assert f"the {field} of SEG 1 should be" in text
    assert words in text
    assert f"the {field} of the SEG should be" in refused("SEG_ELT", SEG._replace(**{field: value}))


@pytest.mark.parametrize(
    "value", [(10**9, 10**9), (-1, 5), ("a", "b"), (math.nan, 1), "ab", (1,), None, (10**400, 1)]
)
def test_sizes_that_segs_cannot_be_of(value):
    refused("SEGS", (value, [SEG]))


# Conditionings and pipes


def test_the_placeholder_is_for_negatives_alone():
    assert let_in("CONDITIONING", NEGATIVE_PLACEHOLDER, "negative")[0] == NEGATIVE_PLACEHOLDER
    text = refused("CONDITIONING", NEGATIVE_PLACEHOLDER, "positive")
    assert "placeholder" in text and "only to inputs 'negative'" in text
    models = [SimpleNamespace(**dict.fromkeys(names, print)) for names in (
        ("clone", "get_model_object"), ("tokenize", "clone"),
        ("encode", "decode", "spacial_compression_encode"),
    )]  # fmt: skip
    pipe = (*models, [TEXT], NEGATIVE_PLACEHOLDER)
    assert let_in("BASIC_PIPE", pipe, "basic_pipe")[0] is pipe
    text = refused("BASIC_PIPE", (*pipe[:3], NEGATIVE_PLACEHOLDER, [TEXT]), "basic_pipe")
    assert "In 'basic_pipe', 'positive' is the placeholder" in text
    own = node({"pipe": ("BASIC_PIPE", {}), "positive": ("CONDITIONING", {})}, HANDS_ON=True)
    with pytest.raises(ValueError, match="placeholder"):
        own.run(pipe=pipe, positive=NEGATIVE_PLACEHOLDER)
    parts = ("model", "clip", "vae", "positive", "negative")  # stand-ins, which nothing uses here
    assert own.run(pipe=parts, positive="x")["pipe"] == parts
    own = node({"pipe": ("BASIC_PIPE", {})}, USES_PARTS=("positive",))
    assert own.run(pipe=(*parts[:3], [TEXT], 5))["pipe"][4] == 5
    with pytest.raises(ValueError, match=r"'pipe', 'positive' .* 'positive'"):
        own.run(pipe=parts)
    for count in (0, 4, 6):
        with pytest.raises(ValueError, match=f"'pipe' .* five parts .* a tuple of {count} parts"):
            own.run(pipe=("x",) * count)


@pytest.mark.parametrize(
    "entry",
    [None, "x", [], TEXT[:1], [None, {}], ["x", {}], [TEXT[0], None], [torch.zeros(3), {}],
     [TEXT[0], {"mask": "x"}], [TEXT[0], {"mask": torch.zeros(3)}], [TEXT[0], {"area": "x"}],
     [TEXT[0], {"area": (1, 2)}], [TEXT[0], {"strength": "x"}], [TEXT[0].to("meta"), {}],
     [TEXT[0], {"start_percent": math.nan}], [TEXT[0], {"pooled_output": 5}], [*TEXT, 5],
     [TEXT[0], {"mask": torch.ones(1, 8, 8).to("meta")}], [TEXT[0], {"mask": None}],
     [TEXT[0], {"control": "x"}], [TEXT[0], {"gligen": ("position", None, [])}],
     [TEXT[0], {"hooks": 5}], [TEXT[0], {"reference_latents": [torch.zeros(3)]}]],
)  # fmt: skip
def test_conditionings_of_which_a_part_is_wrong(entry):
    assert "entry 1" in refused("CONDITIONING", [TEXT, entry])


def test_conditionings_that_are_right():
    options = {"area": (8, 8, 0, 0), "mask": torch.ones(1, 8, 8), "of another pack": object()}
    good = [TEXT, (TEXT[0], {**options, "strength": 0.5})]
    assert let_in("CONDITIONING", good)[0] is good
    relative = [[TEXT[0], {"area": ("percentage", 0.5, 0.5, 0, 0)}]]
    assert let_in("CONDITIONING", relative)[0] is relative
    refused("CONDITIONING", [])


# Objects


def test_objects_of_any_class_are_taken_for_what_they_can_do():
    detector = SimpleNamespace(detect=print)
    assert let_in("BBOX_DETECTOR", detector)[0] is detector
    assert let_in("DETAILER_HOOK", detector)[0] is detector
    assert "detect()" in refused("BBOX_DETECTOR", SimpleNamespace(detect=5))
    assert let_in("SCHEDULER_FUNC", print)[0] is print


@pytest.mark.parametrize(
    "kind", ["MODEL", "CLIP", "VAE", "BBOX_DETECTOR", "SAMPLER", "DETAILER_HOOK",
             "PK_HOOK", "UPSCALER", "KSAMPLER", "CONTROL_NET", "SCHEDULER_FUNC", "PASTE_OPTIONS",
             "REGIONAL_PROMPTS", "FACE_LANDMARKS", "BOUNDING_BOX", "SEGS_PREPROCESSOR",
             "SEGMENT_PLAN", "SEGS_TRACKS", "VIDEO"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["x", 5, {"a": 1}, torch.ones(2), int, ["x"]], ids=str)
def test_data_is_no_object(kind, value):
    assert "should" in refused(kind, value)


def test_a_sam_of_any_class_is_taken():
    odd = object()
    assert let_in("SAM_MODEL", odd)[0] is odd
    assert "is a str, 'x', which cannot be asked for masks" in refused("SAM_MODEL", "x")


def test_an_object_that_cannot_be_shown_is_named_by_its_class():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    assert "a Odd" in refused("INT", Odd())
