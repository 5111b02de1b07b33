"""Selecting SEGS by label, range, order, number and overlap."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from detailers.core.segs.filter import (
    closest_to_mask,
    measure,
    pick,
    split_by_labels,
    split_by_order,
    split_by_range,
    suppress_overlaps,
    without_overlap,
)
from detailers.tests.fake_backend import make_seg
from hypothesis import given, settings
from hypothesis import strategies as st

OtherSeg = namedtuple("OtherSeg", "cropped_image cropped_mask confidence crop_region bbox label")


def sized(width, height, x=0, y=0, confidence=1.0, label="A"):
    return make_seg((x, y, x + width, y + height), label=label)._replace(confidence=confidence)


def same(segs, *expected):
    """The very same segments, in this order."""
    return [id(seg) for seg in segs[1]] == [id(seg) for seg in expected]


# Measures


def test_a_segment_is_measured_by_its_crop_region():
    seg = make_seg((10, 20, 40, 35), bbox=(12, 22, 14, 24))._replace(confidence=0.25)
    values = {
        "area(=w*h)": 450, "width": 30, "height": 15, "x1": 10, "y1": 20, "x2": 40, "y2": 35,
        "length_percent": 200, "confidence": 0.25, "confidence(0-100)": 25,
    }  # fmt: skip
    assert {target: measure(seg, target) for target in values} == values


def test_a_tall_segment_is_as_long_as_a_wide_one():
    assert measure(sized(10, 40), "length_percent") == measure(sized(40, 10), "length_percent")


def test_a_confidence_may_be_an_array_and_a_region_may_be_empty():
    seg = sized(0, 0, confidence=np.array([0.5], np.float32))
    assert measure(seg, "confidence") == 0.5
    assert measure(seg, "length_percent") == 0


def test_an_unknown_measure_is_named():
    with pytest.raises(ValueError, match=r"'target' is 'weight'.*area"):
        measure(sized(1, 1), "weight")


# Labels


def test_labels_split_the_segments():
    left, right = sized(1, 1, label="left_eye"), sized(1, 1, label="right_eye")
    face, other = sized(1, 1, label="面"), sized(1, 1, label="")
    segs = ((9, 9), [other, left, face, right])
    chosen, rest = split_by_labels(segs, "eyes, 面")
    assert same(chosen, left, face, right)
    assert same(rest, other)
    assert chosen[0] == rest[0] == (9, 9)


def test_all_labels_leave_nothing_over():
    segs = ((9, 9), [sized(1, 1), sized(2, 2)])
    chosen, rest = split_by_labels(segs, "all")
    assert same(chosen, *segs[1])
    assert rest == ((9, 9), [])


# Range


def test_both_ends_of_a_range_belong_to_it():
    items = [sized(width, 2) for width in (1, 2, 3, 4)]
    inside, outside = split_by_range(((9, 9), items), "width", 2, 3)
    assert same(inside, items[1], items[2])
    assert same(outside, items[0], items[3])


def test_outside_turns_a_range_round():
    items = [sized(width, 2) for width in (1, 2, 3, 4)]
    outside, inside = split_by_range(((9, 9), items), "width", 2, 3, inside=False)
    assert same(outside, items[0], items[3])
    assert same(inside, items[1], items[2])


# Order


def test_the_largest_come_first():
    small, large, middle = sized(2, 2), sized(5, 5), sized(3, 3)
    segs = ((9, 9), [small, large, middle])
    taken, rest = split_by_order(segs, "area(=w*h)", descending=True, start=0, count=2)
    assert same(taken, large, middle)
    assert same(rest, small)


def test_some_are_taken_from_the_middle_and_the_rest_keep_the_order():
    items = [sized(2, 2, x=x) for x in (30, 10, 20, 0)]
    taken, rest = split_by_order(((9, 99), items), "x1", descending=False, start=1, count=2)
    assert same(taken, items[1], items[2])
    assert same(rest, items[3], items[0])


@pytest.mark.parametrize("descending", [True, False])
def test_equal_ones_keep_their_order(descending):
    items = [sized(2, 2, x=x) for x in (4, 1, 3)]
    taken, _ = split_by_order(((9, 9), items), "width", descending=descending, start=0, count=9)
    assert same(taken, *items)


def test_without_a_measure_the_order_stays():
    items = [sized(2, 2), sized(5, 5), sized(3, 3)]
    taken, rest = split_by_order(((9, 9), items), "none", descending=True, start=1, count=1)
    assert same(taken, items[1])
    assert same(rest, items[0], items[2])


def test_there_need_not_be_as_many_as_are_taken():
    segs = ((9, 9), [sized(2, 2)])
    assert split_by_order(segs, "x1", descending=True, start=3, count=2) == (((9, 9), []), segs)
    empty = ((0, 0), [])
    assert split_by_order(empty, "x1", descending=True, start=0, count=1) == (empty, empty)


def test_segments_of_other_packs_are_handed_on_as_they_are():
    other = OtherSeg(None, np.ones((2, 2)), 0.5, (0, 0, 2, 2), (0, 0, 2, 2), "A")
    segs = ((9, 9), [other])
    for chosen in (
        split_by_order(segs, "confidence", descending=True, start=0, count=1)[0],
        split_by_range(segs, "x2", 2, 2)[0],
        split_by_labels(segs, "A")[0],
        pick(segs, "1"),
        suppress_overlaps(segs, 0.5),
        without_overlap(segs, ((9, 9), []), 0.5),
        closest_to_mask(segs, torch.ones(1, 9, 9), 0.0)[0],
    ):
        assert same(chosen, other)


# Numbers


@pytest.mark.parametrize(
    ("numbers", "picked"),
    [("2", [1]), ("3, 1", [0, 2]), ("1\n3;3", [0, 2]), ("", []), ("0, 9, x", []), ("２", [1])],
)
def test_segments_are_picked_by_numbers_from_1_on(numbers, picked):
    items = [sized(2, 2, x=x) for x in range(3)]
    assert same(pick(((9, 9), items), numbers), *(items[i] for i in picked))


# Overlap


def test_a_segment_that_another_covers_by_more_than_the_threshold_goes():
    half, free = sized(4, 4), sized(4, 4, x=20)
    cover = sized(2, 4)  # half of the first
    segs, others = ((30, 30), [half, free]), ((30, 30), [cover])
    assert same(without_overlap(segs, others, 0.49), free)
    assert same(without_overlap(segs, others, 0.5), half, free)


def test_several_that_cover_a_segment_together_do_not_count_as_one():
    segs = ((9, 9), [sized(4, 4)])
    others = ((9, 9), [sized(2, 4), sized(2, 4, x=2)])
    assert same(without_overlap(segs, others, 0.5), *segs[1])


def test_only_pixels_of_the_masks_count():
    upper = np.zeros((4, 4), np.float32)
    upper[:2] = 0.01
    lower = 1 - np.ceil(upper)
    segs = ((9, 9), [make_seg((0, 0, 4, 4), mask=upper)])
    assert same(
        without_overlap(segs, ((9, 9), [make_seg((0, 0, 4, 4), mask=lower)]), 0.0), *segs[1]
    )


def test_the_covering_segments_may_be_of_another_image_size():
    segs = ((40, 20), [sized(4, 8, x=10, y=20), sized(4, 8)])
    others = ((20, 20), [sized(4, 4, x=10, y=10)])  # half as high
    assert same(without_overlap(segs, others, 0.5), segs[1][1])


def test_of_segments_that_overlap_the_most_confident_stays():
    sure, doubtful = sized(10, 10, confidence=0.9), sized(10, 10, x=1, confidence=0.4)
    apart = sized(10, 10, x=30, confidence=0.6)
    segs = ((50, 50), [doubtful, apart, sure])
    assert same(suppress_overlaps(segs, 0.5), sure, apart)  # 90 of 110 pixels are shared


def test_the_threshold_itself_is_the_same_thing():
    first, second = sized(4, 4, confidence=0.9), sized(4, 2, confidence=0.8)  # 8 of 16 pixels
    segs = ((9, 9), [first, second])
    assert same(suppress_overlaps(segs, 0.5), first)
    assert same(suppress_overlaps(segs, 0.51), first, second)
    assert same(suppress_overlaps(segs, 0.0), first)
    apart = ((50, 50), [first, sized(4, 4, x=30, confidence=0.8)])  # they share nothing
    assert same(suppress_overlaps(apart, 0.0), first)
    assert same(suppress_overlaps(apart, 0.01), *apart[1])


def test_a_suppressed_segment_suppresses_no_other():
    items = [sized(10, 10, x=x, confidence=c) for x, c in ((0, 0.9), (4, 0.8), (8, 0.7))]
    assert same(suppress_overlaps(((50, 50), items), 0.4), items[0], items[2])


def test_a_clip_covers_what_it_covers_in_any_frame():
    frames = np.zeros((2, 4, 4), np.float32)
    frames[0, :2], frames[1, 2:] = 1, 1
    whole, clip = sized(4, 4, confidence=0.9), make_seg((0, 0, 4, 4), mask=frames)
    segs = ((9, 9), [whole, clip._replace(confidence=0.5)])
    assert same(suppress_overlaps(segs, 1.0), whole)


def test_thousands_of_segments_are_told_apart():
    items = [
        sized(8, 8, x=4 * (i % 60), y=10 * (i // 60), confidence=1 - i / 9999) for i in range(3000)
    ]
    kept = suppress_overlaps(((600, 300), items), 0.3)  # neighbours share 32 of 96 pixels
    assert same(kept, *items[::2])


boxes = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2, st.floats(0, 1))


@settings(max_examples=50, deadline=None)
@given(st.lists(boxes, max_size=8), st.floats(0.05, 1))
def test_no_two_of_the_kept_overlap_and_each_dropped_one_has_its_reason(drawn, threshold):
    items = [sized(w, h, x, y, confidence) for x, y, w, h, confidence in drawn]

    def iou(a, b):
        (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a.crop_region, b.crop_region
        width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
        common = max(0, width) * max(0, height)
        areas = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1)
        return common / (areas - common)

    _, kept = suppress_overlaps(((20, 20), items), threshold)
    for i, seg in enumerate(kept):
        assert all(iou(seg, other) < threshold for other in kept[:i])
    for seg in items:
        if not any(seg is other for other in kept):
            assert any(
                iou(seg, other) >= threshold and other.confidence >= seg.confidence
                for other in kept
            )


# The one that fits a mask


def test_the_segment_that_fits_a_mask_best_is_found():
    near, exact, far = sized(4, 4, x=2), sized(4, 4), sized(4, 4, x=10)
    mask = torch.zeros(1, 16, 16)
    mask[:, :4, :4] = 1
    best, score, scores = closest_to_mask(((16, 16), [near, exact, far]), mask, 0.0)
    assert same(best, exact)
    assert score == 1
    np.testing.assert_allclose(scores, [8 / 24, 1, 0])


def test_what_fits_too_little_is_not_taken():
    mask = torch.zeros(1, 16, 16)
    mask[:, :4, :4] = 1
    segs = ((16, 16), [sized(4, 2)])
    assert same(closest_to_mask(segs, mask, 0.5)[0], *segs[1])
    assert closest_to_mask(segs, mask, 0.51) == (((16, 16), []), 0.0, [0.5])


def test_masks_are_united_and_brought_to_the_images_size():
    masks = torch.zeros(2, 8, 4)  # of an image of 16x16
    masks[0, :2, :1] = 1
    masks[1, :2, 1:2] = 1
    segs = ((16, 16), [sized(8, 4)])
    assert closest_to_mask(segs, masks, 0.0)[1] > 0.6
    assert closest_to_mask(((0, 0), []), masks, 0.0) == (((0, 0), []), 0.0, [])


def test_numbers_without_end_are_too_high(caplog):
    segs = (4, 3), ["first", "second"]
    assert pick(segs, f"{'9' * 5000}, {'0' * 5000}2") == ((4, 3), ["second"])
    assert "'picks' names 99999999999999999999" in caplog.text
