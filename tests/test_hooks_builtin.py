"""The pack's own hooks: the result of each, alone and in a run."""

import math
from types import SimpleNamespace

import pytest
import torch
from detailers.core.detail.images import detail_image
from detailers.core.detail.video import detail_frames
from detailers.core.geometry import Box, Size
from detailers.core.hook_protocol import DetailerHook, Hook, takes_mask
from detailers.core.hooks.builtin import (
    CombinedHook,
    CustomSamplerHook,
    CycleRange,
    DenoiseScheduleHook,
    FixedSizeHook,
    NoiseInjectionHook,
    PreviewHook,
    RemoverHook,
    RetryBlackHook,
    UnsamplerHook,
    VariationNoiseHook,
    inpaint,
    label_filter_hook,
    ordered_filter_hook,
    range_filter_hook,
    reshaped,
)
from detailers.core.noise import start_noise
from detailers.core.settings import Retry
from detailers.tests.fake_backend import (
    FakeBackend,
    brighten,
    fill,
    make_detail,
    make_seg,
    masked,
    outside,
    ramp_image,
)
from hypothesis import given
from hypothesis import strategies as st

IMAGE = ramp_image(1, 30, 60)
# A crop of 20x10 whose shorter side becomes 16: 32x16, or a latent of 8x4
REGION = (10, 5, 30, 15)
SEGS = ((30, 60), [make_seg(REGION)])
METHODS = [n for n in vars(DetailerHook) if callable(getattr(DetailerHook, n)) and n[0] != "_"]


BRIGHTER = brighten(0.1)


def detailed(hook, draw=BRIGHTER, image=IMAGE, segs=SEGS, **options):
    backend = FakeBackend(draw)
    return detail_image(image, segs, make_detail(hook=hook, **options), backend), backend


def latent(*shape, **more):
    return {"samples": torch.zeros(shape), **more}


# The base class


def test_a_hook_that_overrides_nothing_steps_in_nowhere():
    hook = Hook(DetailerHook())
    assert not hook.has(*METHODS)
    assert torch.equal(detailed(DetailerHook())[0].image, detailed(None)[0].image)


def test_a_hook_that_overrides_a_method_steps_in_there_alone():
    class Brighter(DetailerHook):
        def post_decode(self, pixels):
            return pixels + 0.25

    hook = Hook(Brighter())
    assert [name for name in METHODS if hook.has(name)] == ["post_decode"]


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        (lambda pixels: pixels, False),
        (lambda pixels, mask=None: pixels, True),
        (lambda pixels, mask: pixels, True),
        (lambda *values: values[0], False),
        (DetailerHook().post_upscale, True),
        (SimpleNamespace(mask=1).__class__, False),
    ],
)
def test_a_mask_goes_to_those_that_take_one(method, wanted):
    assert takes_mask(method) is wanted


def test_post_upscale_gets_the_mask_at_the_size_of_the_pixels():
    shapes = []

    def post_upscale(pixels, mask=None):
        shapes.append((tuple(pixels.shape), tuple(mask.shape)))
        return pixels

    detailed(SimpleNamespace(post_upscale=post_upscale), noise_mask=False)
    assert shapes == [((1, 16, 32, 3), (1, 16, 32))]


# Combined


def note(calls, name):
    """Hooks that write down in which order they are asked, and mark what passes through."""
    return SimpleNamespace(
        post_decode=lambda pixels: calls.append(name) or pixels * 2 + (name == "first"),
        touch_scaled_size=lambda w, h: (w + len(name), h),
    )


def test_combined_hooks_work_one_after_another():
    calls = []
    both = Hook(CombinedHook(note(calls, "first"), note(calls, "second")))
    assert both.post_decode(torch.full((1, 2, 2, 3), 3.0)).unique().tolist() == [14.0]
    assert calls == ["first", "second"]
    assert both.touch_scaled_size(Size(10, 20)) == (21, 20)


def test_a_combined_hook_steps_in_where_one_of_its_parts_does():
    parts = CombinedHook(SimpleNamespace(post_decode=abs), CombinedHook(object(), PreviewHook(id)))
    assert [name for name in METHODS if Hook(parts).has(name)] == ["post_decode", "post_paste"]


def test_every_method_is_combined():
    class Everything(DetailerHook):
        pass

    for name in METHODS:
        setattr(Everything, name, lambda self, *values: values)
    both = Hook(CombinedHook(Everything(), None))
    assert [name for name in METHODS if not both.has(name)] == []


SILENT = SimpleNamespace(**{name: lambda *values: None for name in METHODS})
PLUS_ONE = SimpleNamespace(
    post_detection=lambda segs: segs + 1,
    post_crop_region=lambda w, h, bbox, region: (1, *region[1:]),
    touch_scaled_size=lambda w, h: (w + 1, h),
    post_upscale=lambda pixels: pixels + 1,
    get_skip_sampling=lambda: True,
    post_encode=lambda latent: latent + 1,
    set_steps=lambda cycle: None,
    cycle_latent=lambda latent: latent + 1,
    pre_ksample=lambda *values: (*values[:-1], values[-1] + 1),
    get_custom_noise=lambda seed, noise, touched: (noise + 1, True),
    get_custom_sampler=lambda: "mine",
    pre_decode=lambda latent: latent + 1,
    post_decode=lambda pixels: pixels + 1,
    should_retry_patch=lambda patch: True,
    post_paste=lambda image: image + 1,
)


def answers(target):
    """What each point of the protocol gives for values of 5, in the order of METHODS."""
    hook, five = Hook(target), torch.full((1, 1, 1, 3), 5.0)

    def pixel(value):
        return float(value.flatten()[0])

    return {
        "post_detection": hook.post_detection(5),
        "post_crop_region": hook.post_crop_region(
            Size(9, 9), Box(3, 3, 4, 4), Box(2, 3, 4, 5)
        ).as_tuple(),
        "touch_scaled_size": tuple(hook.touch_scaled_size(Size(5, 6))),
        "post_upscale": pixel(hook.post_upscale(five, torch.ones(1, 1, 1))),
        "get_skip_sampling": hook.skip_sampling(),
        "post_encode": hook.post_encode(5),
        "set_steps": hook.set_steps(0, 1),
        "cycle_latent": hook.cycle_latent(5),
        "pre_ksample": hook.pre_ksample(*range(10)),
        "get_custom_noise": pixel(hook.custom_noise(7, five)),
        "get_custom_sampler": hook.custom_sampler(),
        "pre_decode": hook.pre_decode(5),
        "post_decode": pixel(hook.post_decode(five)),
        "should_retry_patch": hook.should_retry(five),
        "post_paste": pixel(hook.post_paste(five)),
    }


UNCHANGED = {
    "post_detection": 5,
    "post_crop_region": (2, 3, 4, 5),
    "touch_scaled_size": (5, 6),
    "post_upscale": 5.0,
    "get_skip_sampling": False,
    "post_encode": 5,
    "set_steps": None,
    "cycle_latent": 5,
    "pre_ksample": tuple(range(10)),
    "get_custom_noise": 5.0,
    "get_custom_sampler": None,
    "pre_decode": 5,
    "post_decode": 5.0,
    "should_retry_patch": False,
    "post_paste": 5.0,
}
CHANGED_ONCE = UNCHANGED | {
    "post_detection": 6,
    "post_crop_region": (1, 3, 4, 5),
    "touch_scaled_size": (6, 6),
    "post_upscale": 6.0,
    "get_skip_sampling": True,
    "post_encode": 6,
    "cycle_latent": 6,
    "pre_ksample": (*range(9), 10),
    "get_custom_noise": 6.0,
    "get_custom_sampler": "mine",
    "pre_decode": 6,
    "post_decode": 6.0,
    "should_retry_patch": True,
    "post_paste": 6.0,
}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (SILENT, UNCHANGED),
        (CombinedHook(SILENT, SILENT), UNCHANGED),
        (PLUS_ONE, CHANGED_ONCE),
        (CombinedHook(SILENT, PLUS_ONE), CHANGED_ONCE),
        (CombinedHook(PLUS_ONE, SILENT), CHANGED_ONCE),
        (CombinedHook(SILENT, CombinedHook(PLUS_ONE, SILENT)), CHANGED_ONCE),
    ],
)
def test_none_changes_nothing_at_any_point(target, expected):
    assert answers(target) == expected


def test_noise_that_is_touched_but_missing_changes_nothing():
    missing = SimpleNamespace(get_custom_noise=lambda seed, noise, touched: (None, True))
    for target in (missing, CombinedHook(missing, missing)):
        assert Hook(target).custom_noise(7, torch.ones(2)).tolist() == [1.0, 1.0]


def test_combined_noise_is_each_hooks_on_the_last():
    plus_one = SimpleNamespace(get_custom_noise=lambda seed, noise, touched: (noise + 1, True))
    seen = []

    def double(seed, noise, touched):
        seen.append((seed, touched))
        return noise * 2, True

    both = Hook(CombinedHook(plus_one, SimpleNamespace(get_custom_noise=double)))
    assert both.custom_noise(7, torch.zeros(2)).tolist() == [2.0, 2.0]
    assert seen == [(7, True)]


def test_combined_noise_that_no_hook_touches_stays():
    look = SimpleNamespace(get_custom_noise=lambda seed, noise, touched: (noise + 9, touched))
    both = Hook(CombinedHook(look, look))
    assert both.custom_noise(7, torch.ones(2)).tolist() == [1.0, 1.0]


def test_the_first_sampler_of_combined_hooks_wins():
    both = CombinedHook(DetailerHook(), CustomSamplerHook("mine"))
    assert Hook(CombinedHook(both, CustomSamplerHook("other"))).custom_sampler() == "mine"


def test_combined_crop_regions_and_masks():
    grow = SimpleNamespace(post_crop_region=lambda w, h, bbox, region: (0, 0, region[2] + 1, h))
    both = Hook(CombinedHook(grow, grow))
    assert both.post_crop_region(Size(60, 30), Box(1, 1, 2, 2), Box(1, 1, 5, 5)) == Box(0, 0, 7, 30)
    add_mask = SimpleNamespace(post_upscale=lambda pixels, mask: pixels + mask[..., None])
    plain = SimpleNamespace(post_upscale=lambda pixels: pixels * 10)
    both = Hook(CombinedHook(add_mask, plain))
    assert both.post_upscale(torch.zeros(1, 2, 2, 3), torch.ones(1, 2, 2)).unique() == 10


# Through the cycles


def test_denoise_goes_to_the_target_over_the_cycles():
    hook = DenoiseScheduleHook(0.2)
    _, backend = detailed(hook, cycle=3, denoise=0.8, steps=2)
    totals = [steps for *_, steps in backend.schedules]
    assert totals == [2, 4, 10]  # 2 / 0.8, 2 / 0.5, 2 / 0.2


def test_one_cycle_keeps_its_denoise():
    _, backend = detailed(DenoiseScheduleHook(0.2), denoise=0.5, steps=2)
    assert [steps for *_, steps in backend.schedules] == [4]


@pytest.mark.parametrize(
    ("from_first", "strengths", "seeds"),
    [(True, [2.0, 1.5], [40, 42]), (False, [None, 2.0], [None, 40])],
)
def test_injected_noise_follows_the_cycles(from_first, strengths, seeds):
    hook = NoiseInjectionHook(CycleRange(2.0, 1.0, from_first), seed=40)
    for cycle, (strength, seed) in enumerate(zip(strengths, seeds, strict=True)):
        hook.set_steps((cycle, 2))
        before = latent(1, 4, 3, 5, kept=1)
        after = hook.cycle_latent(before)
        if strength is None:
            assert after is before
        else:
            expected = start_noise(before["samples"], seed) * strength
            assert torch.allclose(after["samples"], expected)
            assert after["kept"] == 1


def test_three_cycles_from_the_second_on():
    hook = NoiseInjectionHook(CycleRange(3.0, 1.0, from_first=False), seed=40)
    hook.set_steps((2, 3))
    noise = start_noise(torch.zeros(1, 4, 3, 5), 42) * 2.0
    assert torch.allclose(hook.cycle_latent(latent(1, 4, 3, 5))["samples"], noise)


@pytest.mark.parametrize("shape", [(1, 4, 2, 6), (1, 4, 3, 2, 6)])
def test_noise_is_injected_within_the_mask(shape):
    mask = torch.zeros(1, 4, 12)
    mask[:, :, :6] = 1
    hook = NoiseInjectionHook(CycleRange(1.0, 1.0, from_first=True), seed=3)
    samples = hook.cycle_latent(latent(*shape, noise_mask=mask))["samples"]
    assert (samples[..., :3] != 0).all()
    assert (samples[..., 3:] == 0).all()


def test_injection_leaves_the_global_random_state_alone():
    hook = NoiseInjectionHook(CycleRange(1.0, 1.0, from_first=True), seed=3)
    state = torch.get_rng_state()
    first = hook.cycle_latent(latent(1, 4, 3, 5))["samples"]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, hook.cycle_latent(latent(1, 4, 3, 5))["samples"])


def test_unsampling_ends_at_a_step_that_follows_the_cycles():
    asked = []

    def unsample(latent, end_at_step):
        asked.append(end_at_step)
        return latent["samples"] + 5

    hook = UnsamplerHook(CycleRange(10, 20, from_first=False), unsample)
    detailed(hook, cycle=3)
    assert asked == [10, 15]
    hook.set_steps((1, 2))
    assert hook.cycle_latent(latent(1, 4, 3, 5))["samples"].unique().tolist() == [5.0]


def test_unsampled_latents_are_normalised_on_request():
    def unsample(latent, end_at_step):
        return torch.arange(8.0).view(1, 2, 2, 2)

    hook = UnsamplerHook(CycleRange(1, 1, from_first=True), unsample, normalise=True)
    samples = hook.cycle_latent(latent(1, 2, 2, 2))["samples"]
    assert samples.mean().item() == pytest.approx(0, abs=1e-6)
    assert samples.std().item() == pytest.approx(1)
    flat = UnsamplerHook(CycleRange(1, 1, True), lambda latent, step: torch.ones(1, 1, 2, 2), True)
    assert flat.cycle_latent(latent(1, 1, 2, 2))["samples"].unique().tolist() == [0.0]


# Noise and sampler


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_variation_noise_mixes_two_seeds_and_keeps_the_variance(strength):
    _, backend = detailed(VariationNoiseHook(99, strength))
    like = backend.runs[0].latent
    mixed = (1 - strength) * start_noise(like, 5) + strength * start_noise(like, 99)
    expected = mixed / math.sqrt((1 - strength) ** 2 + strength**2)
    assert torch.allclose(backend.runs[0].noise, expected)


def test_a_custom_sampler_wins():
    sampler = object()
    _, backend = detailed(CustomSamplerHook(sampler))
    assert backend.runs[0].sampler is sampler


# Size


def test_a_fixed_size_is_sampled_twice_and_once_decoded():
    result, backend = detailed(FixedSizeHook(Size(24, 16)))
    assert [tuple(run.latent.shape) for run in backend.runs] == [(2, 48, 4, 6)]
    assert backend.decoded == [(1, 48, 4, 6)]
    other = detailed(SimpleNamespace(touch_scaled_size=lambda w, h: (24, 16)))[0]
    assert torch.allclose(result.image, other.image, atol=1e-6)


def test_a_clip_at_a_fixed_size_keeps_its_frames():
    frames = ramp_image(3, 30, 60)
    backend = FakeBackend(brighten(0.1))
    hook = FixedSizeHook(Size(32, 16))
    result = detail_frames(frames, SEGS, make_detail(hook=hook), backend, pasted=True)
    assert [tuple(run.latent.shape) for run in backend.runs] == [(6, 48, 4, 8)]
    assert (result.image[:, 10, 20] - frames[:, 10, 20]).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("region", "bbox", "expected"),
    [
        ((0, 0, 40, 40), (10, 10, 20, 30), (0, 10, 40, 30)),  # room above and below is equal
        ((0, 0, 40, 40), (10, 30, 20, 40), (0, 20, 40, 40)),  # the box is at the bottom
        ((0, 0, 60, 20), (10, 5, 20, 10), (4, 0, 44, 20)),  # a fifth of the room is left of it
        ((10, 0, 30, 60), (12, 0, 28, 60), (0, 0, 60, 60)),  # a tall box: as wide as there is
        ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_a_region_takes_other_proportions(region, bbox, expected):
    new = reshaped(Box(*region), Box(*bbox), Size(60, 60), Size(20, 10))
    assert new == Box(*expected)


@given(
    st.integers(0, 60), st.integers(0, 60), st.integers(1, 40), st.integers(1, 40),
    st.integers(0, 30), st.integers(0, 30), st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip
def test_a_reshaped_region_holds_its_box_and_stays_inside(x, y, w, h, left, top, across, down):
    image = Size(120, 110)
    bbox = Box(x, y, x + w, y + h)
    region = Box(x - left, y - top, x + w + 30 - left, y + h + 30 - top).clipped(image)
    new = reshaped(region, bbox, image, Size(across, down))
    assert new.clipped(image) == new
    assert new.contains(bbox)


# Which segments


def test_filters_of_what_was_found():
    segs = (
        (30, 60),
        [make_seg((0, 0, 10, 10), label="a"), make_seg((0, 0, 30, 20), label="手"),
         make_seg((5, 0, 20, 20), label="a")],
    )  # fmt: skip

    def kept(hook):
        found = Hook(hook).post_detection(segs)[1]
        return [i for i, seg in enumerate(segs[1]) if any(seg is one for one in found)]

    assert kept(ordered_filter_hook("area(=w*h)", descending=True, start=0, count=2)) == [1, 2]
    assert kept(ordered_filter_hook("width", descending=False, start=1, count=1)) == [2]
    assert kept(range_filter_hook("width", 10, 15, inside=True)) == [0, 2]
    assert kept(range_filter_hook("width", 10, 15, inside=False)) == [1]
    assert kept(label_filter_hook("手, b")) == [1]
    assert kept(label_filter_hook("all")) == [0, 1, 2]


# Pictures


def test_the_image_is_shown_after_each_segment():
    shown = []
    segs = ((30, 60), [make_seg(REGION), make_seg((40, 5, 60, 15))])
    images = ramp_image(2, 30, 60)
    hook = PreviewHook(lambda image: shown.append(image.clone()))
    result, _ = detailed(hook, image=images, segs=segs)
    assert [tuple(image.shape) for image in shown] == [(1, 30, 60, 3)] * 4
    assert torch.equal(shown[1], result.image[:1])
    assert torch.equal(shown[3], result.image[1:])


# Bad results


def failing(times, value):
    """A sampler whose first results are all of one value."""
    seeds = []

    def draw(run):
        seeds.append(run.seed)
        failed = len(seeds) <= times
        return masked(run, torch.full_like(run.latent, value if failed else 0.75))

    return draw, seeds


BLACK = RetryBlackHook(10 / 255, 5 / 255)


def test_a_black_result_is_made_again_with_the_next_seed():
    draw, seeds = failing(1, 0.0)
    result, _ = detailed(BLACK, draw)
    assert seeds == [5, 6]
    inside = result.image[:, 5:15, 10:30]
    assert torch.allclose(inside, torch.full_like(inside, 0.75))


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_what_stays_bad_is_not_pasted(value, caplog):
    draw, seeds = failing(9, value)
    result, _ = detailed(BLACK, draw)
    assert seeds == [5, 6]
    assert torch.equal(result.image, IMAGE)
    assert "Segment 0 keeps its original pixels" in caplog.text


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_without_a_hook_bad_results_are_made_again_on_request(value):
    draw, seeds = failing(2, value)
    result, _ = detailed(None, draw, retry=Retry(times=3, when_broken=True))
    assert seeds == [5, 6, 7]
    inside = result.image[:, 5:15, 10:30]
    assert torch.allclose(inside, torch.full_like(inside, 0.75))


def test_by_default_a_black_result_is_left_out_at_once(caplog):
    draw, seeds = failing(9, 0.0)
    result, _ = detailed(None, draw)
    assert seeds == [5]
    assert torch.equal(result.image, IMAGE)
    assert "nothing but black" in caplog.text


def test_a_retry_keeps_the_segments_text():
    draw, _ = failing(1, 0.0)
    _, backend = detailed(BLACK, draw, text="{a|b|c|d|e|f|g|h} {1|2|3|4|5|6|7|8}")
    first, second = (run.positive[0][1]["text"] for run in backend.runs)
    assert first == second


def test_the_bar_ends_at_its_total_after_a_retry():
    draw, _ = failing(1, 0.0)
    _, backend = detailed(BLACK, draw, cycle=2)
    assert backend.bars[0].done[-1] == backend.bars[0].total == 8


@pytest.mark.parametrize(
    ("pixels", "bad"),
    [
        (torch.full((1, 4, 5, 3), 0.03), True),
        (torch.full((1, 4, 5, 3), 0.05), False),
        (torch.full((4, 5, 3), math.inf), True),
        (torch.zeros(1, 4, 5, 1), True),
    ],
)
def test_which_patches_are_bad(pixels, bad):
    assert BLACK.should_retry_patch(pixels) is bad


def test_a_dark_patch_with_contrast_is_not_bad():
    patch = torch.zeros(1, 10, 10, 3)
    patch[:, :1, :3] = 1.0  # mean 0.03, variance 0.029
    assert not BLACK.should_retry_patch(patch)


# Removing


def spot(size=32):
    """A white spot on grey, and a mask that covers it."""
    pixels = torch.full((1, size, size, 3), 0.3)
    mask = torch.zeros(1, size, size)
    mask[:, 12:20, 12:20] = 1
    pixels[0, 12:20, 12:20] = 1.0
    return pixels, mask


def test_masked_pixels_are_filled_from_around_them():
    pixels, mask = spot()
    filled = inpaint(pixels, mask > 0)
    assert torch.allclose(filled, torch.full_like(filled, 0.3), atol=1e-3)
    assert torch.equal(filled[mask == 0], pixels[mask == 0])
    assert torch.equal(inpaint(pixels, mask > 2), pixels)
    assert torch.equal(inpaint(pixels, mask > -1), pixels)


def test_filling_keeps_more_than_256_levels():
    ramp = torch.linspace(0.2, 0.8, 400).expand(1, 8, 400)[..., None].repeat(1, 1, 1, 3)
    mask = torch.zeros(1, 8, 400, dtype=torch.bool)
    mask[:, 2:5, 4:396] = True
    filled = inpaint(ramp, mask)
    assert len(filled[0, 3, 4:396, 0].unique()) > 300
    assert torch.allclose(filled, ramp, atol=0.01)


def test_removal_reaches_further_with_a_higher_threshold():
    pixels, mask = spot(64)
    mask[:] = 0
    mask[:, 28:36, 28:36] = 1
    pixels[:] = torch.rand(64, 64, 1, generator=torch.Generator().manual_seed(1))

    def changed(threshold, blur=2):
        hook = RemoverHook(threshold, blur, skip_sampling=True)
        return int((hook.post_upscale(pixels, mask) != pixels).any(-1).sum())

    assert 0 < changed(60) < changed(128) < changed(250)
    assert changed(128, blur=0) == 64


def test_removing_may_be_all_that_is_done():
    pixels, _ = spot()
    segs = ((32, 32), [make_seg((12, 12, 20, 20)), make_seg((4, 4, 28, 28))])
    segs[1][1].cropped_mask[:] = 0
    segs[1][1].cropped_mask[8:16, 8:16] = 1
    hook = RemoverHook(128, 0, skip_sampling=True)
    result, backend = detailed(hook, image=pixels, segs=segs)
    assert (backend.runs, backend.encoded, backend.decoded) == ([], [], [])
    assert torch.allclose(result.image, torch.full_like(pixels, 0.3), atol=0.02)
    assert backend.bars[0].done[-1] == backend.bars[0].total


def test_what_was_filled_in_may_be_sampled():
    pixels, _ = spot()
    segs = ((32, 32), [make_seg((4, 4, 28, 28))])
    segs[1][0].cropped_mask[:8] = 0
    hook = CombinedHook(PreviewHook(lambda image: None), RemoverHook(128, 0, skip_sampling=False))
    result, backend = detailed(hook, draw=fill(0.9), image=pixels, segs=segs)
    assert len(backend.runs) == 1
    assert torch.equal(result.image[:, outside(pixels, (4, 12, 28, 28))],
                       pixels[:, outside(pixels, (4, 12, 28, 28))])  # fmt: skip


def test_another_remover_may_fill():
    given = []

    def fill_with_black(pixels, mask):
        given.append(tuple(mask.shape))
        return pixels * (1 - mask[..., None])

    pixels, mask = spot()
    hook = RemoverHook(128, 0, True, fill_with_black)
    out = hook.post_upscale(pixels.repeat(2, 1, 1, 1), mask[:, ::2, ::2])
    assert given == [(2, 32, 32)]
    assert out[:, 14:18, 14:18].unique().tolist() == [0.0]
