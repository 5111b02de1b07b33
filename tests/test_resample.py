"""Resizing with filters gives the results of Pillow, in floats."""

import numpy as np
import pytest
import torch
from detailers.core.geometry import Size
from detailers.core.pixels.resample import METHODS, SUPERSAMPLING, averaged, resample, resize
from detailers.tests.fake_backend import noise_image, ramp_image
from PIL import Image

PILLOW = {
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def by_pillow(plane, sizes, method):
    """A plane [H,W] resized by Pillow in floats, to one size after the other."""
    image = Image.fromarray(plane.numpy())
    for size in sizes:
        image = image.resize(size, PILLOW[method])
    return np.clip(np.asarray(image), 0, 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(14, 10), (21, 33), (5, 3), (1, 1), (30, 2)])
def test_every_filter_is_pillows(method, size):
    image = noise_image(1, 9, 13)
    result = resample(image, Size(*size), method)
    assert result.shape == (1, size[1], size[0], 3)
    for channel in range(3):
        expected = by_pillow(image[0, ..., channel], [size], method)
        np.testing.assert_allclose(result[0, ..., channel], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(26, 18), (7, 4)])
def test_supersampling_goes_by_way_of_a_larger_picture(method, size):
    image = noise_image(1, 9, 13)
    fine = tuple(SUPERSAMPLING * side for side in size)
    result = resample(image, Size(*size), method, supersample=True)
    expected = by_pillow(image[0, ..., 0], [fine, size], method)
    np.testing.assert_allclose(result[0, ..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["lanczos", "bicubic"])
def test_supersampling_a_smooth_picture_is_the_same_for_filters_that_overshoot(method):
    image = ramp_image(1, 20, 30) * 0.5 + 0.25  # Pillow clips nothing on the way either
    result = resample(image, Size(60, 40), method, supersample=True)
    expected = by_pillow(image[0, ..., 0], [(480, 320), (60, 40)], method)
    np.testing.assert_allclose(result[0, ..., 0], expected, atol=1e-5)


def test_lanczos_is_that_of_the_detailers():
    image = noise_image(2, 9, 13, channels=4)
    torch.testing.assert_close(resample(image, Size(20, 5), "lanczos"), resize(image, Size(20, 5)))


@pytest.mark.parametrize("supersample", [False, True])
def test_a_flat_picture_stays_flat(supersample):
    image = torch.full((1, 7, 5, 1), 0.3)
    for method in METHODS:
        result = resample(image, Size(12, 3), method, supersample=supersample)
        torch.testing.assert_close(result, torch.full((1, 3, 12, 1), 0.3))


def test_the_type_stays():
    image = noise_image(1, 4, 4)
    for method in METHODS:
        half = resample(image.half(), Size(8, 8), method)
        assert half.dtype == torch.float16
        expected = resample(image, Size(8, 8), method)
        torch.testing.assert_close(half.float(), expected, atol=2e-3, rtol=0)


def test_an_unknown_filter_is_named():
    with pytest.raises(ValueError, match=r"'resampling_method' is 'magic'.*lanczos"):
        resample(noise_image(1, 4, 4), Size(8, 8), "magic")


@pytest.mark.parametrize("size", [(13, 9), (7, 4), (5, 3), (1, 1), (12, 9), (26, 20), (200, 150)])
def test_means_are_those_of_adaptive_pooling(size):
    planes = noise_image(2, 9, 13, 1)[..., 0] * 3 - 1
    width, height = size
    expected = torch.nn.functional.adaptive_avg_pool2d(planes, (height, width))
    torch.testing.assert_close(averaged(planes, Size(width, height)), expected)
    large = noise_image(1, 211, 317, 1)[..., 0]
    expected = torch.nn.functional.adaptive_avg_pool2d(large, (height, width))
    torch.testing.assert_close(averaged(large, Size(width, height)), expected)
