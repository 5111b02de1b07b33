"""Masks are feathered, dilated, resized, combined and drawn; and the shapes in them."""

import cv2
import numpy as np
import pytest
import torch
from detailers.core.geometry import Box, Size
from detailers.core.pixels.mask import (
    bbox,
    binary,
    blur,
    contour_box,
    contours,
    difference,
    dilate,
    fade,
    feather,
    fill_contour,
    for_latent,
    intersection,
    is_hard,
    rectangle,
    resize_mask,
    solid,
    total,
    union,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter

binary_masks = arrays(
    np.float32, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.sampled_from([0, 1])
)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# Feather


def blurred(mask, radius, sigma=10.0):
    """A gaussian blur written out: the mask [H,W] mirrored at its border, summed tap by tap."""
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    padded = np.pad(mask.double().numpy(), radius, mode="reflect")
    height, width = mask.shape
    result = np.zeros((height, width))
    for y in range(2 * radius + 1):
        for x in range(2 * radius + 1):
            result += kernel[y, x] * padded[y : y + height, x : x + width]
    return torch.from_numpy(result).float()


@pytest.mark.parametrize(("height", "width", "radius"), [(9, 15, 2), (70, 150, 5), (11, 11, 5)])
def test_feather_is_a_gaussian_blur_mirrored_at_the_border(height, width, radius):
    masks = noise(2, height, width)
    soft = feather(masks, radius)
    for row in range(2):
        assert torch.allclose(soft[row], blurred(masks[row], radius), atol=1e-6)


@pytest.mark.parametrize(("side", "radius"), [(21, 4), (22, 4), (23, 5), (24, 5), (15, 3), (7, 1)])
def test_a_small_mask_gets_the_largest_odd_kernel_below_half_its_side(side, radius):
    mask = noise(side, 40)
    assert torch.allclose(feather(mask[None], 20)[0], blurred(mask, radius), atol=1e-6)


@pytest.mark.parametrize("side", [1, 2, 5, 6])
def test_a_tiny_mask_is_not_blurred(side):
    mask = noise(1, side, 40)
    assert feather(mask, 20) is mask


def test_feather_of_zero_is_the_same_mask():
    mask = noise(1, 9, 9)
    assert feather(mask, 0) is mask


def test_feather_fades_over_the_radius_and_no_further():
    mask = torch.zeros(1, 40, 60)
    mask[:, :, 30:] = 1
    soft = feather(mask, 5)[0, 20]
    assert (soft[:25] == 0).all()
    assert (soft[25:30] > 0).all()
    assert (soft[25:35].diff() > 0).all()
    assert torch.allclose(soft[35:], torch.tensor(1.0))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(0, 60), st.floats(0, 1), st.integers(0, 99)
)
def test_feather_stays_within_0_1_and_zero_far_from_the_mask(height, width, radius, share, seed):
    mask = (noise(1, height, width, seed=seed) < share * 0.02).float()
    soft = feather(mask, radius)
    assert soft.min() >= 0
    assert soft.max() <= 1
    reach = dilate(mask, 2 * radius + 1)
    assert (soft[reach == 0] == 0).all()
    assert torch.allclose(feather(torch.ones_like(mask), radius), torch.tensor(1.0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_feather_keeps_the_dtype(dtype):
    mask = noise(1, 20, 30).to(dtype)
    soft = feather(mask, 3)
    assert soft.dtype == dtype
    assert torch.allclose(soft.float(), feather(mask.float(), 3), atol=1e-3)


# Dilate


def test_a_pixel_grows_to_a_square_of_the_amount():
    mask = torch.zeros(1, 5, 7)
    mask[0, 2, 3] = 0.5
    assert bbox(dilate(mask, 3)[0]) == Box(2, 1, 5, 4)
    assert bbox(dilate(mask, 2)[0]) == Box(3, 2, 5, 4)
    assert bbox(dilate(dilate(mask, 3), -3)[0]) == Box(3, 2, 4, 3)
    assert dilate(mask, 1) is mask
    assert dilate(mask, 0) is mask
    assert dilate(mask, 9).eq(0.5).all()


@pytest.mark.parametrize("amount", [2, 3, 4, 5, 8, 13])
def test_dilate_agrees_with_opencv(amount):
    masks = noise(2, 11, 17)
    kernel = np.ones((amount, amount), np.uint8)
    for row in range(2):
        plane = masks[row].numpy()
        assert np.array_equal(dilate(masks, amount)[row].numpy(), cv2.dilate(plane, kernel))
        assert np.array_equal(dilate(masks, -amount)[row].numpy(), cv2.erode(plane, kernel))


# Resize, unite, measure


def test_resize_mask_is_linear_in_each_direction_by_itself():
    mask = torch.tensor([[[0.0, 1.0]]])
    assert resize_mask(mask, Size(4, 2))[0].tolist() == [[0, 0.25, 0.75, 1]] * 2
    assert resize_mask(mask, Size(2, 1)) is mask


def triangle(old, new):
    """Weights [new,old] of a linear resize of an axis that averages where it shrinks."""
    scale = old / new
    centres = (np.arange(new)[:, None] + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centres) / max(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(8, 8), (7, 64), (64, 5), (24, 19), (63, 30)])
def test_a_mask_that_shrinks_is_averaged(size):
    width, height = size
    mask = noise(2, 64, 64)
    expected = np.einsum(
        "yh,bhw,xw->byx", triangle(64, height), mask.double().numpy(), triangle(64, width)
    )
    np.testing.assert_allclose(resize_mask(mask, Size(*size)), expected, atol=1e-5)


@pytest.mark.parametrize("column", range(8))
def test_a_thin_line_keeps_its_weight_where_the_mask_shrinks(column):
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 24 + column] = 1
    small = resize_mask(mask, Size(8, 8))
    assert small.sum().item() == pytest.approx(8 * 1 / 8, rel=0.02)  # 8 rows, an eighth of a cell
    near = (24 + column + 0.5) / 8 - 0.5  # where it is, in cells
    expected = [max(0.0, 1 - abs(cell - near)) / 8 for cell in range(8)]
    assert small[0, 4].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_noise_mask_is_brought_to_the_latent_linearly():
    mask = torch.tensor([[[0.0, 1.0, 1.0, 0.0]] * 4, [[1.0, 0.0, 0.0, 0.0]] * 4])
    found = for_latent(mask, torch.zeros(2, 4, 2, 2))
    assert found.shape == (2, 1, 2, 2)
    assert found[0, 0].tolist() == [[0.5, 0.5]] * 2
    assert found[1, 0].tolist() == [[0.5, 0.0]] * 2
    clip = for_latent(mask, torch.zeros(1, 4, 4, 2, 2))  # two frames over four of the latent
    assert clip.shape == (1, 1, 4, 2, 2)
    assert clip[0, 0, :, 0, 1].tolist() == pytest.approx([0.5, 0.375, 0.125, 0.0])


def test_union_is_the_maximum():
    masks = torch.tensor([[[0.1, 0.9]], [[0.5, 0.2]]])
    expected = torch.tensor([[[0.5, 0.9]]])
    assert torch.equal(union(masks), expected)
    assert torch.equal(union([masks[:1], masks[1:]]), expected)


def test_bbox_is_the_tight_box():
    mask = torch.zeros(5, 7)
    assert bbox(mask) is None
    mask[1, 2] = 0.01
    assert bbox(mask) == Box(2, 1, 3, 2)
    mask[4, 6] = 1
    assert bbox(mask) == Box(2, 1, 7, 5)


# Shapes


def test_outlines_come_lowest_first_and_then_from_the_right():
    mask = np.zeros((40, 60), np.float32)
    mask[2:10, 30:40] = 1
    mask[20:30, 5:15] = 1
    mask[2:35, 50:55] = 1
    boxes = [contour_box(contour) for contour in contours(mask)]
    assert boxes == [Box(5, 20, 15, 30), Box(50, 2, 55, 35), Box(30, 2, 40, 10)]


def test_holes_and_what_lies_in_them_belong_to_the_shape():
    mask = np.zeros((20, 20), np.float32)
    mask[2:18, 2:18] = 1
    mask[5:15, 5:15] = 0
    mask[9:11, 9:11] = 1
    (outline,) = contours(mask)
    expected = np.zeros((20, 20), np.float32)
    expected[2:18, 2:18] = 1
    assert np.array_equal(fill_contour(outline, Box(0, 0, 20, 20)), expected)
    assert np.array_equal(fill_contour(outline, Box(1, 3, 9, 20)), expected[3:20, 1:9])
    assert np.array_equal(solid(mask), expected)


def test_what_is_fainter_than_an_8_bit_step_is_no_shape():
    assert contours(np.full((9, 9), 0.003, np.float32)) == []
    assert len(contours(np.full((9, 9), 0.004, np.float32))) == 1


@settings(max_examples=60, deadline=None)
@given(binary_masks)
def test_solid_covers_the_mask_and_only_fills_holes(mask):
    filled = solid(mask)
    assert ((filled == 0) | (filled == 1)).all()
    assert (filled >= mask).all()
    # from the border, a step at a time to the side or up and down, one reaches all that is left 0
    padded = np.pad(1 - mask, 1, constant_values=1)
    reached = np.zeros_like(padded)
    reached[0, 0] = 1
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    while True:
        grown = cv2.dilate(reached, cross) * padded
        if np.array_equal(grown, reached):
            break
        reached = grown
    assert np.array_equal(filled, 1 - reached[1:-1, 1:-1])


def test_hard_masks_hold_0_and_1_alone():
    assert is_hard(None)
    assert is_hard(torch.eye(4)[None])
    assert not is_hard(torch.tensor([[[0.0, 0.5, 1.0]]]))


# Odd values


@pytest.mark.parametrize("sigma", [0, 0.0, 1e-300, 1e-6, -0.0])
def test_a_gaussian_without_width_leaves_the_mask_as_it_is(sigma):
    mask = noise(1, 20, 30)
    assert torch.equal(feather(mask, 5, sigma), mask)
    assert torch.allclose(blur(mask, 5, sigma), mask, atol=1e-6)


@given(
    st.floats(allow_nan=False, allow_infinity=True),
    st.one_of(st.integers(-100, 100), st.integers(-(2**40), 2**40)),
)
@settings(max_examples=100, deadline=None)
def test_any_sigma_and_radius_gives_a_mask(sigma, radius):
    soft = feather(noise(1, 12, 16), radius, sigma)
    assert torch.isfinite(soft).all()
    assert soft.min() >= 0 and soft.max() <= 1


def test_a_gaussian_of_nan_is_refused():
    with pytest.raises(ValueError, match="'sigma' is NaN"):
        feather(noise(1, 20, 30), 5, float("nan"))


@pytest.mark.parametrize("amount", [100, 101, 2**31, 2**31 + 1, 10**30])
def test_a_window_beyond_the_mask_takes_its_highest_value_at_once(amount):
    mask = noise(2, 7, 9)
    highest, lowest = mask.amax((1, 2), True), mask.amin((1, 2), True)
    assert torch.equal(dilate(mask, amount), highest.expand_as(mask))
    assert torch.equal(dilate(mask, -amount), lowest.expand_as(mask))


@pytest.mark.parametrize("amount", range(2, 40))
def test_a_window_as_wide_as_the_mask_is_that_of_opencv(amount):
    mask = noise(1, 11, 13)
    expected = cv2.dilate(mask[0].numpy(), np.ones((amount, amount), np.uint8))
    assert np.array_equal(dilate(mask, amount)[0].numpy(), expected)


def test_a_fade_of_any_reach_costs_no_more_than_the_mask():
    mask = torch.zeros(1, 8, 8)
    mask[:, :4] = 1
    soft = fade(mask, 10**9)
    assert torch.equal(soft, fade(mask, 16))
    assert soft.min() >= 0 and soft.max() <= 1


# Combining and drawing

FIRST = torch.tensor([[[0.0, 0.2, 0.6, 1.0, 1.0]]])
SECOND = torch.tensor([[[1.0, 0.7, 0.6, 0.3, 0.0]]])


@pytest.mark.parametrize(
    ("calculate", "expected"),
    [
        (intersection, [0.0, 0.2, 0.6, 0.3, 0.0]),
        (difference, [0.0, 0.0, 0.0, 0.7, 1.0]),
        (total, [1.0, 0.9, 1.0, 1.0, 1.0]),
    ],
)
def test_pixel_by_pixel(calculate, expected):
    torch.testing.assert_close(calculate(FIRST, SECOND), torch.tensor([[expected]]))


@pytest.mark.parametrize("calculate", [intersection, difference, total])
def test_inputs_stay_as_they_are(calculate):
    first, second = FIRST.clone(), SECOND.clone()
    calculate(first, second)
    assert torch.equal(first, FIRST)
    assert torch.equal(second, SECOND)


@given(
    st.sampled_from([intersection, difference, total]), st.sampled_from([(1, 3), (3, 1), (2, 2)])
)
def test_one_mask_goes_with_each_of_a_batch(calculate, counts):
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.rand(count, 4, 5, generator=generator) for count in counts)
    result = calculate(first, second)
    assert result.shape == (max(counts), 4, 5)
    for row in range(max(counts)):
        alone = calculate(first[[row % len(first)]], second[[row % len(second)]])
        assert torch.equal(result[row], alone[0])


def test_the_second_mask_takes_the_size_of_the_first():
    first = torch.ones(1, 6, 8)
    second = torch.zeros(1, 3, 4)
    second[:, :, :2] = 1
    result = intersection(first, second)
    assert result.shape == (1, 6, 8)
    for row in result[0]:  # resized linearly
        assert row.tolist() == pytest.approx([1, 1, 1, 0.75, 0.25, 0, 0, 0], abs=1e-6)


def test_batches_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"'mask1' holds 2 masks and 'mask2' 3"):
        total(torch.zeros(2, 4, 4), torch.zeros(3, 4, 4))


def test_binary_takes_what_is_above_the_threshold():
    mask = torch.tensor([[[0.0, 20 / 255, 21 / 255, 1.0]]])
    assert binary(mask, 20 / 255).tolist() == [[[0.0, 0.0, 1.0, 1.0]]]


def test_a_rectangle_is_cut_off_at_the_border():
    mask = rectangle(Size(6, 4), Box(4, -1, 9, 2))
    expected = torch.zeros(1, 4, 6)
    expected[:, :2, 4:] = 1
    assert torch.equal(mask, expected)


def test_a_rectangle_outside_is_nothing():
    assert not rectangle(Size(6, 4), Box(6, 0, 9, 2)).any()


def test_a_blurred_rectangle_is_the_gaussian_of_the_sharp_one():
    sharp = rectangle(Size(40, 30), Box(10, 8, 25, 20))
    soft = rectangle(Size(40, 30), Box(10, 8, 25, 20), blur_radius=6)
    sigma = 0.3 * 5 + 0.8
    expected = gaussian_filter(sharp[0].numpy(), sigma, mode="mirror", radius=6)
    torch.testing.assert_close(soft[0], torch.from_numpy(expected), atol=1e-5, rtol=0)
