"""Masks calculated with, and drawn."""

import pytest
import torch
from detailers.core.geometry import Box, Size
from detailers.core.pixels.mask import binary, difference, intersection, rectangle, total
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

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
