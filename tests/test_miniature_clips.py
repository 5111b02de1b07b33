"""Clips of the miniature world: what is told about them is what their frames show."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from detailers.dev.metrics import flicker, moved_back, wander
from detailers.dev.miniature.clips import CLIPS, SIZE, Clip, detections, draw_clip

SMALL = (384, 216)
LENGTH = 16


@lru_cache
def clip(name, length=LENGTH, size=SMALL) -> Clip:
    return draw_clip(name, length, size)


@pytest.fixture(params=CLIPS)
def any_clip(request):
    return clip(request.param)


def middle(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


# The truth


def test_a_head_lies_in_its_box(any_clip):
    for person in any_clip.persons:
        for frame in range(0, LENGTH, 5):
            box = any_clip.head(person, frame)
            rows, columns = np.nonzero(any_clip.mask(person, frame) > 0.1)
            if box is None or any_clip.seen(person, frame) < 0.999:
                continue
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(np.subtract(found, box)).max() < 1.2


def test_the_mask_is_where_another_head_would_show(any_clip):
    """Another hair colour changes nothing outside the mask, and much inside."""
    frame = 4
    still = any_clip.stills[frame]
    for place, person in enumerate(still.who):
        one = still.scene.characters[place]
        colours = {"hair_colour": "blue" if one.look.hair_colour != "blue" else "white"}
        others = list(still.scene.characters)
        others[place] = replace(one, look=replace(one.look, **colours))
        changed = replace(still.scene, characters=tuple(others)).picture(SMALL, still.view)
        change = np.abs(changed - any_clip.truth(frame)).max(-1)
        mask = any_clip.mask(person, frame)
        assert change[mask == 0].max() == 0
        assert change[mask > 0.9].mean() > 0.05


def test_the_motion_brings_each_head_onto_itself(any_clip):
    """A frame that is moved back fits the frame before, and one that is not does not."""
    back, without, count_of = 0.0, 0.0, 0
    for person in any_clip.persons:
        for frame in range(1, LENGTH - 1, 3):
            motion = any_clip.motion(person, frame)
            if motion is None or any_clip.seen(person, frame) < 0.9:
                continue
            pair = any_clip.truth(frame), any_clip.truth(frame + 1)
            masks = any_clip.mask(person, frame), any_clip.mask(person, frame + 1)
            total, count = flicker(pair, masks, motion)
            assert count > 0
            assert total / count < 0.05
            back += total / count
            unmoved = flicker(pair, masks, np.eye(2, 3))
            without += unmoved[0] / unmoved[1] if unmoved[1] else 1.0
            count_of += 1
    assert count_of >= 2
    assert back < 0.6 * without


def test_the_motion_follows_the_middle_of_the_head(any_clip):
    for person in any_clip.persons:
        for frame in range(LENGTH - 1):
            motion = any_clip.motion(person, frame)
            if motion is None or abs(any_clip.stills[frame].scene.characters[0].tilt) > 3:
                continue
            before, after = (middle(any_clip.head(person, one)) for one in (frame, frame + 1))
            reached = motion @ (*before, 1)
            assert np.abs(reached - after).max() < 1.0  # a leaning head's box is not quite its own


def test_the_middle_of_a_head_moves_with_it(any_clip):
    for person in any_clip.persons:
        for frame in range(LENGTH - 1):
            box, motion = any_clip.head(person, frame), any_clip.motion(person, frame)
            if box is None:
                assert any_clip.middle(person, frame) is None
                continue
            own = any_clip.middle(person, frame)
            assert np.abs(np.subtract(own, middle(box))).max() < 0.05 * (box[3] - box[1])
            if motion is not None:
                after = any_clip.middle(person, frame + 1)
                assert motion @ (*own, 1) == pytest.approx(after, abs=1e-6)


def test_nothing_moves_across_a_cut():
    cut = clip("cut")
    assert cut.cuts == (LENGTH // 2,)
    assert all(cut.motion(person, cut.cuts[0] - 1) is None for person in cut.persons)
    before, after = cut.stills[cut.cuts[0] - 1].who, cut.stills[cut.cuts[0]].who
    assert not set(before) & set(after)
    assert np.abs(cut.truth(cut.cuts[0]) - cut.truth(cut.cuts[0] - 1)).mean() > 0.05
    # Somebody else stands where somebody stood.
    first, second = cut.head(0, cut.cuts[0] - 1), cut.head(2, cut.cuts[0])
    assert np.abs(np.subtract(middle(first), middle(second))).max() < 0.5 * (first[2] - first[0])


def test_two_who_cross_hide_one_another():
    crossing = clip("crossing")
    seen = [crossing.seen(0, frame) for frame in range(LENGTH)]
    assert seen[0] == pytest.approx(1)
    assert seen[-1] == pytest.approx(1)
    assert min(seen) < 0.4
    hidden = int(np.argmin(seen))
    assert crossing.seen(1, hidden) == pytest.approx(1)  # is nearer
    assert (crossing.mask(0, hidden) + crossing.mask(1, hidden)).max() < 1.3
    ways = [np.sign(crossing.head(0, f)[0] - crossing.head(1, f)[0]) for f in (0, LENGTH - 1)]
    assert ways == [-1, 1]


def test_who_leaves_is_not_there_and_comes_back():
    leaving = clip("leaving and coming back")
    seen = [leaving.seen(0, frame) for frame in range(LENGTH)]
    there = [share > 0 for share in seen]
    assert there[0]
    assert there[-1]
    absent = [frame for frame in range(LENGTH) if not there[frame]]
    assert absent == list(range(absent[0], absent[-1] + 1))
    assert len(absent) >= LENGTH // 4
    assert all(leaving.mask(0, frame).max() == 0 for frame in absent)
    half = min(share for share in seen if share > 0)
    assert half < 0.9  # the frame's edge cuts the head


def test_heads_have_twenty_to_three_hundred_pixels():
    coming = draw_clip("approaching", 4)
    widths = [box[2] - box[0] for box in (coming.head(0, 0), coming.head(0, 3))]
    assert widths == pytest.approx([20, 300], rel=0.03)
    box = coming.head(0, 3)
    assert min(box) > 0
    assert box[3] < SIZE[1]


def test_a_moving_camera_moves_what_stands():
    camera = clip("moving camera")
    path = np.array([middle(camera.head(1, frame)) for frame in range(LENGTH)])
    assert np.ptp(path[:, 0]) > 0.1 * SMALL[0]
    motion = camera.motion(1, 3)
    assert np.linalg.det(motion[:, :2]) > 1.001  # it comes nearer


def test_a_poor_frame_is_like_the_truth_and_has_grain_of_its_own():
    walking = clip("walking")
    poor = walking.poor(3)
    assert np.array_equal(poor, walking.poor(3))
    error = np.abs(poor - walking.truth(3)).mean()
    assert 0.005 < error < 0.06
    standing = [walking.poor(frame)[:40, :40] for frame in (3, 4)]
    assert np.abs(standing[0] - standing[1]).mean() > 0.003


def test_an_unknown_clip_is_an_error():
    with pytest.raises(ValueError, match="no clip 'flying'; there are walking"):
        draw_clip("flying")


# Detections


def test_detections_are_off_by_no_more_than_asked_and_some_are_missing():
    walking = clip("walking", 80)
    found = detections(walking)
    assert found == detections(walking)
    assert found != detections(walking, seed=1)
    off, count = [], 0
    for frame, heads in enumerate(found):
        count += len(heads)
        for head in heads:
            true = np.array(walking.head(head.person, frame))
            sides = np.array([true[2] - true[0], true[3] - true[1]] * 2)
            off.append((np.array(head.box) - true) / sides)
    off = np.array(off)
    assert 0.045 < np.abs(off).max() <= 0.05 + 1e-9
    assert np.abs(off.mean(0)).max() < 0.01
    assert 1 - count / 160 == pytest.approx(0.1, abs=0.04)


def test_hidden_heads_are_not_detected_and_the_order_says_nothing():
    crossing = clip("crossing")
    found = detections(crossing, jitter=0, dropped=0)
    orders = set()
    for frame, heads in enumerate(found):
        persons = [head.person for head in heads]
        expected = {p for p in crossing.persons if crossing.seen(p, frame) >= 0.5}
        assert set(persons) == expected
        orders.add(tuple(persons))
    assert len(orders) > 3
    boxes = [head.box for head in found[0] if head.person == 0]
    assert boxes[0] == pytest.approx(crossing.head(0, 0))


# The measures


def test_what_moved_is_moved_back():
    picture = np.zeros((20, 30), np.float32)
    picture[5:9, 10:16] = 1
    after = np.roll(picture, (2, 3), (0, 1))
    back = moved_back(after, np.array([[1.0, 0, 3], [0, 1, 2]]))
    assert np.allclose(back[:18, :27], picture[:18, :27], atol=1e-6)
    assert np.isnan(back[:, 27:]).all()  # lies outside the frame
    # Places are those of the frame: the middle of pixel 2 is at 2.5, and comes from 5.
    ramp = np.tile(np.arange(30, dtype=np.float32) + 0.5, (20, 1))
    small = moved_back(ramp, np.array([[2.0, 0, 0], [0, 1, 0]]))
    assert small[4, 2:12] == pytest.approx(2 * np.arange(2.5, 12))


def test_flicker_is_what_is_left_without_the_motion():
    random = np.random.default_rng(0)
    frame = random.random((24, 24, 3)).astype(np.float32)
    mask = np.zeros((24, 24), np.float32)
    mask[8:14, 8:14] = 1
    motion = np.array([[1.0, 0, 4], [0, 1, 0]])
    moved = np.roll(frame, 4, 1)
    pair, masks = (frame, moved + np.float32(0.1)), (mask, np.roll(mask, 4, 1))
    total, count = flicker(pair, masks, motion)
    assert count == 6 * 6 * 3
    assert total / count == pytest.approx(0.1, abs=1e-5)
    masks[1][:, :15] = 0  # three columns are hidden in the second frame
    assert flicker(pair, masks, motion)[1] == 6 * 3 * 3


def test_a_path_that_is_off_by_the_same_everywhere_does_not_wander():
    true = np.array([[0.0, 0], [3, 1], [6, 2], [9, 3]])
    assert wander(true + np.array([5, -2]), true) == pytest.approx(0)
    shaken = true + np.array([[0.3, 0.4], [-0.3, -0.4]] * 2)
    assert wander(shaken, true) == pytest.approx(0.5)
