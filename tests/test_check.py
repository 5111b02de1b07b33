"""Errors at the inputs name the input, the value and the remedy."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from detailers.utils.arrays import to_numpy, to_tensor
from detailers.utils.check import check_image, check_mask, check_segs, check_shape

OtherSeg = namedtuple(
    "OtherSeg", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper"
)
GOOD = OtherSeg(None, np.ones((4, 3)), 0.5, [0, 0, 3, 4], np.array([0, 0, 3, 4]), "A", None)


def test_shape_error_names_input_layout_and_shape():
    with pytest.raises(ValueError, match=r"'mask' .* \[B,H,W\] but has \[5, 7\]"):
        check_shape(torch.zeros(5, 7), "BHW", "mask")
    with pytest.raises(ValueError, match=r"'mask' .* is None"):
        check_shape(None, "BHW", "mask")
    check_shape(torch.zeros(1, 5, 7), "BHW", "mask")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_one_three_and_four_channels_pass(channels):
    check_image(torch.rand(2, 5, 7, channels), "image")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(5, 7, 3), r"'photo' .* \[5, 7, 3\]"),
        (torch.rand(1, 5, 7, 2), "'photo' .* has 2"),
        (torch.rand(1, 3, 5, 7), "'photo' .* has 7"),
        (torch.zeros(1, 0, 7, 3), r"'photo' is empty: .*\[1, 0, 7, 3\]"),
        (torch.zeros(0, 5, 7, 3), "'photo' is empty"),
        (torch.zeros(1, 5, 7, 3, dtype=torch.uint8), "'photo' .* torch.uint8"),
        ("cat.png", "'photo' .* is a str"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        check_image(image, "photo")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_counted(dtype, value):
    image = torch.rand(2, 5, 7, 3).to(dtype)
    image[0, 1, 2, 0] = value
    image[1, 4, 6, 2] = value
    with pytest.raises(ValueError, match=r"'image' holds 2 values .* out of 210"):
        check_image(image, "image")


def test_the_whole_range_of_a_half_float_is_finite():
    check_image(torch.tensor([60000.0, -60000.0, 0.0]).half().view(1, 1, 1, 3), "image")


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (1, 1, 5, 7), (1, 5, 7, 1)])
def test_masks_of_every_usual_layout_become_bhw(shape):
    values = torch.rand(35)
    mask = check_mask(values.view(shape), "mask")
    assert torch.equal(mask, values.view(1, 5, 7))


def test_a_batch_of_masks_keeps_its_order():
    values = torch.rand(3, 5, 7)
    assert torch.equal(check_mask(values[:, None], "mask"), values)
    assert torch.equal(check_mask(values[..., None], "mask"), values)


def test_mask_booleans_and_overshoot_are_brought_to_0_1():
    assert check_mask(torch.tensor([[True, False]]), "mask").tolist() == [[[1.0, 0.0]]]
    assert check_mask(torch.tensor([[-0.5, 0.5, 1.5]]), "mask").tolist() == [[[0.0, 0.5, 1.0]]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "'mask' .* is None"),
        (torch.zeros(7), r"'mask' .* \[7\]"),
        (torch.zeros(1, 5, 7, 3), r"'mask' .* \[1, 5, 7, 3\]"),
        (torch.zeros(1, 0, 0), "'mask' is empty"),
        (torch.full((1, 5, 7), float("nan")), "'mask' holds 35 values"),
        (torch.zeros(5, 7, dtype=torch.int64), "'mask' .* torch.int64"),
    ],
)
def test_what_is_no_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        check_mask(mask, "mask")


def test_segs_of_another_packs_class_pass():
    check_segs(((4, 3), [GOOD, GOOD]), "segs")
    check_segs(((0, 0), []), "segs")


@pytest.mark.parametrize(
    ("segs", "message"),
    [
        (torch.rand(1, 5, 7), r"'segs' .* a Tensor of the shape \[1, 5, 7\]"),
        (None, "'segs' .* None"),
        (([],), "'segs' .* a tuple of 1"),
        ((5, []), "'segs' .* begins with 5"),
        (((5, 7), None), "'segs' .* followed by None"),
        (((5, 7), [(1, 2)]), "entry 0 is a tuple of 2"),
        (((5, 7), [GOOD, GOOD._replace(crop_region=(1, 2, 3))]), r"SEG 1 .*\(1, 2, 3\)"),
        (((5, 7), [GOOD._replace(bbox=(0, 0, 1, float("nan")))]), "bbox of SEG 0"),
        (((5, 7), [GOOD._replace(cropped_mask=None)]), "cropped_mask of SEG 0 .* None"),
    ],
)
def test_what_is_no_segs_is_refused(segs, message):
    with pytest.raises(ValueError, match=message):
        check_segs(segs, "segs")


def test_arrays_and_tensors_share_memory_where_they_can():
    array = np.zeros((5, 7), np.float32)
    to_tensor(array)[0, 0] = 1
    assert array[0, 0] == 1
    tensor = torch.zeros(5, 7)
    to_numpy(tensor)[0, 0] = 1
    assert tensor[0, 0] == 1


def test_arrays_of_every_kind_become_float_tensors():
    like = torch.zeros(1, dtype=torch.float64)
    read_only = np.broadcast_to(np.float64(0.5), (2, 3))
    assert to_tensor(read_only).tolist() == [[0.5] * 3] * 2
    assert to_tensor(np.arange(3)[::-1]).tolist() == [2.0, 1.0, 0.0]
    assert to_tensor(np.ones(2), like).dtype == torch.float64
    assert to_numpy(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32
