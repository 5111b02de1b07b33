"""Lists of images and masks become batches."""

import pytest
import torch
from detailers.core.geometry import Size
from detailers.core.pixels.batches import centre, image_batch, mask_batch, with_channels
from detailers.core.pixels.resample import resize
from hypothesis import given
from hypothesis import strategies as st


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)))


def test_images_of_one_size_are_only_joined():
    first, second = noise(2, 4, 5, 3), noise(1, 4, 5, 3)
    assert torch.equal(image_batch([first, second]), torch.cat([first, second]))


def test_a_single_image_is_not_copied():
    image = noise(2, 4, 5, 3)
    batch = image_batch([image])
    assert torch.equal(batch, image)
    assert batch.data_ptr() == image.data_ptr()


def test_of_another_size_the_middle_part_is_resized():
    first, second = noise(1, 8, 8, 3), noise(1, 8, 24, 3)
    assert torch.equal(image_batch([first, second])[1], second[0, :, 8:16])
    wide = noise(1, 16, 48, 3)
    expected = resize(wide[:, :, 16:32], Size(8, 8))
    assert torch.equal(image_batch([first, wide])[1:], expected)


def test_channels_are_added_where_others_have_them():
    grey, colour, clear = noise(1, 4, 4, 1), noise(1, 4, 4, 3), noise(1, 4, 4, 4)
    batch = image_batch([grey, colour, clear])
    assert batch.shape == (3, 4, 4, 4)
    assert torch.equal(batch[0, ..., 2], grey[0, ..., 0])
    assert torch.equal(batch[1, ..., :3], colour[0])
    assert (batch[:2, ..., 3] == 1).all()
    assert torch.equal(batch[2], clear[0])
    assert with_channels(grey, 1) is grey


def test_masks_take_the_size_of_the_first():
    first = torch.zeros(1, 4, 4)
    second = torch.zeros(2, 4, 12)
    second[:, :, 4:6] = 1
    batch = mask_batch([first, second])
    assert batch.shape == (3, 4, 4)
    assert batch[1, 0].tolist() == [1, 1, 0, 0]


@given(*[st.integers(1, 40)] * 4)
def test_the_centre_is_in_the_middle_and_has_nearly_the_shape(width, height, new_width, new_height):
    image = torch.zeros(1, height, width, 1)
    part = centre(image, Size(new_width, new_height))
    part_height, part_width = part.shape[1:3]
    assert part_height == height or part_width == width
    for whole, left in ((width, part_width), (height, part_height)):
        assert left >= 1
        assert (whole - left) % 2 == 0
    if part_height == height:
        assert abs(part_width - min(width, height * new_width / new_height)) <= 2
    else:
        assert abs(part_height - min(height, width * new_height / new_width)) <= 2


def test_there_is_no_batch_of_nothing():
    with pytest.raises(ValueError, match="no image to make a batch of"):
        image_batch([])
    with pytest.raises(ValueError, match="no mask to make a batch of"):
        mask_batch([])
