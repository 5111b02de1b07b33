"""Sizes that are too large are refused before memory is allocated."""

import time

import numpy as np
import pytest
import torch
from detailers.core.bounds import MOST_PIXELS, MOST_SAMPLED, check_pixels, check_values
from detailers.core.geometry import Box, Size
from detailers.core.pixels.mask import rectangle, resize_mask
from detailers.core.pixels.resample import resample, resize
from detailers.core.segs.edit import change_masks
from detailers.core.segs.seg import SEG, combined_mask, mask_list, normalise

HUGE = 10**9


def segment(region, mask=None, bbox=None):
    mask = np.ones((4, 6), np.float32) if mask is None else mask
    return SEG(None, mask, 1.0, region, bbox or region, "A")


@pytest.fixture(autouse=True)
def at_once():
    """Fails if a test takes the time or the memory of the large size."""
    begin = time.process_time()
    yield
    assert time.process_time() - begin < 5


def test_the_bounds_are_those_of_the_largest_sides():
    assert MOST_PIXELS == 16384 * 16384
    assert MOST_SAMPLED == 8192 * 8192
    check_pixels(Size(16384, 16384), "A picture")
    with pytest.raises(ValueError, match=r"A picture would be 16385x16384 .*\(16384x16384\)"):
        check_pixels(Size(16385, 16384), "A picture")
    with pytest.raises(ValueError, match=r"about 10\^8"):
        check_pixels(Size(10**4000, 10**4000), "A picture")
    with pytest.raises(ValueError, match="513 times 2048x2048 values; the most is 2147483648"):
        check_values(513, Size(2048, 2048), "The masks")


@pytest.mark.parametrize(
    "make",
    [
        lambda: resize(torch.zeros(1, 4, 4, 3), Size(HUGE, HUGE)),
        lambda: resize_mask(torch.zeros(1, 4, 4), Size(HUGE, 1)),
        lambda: resample(torch.zeros(1, 4, 4, 3), Size(HUGE, 1), "lanczos"),
        lambda: rectangle(Size(HUGE, HUGE), Box(0, 0, 1, 1)),
        lambda: combined_mask(((HUGE, HUGE), [])),
        lambda: change_masks(((HUGE, HUGE), []), lambda mask: mask),
        lambda: mask_list(((4096, 4096), [segment((0, 0, 6, 4))] * 1000)),
        lambda: change_masks(((0, 0), [segment((0, 0, HUGE, HUGE))]), lambda mask: mask),
    ],
)
def test_nothing_is_made_that_is_too_large(make):
    with pytest.raises(ValueError, match=r"the most is|at most 268435456 pixels"):
        make()


def test_a_region_far_beyond_the_image_is_clipped_before_its_mask_is_resized():
    mask = np.repeat(np.array([[0, 1]], np.float32), 2, axis=0)  # the right half
    segs = ((10, 20), [segment((-HUGE, -HUGE, HUGE, HUGE), mask)])
    _, (only,) = normalise(segs, Size(20, 10), "segs")
    assert only.crop_region == (0, 0, 20, 10)
    assert only.cropped_mask.shape == (10, 20)
    assert only.cropped_mask.min() > 0.999  # what lies right of the middle, which is x = 0


def test_a_region_that_is_scaled_is_clipped_before_as_well():
    segs = ((16384, 16384), [segment((0, -HUGE, HUGE, 8192))])
    _, (only,) = normalise(segs, Size(8, 8), "segs")
    assert only.crop_region == (0, 0, 8, 4)
    assert np.array_equal(only.cropped_mask, np.ones((4, 8), np.float32))


@pytest.mark.parametrize(
    "region", [(8, 8, 2, 2), (-HUGE, 0, -5, 10), (HUGE, HUGE, HUGE + 4, HUGE + 4), (3, 3, 3, 3)]
)
def test_reversed_regions_and_those_outside_are_empty(region):
    _, (only,) = normalise(((10, 20), [segment(region)]), Size(20, 10), "segs")
    assert Box.of(only.crop_region).empty
    assert only.cropped_mask.size == 0
