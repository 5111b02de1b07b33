"""The hook protocol: the order and arguments of calls, and the use of their results."""

from types import SimpleNamespace

import pytest
import torch
from detailers.core.detail.images import detail_image, detail_segs
from detailers.core.geometry import Box, Size
from detailers.core.hook_protocol import Hook
from detailers.core.pixels.resample import resize
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeModel,
    brighten,
    grain,
    make_detail,
    make_seg,
    ramp_image,
    text_of,
)

UNCHANGED = {
    "post_detection": lambda segs: segs,
    "post_crop_region": lambda width, height, bbox, region: region,
    "touch_scaled_size": lambda width, height: (width, height),
    "post_upscale": lambda pixels: pixels,
    "post_encode": lambda latent: latent,
    "set_steps": lambda steps: None,
    "cycle_latent": lambda latent: latent,
    "pre_ksample": lambda *values: values,
    "get_custom_noise": lambda seed, noise, is_touched: (noise, is_touched),
    "pre_decode": lambda latent: latent,
    "post_decode": lambda pixels: pixels,
    "post_paste": lambda image: image,
}
IN_A_RUN = [name for name in UNCHANGED if name not in ("post_detection", "post_crop_region")]

IMAGE = ramp_image(1, 30, 60)
# A crop of 20x10 whose shorter side becomes 16: 32x16, or a latent of 8x4
SEGS = ((30, 60), [make_seg((10, 5, 30, 15))])
LATENT = (1, 48, 4, 8)


def recorder(omit=(), **changes):
    """A hook that writes its calls down, tensors as shapes, and does what it is told."""
    calls = []

    def method(name):
        def call(*given):
            calls.append((name, *map(brief, given)))
            return {**UNCHANGED, **changes}[name](*given)

        return call

    methods = {name: method(name) for name in UNCHANGED if name not in omit}
    return SimpleNamespace(calls=calls, **methods)


def brief(value):
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, dict):
        return tuple(value["samples"].shape)
    if isinstance(value, FakeModel):
        return value.name
    return value[0][1]["text"] if isinstance(value, list) else value


def detailed(hook, segs=SEGS, image=IMAGE, draw=grain, **options):
    backend = FakeBackend(draw)
    result = detail_image(image, segs, make_detail(hook=hook, **options), backend)
    return result.image, backend


# Order


def ksample(seed):
    return (
        "pre_ksample", "base", seed, 4, 2.0, "euler", "normal", "positive", "negative", LATENT, 0.5,
    )  # fmt: skip


def test_methods_are_called_in_the_protocols_order():
    hook = recorder()
    detailed(hook, cycle=2, denoise=0.5)
    assert hook.calls == [
        ("touch_scaled_size", 32, 16),
        ("post_upscale", (1, 16, 32, 3)),
        ("post_encode", LATENT),
        ("set_steps", (0, 2)),
        ("cycle_latent", LATENT),
        ksample(5),
        ("get_custom_noise", 5, LATENT, False),
        ("set_steps", (1, 2)),
        ("cycle_latent", LATENT),
        ksample(6),
        ("get_custom_noise", 6, LATENT, False),
        ("pre_decode", LATENT),
        ("post_decode", (1, 16, 32, 3)),
        ("post_paste", (1, 30, 60, 3)),
    ]


def test_one_segment_is_done_before_the_next_begins():
    hook = recorder()
    detailed(hook, segs=((30, 60), [make_seg((10, 5, 30, 15)), make_seg((40, 5, 60, 15))]))
    names = [name for name, *_ in hook.calls if name != "touch_scaled_size"]
    one = [name for name in IN_A_RUN if name != "touch_scaled_size"]
    assert names == one * 2


def test_without_pasting_there_is_no_post_paste():
    hook = recorder()
    detail_segs(IMAGE, SEGS, make_detail(hook=hook), FakeBackend())
    assert [name for name, *_ in hook.calls] == IN_A_RUN[:-1]


def test_a_skipped_segment_calls_nothing():
    hook = recorder()
    detailed(hook, text="[SKIP]")
    assert hook.calls == []


# Hooks that lack methods


@pytest.mark.parametrize("missing", IN_A_RUN)
def test_a_method_that_is_missing_means_no_change(missing):
    plain, _ = detailed(None)
    hook = recorder(omit=[missing])
    image, _ = detailed(hook)
    assert torch.equal(image, plain)
    assert [name for name, *_ in hook.calls] == [name for name in IN_A_RUN if name != missing]


@pytest.mark.parametrize("hook", [object(), SimpleNamespace(post_paste=None)])
def test_a_hook_without_any_method_changes_nothing(hook):
    assert torch.equal(detailed(hook)[0], detailed(None)[0])


def test_a_method_that_returns_nothing_means_no_change():
    names = ["touch_scaled_size", "post_upscale", "post_encode", "cycle_latent", "pre_ksample",
             "get_custom_noise", "pre_decode", "post_decode", "post_paste"]  # fmt: skip
    hook = SimpleNamespace(**{name: lambda *values: None for name in names})
    assert torch.equal(detailed(hook)[0], detailed(None)[0])


# Results are used


def added(amount):
    return lambda latent: {**latent, "samples": latent["samples"] + amount}


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("post_upscale", lambda pixels: pixels * 0.5),
        ("post_encode", lambda latent: {**latent, "samples": latent["samples"] * 0.5}),
        ("cycle_latent", lambda latent: {**latent, "samples": latent["samples"] * 0.5}),
        ("pre_decode", lambda latent: {**latent, "samples": latent["samples"] * 0.5}),
        ("post_decode", lambda pixels: pixels * 0.5),
    ],
)
def test_what_a_method_makes_of_pixels_or_latent_is_pasted(method, change):
    image, _ = detailed(recorder(**{method: change}), draw=lambda run: run.latent)
    part = IMAGE[:, 5:15, 10:30]
    assert torch.allclose(image[:, 5:15, 10:30], part * 0.5, atol=0.01)


def test_cycle_latent_is_asked_in_every_cycle():
    image, _ = detailed(
        recorder(cycle_latent=added(0.1)), draw=lambda run: run.latent, cycle=3,
        image=torch.full((1, 30, 60, 3), 0.25),
    )  # fmt: skip
    assert torch.allclose(image[:, 5:15, 10:30], torch.tensor(0.55), atol=1e-5)


def test_post_paste_has_the_last_word_and_the_next_segment_sees_it():
    segs = ((30, 60), [make_seg((10, 5, 30, 15)), make_seg((20, 5, 40, 15))])
    hook = recorder(post_paste=lambda image: image + 0.1)
    image, backend = detailed(
        hook, segs=segs, image=torch.full((1, 30, 60, 3), 0.25), draw=lambda run: run.latent
    )
    assert torch.allclose(backend.encoded[1], torch.tensor(0.35), atol=1e-5)
    assert torch.allclose(image, torch.tensor(0.45), atol=1e-5)


def test_post_paste_may_change_the_image_in_place():
    image, _ = detailed(recorder(post_paste=lambda image: image.mul_(0.5)), draw=lambda r: r.latent)
    assert torch.allclose(image[0, 0], IMAGE[0, 0] * 0.5)


def test_touch_scaled_size_replaces_the_working_size():
    hook = recorder(touch_scaled_size=lambda width, height: (24, 12))
    image, backend = detailed(hook, draw=lambda run: run.latent)
    crop = IMAGE[:, 5:15, 10:30]
    seen = resize(crop, Size(24, 12))
    assert torch.equal(backend.encoded[0], seen)
    assert torch.equal(image[:, 5:15, 10:30], resize(seen, Size(20, 10)))


def test_a_size_off_the_grid_is_padded():
    hook = recorder(touch_scaled_size=lambda width, height: (21.7, 11))
    image, backend = detailed(hook, draw=lambda run: run.latent)
    assert ("post_upscale", (1, 11, 21, 3)) in hook.calls
    assert ("post_decode", (1, 11, 21, 3)) in hook.calls
    assert backend.encoded[0].shape == (1, 12, 24, 3)
    assert torch.allclose(image, IMAGE, atol=0.02)


@pytest.mark.parametrize("method", ["post_upscale", "post_decode"])
def test_pixels_of_another_size_are_fitted(method):
    def smaller(pixels):
        return pixels[:, ::2, ::4].contiguous()

    hook = recorder(**{method: smaller})
    image, backend = detailed(
        hook, image=torch.full((1, 30, 60, 3), 0.25), draw=lambda run: run.latent
    )
    assert backend.encoded[0].shape == (1, 16, 32, 3)
    assert torch.allclose(image, torch.tensor(0.25), atol=1e-5)


def test_pre_ksample_may_replace_all_ten():
    def replace(model, seed, steps, cfg, sampler, scheduler, positive, negative, latent, denoise):
        latent = {**latent, "samples": latent["samples"] * 0 + 0.25, "noise_mask": None}
        return (FakeModel("other"), 77, 2, 9.0, "heun", "karras", text_of("new"), text_of("not"),
                latent, 0.5)  # fmt: skip

    image, backend = detailed(recorder(pre_ksample=replace), draw=lambda run: run.latent)
    (run,) = backend.runs
    assert (run.model.name, run.seed, run.cfg, run.sampler_name) == ("other", 77, 9.0, "heun")
    assert backend.schedules == [("other", "heun", "karras", 4)]
    assert run.sigmas.tolist() == [2, 1, 0]
    assert (run.positive[0][1]["text"], run.negative[0][1]["text"]) == ("new", "not")
    assert run.noise_mask is None
    assert torch.allclose(image[:, 5:15, 10:30], torch.tensor(0.25), atol=1e-5)


def test_what_pre_ksample_changes_holds_for_its_cycle_only():
    def cheaper(*values):
        return (*values[:1], values[1] + 100, values[2] - 1, *values[3:])

    _, backend = detailed(recorder(pre_ksample=cheaper), cycle=2)
    assert backend.seeds == [105, 106]
    assert [len(run.sigmas) for run in backend.runs] == [4, 4]


def test_pre_ksample_may_turn_sampling_off():
    def still(*values):
        return (*values[:-1], 0.0)

    image, backend = detailed(recorder(pre_ksample=still))
    assert backend.runs == []
    assert backend.bars[0].done[-1] == 4
    assert torch.allclose(image, IMAGE, atol=0.02)


def test_custom_noise_is_taken_only_if_it_was_touched():
    _, plain = detailed(None)
    other = torch.full(LATENT, 0.5)
    _, touched = detailed(recorder(get_custom_noise=lambda seed, noise, _: (other, True)))
    _, untouched = detailed(recorder(get_custom_noise=lambda seed, noise, _: (other, False)))
    assert torch.equal(touched.runs[0].noise, other)
    assert torch.equal(untouched.runs[0].noise, plain.runs[0].noise)


def test_a_hook_may_bring_a_sampler():
    sampler = object()
    _, backend = detailed(SimpleNamespace(get_custom_sampler=lambda: sampler))
    assert backend.runs[0].sampler is sampler
    assert detailed(None)[1].runs[0].sampler is None


def test_each_image_of_a_batch_is_handed_over_alone():
    hook = recorder()
    detailed(hook, image=ramp_image(3, 30, 60), draw=brighten(0.1))
    assert [call for call in hook.calls if call[0] == "post_paste"] == [
        ("post_paste", (1, 30, 60, 3))
    ] * 3


# The wrapper by itself


def test_a_crop_region_stays_inside_the_image():
    hook = Hook(recorder(post_crop_region=lambda *given: [-5, 2.7, 50, 99]))
    region = hook.post_crop_region(Size(40, 20), Box(4, 5, 6, 7), Box(2, 3, 8, 9))
    assert region == Box(0, 2, 40, 20)
    assert hook.target.calls == [("post_crop_region", 40, 20, (4, 5, 6, 7), (2, 3, 8, 9))]


def test_no_working_size_is_empty():
    hook = Hook(recorder(touch_scaled_size=lambda width, height: (0, -3)))
    assert hook.touch_scaled_size(Size(8, 9)) == Size(1, 1)


def test_post_detection_may_change_the_segments():
    hook = Hook(recorder(post_detection=lambda segs: (segs[0], segs[1][:1])))
    assert hook.post_detection(((5, 7), ["a", "b"])) == ((5, 7), ["a"])
    assert Hook().post_detection(((5, 7), ["a"])) == ((5, 7), ["a"])


def test_has_tells_whether_any_method_is_there():
    hook = Hook(recorder(omit=["post_decode"]))
    assert hook.has("post_decode", "post_upscale")
    assert not hook.has("post_decode")
    assert not Hook().has("post_upscale")
