"""Colours in OKLab, and bringing one picture's to another's."""

import pytest
import torch
from detailers.core.colour import ColourChange, from_oklab, rim, to_oklab
from detailers.tests.fake_backend import noise_image
from hypothesis import given, settings
from hypothesis import strategies as st


def ring(height=40, width=56, hole=10):
    """All but the middle."""
    mask = torch.ones(1, height, width, dtype=torch.bool)
    mask[:, hole:-hole, hole:-hole] = False
    return mask


def picture(seed=0, height=40, width=56):
    """Patches of colours well inside of what sRGB has, so that they can be shifted."""
    patches = noise_image(1, height // 4, width // 4, seed=seed)
    return 0.35 + 0.3 * patches.repeat_interleave(4, 1).repeat_interleave(4, 2)


def shifted(image, lightness, a, b):
    return from_oklab(to_oklab(image) + torch.tensor([lightness, a, b]))


# OKLab


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1.0, 1.0, 1.0), (1.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (0.6280, 0.2249, 0.1258)),
        ((0.0, 1.0, 0.0), (0.8664, -0.2339, 0.1795)),
        ((0.0, 0.0, 1.0), (0.4520, -0.0325, -0.3115)),
    ],
)
def test_known_colours(rgb, lab):
    assert torch.allclose(to_oklab(torch.tensor(rgb)), torch.tensor(lab), atol=2e-4)


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3))
def test_there_and_back_is_the_same_colour(rgb):
    rgb = torch.tensor(rgb, dtype=torch.float64)
    assert torch.allclose(from_oklab(to_oklab(rgb)), rgb, atol=1e-5)


def test_shape_and_type_stay():
    image = noise_image(2, 3, 5).double()
    assert to_oklab(image).shape == (2, 3, 5, 3)
    assert from_oklab(to_oklab(image)).dtype == torch.float64


# Matching


@settings(deadline=None, max_examples=15)
@given(st.tuples(*[st.floats(-0.05, 0.05)] * 3), st.integers(0, 99))
def test_a_constant_shift_is_removed_at_full_strength_and_left_at_none(shift, seed):
    image = picture(seed)
    pixels = shifted(image, *shift)
    change = ColourChange.between(pixels, image, ring())
    assert torch.allclose(change.apply(pixels, 1.0), image, atol=2e-3)
    assert torch.allclose(change.apply(pixels, 0.0), pixels, atol=1e-4)
    half = change.apply(pixels, 0.5)
    assert torch.allclose(to_oklab(half), (to_oklab(pixels) + to_oklab(image)) / 2, atol=2e-3)


def test_less_than_half_of_the_ring_has_no_say():
    image = picture()
    pixels = shifted(image, 0.05, 0, 0)
    image = image.clone()
    image[:, :, :4] = 0.02  # something dark comes into the picture
    change = ColourChange.between(pixels, image, ring())
    assert torch.allclose(change.target - change.centre, torch.tensor([-0.05, 0, 0]), atol=0.01)


def test_what_lies_outside_of_the_ring_has_no_say():
    image = picture()
    pixels = shifted(image, 0.05, 0, 0)
    pixels[:, 10:-10, 10:-10] = 0
    change = ColourChange.between(pixels, image, ring())
    assert torch.allclose(change.target - change.centre, torch.tensor([-0.05, 0, 0]), atol=1e-3)


def test_a_wider_spread_is_narrowed_but_only_so_far():
    image = picture()
    lab = to_oklab(image)
    wider = from_oklab((lab - lab.mean((0, 1, 2))) * 1.15 + lab.mean((0, 1, 2)))
    change = ColourChange.between(wider, image, torch.ones(1, 40, 56, dtype=torch.bool))
    assert change.ratio[0] == pytest.approx(1 / 1.15, abs=0.01)
    change = ColourChange.between((image - 0.5) * 2 + 0.5, image, ring())
    assert change.ratio[0] == pytest.approx(0.8)


def test_flat_areas_keep_their_spread():
    flat = torch.full((1, 40, 56, 3), 0.5)
    change = ColourChange.between(flat + 0.001 * noise_image(1, 40, 56), picture(), ring())
    assert change.ratio.tolist() == [1.0, 1.0, 1.0]


def test_a_tiny_ring_says_nothing():
    mask = torch.zeros(1, 40, 56, dtype=torch.bool)
    mask[:, :4, :8] = True
    assert ColourChange.between(picture(), picture(1), mask) is None
    assert ColourChange.between(picture(), picture(1), mask & False) is None


def test_several_changes_become_their_mean():
    one = ColourChange.between(shifted(picture(), 0.02, 0, 0), picture(), ring())
    other = ColourChange.between(shifted(picture(), 0.04, 0, 0), picture(), ring())
    mean = ColourChange.mean([one, other])
    assert (mean.target - mean.centre)[0] == pytest.approx(-0.03, abs=1e-3)
    assert ColourChange.mean([]) is None


# The rim


def test_the_rim_is_the_masks_outermost_part():
    mask = torch.zeros(1, 20, 24)
    mask[:, 4:16, 6:20] = 1
    found = rim(mask, 3)
    assert found[0, 4:16, 6:20].sum() == found.sum() == 12 * 14 - 6 * 8
    assert not found[0, 7:13, 9:17].any()


def test_where_the_mask_leaves_the_crop_is_no_rim():
    found = rim(torch.ones(1, 9, 9), 3)
    assert not found.any()
