"""core/tracks/windows.py: windows, masks and used frames along a course."""

import numpy as np
import pytest
from detailers.core.geometry import Box, Rect, Size
from detailers.core.tracks.finds import Find
from detailers.core.tracks.track import PackedMask
from detailers.core.tracks.windows import (
    AS_BOX,
    AUTO,
    HYSTERESIS,
    SQUARE,
    Shaping,
    aspect_of,
    course_of,
    covered,
    moved_mask,
    sightings_of,
    used_frames,
    windows_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

FRAME = Size(320, 200)


@pytest.mark.parametrize(
    ("width", "height", "auto"),
    [(40, 41, 1.0), (30, 40, 0.75), (20, 60, 0.5), (66, 100, 2 / 3), (60, 30, 2.0)],
)
def test_windows_of_a_track_have_one_aspect(width, height, auto):
    boxes = [Rect(100, 80, width * scale, height * scale) for scale in (1, 1.1, 0.9, 1)]
    assert aspect_of(boxes, AUTO) == auto
    assert aspect_of(boxes, SQUARE) == 1.0
    assert aspect_of(boxes, AS_BOX) == pytest.approx(width / height)


@given(
    st.lists(st.tuples(*[st.floats(1, 300)] * 4), min_size=1, max_size=6),
    st.floats(1, 4), st.sampled_from([AUTO, SQUARE, AS_BOX]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_windows_hold_their_boxes_or_could_cover_the_frame(boxes, factor, aspect):
    boxes = [Rect(*box) for box in boxes]
    windows = windows_of(boxes, Shaping(factor, aspect=aspect), FRAME)
    ratio = windows[0].width / windows[0].height
    for box, window in zip(boxes, windows, strict=True):
        assert (window.x, window.y) == (box.x, box.y)
        assert window.width / window.height == pytest.approx(ratio)
        holds = window.width >= factor * box.width - 1e-3
        holds = holds and window.height >= factor * box.height - 1e-3
        covers = window.width >= FRAME.width - 1e-3 and window.height >= FRAME.height - 1e-3
        assert holds or covers
        assert window.width <= FRAME.width + 1e-3 or window.height <= FRAME.height + 1e-3 or covers


def test_a_window_larger_than_the_frame_is_no_larger_than_needed_to_cover_it():
    (window,) = windows_of([Rect(160, 100, 150, 150)], Shaping(3.0), FRAME)
    assert (window.width, window.height) == (320, 320)


def test_sizes_at_the_bound_do_not_flicker():
    shaping = Shaping(min_size=20, max_size=50)
    sizes = [22, 20.5, 19.9, 20.1, 19.9, 20.5, 22.9, 23.1, 20.1, 19.9]
    used = used_frames(sizes, shaping)
    assert used == [True, True, False, False, False, False, False, True, True, False]
    assert used_frames([49, 51, 49, 44, 43, 49.9], shaping) == [
        True, False, False, False, True, True,
    ]  # fmt: skip
    assert used_frames([1, 1e6], Shaping()) == [True, True]


@given(st.lists(st.floats(15, 25), min_size=1, max_size=50))
def test_used_frames_change_only_when_a_size_crosses_the_whole_band(sizes):
    used = used_frames(sizes, Shaping(min_size=20))
    for before, after, size in zip(used, used[1:], sizes[1:], strict=False):
        if before != after:
            assert size < 20 if before else size >= 20 * (1 + HYSTERESIS)
    assert used[0] == (sizes[0] >= 20)


def course(*boxes, masks=None, grown=0.0):
    finds = [
        Find(5 + place, Rect.of_box(box), "face", 0.5 + place / 10,
             None if masks is None else masks[place], grown=grown)
        for place, box in enumerate(boxes)
        if box is not None
    ]  # fmt: skip
    shaping = Shaping(2.0, 1, 1)
    return sightings_of(course_of(finds, shaping), shaping, FRAME)


def test_a_gap_has_a_box_between_and_is_marked():
    one, gap, other = course((10, 10, 30, 30), None, (20, 14, 44, 38))
    assert [each.frame for each in (one, gap, other)] == [5, 6, 7]
    assert (one.gap, gap.gap, other.gap) == (False, True, False)
    assert gap.found is None and one.found == Rect(20, 20, 20, 20)
    assert (gap.box.x, gap.box.y) == pytest.approx((26, 23))
    assert gap.box.width == pytest.approx((20 * 24) ** 0.5)
    assert gap.confidence == pytest.approx(0.6)
    assert gap.mask is None


def test_the_mask_in_a_gap_is_that_of_the_nearest_frame_moved_and_scaled():
    box = Box(10, 10, 30, 30)
    half = np.zeros((20, 20), np.float32)
    half[:, :10] = 1
    masks = [PackedMask.of(half, box), None, PackedMask.of(half, box.shifted(8, 0))]
    _, gap, _ = course((10, 10, 30, 30), None, (18, 10, 38, 30), masks=masks)
    assert gap.mask.box == Box(14, 10, 34, 30)
    assert np.allclose(gap.mask.unpacked(), half, atol=1e-5)


def test_a_moved_mask_keeps_its_area_at_sub_pixel_places():
    y, x = np.mgrid[:24, :30]
    mask = np.exp(-((y - 13.3) ** 2) / 18 - (x - 12.1) ** 2 / 26).astype(np.float32)
    old = Rect.of_box((100, 50, 130, 74))
    moved = moved_mask(PackedMask.of(mask, Box(100, 50, 130, 74)), old, Rect(115.4, 62.7, 45, 36))
    assert moved.unpacked().sum() == pytest.approx(mask.sum() * 1.5**2, rel=0.01)
    y, x = np.mgrid[moved.box.y1 : moved.box.y2, moved.box.x1 : moved.box.x2] + 0.5
    weight = moved.unpacked() / moved.unpacked().sum()
    own_y, own_x = np.mgrid[50:74, 100:130] + 0.5
    own = mask / mask.sum()
    assert (weight * x).sum() == pytest.approx(115.4 + 1.5 * ((own * own_x).sum() - 115), abs=0.02)
    assert (weight * y).sum() == pytest.approx(62.7 + 1.5 * ((own * own_y).sum() - 62), abs=0.02)


def test_a_grown_box_covers_pixels_by_share():
    mask = covered(Rect.of_box((10.25, 5, 12, 6.5)), 1)
    assert mask.box == Box(9, 4, 13, 8)
    rows = [[0.75, 1, 1, 1]] * 3 + [[0.375, 0.5, 0.5, 0.5]]
    assert np.allclose(mask.unpacked(), rows)
    assert covered(Rect(10, 10, 4, 4), -2) is None
    (one,) = course((10, 10, 30, 30), grown=3.0)
    assert one.mask.box == Box(7, 7, 33, 33)


def test_a_course_of_one_find_and_of_two():
    (one,) = course((10, 10, 30, 30))
    assert (one.window.width, one.window.x) == pytest.approx((40, 20))
    find = Find(3, Rect(20, 20, 20, 20), "face")
    for count in (1, 2, 3):
        finds = [Find(3 + i, find.box, "face") for i in range(count)]
        own = course_of(finds, Shaping())
        assert np.allclose(own.centre.values, 20)
        assert np.allclose(np.exp(own.size.values), 20)
