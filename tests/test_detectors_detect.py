"""Prompts for SAM, and masks restricted by SAM or a segm detector, in images and videos."""

import numpy as np
import pytest
import torch
from detailers.core.detectors.base import BoxDetector, Detection
from detailers.core.detectors.detect import DetectionOptions, detect_segs
from detailers.core.detectors.sam.model import Sam, sam_mask, sam_masks
from detailers.core.detectors.sam.questions import Prompt, SamHints, prompts
from detailers.core.detectors.video import detect_in_frames, track
from detailers.core.geometry import Box, Size
from detailers.core.segs.seg import SEG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

IMAGE = torch.zeros(1, 60, 90, 3)


def seg(bbox, region=None, mask=None):
    region = region or bbox
    if mask is None:
        mask = np.ones((region[3] - region[1], region[2] - region[0]), np.float32)
    return SEG(None, mask, 0.9, region, bbox, "A")


def asked(*segs, image=(90, 60), **hints):
    return prompts(segs, Size(*image), SamHints(**hints))


class Scripted(BoxDetector):
    """Finds these boxes, in frame i those of entry i; remembers how it was asked."""

    def __init__(self, *frames):
        self.frames = list(frames)
        self.calls = []

    def find(self, image, threshold):
        self.calls.append((tuple(image.shape), threshold))
        boxes = self.frames.pop(0) if len(self.frames) > 1 else self.frames[0]
        return [Detection(Box(*box[:4]), *(box[4:] or (0.9, "face"))) for box in boxes]


class OtherSam:
    """Another pack's SAM_MODEL: marks the box that it is asked about, less one pixel around."""

    def __init__(self, marks=True):
        self.log = []
        self.marks = marks

    @property
    def sam_wrapper(self):
        return self

    def prepare_device(self):
        self.log.append("prepare")

    def release_device(self):
        self.log.append("release")

    def predict(self, image, points, plabs, bbox, threshold):
        self.log.append((image.dtype.name, image.shape, points, plabs, bbox, threshold))
        mask = np.zeros(image.shape[:2], bool)
        if self.marks:
            x1, y1, x2, y2 = bbox
            mask[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = True
        return [mask, np.zeros_like(mask)]


# Questions


@pytest.mark.parametrize(
    ("hint", "points"),
    [
        ("center-1", [(25, 25)]),
        ("mask-point-bbox", [(25, 25)]),
        ("horizontal-2", [(20, 25), (30, 25)]),
        ("vertical-2", [(25, 20), (25, 30)]),
        ("rect-4", [(20, 25), (30, 25), (25, 20), (25, 30)]),
        ("diamond-4", [(20, 20), (30, 20), (20, 30), (30, 30)]),
        ("none", []),
    ],
)
def test_points_of_each_hint(hint, points):
    (question,) = asked(seg((10, 10, 40, 40)), detection_hint=hint)
    assert list(question.points) == points
    assert question.labels == (1,) * len(points)
    assert question.box == Box(10, 10, 40, 40)


def test_the_box_grows_within_the_image_and_the_points_along():
    (question,) = asked(seg((10, 10, 40, 40)), detection_hint="horizontal-2", bbox_expansion=20)
    assert question.box == Box(0, 0, 60, 60)
    assert list(question.points) == [(20, 25), (40, 25)]


def test_points_of_a_mask_lie_on_a_grid_within_it():
    mask = np.zeros((40, 100), np.float32)  # steps: 3 down (at least), 5 across
    mask[0:4, 5:11] = 1
    mask[3, 10] = 0.5
    entry = seg((0, 0, 100, 40), mask=mask)
    (question,) = asked(entry, detection_hint="mask-area", image=(200, 100))
    assert list(question.points) == [(5, 0), (10, 0), (5, 3)]
    assert question.labels == (1, 1, 1)
    (question,) = asked(
        entry, detection_hint="mask-area", image=(200, 100), mask_hint_use_negative="Small"
    )
    assert question.labels.count(1) == 3
    assert len(question.points) == 14 * 20 - 1  # all of the grid but the pixel of 0.5


def test_points_of_a_mask_start_at_its_region_and_video_masks_are_united():
    mask = np.zeros((2, 6, 6), np.float32)
    mask[0, 0, 0] = mask[1, 3, 3] = 1
    (question,) = asked(seg((40, 20, 46, 26), mask=mask), detection_hint="mask-area")
    assert list(question.points) == [(40, 20), (43, 23)]


def test_points_outside_cover_a_wide_image_but_for_the_segment():
    (question,) = asked(seg((100, 50, 200, 100)), mask_hint_use_negative="Outter", image=(400, 200))
    outside = [p for p, label in zip(question.points, question.labels, strict=True) if not label]
    assert question.points[0] == (150, 75)
    assert {x for x, _ in outside} == {*range(10, 390, 20)}
    assert {y for _, y in outside} == {*range(10, 190, 10)}
    assert not [p for p in outside if 90 <= p[0] <= 210 and 40 <= p[1] <= 110]
    assert len(outside) == 19 * 18 - 7 * 8


def test_one_question_about_the_middles_of_all():
    segs = [seg((10, 10, 40, 40)), seg((50, 10, 58, 40))]
    (question,) = asked(*segs, detection_hint="mask-points")
    assert question == Prompt(((25, 25), (54, 25)), (1, 1))
    (question,) = asked(*segs, detection_hint="mask-points", mask_hint_use_negative="Small")
    assert question.labels == (1, 0)


def test_nothing_is_asked_about_no_segment():
    for hint in ("center-1", "mask-points"):
        assert asked(detection_hint=hint) == []


def test_an_unknown_hint_is_an_error():
    with pytest.raises(ValueError, match=r"'detection_hint' is 'edges'.*center-1"):
        asked(seg((0, 0, 5, 5)), detection_hint="edges")
    with pytest.raises(ValueError, match="'mask_hint_use_negative' is 'Outer'"):
        asked(seg((0, 0, 5, 5)), mask_hint_use_negative="Outer")


# SAMs


def test_another_packs_sam_is_asked_in_bytes_and_released():
    sam = OtherSam()
    image = torch.full((1, 60, 90, 4), 0.5)
    segs = ((60, 90), [seg((10, 10, 20, 20)), seg((40, 30, 60, 50))])
    first, second = sam_masks(sam, segs, image, SamHints(threshold=0.7))
    assert sam.log[0] == "prepare"
    assert sam.log[-1] == "release"
    assert sam.log[1] == ("uint8", (60, 90, 3), [(15, 15)], [1], [10, 10, 20, 20], 0.7)
    assert (first.sum(), second.sum()) == (64, 18 * 18)
    mask = sam_mask(sam, segs, image, SamHints(dilation=3))
    assert mask.shape == (60, 90)
    assert mask.sum() == 100 + 400


def test_a_sam_is_released_when_it_fails():
    sam = OtherSam()
    sam.predict = None  # not even callable
    with pytest.raises(ValueError, match="cannot be asked for masks"):
        sam_masks(sam, ((60, 90), [seg((10, 10, 20, 20))]), IMAGE, SamHints())

    def fail(*_):
        raise RuntimeError("out of memory")

    sam.predict = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        sam_masks(sam, ((60, 90), [seg((10, 10, 20, 20))]), IMAGE, SamHints())
    assert sam.log == ["prepare", "release"]


def test_what_is_no_sam_is_an_error_but_not_without_segments():
    with pytest.raises(ValueError, match=r"'sam_model' is a str.*SAMLoader \(Impact\)"):
        sam_mask("sam", ((60, 90), [seg((10, 10, 20, 20))]), IMAGE, SamHints())
    assert sam_mask("sam", ((60, 90), []), IMAGE, SamHints()).sum() == 0


def test_segments_of_another_size_are_scaled_to_the_image():
    sam = OtherSam()
    sam_mask(sam, ((30, 45), [seg((10, 10, 20, 20))]), IMAGE, SamHints())
    assert sam.log[1][4] == [20, 20, 40, 40]


# Detection with refinement


def test_boxes_alone():
    detector = Scripted([(10, 10, 30, 20)])
    shape, (found,) = detect_segs(IMAGE, detector, DetectionOptions(0.3, 0, 2.0, 5))
    assert shape == (60, 90)
    assert detector.calls == [((60, 90, 3), 0.3)]
    assert (found.bbox, found.crop_region) == ((10, 10, 30, 20), (0, 5, 40, 25))
    assert found.cropped_mask.sum() == 200


def test_sam_narrows_the_masks_and_post_dilation_comes_last():
    detector = Scripted([(10, 10, 30, 20)])
    settings = DetectionOptions(crop_factor=2.0, drop_size=5, bbox_dilation=5)
    _, (found,) = detect_segs(IMAGE, detector, settings, OtherSam())
    inner = np.zeros((20, 40), np.float32)
    inner[6:14, 11:29] = 1
    assert np.array_equal(found.cropped_mask, inner)
    grown = DetectionOptions(crop_factor=2.0, drop_size=5, post_dilation=3)
    _, (found,) = detect_segs(IMAGE, detector, grown, OtherSam())
    assert found.cropped_mask.sum() == 200


def test_a_segm_detector_narrows_the_masks_with_its_own_or_the_boxes_settings():
    boxes, shapes = Scripted([(10, 10, 30, 20)]), Scripted([(0, 0, 20, 60)])
    settings = DetectionOptions(0.4, 2, 2.0, 5, segm_threshold=0.6, segm_dilation=0)
    _, (found,) = detect_segs(IMAGE, boxes, settings, None, shapes)
    assert shapes.calls == [((60, 90, 3), 0.6)]
    assert found.cropped_mask.sum() == 10 * 11  # 21 x 11 after dilation, cut at x = 20
    detect_segs(IMAGE, boxes, DetectionOptions(0.4), None, shapes)
    assert shapes.calls[-1] == ((60, 90, 3), 0.4)


def test_sam_wins_over_a_segm_detector_and_shapes_may_replace_boxes():
    boxes, shapes = Scripted([(10, 10, 30, 20)]), Scripted([(0, 0, 20, 60)])
    detect_segs(IMAGE, boxes, DetectionOptions(), OtherSam(), shapes)
    assert shapes.calls == []
    shapes.override_bbox_by_segm = True
    _, (found,) = detect_segs(IMAGE, boxes, DetectionOptions(), None, shapes)
    assert found.bbox == (0, 0, 20, 60)


def test_nothing_found_needs_no_refinement():
    shape, items = detect_segs(IMAGE, Scripted([]), DetectionOptions(), "no SAM at all")
    assert (shape, items) == ((60, 90), [])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 50), st.integers(1, 40)), max_size=9))
def test_refined_masks_lie_within_the_boxes(boxes):
    detector = Scripted([(x, y, x + side, y + side) for x, y, side in boxes])
    _, plain = detect_segs(IMAGE, detector, DetectionOptions(drop_size=1))
    _, refined = detect_segs(IMAGE, detector, DetectionOptions(drop_size=1), OtherSam())
    assert [found.bbox for found in plain] == [found.bbox for found in refined]
    for before, after in zip(plain, refined, strict=True):
        assert (after.cropped_mask <= before.cropped_mask).all()


# Video

MOVING = ([(10, 10, 30, 30)], [(20, 10, 40, 30)], [])
SETTINGS = DetectionOptions(crop_factor=1.0, drop_size=5)


def frames(count=3):
    return torch.zeros(count, 60, 90, 3)


def in_frames(mode, pivot):
    return detect_in_frames(frames(), Scripted(*MOVING), SETTINGS, mode, pivot)[1]


def test_the_pivot_is_what_all_frames_show_or_the_first():
    (found,) = in_frames("Pivot SEGS", "Combined mask")
    assert (found.bbox, found.cropped_mask.shape) == ((10, 10, 40, 30), (20, 30))
    (found,) = in_frames("Pivot SEGS", "1st frame mask")
    assert found.bbox == (10, 10, 30, 30)


def test_each_frame_has_what_it_shows_of_the_pivot():
    (found,) = in_frames("Don't combine", "Combined mask")
    assert found.cropped_mask.shape == (3, 20, 30)
    assert [mask.sum() for mask in found.cropped_mask] == [400, 400, 0]
    assert found.cropped_mask[0, :, :20].all()
    assert found.cropped_mask[1, :, 10:].all()
    (found,) = in_frames("Don't combine", "1st frame mask")
    assert [mask.sum() for mask in found.cropped_mask] == [400, 200, 0]


def test_neighbouring_frames_lend_their_masks():
    (found,) = in_frames("Combine neighboring frames", "Combined mask")
    assert [mask.sum() for mask in found.cropped_mask] == [600, 600, 400]


def test_a_video_in_which_nothing_is_found():
    for mode in ("Pivot SEGS", "Don't combine"):
        for pivot in ("Combined mask", "1st frame mask"):
            segs = detect_in_frames(frames(), Scripted([]), SETTINGS, mode, pivot)
            assert segs == ((60, 90), [])


def test_things_are_followed_from_the_first_frame():
    asked_for = []

    def follow(images, boxes, lowest):
        asked_for.append((tuple(images.shape), boxes, lowest))
        masks = torch.zeros(3, 60, 90)
        for index in range(3):
            masks[index, 10:30, 10 + 10 * index : 30 + 10 * index] = 1
        masks[2, 50:53, 80:83] = 1  # a stray patch
        return [masks, torch.zeros(3, 60, 90)]

    sam = Sam(None, None, None, follow)
    detector = Scripted([(10, 10, 30, 30, 0.8, "cat"), (50, 10, 70, 30)])
    shape, (found,) = track(frames(), detector, sam, SETTINGS, 2.5)
    assert asked_for == [((3, 60, 90, 3), [(10, 10, 30, 30), (50, 10, 70, 30)], 2.5)]
    assert shape == (60, 90)
    assert (found.label, found.confidence, found.bbox) == ("cat", 0.8, (10, 10, 50, 30))
    assert found.cropped_mask.shape == (3, 20, 40)
    assert [mask.sum() for mask in found.cropped_mask] == [400, 400, 400]


@pytest.mark.parametrize("model", [OtherSam(), Sam(None, None, None), None])
def test_a_sam_that_cannot_follow_is_an_error(model):
    with pytest.raises(ValueError, match=r"'sam2_model' cannot follow.*SAM 2"):
        track(frames(), Scripted([]), model, SETTINGS, 0.0)
