"""Blending results into the image: weights, multiband blending, and pixels that stay unchanged."""

import numpy as np
import pytest
import torch
from detailers.core.geometry import Box, Size
from detailers.core.pixels.blend import Blending, _coarse_bands, multiband
from detailers.core.pixels.colour import from_oklab, to_oklab
from detailers.core.pixels.image import paste
from detailers.core.pixels.mask import fade, feather, grow
from detailers.core.settings import MULTIBAND, Pasting
from detailers.tests.fake_backend import noise_image, outside, ramp_image
from hypothesis import given, settings
from hypothesis import strategies as st

IMAGE = Size(120, 90)
BOX = Box(20, 10, 100, 74)  # 80x64
PLAIN = Pasting()
ALL = Pasting(MULTIBAND, 1.0, True, 0, 6, True)


def ellipse(width=80, height=64, share=0.8):
    """[1,h,w], 1 in the middle."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return (x**2 + y**2 < share**2).float()[None]


def pasted(options, pixels, image=None, mask=None, radius=6, box=BOX, opacity=1.0):
    """The image after pasting, and the weight."""
    image = noise_image(1, 90, 120) if image is None else image
    mask = ellipse(*box.size) if mask is None else mask
    blending = Blending(radius, options)
    result = image.clone()
    weight = blending.weight(mask, box, Size(image.shape[2], image.shape[1]))
    assert blending.paste(result, pixels, weight, box, opacity=opacity)
    return result, weight


# As before


@pytest.mark.parametrize("radius", [0, 3, 20])
def test_without_options_it_is_the_plain_paste_to_the_bit(radius):
    pixels, expected = noise_image(1, 64, 80, seed=1), noise_image(1, 90, 120)
    result, weight = pasted(PLAIN, pixels, radius=radius)
    paste(expected, pixels, feather(ellipse(), radius), BOX)
    assert torch.equal(result, expected)
    assert torch.equal(weight, feather(ellipse(), radius))


# What always holds

options = st.builds(
    Pasting,
    st.sampled_from(["feather", MULTIBAND]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.booleans(),
    st.integers(-6, 6),
    st.none() | st.integers(0, 12),
    st.booleans(),
)


@settings(deadline=None, max_examples=30)
@given(options, st.integers(0, 8))
def test_nothing_changes_outside_of_the_weight(options, radius):
    image = noise_image(1, 90, 120)
    result, weight = pasted(options, noise_image(1, 64, 80, seed=1), image, radius=radius)
    assert weight.min() >= 0
    assert weight.max() <= 1
    assert torch.equal(*(own[:, outside(image, BOX.as_tuple())] for own in (result, image)))
    kept = weight[0] == 0
    part = (slice(None), slice(BOX.y1, BOX.y2), slice(BOX.x1, BOX.x2))
    assert torch.equal(result[part][:, kept], image[part][:, kept])
    reach = radius if options.fade is None else options.fade
    grown = grow(ellipse(), max(1, 2 * (reach + max(0, options.mask_grow))))
    assert not weight[grown == 0].any()


@settings(deadline=None, max_examples=30)
@given(options)
def test_blending_a_picture_with_itself_gives_that_picture(options):
    image = noise_image(1, 90, 120)
    result, _ = pasted(options, image[:, BOX.y1 : BOX.y2, BOX.x1 : BOX.x2].clone(), image)
    assert torch.allclose(result, image, atol=1e-4 if options.colour_match else 0)


def test_deep_inside_is_the_result_itself():
    pixels = noise_image(1, 64, 80, seed=1)
    result, _ = pasted(Pasting(MULTIBAND, fade=3), pixels)
    middle = (slice(None), slice(BOX.y1 + 30, BOX.y1 + 34), slice(BOX.x1 + 38, BOX.x1 + 42))
    assert torch.allclose(result[middle], pixels[:, 30:34, 38:42], atol=0.02)


def test_a_full_mask_takes_the_result_whole():
    image = noise_image(2, 64, 80)
    pixels = noise_image(2, 64, 80, seed=1)
    result, _ = pasted(ALL, pixels, image, torch.ones(1, 64, 80), box=Box(0, 0, 80, 64))
    assert torch.allclose(result, pixels, atol=1e-4)


@pytest.mark.parametrize("options", [PLAIN, ALL])
def test_what_is_not_finite_is_not_pasted(options):
    image = noise_image(1, 90, 120)
    before, pixels = image.clone(), noise_image(1, 64, 80)
    pixels[0, 5, 5, 0] = torch.nan
    blending = Blending(3, options)
    assert not blending.paste(image, pixels, blending.weight(ellipse(), BOX, IMAGE), BOX)
    assert torch.equal(image, before)


def test_opacity_goes_between():
    pixels = noise_image(1, 64, 80, seed=1)
    image = noise_image(1, 90, 120)
    full, half = (pasted(ALL, pixels, image, opacity=opacity)[0] for opacity in (1.0, 0.5))
    assert torch.allclose(half, (image + full) / 2, atol=1e-6)


def test_half_precision_stays_half_precision():
    image = noise_image(1, 90, 120).half()
    result, _ = pasted(ALL, noise_image(1, 64, 80, seed=1).half(), image, ellipse().half())
    assert result.dtype == torch.float16
    assert result.isfinite().all()


# Weight


@pytest.mark.parametrize("side", [3, 9, 40])
@pytest.mark.parametrize("reach", [1, 5, 15])
def test_a_fade_reaches_as_far_as_it_says_however_small_the_mask(side, reach):
    mask = torch.zeros(1, 80, 100)
    mask[:, 40 - side // 2 : 41 + side // 2, 50 - side // 2 : 51 + side // 2] = 1
    soft = fade(mask, reach)
    rows = torch.nonzero(soft[0, :, 50])[:, 0]
    assert rows[0] == 40 - side // 2 - reach
    assert rows[-1] == 40 + side // 2 + reach
    assert torch.allclose(fade(torch.ones(1, 4, 4), reach), torch.ones(1, 4, 4))


def test_a_fade_is_a_half_at_the_edge_and_even():
    mask = torch.zeros(1, 9, 60)
    mask[..., 30:] = 1
    soft = fade(mask, 6)[0, 4]
    assert soft[29:31].mean().item() == pytest.approx(0.5, abs=1e-6)
    assert torch.allclose(soft[:30].flip(0), 1 - soft[30:], atol=1e-6)


@pytest.mark.parametrize("amount", [-3, 0, 1, 4])
def test_growing_is_even_on_all_sides(amount):
    mask = torch.zeros(1, 40, 50)
    mask[:, 15:25, 20:32] = 1
    expected = torch.zeros(1, 40, 50)
    expected[:, 15 - amount : 25 + amount, 20 - amount : 32 + amount] = 1
    assert torch.equal(grow(mask, amount), expected)


def test_a_mask_that_runs_into_the_border_fades_inside_the_crop():
    weight = Blending(6, Pasting(fade_inside=True)).weight(torch.ones(1, 64, 80), BOX, IMAGE)[0]
    for edge in (weight[0], weight[-1], weight[:, 0], weight[:, -1]):
        assert (edge == 0).all()
    assert (weight[12:-12, 12:-12] == 1).all()
    steps = weight[32, :13].diff()
    assert (steps > 0).all() and steps.max() < 0.15


def test_the_fade_towards_the_border_is_smooth_at_both_ends():
    weight = Blending(4, Pasting(fade_inside=True)).weight(torch.ones(1, 64, 80), BOX, IMAGE)[0]
    share = np.arange(9) / 8  # twice the feather
    expected = share**2 * (3 - 2 * share)
    np.testing.assert_allclose(weight[32, :9], expected, atol=1e-6)
    np.testing.assert_allclose(weight[-9:, 40].flip(0), expected, atol=1e-6)


def test_where_the_image_ends_nothing_has_to_fade():
    image = Size(80, 90)
    box = Box(0, 0, 80, 64)  # only its lower border lies inside
    weight = Blending(6, Pasting(fade_inside=True)).weight(torch.ones(1, 64, 80), box, image)[0]
    assert (weight[:50] == 1).all()
    assert (weight[-1] == 0).all()


def test_a_mask_off_the_border_is_as_it_was():
    mask = ellipse(share=0.6)
    assert torch.equal(
        Blending(4, Pasting(fade_inside=True)).weight(mask, BOX, IMAGE), feather(mask, 4)
    )


def test_a_small_crop_keeps_its_middle():
    box = Box(20, 20, 28, 28)
    weight = Blending(30, Pasting(fade_inside=True)).weight(torch.ones(1, 8, 8), box, IMAGE)
    assert weight[0, 4, 4] == 1


# Seams


def seam(result, image):
    """How much steeper the result is than the image, over all pixels: 0 shows nowhere."""
    energy = 0.0
    for axis in (1, 2):
        energy += (result.diff(dim=axis) - image.diff(dim=axis)).square().sum().item()
    return energy


def test_multiband_leaves_less_of_a_seam_than_the_feather_alone():
    image = ramp_image(1, 90, 120) * 0.5 + 0.2
    pixels = image[:, BOX.y1 : BOX.y2, BOX.x1 : BOX.x2] + 0.1
    plain, _ = pasted(PLAIN, pixels, image, radius=4)
    better, _ = pasted(Pasting(MULTIBAND), pixels, image, radius=4)
    assert seam(better, image) < 0.5 * seam(plain, image)


def test_matching_takes_a_colour_cast_off_before_it_can_show():
    image = ramp_image(1, 90, 120) * 0.5 + 0.2
    part = image[:, BOX.y1 : BOX.y2, BOX.x1 : BOX.x2]
    pixels = from_oklab(to_oklab(part) + torch.tensor([0.03, 0.02, -0.02]))
    plain, _ = pasted(PLAIN, pixels, image, radius=4)
    better, _ = pasted(Pasting(colour_match=1.0), pixels, image, radius=4)
    assert seam(better, image) < 0.01 * seam(plain, image)
    assert torch.allclose(better, image, atol=2e-3)


def test_detail_is_blended_over_the_narrow_band():
    """A fine pattern is at full strength as near to the edge as with the feather alone."""
    image = torch.full((1, 64, 80, 3), 0.5)
    checks = (
        image + 0.2 * ((torch.arange(64)[:, None] + torch.arange(80)) % 2 * 2 - 1)[None, ..., None]
    )
    weight = fade(ellipse(), 3)
    result = multiband(image, checks, weight, 3)
    plain = torch.lerp(image, checks, weight[..., None])
    assert (result - plain).abs().max() < 0.02


def rectangle(height, width, margin):
    mask = torch.zeros(1, height, width)
    mask[:, margin:-margin, margin:-margin] = 1
    return mask


@pytest.mark.parametrize(
    ("size", "margin", "reach", "expected"),
    [
        ((200, 240), 20, 2, [64, 128]),  # not 4, 8, 16 and 32 as well
        ((200, 240), 20, 10, [40, 80]),
        ((200, 240), 80, 2, [16, 32]),  # 40 pixels high: 64 has no room
        ((60, 60), 20, 2, [8, 16]),
        ((60, 60), 20, 8, [16]),
        ((60, 60), 25, 8, []),
    ],
)
def test_the_two_coarsest_bands_with_room_are_taken(size, margin, reach, expected):
    weight = fade(rectangle(*size, margin), reach)
    bands = _coarse_bands(weight, reach)
    assert [wide for wide, _ in bands] == expected
    for wide, own in bands:
        inner = (2 * fade((weight >= 0.5).float(), wide) - 1).clamp(min=0)
        assert torch.allclose(own, torch.minimum(inner / inner.amax(), weight), atol=1e-6)


def test_what_is_finer_than_the_coarse_bands_keeps_to_the_narrow_one():
    """Waves of 16 pixels: middle bands, of 8 and 16 pixels, would take them off at the edge."""
    image = torch.full((1, 200, 240, 3), 0.5)
    waves = image + 0.3 * torch.sin(torch.arange(240) * (2 * torch.pi / 16))[None, None, :, None]
    weight = fade(rectangle(200, 240, 20), 2)
    result = multiband(image, waves, weight, 2)
    expected = torch.lerp(image, waves, weight[..., None])
    assert (result - expected).abs().max() < 0.03


@pytest.mark.parametrize("strength", [0.004, 0.3, 0.6])
def test_a_faint_mask_takes_no_more_of_the_result_than_it_says(strength):
    image = torch.full((1, 200, 240, 3), 0.5)
    pixels, weight = image + 0.2, strength * rectangle(200, 240, 20)
    result = image.clone()
    assert Blending(2, Pasting(MULTIBAND)).paste(result, pixels, weight, Box(0, 0, 240, 200))
    assert result[0, 100, 120].tolist() == pytest.approx([0.5 + 0.2 * strength] * 3, abs=1e-5)
    assert (result - image).max() <= 0.2 * strength + 1e-5


def test_what_is_coarser_fades_in_from_the_edge():
    image = torch.full((1, 200, 240, 3), 0.5)
    result = multiband(image, image + 0.2, fade(rectangle(200, 240, 20), 2), 2) - image
    row = result[0, 100, :, 0]
    assert row[:18].abs().max() == 0
    assert 0 < row[24] < 0.02
    assert (row[20:120].diff() > -1e-6).all()
    assert row[120] == pytest.approx(0.2, abs=1e-4)
