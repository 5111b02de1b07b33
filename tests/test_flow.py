"""How the parts of a picture move from one frame to another."""

import pytest
import torch
from detailers.core.pixels.flow import chained, fitted_flow, motion_between, moved_back
from detailers.core.pixels.mask import softened


def waves(dx=0.0, dy=0.0, height=60, width=80):
    """[1,h,w,1]: a pattern that has moved by so many pixels."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    x, y = x - dx, y - dy
    plane = 0.5 + 0.25 * torch.sin(0.35 * x + 0.1 * y) + 0.2 * torch.sin(0.4 * y - 0.15 * x)
    return plane[None, ..., None]


def everywhere(picture):
    return torch.ones_like(picture)


@pytest.mark.parametrize("dx, dy", [(0.0, 0.0), (1.3, -0.6), (-2.4, 1.7)])
def test_a_motion_is_found_to_a_fraction_of_a_pixel(dx, dy):
    before, after = waves(), waves(dx, dy)
    flow = motion_between(before, after, everywhere(before))
    middle = flow[0, 10:-10, 10:-10]
    assert torch.allclose(middle.mean(dim=(0, 1)), torch.tensor([dx, dy]), atol=0.15)
    error = (moved_back(after, flow) - before)[0, 10:-10, 10:-10]
    assert float(error.abs().mean()) < 0.01


def test_flat_pictures_do_not_move():
    flat = torch.full((1, 40, 40, 1), 0.5)
    assert motion_between(flat, flat + 0.1, everywhere(flat)).abs().max() < 1e-3


def grained(picture, seed):
    """A picture with grain of 8 of 255 levels, a little blurred."""
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    noise = softened(noise, 0.7)
    return picture + 8 / 255 * noise / noise.std()


def test_grain_is_no_motion():
    before, after = grained(waves(), 0), grained(waves(), 1)
    flow = motion_between(before, after, everywhere(before))
    assert flow.square().mean().sqrt() < 0.05


def test_a_motion_is_found_in_grain():
    before, after = grained(waves(), 0), grained(waves(-2.4, 1.7), 1)
    flow = motion_between(before, after, everywhere(before))[0, 10:-10, 10:-10]
    assert torch.allclose(flow.mean(dim=(0, 1)), torch.tensor([-2.4, 1.7]), atol=0.25)


def test_only_what_counts_says_how_things_move():
    """The middle stands still, and everything around it moves."""
    before, after = waves(), waves(3.0)
    weight = torch.zeros_like(before)
    weight[:, 15:45, 25:55] = 1
    after = torch.where(weight > 0, before, after)
    flow = motion_between(before, after, weight)
    assert float(flow[0, 20:40, 30:50].abs().mean()) < 0.15


def test_motions_one_after_the_other():
    first = torch.tensor([1.0, -0.5]).expand(1, 20, 30, 2)
    then = torch.tensor([0.25, 2.0]).expand(1, 20, 30, 2)
    assert torch.allclose(chained(first, then), torch.tensor([1.25, 1.5]).expand(1, 20, 30, 2))


def test_a_motion_for_pictures_of_another_size():
    flow = torch.tensor([1.0, -0.5]).expand(1, 20, 30, 2)
    wide = fitted_flow(flow, torch.zeros(1, 40, 90, 3))
    assert torch.allclose(wide, torch.tensor([3.0, -1.0]).expand(1, 40, 90, 2))
