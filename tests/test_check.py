"""Errors at the inputs name the input, the value and the remedy."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from detailers.utils.arrays import to_numpy, to_tensor
from detailers.utils.check import (
    check_image,
    check_latent,
    check_mask,
    check_segs,
    check_shape,
)

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


NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cropped_mask": [[0, 1], [1, 0]]}, "cropped_mask of SEG 0 .* a list of 2"),
        ({"cropped_mask": "mask"}, "cropped_mask of SEG 0 .* a str"),
        ({"cropped_mask": np.ones((1, 1, 4, 3))}, r"cropped_mask .* \[1, 1, 4, 3\]"),
        ({"cropped_mask": np.array([["a", "b"]])}, "cropped_mask"),
        ({"cropped_mask": np.array([[None, 1]], object)}, "cropped_mask"),
        ({"cropped_mask": np.ones((4, 3), complex)}, "cropped_mask"),
        ({"cropped_mask": torch.ones(4, 3).to_sparse()}, "cropped_mask"),
        ({"cropped_mask": torch.ones(4, 3, device="meta")}, "cropped_mask"),
        ({"cropped_image": "picture"}, "cropped_image of SEG 0 .* a str"),
        ({"cropped_image": np.ones((4, 3, 2))}, "cropped_image .* 1, 3 or 4 channels"),
        ({"cropped_image": np.ones((4, 3))}, r"cropped_image .* \[4, 3\]"),
        ({"crop_region": "1234"}, "crop_region .* '1234'"),
        ({"crop_region": (0, 0, 3, 10**400)}, "crop_region of SEG 0 .* four finite numbers"),
        ({"bbox": (0, 0, NAN, 4)}, "bbox of SEG 0 .* nan"),
        ({"bbox": torch.ones(2, 4)}, "bbox"),
        ({"confidence": "sure"}, "confidence of SEG 0 .* 'sure'"),
        ({"confidence": NAN}, "confidence of SEG 0 .* nan"),
        ({"confidence": np.array([0.5, NAN])}, "confidence"),
        ({"confidence": {}}, "confidence"),
    ],
)
def test_parts_of_segs_of_the_wrong_kind_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        check_segs(((4, 3), [GOOD._replace(**fields)]), "segs")


@pytest.mark.parametrize("shape", ["12", (-1, 4), (NAN, 4), (10**400, 4), None])
def test_segs_begin_with_a_size(shape):
    with pytest.raises(ValueError, match="'segs' should be"):
        check_segs((shape, []), "segs")


@pytest.mark.parametrize("sure", [None, 0, [0.1, 0.9], np.float32(0.5), torch.tensor(0.5)])
def test_confidences_of_all_packs_pass(sure):
    check_segs(((4, 3), [GOOD._replace(confidence=sure)]), "segs")


# Latents


class Nested:
    """Streams in one object, as the host holds them."""

    is_nested = True

    def __init__(self, *streams):
        self.streams = streams

    def unbind(self):
        return self.streams


LATENT = torch.zeros(2, 4, 8, 8)


@pytest.mark.parametrize(
    "latent",
    [
        {"samples": LATENT},
        {"samples": torch.zeros(1, 4, 3, 8, 8, dtype=torch.float16)},
        {"samples": Nested(torch.zeros(1, 4, 3, 8, 8), torch.zeros(1, 8, 5))},
        {"samples": LATENT, "noise_mask": torch.ones(64, 64), "batch_index": [3, 5]},
        {"samples": LATENT, "noise_mask": Nested(torch.ones(1, 8, 8)), "batch_index": None},
    ],
)
def test_latents_of_all_kinds_pass(latent):
    check_latent(latent, "samples")


@pytest.mark.parametrize(
    ("latent", "words"),
    [
        (None, "'samples' should be a latent.* None"),
        ({}, "'samples' should be a latent"),
        ({"samples": torch.zeros(4, 8)}, r"\[4, 8\]"),
        ({"samples": torch.zeros(1, 4, 0, 8)}, r"\[1, 4, 0, 8\]"),
        ({"samples": LATENT.long()}, "should be a latent"),
        ({"samples": LATENT.to_sparse()}, "no plain tensor but a sparse"),
        ({"samples": torch.zeros(1, 4, 8, 8, device="meta")}, "no numbers"),
        ({"samples": Nested()}, "should be a latent"),
        ({"samples": Nested("sound")}, "should be a latent"),
        ({"samples": LATENT, "noise_mask": "white"}, "noise_mask should be a mask .* a str"),
        ({"samples": LATENT, "noise_mask": torch.ones(8)}, r"noise_mask .* \[8\]"),
        ({"samples": LATENT, "noise_mask": torch.ones(1, 0, 8)}, "noise_mask should be a mask"),
        ({"samples": LATENT, "noise_mask": np.ones((1, 8, 8))}, "noise_mask should be a mask"),
        ({"samples": Nested(LATENT, torch.ones(8))}, "should be a latent"),
        ({"samples": LATENT, "noise_mask": torch.full((1, 8, 8), NAN)}, "its noise_mask' holds 64"),
        ({"samples": LATENT, "batch_index": "01"}, "batch_index should be 2 whole numbers"),
        ({"samples": LATENT, "batch_index": [0]}, "batch_index"),
        ({"samples": LATENT, "batch_index": [0, -1]}, "batch_index"),
        ({"samples": LATENT, "batch_index": [0, 10**9]}, "batch_index .* to 65536"),
        ({"samples": LATENT, "batch_index": [0, 0.5]}, "batch_index"),
    ],
)
def test_latents_that_are_none_are_named(latent, words):
    with pytest.raises(ValueError, match=words):
        check_latent(latent, "samples")
