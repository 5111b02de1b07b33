"""Return values and errors of users' callables are checked, and errors name the callable."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detailers.core import checked_calls
from detailers.core.checked_calls import Source
from detailers.core.detail.images import detail_image
from detailers.core.detectors.given import found_by, mask_by
from detailers.core.detectors.sam.model import sam_mask
from detailers.core.detectors.sam.questions import SamHints
from detailers.core.geometry import Box, Size
from detailers.core.hook_protocol import Hook
from detailers.core.hooks.builtin import CombinedHook
from detailers.core.prompts.control import ControlNetOnSegment, SegmentControl
from detailers.core.segs.seg import SEG
from detailers.tests.fake_backend import FakeBackend, make_detail, make_seg, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st

NAN, INF = float("nan"), float("inf")
SOURCE = Source("The thing", "Mend it.")
IMAGE = noise_image(1, 32, 48)
SEGS = ((32, 48), [make_seg((8, 8, 24, 24))])


def detailed(**methods):
    hook = SimpleNamespace(**methods)
    return detail_image(IMAGE, SEGS, make_detail(hook=hook), FakeBackend()).image


class HostError(Exception):
    """As the host's interrupt."""


HostError.__module__ = "comfy.model_management"


# Raising


@pytest.mark.parametrize(
    ("raised", "kind"), [(KeyError("a"), RuntimeError), (ValueError("b"), ValueError)]
)
def test_an_error_says_whose_it_is(raised, kind):
    def function():
        raise raised

    with pytest.raises(kind, match=r"^The thing failed with (Key|Value)Error: .*\. Mend it\.$"):
        SOURCE.call(function)
    with pytest.raises(kind, match=r"^The thing failed"):  # once, however many it passes
        Source("Another").call(SOURCE.call, function)


@pytest.mark.parametrize(
    "raised", [HostError(), MemoryError(), torch.cuda.OutOfMemoryError(), KeyboardInterrupt()]
)
def test_interrupts_and_a_lack_of_memory_pass(raised):
    def function():
        raise raised

    with pytest.raises(type(raised)) as seen:
        SOURCE.call(function)
    assert seen.value is raised


def test_names_of_callables():
    assert Source.of("The hook", SimpleNamespace(), "post_paste").name == (
        "The hook SimpleNamespace (post_paste)"
    )
    assert Source.of("The function", len).name == "The function len"
    with pytest.raises(ValueError, match=r"has no sample\(\)"):
        Source.of("The KSAMPLER", "text").method("text", "sample")


# Scheduler functions


@pytest.mark.parametrize(
    "levels",
    [
        None, "karras", 3, [], torch.zeros(0), torch.ones(2, 3), torch.tensor(1.0),
        torch.tensor([1.0, NAN, 0.0]), torch.tensor([INF, 0.0]), torch.tensor([0.0, 0.5, 1.0]),
        torch.tensor([1.0, -0.5]), [1, "much", 0], torch.tensor([1 + 1j, 0]),
        torch.zeros(3, device="meta"), np.array([["a"]]),
    ],
)  # fmt: skip
def test_noise_levels_that_are_none(levels):
    with pytest.raises(ValueError, match=r"^The thing gave .* 5 noise levels"):
        checked_calls.sigmas(SOURCE, levels, 4)


@pytest.mark.parametrize(
    "levels",
    [torch.tensor([2.0, 1.0, 1.0, 0.0]), [2, 1, 1, 0], np.array([2, 1, 1, 0]), ("2", 1, 1, 0.0)],
)
def test_noise_levels_of_any_sequence(levels):
    found = checked_calls.sigmas(SOURCE, levels, 4)
    assert found.dtype == torch.float32
    assert found.tolist() == [2, 1, 1, 0]


# Hooks

WRONG = {
    "post_crop_region": ["abcd", 5, (1, 2, 3), (1, 2, 3, NAN), (1, 2, 3, INF), torch.ones(2, 2)],
    "touch_scaled_size": ["ab", 64, (64,), (64, NAN), (64, "wide"), (INF, 64)],
    "post_upscale": [
        5, "picture", torch.zeros(16, 16, 3), torch.zeros(2, 16, 16, 3), torch.zeros(1, 16, 16, 5),
        torch.zeros(1, 0, 16, 3), torch.full((1, 16, 16, 3), NAN),
        torch.zeros(1, 16, 16, 3, dtype=torch.uint8), np.zeros((1, 16, 16, 3), np.float32),
        torch.zeros(1, 16, 16, 3, device="meta"), torch.zeros(1, 16, 16, 3).to_sparse(),
    ],
    "get_skip_sampling": [torch.ones(3), np.ones(3)],
    "post_encode": [
        5, [], {}, {"samples": None}, {"samples": torch.zeros(4, 4)},
        {"samples": torch.zeros(1, 48, 4, 4, 4)}, {"samples": torch.full((1, 48, 4, 4), NAN)},
        {"samples": torch.zeros(1, 48, 4, 4), "noise_mask": "white"},
        {"samples": torch.zeros(1, 48, 4, 4), "noise_mask": torch.full((1, 4, 4), NAN)},
        {"samples": torch.zeros(1, 1, 2000, 2000)},
    ],
    "cycle_latent": [{"samples": "latent"}],
    "pre_decode": [{"samples": torch.zeros(0, 48, 4, 4)}],
    "pre_ksample": [
        5, (1, 2), {"steps": NAN}, {"steps": -1}, {"steps": 10**9}, {"steps": "many"},
        {"cfg": INF}, {"cfg": None}, {"denoise": NAN}, {"seed": "seed"}, {"seed": NAN},
        {"sampler_name": 5}, {"scheduler": None}, {"positive": 5}, {"model": None}, {"latent": 5},
        {"latent": {"samples": torch.zeros(3)}},
    ],
    "get_custom_noise": [
        5, torch.zeros(1), (torch.zeros(1, 48, 2, 2), True), (torch.full((1, 48, 4, 4), NAN), True),
        ("noise", True), (torch.zeros(1, 48, 4, 4), torch.ones(2)),
    ],
    "post_decode": [5, torch.zeros(2, 16, 16, 3), torch.full((1, 16, 16, 3), INF)],
    "should_retry_patch": [torch.ones(3)],
    "post_paste": [
        5, torch.zeros(1, 16, 16, 3), torch.full_like(IMAGE, NAN), torch.zeros(2, 32, 48, 3),
    ],
}  # fmt: skip
PLACES = (
    "model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent",
    "denoise",
)  # fmt: skip


def returning(point, value):
    """A hook's method that gives this; of `pre_ksample` one of the values by its name."""
    if point != "pre_ksample" or not isinstance(value, dict):
        return lambda *given: value

    def changed(*given):
        return tuple({**dict(zip(PLACES, given, strict=True)), **value}.values())

    return changed


@pytest.mark.parametrize(
    ("point", "value"), [(point, value) for point, values in WRONG.items() for value in values]
)
def test_what_a_hook_gives_is_named(point, value):
    if point == "post_crop_region":
        hook = Hook(SimpleNamespace(post_crop_region=lambda *given: value))
        with pytest.raises(ValueError, match=r"The hook SimpleNamespace \(post_crop_region\)"):
            hook.post_crop_region(Size(48, 32), Box(8, 8, 24, 24), Box(0, 0, 32, 32))
        return
    with pytest.raises(ValueError, match=rf"^The hook SimpleNamespace \({point}\) gave "):
        detailed(**{point: returning(point, value)})


@pytest.mark.parametrize("point", [*WRONG, "set_steps", "get_custom_sampler"])
def test_what_a_hook_raises_is_named(point):
    def fail(*given):
        raise KeyError("lost")

    hook = SimpleNamespace(**{point: fail})
    if point == "post_crop_region":
        with pytest.raises(RuntimeError, match=r"The hook SimpleNamespace .* KeyError: 'lost'"):
            Hook(hook).post_crop_region(Size(48, 32), Box(8, 8, 24, 24), Box(0, 0, 32, 32))
        return
    with pytest.raises(RuntimeError, match=rf"SimpleNamespace \({point}\) failed with KeyError"):
        detailed(**{point: fail})
    with pytest.raises(RuntimeError, match=rf"SimpleNamespace \({point}\) failed with KeyError"):
        detail = make_detail(hook=CombinedHook(SimpleNamespace(), hook))
        detail_image(IMAGE, SEGS, detail, FakeBackend())


def test_a_combined_hook_names_the_part_and_hands_nothing_wrong_on():
    seen = []
    after = SimpleNamespace(post_decode=seen.append)
    wrong = SimpleNamespace(post_decode=lambda pixels: "picture")
    with pytest.raises(ValueError, match=r"The hook SimpleNamespace \(post_decode\) gave a str"):
        Hook(CombinedHook(wrong, after)).post_decode(IMAGE)
    assert seen == []


def test_pixels_of_other_forms_are_brought_to_those_wanted():
    grey = Hook(SimpleNamespace(post_upscale=lambda pixels: pixels[..., :1].double()))
    found = grey.post_upscale(IMAGE, torch.ones(1, 32, 48))
    assert torch.equal(found, IMAGE[..., :1].expand(-1, -1, -1, 3))
    with_alpha = Hook(
        SimpleNamespace(post_decode=lambda pixels: torch.cat([pixels] * 2, -1)[..., :4])
    )
    assert torch.equal(with_alpha.post_decode(IMAGE), IMAGE)


def test_a_hook_is_not_at_fault_for_what_was_broken_before():
    broken = torch.full_like(IMAGE, NAN)
    hook = Hook(SimpleNamespace(post_decode=lambda pixels: pixels + 0))
    assert hook.post_decode(broken).isnan().all()


def test_a_hook_cannot_ask_for_a_billion_pixels():
    with pytest.raises(
        ValueError,
        match=r"The working size of segment 0 would be 100000x10000 pixels, .* 67108864 "
        r"\(8192x8192\)\. Lower 'max_size'",
    ):
        detailed(touch_scaled_size=lambda width, height: (100000, 10000))


@given(
    st.sampled_from([point for point in WRONG if point != "post_crop_region"]),
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
        st.lists(st.floats(), max_size=4), st.tuples(st.floats(), st.floats()),
        st.dictionaries(st.sampled_from(["samples", "steps"]), st.integers(), max_size=2),
        st.builds(torch.zeros, st.lists(st.integers(0, 3), max_size=5).map(tuple)),
    ),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_whatever_a_hook_gives_it_is_a_picture_or_an_error_of_ours(point, value):
    try:
        image = detailed(**{point: lambda *given: value})
    except ValueError as error:
        assert "SimpleNamespace" in str(error) or "working size" in str(error)
    else:
        assert image.shape == IMAGE.shape
        assert torch.isfinite(image).all()


# Detectors


def detector(answer):
    give = lambda *given, **named: answer  # noqa: E731
    return SimpleNamespace(detect=give, detect_combined=give)


def found(answer):
    return found_by(detector(answer), "bbox_detector", IMAGE, 0.5, 0, 2.0, 1)


def test_a_detector_that_finds_nothing():
    assert found(None) == ((32, 48), [])
    assert mask_by(detector(None), "bbox_detector", IMAGE, 0.5, 0).sum() == 0


@pytest.mark.parametrize(
    "answer",
    [
        5, "faces", [], ((32, 48), [None]), ((32, 48), None),
        ((32, 48), [SEG(None, np.full((4, 4), NAN), 1.0, (0, 0, 4, 4), (0, 0, 4, 4), "A")]),
        ((32, 48), [SEG(None, "mask", 1.0, (0, 0, 4, 4), (0, 0, 4, 4), "A")]),
        ((32, 48), [SEG(None, np.ones((4, 4)), NAN, (0, 0, 4, 4), (0, 0, 4, 4), "A")]),
        ((32, 48), [SEG(None, np.ones((4, 4)), 1.0, (0, 0, NAN, 4), (0, 0, 4, 4), "A")]),
    ],
)  # fmt: skip
def test_a_detector_that_gives_no_segs_is_named(answer):
    with pytest.raises(ValueError, match="the result of 'bbox_detector'"):
        found(answer)


def test_boxes_outside_and_masks_of_another_size_are_fitted():
    far = SEG(None, np.ones((2, 2)), 1.0, (40, 20, 10**9, 10**9), (44, 24, 99, 99), 7)
    _, (only,) = found(((32, 48), [far]))
    assert only.crop_region == (40, 20, 48, 32)
    assert only.bbox == (44, 24, 48, 32)
    assert only.cropped_mask.shape == (12, 8)
    assert only.label == "7"


@pytest.mark.parametrize(
    "answer",
    [5, "mask", [[1]], torch.zeros(3), torch.zeros(1, 2, 2, 32, 48), torch.zeros(2, 3, 32, 48),
     torch.full((32, 48), NAN), torch.zeros(0, 48), np.array([["a"]])],
)  # fmt: skip
def test_a_mask_of_a_detector_that_is_none_is_named(answer):
    with pytest.raises(ValueError, match=r"^'bbox_detector': SimpleNamespace \(detect_combined\)"):
        mask_by(detector(answer), "bbox_detector", IMAGE, 0.5, 0)


def test_masks_of_detectors_are_fitted_and_united():
    masks = torch.zeros(2, 16, 24)
    masks[0, :8], masks[1, :, :12] = 1, 2
    united = mask_by(detector(masks), "bbox_detector", IMAGE, 0.5, 0)
    assert united.shape == (1, 32, 48)
    assert united.max() == 1
    assert united[0, 31, 47] == 0 and united[0, 0, 47] == united[0, 31, 0] == 1


def test_what_is_no_detector_is_named():
    with pytest.raises(ValueError, match=r"'bbox_detector': str \(detect\) has no detect\(\)"):
        found_by("text", "bbox_detector", IMAGE, 0.5, 0, 2.0, 1)


@pytest.mark.parametrize(
    "answer", [5, "mask", [5], ["mask"], [np.zeros(3)], [np.full((32, 48), NAN)]]
)
def test_a_sam_that_gives_no_masks_is_named(answer):
    wrapper = SimpleNamespace(
        prepare_device=lambda: None, release_device=lambda: None, predict=lambda *given: answer
    )
    model = SimpleNamespace(sam_wrapper=wrapper)
    with pytest.raises(ValueError, match=r"'sam_model': SimpleNamespace \(predict\) gave"):
        sam_mask(model, SEGS, IMAGE, SamHints())


def test_a_sam_that_marks_nothing():
    wrapper = SimpleNamespace(
        prepare_device=lambda: None, release_device=lambda: None, predict=lambda *given: None
    )
    assert sam_mask(wrapper, SEGS, IMAGE, SamHints()).sum() == 0


# ControlNet wrappers


@pytest.mark.parametrize("answer", [None, 5, ("p", "n"), ("p", "n", 5), ([], [], ["picture"])])
def test_a_wrapper_that_gives_something_else_is_named(answer):
    wrapper = SimpleNamespace(apply=lambda *given: answer)
    segs = ((32, 48), [SEGS[1][0]._replace(control_net_wrapper=wrapper)])
    with pytest.raises(ValueError, match=r"control_net_wrapper SimpleNamespace \(apply\) gave"):
        detail_image(IMAGE, segs, make_detail(), FakeBackend())
    with pytest.raises(ValueError, match=r"control_net_wrapper SimpleNamespace \(apply\) gave"):
        if answer == ([], [], ["picture"]):  # seen by the detailer alone
            detail_image(IMAGE, segs, make_detail(), FakeBackend())
        SegmentControl(wrapper).apply([], [], IMAGE)


def test_what_is_no_wrapper_is_named():
    segs = ((32, 48), [SEGS[1][0]._replace(control_net_wrapper="control")])
    with pytest.raises(ValueError, match=r"control_net_wrapper.* apply\(\)"):
        detail_image(IMAGE, segs, make_detail(), FakeBackend())


@pytest.mark.parametrize("made", [None, "picture", torch.zeros(3), torch.full((1, 8, 8, 3), NAN)])
def test_a_preprocessor_that_gives_no_picture_is_named(made):
    control = ControlNetOnSegment(
        None, lambda control, positive, negative, hint: (positive, negative), Size(48, 32),
        Box(0, 0, 48, 32), preprocessor=SimpleNamespace(apply=lambda *given: made),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"SEGS_PREPROCESSOR SimpleNamespace \(apply\) gave"):
        control.apply([], [], IMAGE)
