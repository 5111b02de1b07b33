"""Pictures of segments: shown, and pasted."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detailers.core.pixels.blend import Blending
from detailers.core.pixels.mask import feather
from detailers.core.segs.pictures import control_pictures, paste_segs, segment_pictures
from detailers.tests.fake_backend import make_seg, noise_image, outside, ramp_image

PLAIN = Blending(0)


def picture(value, height, width, batch=1, channels=3):
    return np.full((batch, height, width, channels), value, np.float32)


def half_mask(height, width):
    """The left half is 1."""
    mask = np.zeros((height, width), np.float32)
    mask[:, : width // 2] = 1
    return mask


# Looking


def test_a_segments_own_picture_comes_first():
    own = make_seg((2, 1, 6, 4), image=picture(0.5, 3, 4))
    other = make_seg((0, 0, 2, 3))
    image = ramp_image(2, 5, 9)
    first, second = segment_pictures(((5, 9), [own, other]), image)
    assert first.shape == (1, 3, 4, 3)
    assert (first == 0.5).all()
    assert torch.equal(second, image[:, 0:3, 0:2])


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_copies(channels):
    own = make_seg((2, 1, 6, 4), image=picture(0.5, 3, 4, channels=channels))
    image = noise_image(1, 5, 9, channels=channels)
    before = image.clone()
    for part in segment_pictures(((5, 9), [own, make_seg((0, 0, 2, 3))]), image):
        part[0, 0, 0, 0] = 7.0
        assert part[0, 0, 0, 1] < 7.0
    assert (own.cropped_image == 0.5).all()
    assert torch.equal(image, before)


def test_without_a_picture_or_a_fallback_there_is_none():
    assert segment_pictures(((5, 9), [make_seg((0, 0, 2, 3))])) == [None]
    assert segment_pictures(((5, 9), [])) == []


def test_the_fallback_may_have_another_size_x_by_width_and_y_by_height():
    image = ramp_image(1, 40, 20)
    (part,) = segment_pictures(((10, 20), [make_seg((4, 2, 10, 6))]), image)
    assert torch.equal(part, image[:, 8:24, 4:10])


def test_a_region_outside_the_fallback_has_no_picture():
    assert segment_pictures(((5, 9), [make_seg((20, 20, 25, 25))]), ramp_image(1, 5, 9)) == [None]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_have_three_channels(channels):
    own = noise_image(2, 3, 4, channels=channels)
    (shown,) = segment_pictures(((5, 9), [make_seg((0, 0, 4, 3), image=own.numpy())]))
    assert torch.equal(shown, own[..., :3].expand(-1, -1, -1, 3))
    (part,) = segment_pictures(((3, 4), [make_seg((1, 0, 4, 2))]), own)
    assert torch.equal(part, own[:, 0:2, 1:4, :3].expand(-1, -1, -1, 3))


def test_a_picture_without_a_batch_axis_is_taken():
    own = ramp_image(1, 3, 4)
    (shown,) = segment_pictures(((5, 9), [make_seg((0, 0, 4, 3), image=own[0].numpy())]))
    assert torch.equal(shown, own)


def test_the_mask_becomes_alpha_with_a_floor():
    seg = make_seg((0, 0, 4, 2), mask=half_mask(2, 4), image=picture(0.5, 2, 4, batch=2))
    (shown,) = segment_pictures(((5, 9), [seg]), min_alpha=0.25)
    assert shown[..., :3].unique().tolist() == [0.5]
    assert shown[..., 3].tolist() == [[[1, 1, 0.25, 0.25]] * 2] * 2


def test_a_clips_masks_go_frame_by_frame_if_there_is_one_for_each():
    masks = np.stack([half_mask(2, 4), 1 - half_mask(2, 4)])
    seg = make_seg((0, 0, 4, 2), mask=masks, image=picture(0.5, 2, 4, batch=2))
    (shown,) = segment_pictures(((5, 9), [seg]), min_alpha=0.0)
    assert shown[:, 0, :, 3].tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    still = seg._replace(cropped_image=picture(0.5, 2, 4))
    (shown,) = segment_pictures(((5, 9), [still]), min_alpha=0.0)
    assert shown[:, 0, :, 3].tolist() == [[1, 1, 1, 1]]


# Pasting


def test_picture_i_goes_into_image_i_and_the_last_one_stays():
    image = noise_image(3, 5, 9)
    pictures = np.concatenate([picture(0.25, 3, 4), picture(0.75, 3, 4)])
    result = paste_segs(image, ((5, 9), [make_seg((2, 1, 6, 4), image=pictures)]), PLAIN)
    assert result[:, 2, 3, 0].tolist() == [0.25, 0.75, 0.75]
    keep = outside(image, (2, 1, 6, 4))
    assert torch.equal(result[:, keep], image[:, keep])


def test_pixels_outside_the_mask_stay_bit_identical():
    image = noise_image(2, 30, 60)
    mask = np.zeros((20, 40), np.float32)
    mask[8:12, 16:24] = 1
    seg = make_seg((10, 5, 50, 25), mask=mask, image=picture(0.5, 20, 40))
    result = paste_segs(image, ((30, 60), [seg]), Blending(3))
    keep = outside(image, (10 + 13, 5 + 5, 10 + 27, 5 + 15))  # the mask and its feather of 3
    assert torch.equal(result[:, keep], image[:, keep])
    soft = torch.zeros(30, 60)
    soft[5:25, 10:50] = feather(torch.from_numpy(mask)[None], 3)[0]
    assert torch.equal(soft == 0, keep)
    assert torch.allclose(result, torch.lerp(image, torch.tensor(0.5), soft[..., None]), atol=1e-6)


def test_the_given_image_is_not_changed():
    image = noise_image(1, 5, 9)
    before = image.clone()
    paste_segs(image, ((5, 9), [make_seg((0, 0, 9, 5), image=picture(0.5, 5, 9))]), PLAIN)
    assert torch.equal(image, before)


def test_opacity_mixes_picture_and_image():
    image = torch.full((1, 5, 9, 3), 0.2)
    segs = ((5, 9), [make_seg((2, 1, 6, 4), image=picture(1.0, 3, 4))])
    assert paste_segs(image, segs, PLAIN, opacity=0.25)[0, 2, 3, 0].item() == pytest.approx(0.4)
    assert torch.equal(paste_segs(image, segs, PLAIN, opacity=0.0), image)


def test_later_segments_lie_on_top():
    segs = [make_seg((0, 0, 6, 4), image=picture(0.25, 4, 6)),
            make_seg((3, 0, 9, 4), image=picture(0.75, 4, 6))]  # fmt: skip
    result = paste_segs(torch.zeros(1, 5, 9, 3), ((5, 9), segs), PLAIN)
    assert result[0, 0, :, 0].tolist() == [0.25] * 3 + [0.75] * 6


def test_a_picture_of_another_size_is_brought_to_its_region():
    seg = make_seg((2, 1, 6, 4), image=picture(0.5, 30, 10))
    result = paste_segs(torch.zeros(1, 5, 9, 3), ((5, 9), [seg]), PLAIN)
    assert torch.allclose(result[0, 1:4, 2:6], torch.tensor(0.5))


def test_segs_of_another_image_size_are_scaled_x_by_width_and_y_by_height():
    seg = make_seg((2, 1, 6, 4), image=picture(1.0, 3, 4))
    result = paste_segs(torch.zeros(1, 40, 20, 3), ((5, 10), [seg]), PLAIN)
    assert result[0, ..., 0].nonzero().amin(0).tolist() == [8, 4]
    assert result[0, ..., 0].nonzero().amax(0).tolist() == [31, 11]


def test_a_region_over_the_border_is_pasted_as_far_as_it_reaches():
    wide = ramp_image(1, 4, 8).numpy()
    result = paste_segs(
        torch.zeros(1, 5, 9, 3), ((5, 9), [make_seg((5, 3, 13, 7), image=wide)]), PLAIN
    )
    assert torch.equal(result[0, 3:5, 5:9], torch.from_numpy(wide)[0, 0:2, 0:4])


def test_a_reference_is_pasted_instead_of_the_own_pictures():
    reference = ramp_image(1, 5, 9)
    seg = make_seg((2, 1, 6, 4), image=picture(0.5, 3, 4))
    result = paste_segs(torch.zeros(2, 5, 9, 3), ((5, 9), [seg]), PLAIN, reference=reference)
    for row in result:
        assert torch.equal(row[1:4, 2:6], reference[0, 1:4, 2:6])
    assert result[:, outside(result, (2, 1, 6, 4))].sum() == 0


def test_a_clips_masks_go_frame_by_frame():
    masks = np.stack([half_mask(2, 4), 1 - half_mask(2, 4)])
    segs = ((2, 4), [make_seg((0, 0, 4, 2), mask=masks, image=picture(1.0, 2, 4))])
    result = paste_segs(torch.zeros(2, 2, 4, 3), segs, PLAIN)
    assert result[:, 0, :, 0].tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    result = paste_segs(torch.zeros(3, 2, 4, 3), segs, PLAIN)  # not one for each: united
    assert result[:, 0, :, 0].tolist() == [[1, 1, 1, 1]] * 3


def test_a_picture_with_values_that_are_not_finite_is_not_pasted():
    broken = picture(0.5, 3, 4, batch=2)
    broken[1, 2, 2] = np.nan
    image = noise_image(2, 5, 9)
    result = paste_segs(image, ((5, 9), [make_seg((2, 1, 6, 4), image=broken)]), PLAIN)
    assert result[0, 2, 3, 0] == 0.5
    assert torch.equal(result[1], image[1])


def test_alpha_comes_back_as_it_was_and_grey_is_expanded():
    rgba = noise_image(2, 5, 9, channels=4)
    segs = ((5, 9), [make_seg((2, 1, 6, 4), image=picture(0.5, 3, 4))])
    result = paste_segs(rgba, segs, PLAIN)
    assert result.shape == (2, 5, 9, 4)
    assert torch.equal(result[..., 3], rgba[..., 3])
    assert (result[:, 1:4, 2:6, :3] == 0.5).all()
    grey = noise_image(2, 5, 9, channels=1)
    result = paste_segs(grey, segs, PLAIN)
    assert result.shape == (2, 5, 9, 3)
    assert torch.equal(result[:, 4], grey[:, 4].expand(-1, -1, 3))


def test_nothing_to_paste_leaves_the_image():
    image = noise_image(2, 5, 9)
    for segs in ((5, 9), []), ((0, 0), []), ((5, 9), [make_seg((2, 1, 6, 4))]):
        assert torch.equal(paste_segs(image, segs, Blending(5)), image)


# What ControlNets see


def test_every_control_picture_of_a_chain_is_shown_in_the_order_of_use():
    first = SimpleNamespace(control_image=torch.full((1, 2, 2, 3), 0.1))
    unset = SimpleNamespace(control_image=None, previous=first)
    last = SimpleNamespace(control_image=np.full((1, 2, 2, 3), 0.3), prev_control_net=unset)
    segs = [make_seg((0, 0, 2, 2), control=wrapper) for wrapper in (last, None, object())]
    shown = control_pictures(((4, 4), segs))
    assert [round(float(picture.mean()), 3) for picture in shown] == [0.1, 0.3]
