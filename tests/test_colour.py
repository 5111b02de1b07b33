"""Colours in OKLab, and matching the colours of one picture to another."""

import pytest
import torch
from detailers.core.pixels.colour import (
    ColourChange,
    from_oklab,
    rim,
    surroundings,
    to_oklab,
)
from detailers.tests.fake_backend import noise_image
from hypothesis import given, settings
from hypothesis import strategies as st


def ring(height=40, width=56, hole=10):
    """All but the middle."""
    mask = torch.ones(1, height, width, dtype=torch.bool)
    mask[:, hole:-hole, hole:-hole] = False
    return mask


def picture(seed=0, height=40, width=56, patch=4):
    """Patches of colours well inside of what sRGB has, so that they can be shifted."""
    patches = noise_image(1, height // patch, width // patch, seed=seed)
    return 0.45 + 0.15 * patches.repeat_interleave(patch, 1).repeat_interleave(patch, 2)


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


@pytest.mark.parametrize("colour", [(0.02, 0.02, 0.02), (1.0, 1.0, 1.0), (0.9, 0.1, 0.1)])
@pytest.mark.parametrize("in_result", [True, False])
def test_a_thing_that_one_picture_has_alone_leaves_shift_and_contrast_as_they_are(
    colour, in_result
):
    original = picture()
    pixels = shifted(original, 0.05, 0.01, -0.02)
    before = ColourChange.between(pixels, original, ring())
    changed = pixels if in_result else original
    changed[:, 8:32, 4:8] = torch.tensor(colour)  # a strand of hair, a highlight, an ornament
    change = ColourChange.between(pixels, original, ring())
    shift = change.target - change.centre
    assert torch.allclose(shift, torch.tensor([-0.05, -0.01, 0.02]), atol=2e-3)
    assert torch.allclose(change.ratio, before.ratio, atol=0.02)


def test_what_lies_outside_of_the_ring_has_no_say():
    image = picture()
    pixels = shifted(image, 0.05, 0, 0)
    pixels[:, 10:-10, 10:-10] = 0
    change = ColourChange.between(pixels, image, ring())
    assert torch.allclose(change.target - change.centre, torch.tensor([-0.05, 0, 0]), atol=1e-3)


@pytest.mark.parametrize(
    ("times", "ratio"), [(1.2, 1.0), (1.6, 1.4 / 1.6), (2.5, 0.8), (0.5, 1.25), (0.9, 1.0)]
)
def test_contrast_is_changed_only_where_it_is_far_off_and_not_by_much(times, ratio):
    lab = to_oklab(picture(patch=16, height=96, width=96))
    middle = lab.mean((0, 1, 2))
    image = from_oklab((lab - middle) * 0.9 + middle)
    pixels = from_oklab((lab - middle) * 0.9 * times + middle)
    change = ColourChange.between(pixels, image, torch.ones(1, 96, 96, dtype=torch.bool))
    assert change.ratio[0] == pytest.approx(ratio, abs=0.03)


def test_contradicting_cells_make_the_shift_smaller():
    image = picture()
    tint = shifted(image, 0.03, 0, 0)
    drawn = tint + 0.3 * (picture(7) - picture(8))
    changes = [ColourChange.between(own, image, ring()) for own in (tint, drawn)]
    alike, apart = (abs(change.target - change.centre)[0].item() for change in changes)
    assert alike == pytest.approx(0.03, abs=1e-3)
    assert 0.005 < apart < 0.027


def redrawn(tint=0.0, inside=0.0):
    """A picture in the middle of which something else was drawn, its original, ring and around.

    Args:
        tint: of all of it, in lightness.
        inside: of the ring alone.
    """
    around = ring(80, 80, 16)
    band = ring(80, 80, 32) & ~around
    original = picture(0, 80, 80)
    drawn = original + 0.3 * (picture(7, 80, 80) - picture(8, 80, 80)) + 0.02
    pixels = torch.where(around[..., None], original, drawn)
    pixels = shifted(pixels, tint, 0, 0)
    pixels = torch.where(band[..., None], shifted(pixels, inside, 0, 0), pixels)
    return pixels, original, band, around


@pytest.mark.parametrize("tint", [-0.03, 0.0, 0.03])
def test_the_surroundings_tell_a_tint_where_the_drawing_contradicts(tint):
    pixels, original, band, around = redrawn(tint)
    change = ColourChange.between(pixels, original, band, around)
    shift = change.target - change.centre
    assert torch.allclose(shift, torch.tensor([-tint, 0, 0]), atol=4e-3)
    alone = ColourChange.between(pixels, original, band)
    assert ((alone.target - alone.centre)[0] + tint).abs() > 6e-3


def test_a_tint_of_the_ring_alone_goes_too_where_its_cells_agree():
    original = picture(0, 80, 80)
    around = ring(80, 80, 16)
    band = ring(80, 80, 32) & ~around
    pixels = torch.where(band[..., None], shifted(original, 0.04, 0.01, 0), original)
    change = ColourChange.between(pixels, original, band, around)
    assert torch.allclose(change.target - change.centre, torch.tensor([-0.04, -0.01, 0]), atol=1e-3)


def test_surroundings_too_small_to_tell_leave_it_to_the_ring():
    pixels, original, band, _ = redrawn(0.02)
    few = torch.zeros_like(band)
    few[:, :4, :12] = True
    alone = ColourChange.between(pixels, original, band)
    for around in (few, few & False):
        change = ColourChange.between(pixels, original, band, around)
        assert torch.equal(change.target, alone.target)


def test_flat_areas_keep_their_spread():
    flat = torch.full((1, 40, 56, 3), 0.5)
    change = ColourChange.between(flat + 0.001 * noise_image(1, 40, 56), picture(), ring())
    assert change.ratio.tolist() == [1.0, 1.0, 1.0]


def test_a_tiny_ring_says_nothing():
    mask = torch.zeros(1, 40, 56, dtype=torch.bool)
    mask[:, :4, :8] = True
    assert ColourChange.between(picture(), picture(1), mask) is None
    assert ColourChange.between(picture(), picture(1), mask & False) is None


def test_cells_that_the_ring_covers_by_less_than_half_say_nothing():
    lines = torch.zeros(1, 40, 56, dtype=torch.bool)
    lines[:, ::4] = True
    assert ColourChange.between(shifted(picture(), 0.03, 0, 0), picture(), lines) is None
    lines[:, 1::4] = True
    change = ColourChange.between(shifted(picture(), 0.03, 0, 0), picture(), lines)
    assert (change.target - change.centre)[0].item() == pytest.approx(-0.03, abs=1e-3)


def test_the_frames_of_a_clip_are_changed_by_what_all_of_them_tell():
    """Each frame's cells are compared with one another, so that a tint of its own is no outlier."""
    tints = (0.0, 0.08, 0.02, 0.02)
    clip = torch.cat([shifted(picture(seed), tint, 0, 0) for seed, tint in enumerate(tints)])
    image = torch.cat([picture(seed) for seed in range(4)])
    change = ColourChange.between(clip, image, ring())
    assert (change.target - change.centre)[0].item() == pytest.approx(-0.03, abs=1e-3)
    assert change.ratio.tolist() == [1, 1, 1]
    assert ColourChange.of([]) is None


# The rim


def test_the_rim_is_the_masks_outermost_part_but_for_its_soft_edge():
    mask = torch.zeros(1, 40, 44)
    mask[:, 4:36, 6:40] = 1
    found = rim(mask, 7)
    expected = torch.zeros(1, 40, 44)
    expected[:, 8:32, 10:36] = 1
    expected[:, 11:29, 13:33] = 0
    assert torch.equal(found, expected.bool())


def test_surroundings_lie_around_the_mask_but_for_its_soft_edge():
    mask = torch.zeros(1, 40, 44)
    mask[:, 16:24, 18:28] = 0.1
    expected = torch.zeros(1, 40, 44)
    expected[:, 8:32, 10:36] = 1
    expected[:, 12:28, 14:32] = 0
    assert torch.equal(surroundings(mask, 8), expected.bool())
    assert not surroundings(torch.ones(1, 9, 9), 8).any()


def test_where_the_mask_leaves_the_crop_is_no_rim():
    found = rim(torch.ones(1, 9, 9), 3)
    assert not found.any()
