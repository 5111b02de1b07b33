"""Cutting out, resizing, padding and pasting images."""

import numpy as np
import pytest
import torch
from detailers.core.geometry import Box, Size
from detailers.core.pixels.image import (
    crop,
    merge_alpha,
    pad_edge,
    paste,
    split_alpha,
    to_rgb,
    unpad,
    usable,
)
from detailers.core.pixels.resample import resize
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def picture(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def bits(image):
    return image.contiguous().view(torch.int32)


# Crop


def test_crop_is_a_view_of_the_region():
    image = torch.arange(35.0).view(1, 5, 7, 1)
    part = crop(image, Box(4, 1, 6, 4))
    assert part[0, ..., 0].tolist() == [[11, 12], [18, 19], [25, 26]]
    part.zero_()
    assert image[0, 1, 4] == 0


@pytest.mark.parametrize("box", [Box(-1, 0, 3, 3), Box(0, 0, 8, 3), Box(2, 2, 2, 4)])
def test_crop_outside_the_image_is_an_error(box):
    with pytest.raises(ValueError, match="7x5"):
        crop(torch.zeros(1, 5, 7, 3), box)


# Resize


def pillow_lanczos(plane, size):
    image = Image.fromarray(plane.numpy(), "F").resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).clamp(0, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((7, 5), (14, 20)),
        ((20, 14), (7, 5)),
        ((33, 9), (11, 40)),
        ((192, 160), (512, 431)),
        ((300, 200), (77, 399)),
        ((1, 1), (5, 3)),
        ((9, 2), (1, 1)),
    ],
)
def test_resize_agrees_with_pillow_in_floats(old, new):
    image = picture(2, old[1], old[0], 3)
    result = resize(image, Size(*new))
    assert result.shape == (2, new[1], new[0], 3)
    for row in range(2):
        for channel in range(3):
            expected = pillow_lanczos(image[row, ..., channel], new)
            assert torch.allclose(result[row, ..., channel], expected, atol=1e-5)


def test_resize_to_its_own_size_is_the_same_tensor():
    image = picture(1, 5, 7, 3) * 3
    assert resize(image, Size(7, 5)) is image


def test_resize_of_many_frames_equals_each_alone(monkeypatch):
    frames = picture(5, 12, 9, 3)
    alone = torch.cat([resize(frame[None], Size(20, 30)) for frame in frames])
    monkeypatch.setattr("detailers.core.pixels.resample.SLICE", 4000)  # two frames at a time
    assert torch.equal(resize(frames, Size(20, 30)), alone)


def test_resize_clamps_the_overshoot_and_keeps_flat_areas_flat():
    edge = torch.zeros(1, 8, 8, 1)
    edge[:, :, 4:] = 1
    large = resize(edge, Size(40, 40))
    assert large.min() == 0
    assert large.max() == 1
    flat = torch.full((1, 9, 6, 3), 0.3)
    assert torch.allclose(resize(flat, Size(31, 4)), torch.tensor(0.3), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_resize_keeps_the_dtype(dtype):
    image = picture(1, 8, 6, 3).to(dtype)
    result = resize(image, Size(11, 13))
    assert result.dtype == dtype
    assert torch.allclose(result.float(), resize(image.float(), Size(11, 13)), atol=0.01)


def test_a_gradient_keeps_more_than_256_levels_through_crop_resize_and_paste():
    image = torch.linspace(0, 1, 4096).view(1, 1, 4096, 1).expand(1, 16, 4096, 3).clone()
    box = Box(1000, 3, 3000, 13)
    original = crop(image, box).clone()
    pixels = resize(resize(original, Size(4000, 20)), box.size)
    assert paste(image, pixels, torch.ones(1, 10, 2000), box)
    inner = image[0, 8, 1010:2990, 0]
    assert len(inner.unique()) > 1900
    assert torch.allclose(inner, original[0, 5, 10:1990, 0], atol=1e-5)


# Channels and padding


def test_alpha_is_taken_off_and_put_back():
    image = picture(2, 5, 7, 4)
    rgb, alpha = split_alpha(image)
    assert rgb.shape == (2, 5, 7, 3)
    assert torch.equal(alpha[..., 0], image[..., 3])
    assert torch.equal(merge_alpha(rgb, alpha), image)
    plain = picture(2, 5, 7, 3)
    assert split_alpha(plain) == (plain, None)
    assert merge_alpha(plain, None) is plain


def test_grey_becomes_three_equal_channels():
    grey = picture(2, 5, 7, 1)
    rgb, alpha = to_rgb(grey)
    assert alpha is None
    assert torch.equal(rgb, torch.cat([grey] * 3, dim=-1))


def test_padding_repeats_the_border_and_comes_off_again():
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 2, 1)
    padded = pad_edge(image, (1, 2, 0, 1))
    assert padded[0, ..., 0].tolist() == [[1, 1, 2, 2, 2], [3, 3, 4, 4, 4], [3, 3, 4, 4, 4]]
    assert torch.equal(unpad(padded, (1, 2, 0, 1)), image)
    assert pad_edge(image, (0, 0, 0, 0)) is image


def test_padding_may_exceed_the_image():
    pixel = picture(1, 1, 1, 3)
    assert torch.equal(pad_edge(pixel, (0, 7, 0, 7)), pixel.expand(1, 8, 8, 3))
    image = torch.tensor([[1.0, 2.0]]).view(1, 1, 2, 1)
    assert pad_edge(image, (3, 4, 2, 0))[0, ..., 0].tolist() == [[1] * 4 + [2] * 5] * 3


# Paste


def test_paste_blends_by_the_mask():
    image = torch.zeros(1, 5, 7, 1)
    mask = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    assert paste(image, torch.full((1, 2, 2, 1), 0.8), mask, Box(5, 3, 7, 5))
    assert torch.allclose(image[0, 3:, 5:, 0], torch.tensor([[0.0, 0.2], [0.4, 0.8]]))
    assert image[0, :3].sum() == 0
    assert image[0, :, :5].sum() == 0


def test_opacity_scales_the_mask():
    image = torch.zeros(1, 5, 7, 1)
    paste(image, torch.ones(1, 5, 7, 1), torch.ones(1, 5, 7), Box(0, 0, 7, 5), opacity=0.25)
    assert image.unique().tolist() == [0.25]


def test_one_crop_serves_a_batch_and_each_image_may_have_its_own():
    image = torch.zeros(2, 5, 7, 1)
    paste(image, torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1), Box(0, 0, 1, 1))
    assert image[:, 0, 0, 0].tolist() == [1, 1]
    own = torch.tensor([0.25, 0.75]).view(2, 1, 1, 1)
    paste(image, own, torch.ones(1, 1, 1), Box(6, 4, 7, 5))
    assert image[:, 4, 6, 0].tolist() == [0.25, 0.75]


def test_a_box_over_the_border_is_cut():
    image = torch.zeros(1, 5, 7, 1)
    pixels = torch.arange(1.0, 10.0).view(1, 3, 3, 1)
    paste(image, pixels, torch.ones(1, 3, 3), Box(-2, -1, 1, 2))
    paste(image, pixels, torch.ones(1, 3, 3), Box(5, 4, 8, 7))
    expected = torch.zeros(5, 7)
    expected[0, 0], expected[1, 0] = 6, 9
    expected[4, 5], expected[4, 6] = 1, 2
    assert torch.equal(image[0, ..., 0], expected)
    before = image.clone()
    assert paste(image, pixels, torch.ones(1, 3, 3), Box(7, 0, 10, 3))
    assert torch.equal(image, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_crop_that_is_not_finite_is_never_pasted(value):
    image = picture(1, 5, 7, 3)
    before = image.clone()
    pixels = torch.ones(1, 5, 7, 3)
    pixels[0, 2, 2, 1] = value
    assert not usable(pixels)
    assert not paste(image, pixels, torch.ones(1, 5, 7), Box(0, 0, 7, 5))
    assert torch.equal(bits(image), bits(before))


def test_pasting_what_does_not_fit_is_an_error():
    image = torch.zeros(2, 5, 7, 3)
    with pytest.raises(ValueError, match=r"3x2 .* 3x2 .* 2x3"):
        paste(image, torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3), Box(0, 0, 2, 3))
    with pytest.raises(ValueError, match="channels"):
        paste(image, torch.ones(1, 3, 2, 4), torch.ones(1, 3, 2), Box(0, 0, 2, 3))
    with pytest.raises(ValueError, match="one for all"):
        paste(image, torch.ones(3, 3, 2, 3), torch.ones(1, 3, 2), Box(0, 0, 2, 3))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(-8, 14),
    st.integers(-8, 14),
    st.integers(0, 2**31),
)
def test_paste_leaves_zeros_bit_identical_and_ones_exact(width, height, x, y, seed):
    image = picture(2, 11, 13, 3, seed=seed)
    before = image.clone()
    mask = (picture(1, height, width, seed=seed + 1) * 3 - 1).clamp(0, 1)
    pixels = picture(2, height, width, 3, seed=seed + 2)
    box = Box(x, y, x + width, y + height)
    paste(image, pixels, mask, box)
    whole_mask, whole_pixels = torch.zeros(11, 13), torch.zeros(2, 11, 13, 3)
    inside = box.clipped(Size(13, 11))
    part = inside.shifted(-x, -y)
    rows, columns = slice(inside.y1, inside.y2), slice(inside.x1, inside.x2)
    whole_mask[rows, columns] = mask[0, part.y1 : part.y2, part.x1 : part.x2]
    whole_pixels[:, rows, columns] = pixels[:, part.y1 : part.y2, part.x1 : part.x2]
    assert torch.equal(bits(image[:, whole_mask == 0]), bits(before[:, whole_mask == 0]))
    assert torch.equal(image[:, whole_mask == 1], whole_pixels[:, whole_mask == 1])
