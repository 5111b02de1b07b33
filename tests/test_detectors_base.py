"""Detections as segments, and the face detector that needs no model file."""

import sys

import numpy as np
import pytest
import torch
from detailers.core.detectors import lbp_faces
from detailers.core.detectors.base import BoxDetector, Detection, found_mask
from detailers.core.detectors.lbp_faces import LBPFaceDetector
from detailers.core.geometry import Box, Size
from detailers.tests.fake_backend import noise_image, ramp_image
from hypothesis import given
from hypothesis import strategies as st


class Scripted(BoxDetector):
    """Finds what it is told to find."""

    def __init__(self, *finds):
        self.finds = finds
        self.seen = []

    def find(self, image, threshold):
        self.seen.append((tuple(image.shape), threshold))
        return self.finds


class MovingHook:
    """Puts every crop region where it is told to."""

    def __init__(self, region):
        self.region = region
        self.calls = []

    def post_crop_region(self, width, height, bbox, region):
        self.calls.append((width, height, bbox, region))
        return self.region


def rectangle(height, width, box):
    mask = torch.zeros(height, width)
    mask[box.y1 : box.y2, box.x1 : box.x2] = 1
    return mask


def opencv_dilated(mask, amount):
    import cv2

    kernel = np.ones((abs(amount), abs(amount)), np.uint8)
    if abs(amount) < 2:
        return mask
    change = cv2.dilate if amount > 0 else cv2.erode
    return torch.from_numpy(change(mask.numpy(), kernel))


# Boxes


def test_a_find_becomes_a_segment():
    image = ramp_image(2, 30, 60)
    detector = Scripted(Detection(Box(20, 10, 30, 16), 0.75, "cup"))
    shape, (seg,) = detector.detect(image, 0.3, 0, 2.0)
    assert detector.seen == [((30, 60, 3), 0.3)]
    assert shape == (30, 60)
    assert (seg.bbox, seg.crop_region) == ((20, 10, 30, 16), (15, 7, 35, 19))
    assert (seg.confidence, seg.label, seg.control_net_wrapper) == (0.75, "cup", None)
    expected = np.zeros((12, 20), np.float32)
    expected[3:9, 5:15] = 1
    assert seg.cropped_mask.dtype == np.float32
    assert np.array_equal(seg.cropped_mask, expected)
    assert np.array_equal(seg.cropped_image, image[:1, 7:19, 15:35].numpy())
    before = image.clone()
    seg.cropped_image[:] = 7
    assert torch.equal(image, before)


def test_a_find_with_a_mask_keeps_it():
    mask = torch.zeros(6, 10)  # of the box's size
    mask[2, 2:5] = 0.5
    detector = Scripted(Detection(Box(20, 10, 30, 16), 0.75, "cup", mask))
    _, (seg,) = detector.detect(ramp_image(1, 30, 60), 0.3, 0, 1.0)
    assert seg.cropped_mask[2].tolist() == [0, 0, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0]
    assert seg.cropped_mask.sum() == 1.5


def test_finds_not_wider_and_taller_than_drop_size_are_dropped():
    finds = [Detection(Box(0, 0, w, h), 0.9, f"{w}x{h}") for w, h in ((10, 30), (31, 10), (11, 11))]
    _, segs = Scripted(*finds).detect(ramp_image(1, 40, 60), 0.3, 0, 1.0, drop_size=10)
    assert [seg.label for seg in segs] == ["11x11"]


def test_finds_over_the_border_are_clipped_with_their_masks():
    mask = torch.arange(300.0).view(15, 20)
    detector = Scripted(
        Detection(Box(50, -5, 70, 10), 0.9, "a", mask), Detection(Box(70, 0, 80, 10), 0.9, "b")
    )
    _, segs = detector.detect(ramp_image(1, 30, 60), 0.3, 0, 1.0)
    assert [(seg.label, seg.bbox) for seg in segs] == [("a", (50, 0, 60, 10))]
    assert np.array_equal(segs[0].cropped_mask, mask[5:, :10])


def test_a_hook_moves_the_crop_region_but_not_out_of_the_image():
    hook = MovingHook([10, 5, 500, 20])
    detector = Scripted(Detection(Box(20, 10, 30, 16), 0.9, "a"))
    _, (seg,) = detector.detect(ramp_image(1, 30, 60), 0.3, 0, 2.0, detailer_hook=hook)
    assert hook.calls == [(60, 30, (20, 10, 30, 16), (15, 7, 35, 19))]
    assert seg.crop_region == (10, 5, 60, 20)
    assert seg.cropped_mask.shape == (15, 50)
    assert seg.cropped_image.shape == (1, 15, 50, 3)
    assert np.array_equal(np.argwhere(seg.cropped_mask)[[0, -1]], [[5, 10], [10, 19]])


def test_a_find_whose_region_a_hook_makes_empty_is_dropped():
    detector = Scripted(Detection(Box(20, 10, 30, 16), 0.9, "a"))
    hook = MovingHook([70, 0, 80, 10])
    _, segs = detector.detect(ramp_image(1, 30, 60), 0.3, 0, 2.0, detailer_hook=hook)
    assert segs == []


def test_a_hook_without_methods_changes_nothing():
    detector = Scripted(Detection(Box(20, 10, 30, 16), 0.9, "a"))
    _, (seg,) = detector.detect(ramp_image(1, 30, 60), 0.3, 0, 2.0, detailer_hook=object())
    assert seg.crop_region == (15, 7, 35, 19)


def test_nothing_found_is_no_segment():
    assert Scripted().detect(ramp_image(1, 30, 60), 0.3, 4, 2.0) == ((30, 60), [])


spans = st.tuples(st.integers(0, 30), st.integers(1, 20))


def box_of(x, y, size):
    return Box(x[0], y[0], x[0] + x[1], y[0] + y[1]).clipped(size)


@given(spans, spans, spans, spans, st.integers(-9, 9))
def test_dilation_within_a_region_is_opencvs_of_the_whole_image(x, y, left, top, dilation):
    size = Size(33, 31)
    bbox, region = box_of(x, y, size), box_of(left, top, size)
    whole = opencv_dilated(rectangle(31, 33, bbox), dilation)
    expected = whole[region.y1 : region.y2, region.x1 : region.x2]
    for mask in (None, torch.ones(bbox.height, bbox.width)):
        found = Detection(bbox, 0.9, "a", mask)
        assert torch.equal(found_mask(found, bbox, size, region, dilation), expected)


def test_the_combined_mask_unites_dilated_finds():
    first, second = Box(4, 3, 10, 7), Box(8, 5, 30, 9)
    faint = rectangle(30, 60, Box(40, 20, 50, 25)) * 0.5
    detector = Scripted(
        Detection(first, 0.9, "a"),
        Detection(second, 0.8, "b"),
        Detection(Box(40, 20, 50, 25), 0.7, "c", faint[20:25, 40:50]),
    )
    result = detector.detect_combined(ramp_image(2, 30, 60), 0.25, 3)
    assert detector.seen == [((30, 60, 3), 0.25)]
    expected = torch.maximum(
        opencv_dilated(rectangle(30, 60, first), 3), opencv_dilated(rectangle(30, 60, second), 3)
    )
    assert torch.equal(result, torch.maximum(expected, opencv_dilated(faint, 3)))
    assert torch.equal(Scripted().detect_combined(ramp_image(1, 5, 7), 0.5, 3), torch.zeros(5, 7))


def test_every_detector_can_be_told_what_to_look_for():
    assert Scripted().setAux("a cup") is None


# Faces


@pytest.fixture(scope="module")
def portrait():
    data = pytest.importorskip(
        "skimage.data", reason="needs scikit-image: pip install scikit-image"
    )
    return torch.from_numpy(data.astronaut())[None].float() / 255


def near(box, expected, tolerance=6):
    return all(abs(a - b) <= tolerance for a, b in zip(box, expected, strict=True))


def test_one_face_is_found_in_a_portrait(portrait):
    shape, (face,) = LBPFaceDetector().detect(portrait, 0.5, 0, 3.0)
    assert shape == (512, 512)
    assert near(face.bbox, (174, 66, 274, 166))
    assert face.label == "face"
    assert 0.5 <= face.confidence < 1
    assert face.cropped_image.shape[1:3] == face.cropped_mask.shape


def test_faces_are_found_where_they_are_in_a_wide_picture(portrait):
    part = portrait[:, 40:200, 140:310]  # 170 wide, 160 high
    canvas = torch.full((1, 170, 400, 3), 0.5)
    canvas[:, 10:170, :170] = part
    canvas[:, :160, 220:390] = part
    _, segs = LBPFaceDetector(64).detect(canvas, 0.5, 0, 1.0)
    boxes = sorted(seg.bbox for seg in segs)
    assert len(boxes) == 2
    assert near(boxes[0], (34, 36, 134, 136), tolerance=12)  # searched at 3/8 of the size
    assert near(boxes[1], (254, 26, 354, 126), tolerance=12)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_pictures_and_such_with_alpha_are_taken(portrait, channels):
    small = portrait[:, 40:200, 140:310]
    image = small.mean(-1, keepdim=True)
    if channels == 4:
        image = torch.cat([small, torch.zeros_like(image)], dim=-1)
    _, (face,) = LBPFaceDetector(64).detect(image, 0.5, 0, 1.0)
    assert near(face.bbox, (34, 26, 134, 126), tolerance=12)
    assert face.cropped_image.shape[-1] == channels


def test_surer_finds_come_first_and_a_higher_threshold_gives_fewer(portrait):
    finds = LBPFaceDetector().find(portrait[0], 0.0)
    confidences = [found.confidence for found in finds]
    assert confidences == sorted(confidences, reverse=True)
    assert len(finds) > 1
    assert near(finds[0].bbox.as_tuple(), (174, 66, 274, 166))


def test_no_face_is_found_in_noise_or_in_a_picture_smaller_than_a_face():
    pytest.importorskip("skimage", reason="needs scikit-image: pip install scikit-image")
    assert LBPFaceDetector().find(noise_image(1, 64, 90)[0], 0.5) == []
    assert LBPFaceDetector(32).find(torch.zeros(31, 200, 3), 0.5) == []


def test_windows_that_share_half_their_area_are_one_face_directly_or_through_others():
    chain = [Box(0, 0, 12, 12), Box(8, 0, 20, 12), Box(4, 0, 16, 12), Box(60, 0, 72, 12)]
    groups = lbp_faces._groups(chain)
    assert sorted(sorted(box.x1 for box in group) for group in groups) == [[0, 4, 8], [60]]


def test_without_scikit_image_the_error_says_how_to_get_it(monkeypatch):
    for name in ("skimage", "skimage.data", "skimage.feature"):
        monkeypatch.setitem(sys.modules, name, None)
    lbp_faces._cascade.cache_clear()
    with pytest.raises(RuntimeError, match="pip install scikit-image"):
        LBPFaceDetector()
