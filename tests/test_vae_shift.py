"""Undoing the VAE's changes to pixels that were not redrawn."""

import pytest
import torch
from detailers.core.pixels.vae_shift import restore_kept
from detailers.tests.fake_backend import noise_image, ramp_image
from hypothesis import given, settings
from hypothesis import strategies as st


def mask(height=64, width=80, margin=24):
    """The middle is redrawn."""
    result = torch.zeros(1, height, width)
    result[:, margin:-margin, margin:-margin] = 1
    return result


def redrawn(image, amount=0.2, margin=24):
    """The image with other pixels in the middle."""
    result = image.clone()
    result[:, margin:-margin, margin:-margin] += amount
    return result


@settings(deadline=None, max_examples=20)
@given(st.tuples(*[st.floats(-0.06, 0.06)] * 3), st.integers(0, 3))
def test_an_even_shift_is_taken_off_everywhere(shift, seed):
    image = 0.3 + 0.2 * noise_image(2, 64, 80, seed=seed)
    pixels = redrawn(image) + torch.tensor(shift)
    result = restore_kept(pixels, image, mask(), cell=2)
    assert torch.allclose(result, redrawn(image), atol=1e-4)


def test_kept_pixels_come_back_to_the_bit():
    image = noise_image(1, 64, 80)
    pixels = redrawn(image) + 0.02 * (noise_image(1, 64, 80, seed=1) - 0.5)
    result = restore_kept(pixels, image, mask(), cell=2)
    far = torch.ones(64, 80, dtype=torch.bool)
    far[24 - 8 : -24 + 8, 24 - 8 : -24 + 8] = False
    assert torch.equal(result[:, far], image[:, far])


def test_a_shift_that_differs_from_side_to_side_goes_on_under_the_redrawn_part():
    image = torch.full((1, 64, 80, 3), 0.4)
    shift = torch.linspace(-0.05, 0.05, 80)[None, None, :, None]
    result = restore_kept(redrawn(image) + shift, image, mask(), cell=2)
    assert (result - redrawn(image)).abs().max() < 0.02  # before: 0.05


def test_fine_differences_in_the_redrawn_part_stay():
    image = ramp_image(1, 64, 80) * 0.5
    pixels = image.clone()
    pixels[:, 24:-24, 24:-24] = 0.3 + 0.2 * noise_image(1, 16, 32, seed=1)
    result = restore_kept(pixels, image, mask(), cell=2)
    assert torch.allclose(result, pixels, atol=1e-4)


@pytest.mark.parametrize("noise_mask", [torch.ones(1, 64, 80), mask(margin=4)])
def test_where_nothing_was_kept_nothing_is_told(noise_mask):
    image = noise_image(1, 64, 80)
    pixels = image + 0.1
    assert restore_kept(pixels, image, noise_mask, cell=4) is pixels


def test_a_little_that_was_kept_tells_the_shift():
    """4 columns of 80 stay known once the reach of the decoder is taken off: 5 %."""
    kept = torch.ones(1, 64, 80)
    kept[..., :12] = 0
    image = torch.full((1, 64, 80, 3), 0.4)
    drawn = image + 0.2 * kept[..., None]
    result = restore_kept(drawn + 0.05, image, kept, cell=2)
    assert torch.allclose(result[:, :, 20:], drawn[:, :, 20:], atol=1e-3)
    assert torch.equal(result[:, :, :4], image[:, :, :4])


def test_each_frame_has_its_own_mask():
    image = torch.full((2, 64, 80, 3), 0.4)
    masks = torch.cat([mask(), torch.zeros(1, 64, 80)])
    result = restore_kept(redrawn(image) + 0.05, image, masks, cell=2)
    assert torch.allclose(result[0], redrawn(image)[0], atol=1e-4)
    assert torch.equal(result[1], image[1])
