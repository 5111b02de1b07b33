"""core/tracks/occlusion.py and masks.py: who hides whom where tracks meet, and their masks."""

from dataclasses import replace

import numpy as np
import pytest
from detailers.core.geometry import Box, Rect, Size
from detailers.core.tracks.convert import CLIPS, FRAMES, to_segs
from detailers.core.tracks.masks import ALONE, Met, cover_in, mask_in, parted_mask_in, seen_share
from detailers.core.tracks.occlusion import Occlusions, visibility
from detailers.core.tracks.preview import tracks_text
from detailers.core.tracks.track import PackedMask, Sighting, Track, Tracks

SIZE = Size(240, 100)
FRAMES_OF_CLIP = 30
# Two boxes of 20 pixels that go 4 pixels a frame towards each other, and meet in frame 15.
RIGHT = [90 + 2 * frame for frame in range(FRAMES_OF_CLIP)]
LEFT = [150 - 2 * frame for frame in range(FRAMES_OF_CLIP)]
HIDDEN = range(13, 18)  # at least 60% of the box is covered


def track(places, missed=(), first=0, number=0, side=20, label="face", **signs):
    """A track whose box is at these places; `signs` are functions of the frame."""
    sightings = []
    for frame, x in enumerate(places, first):
        box = Rect(float(x), 50.0, side, side)
        gap = frame in missed
        own = Sighting(frame, box, Rect(box.x, 50, 2 * side, 2 * side), gap=gap,
                       found=None if gap else box)  # fmt: skip
        more = {name: of(own) for name, of in signs.items()}
        sightings.append(own if gap else replace(own, **more))
    return Track(number, label, tuple(sightings))


def orders(*tracks, frames=FRAMES_OF_CLIP, cuts=()):
    """{frame: pairs (hidden, nearer) of positions that is known there}."""
    occlusions = Occlusions.of(Tracks(SIZE, frames, tracks, cuts))
    return [
        {
            (place, nearer)
            for place, own in enumerate(tracks)
            if own.at(frame) is not None
            for nearer in occlusions.met(place, frame).nearer
        }
        for frame in range(frames)
    ]


def known(*tracks, **clip):
    """All pairs (hidden, nearer) that are known in any frame."""
    return set().union(*orders(*tracks, **clip))


def in_meeting(inside, outside):
    """A sign that has one value where the thing is covered, and another elsewhere."""
    return lambda own: inside if own.frame in HIDDEN else outside


@pytest.mark.parametrize("turned", [False, True])
def test_what_is_missed_while_it_is_covered_is_behind(turned):
    pair = [track(RIGHT), track(LEFT, missed=HIDDEN)]
    expected = {(1, 0)}
    if turned:
        pair, expected = pair[::-1], {(0, 1)}
    found = orders(*pair)
    assert set().union(*found) == expected
    assert [frame for frame, pairs in enumerate(found) if pairs] == list(range(8, 23))


def test_nothing_is_said_without_a_sign():
    assert known(track(RIGHT), track(LEFT)) == set()
    assert known(track(RIGHT, missed=HIDDEN), track(LEFT, missed=HIDDEN)) == set()
    far = [place + 40 for place in range(FRAMES_OF_CLIP)]
    assert known(track(far), track([200] * 30, missed=range(10, 20))) == set()


def half_mask(own):
    """A mask of the left half of the box while it is covered, and else of all of it."""
    values = np.zeros((20, 20), np.float32)
    values[:, : 10 if own.frame in HIDDEN else 20] = 1
    x = round(own.box.x) - 10
    return PackedMask.of(values, Box(x, 40, x + 20, 60))


SIGNS = {
    "confidence": {"confidence": in_meeting(0.4, 0.9)},
    "looks": {"unlike": in_meeting(0.3, 0.05)},
    "mask": {"mask": half_mask},
    "found": {"found": lambda own: replace(own.box, width=in_meeting(11.0, 20.0)(own))},
}


@pytest.mark.parametrize("name", SIGNS)
def test_other_signs_tell_it_too(name):
    usual = {"confidence": lambda _: 0.9, "unlike": lambda _: 0.05}
    assert known(track(RIGHT, **usual), track(LEFT, **{**usual, **SIGNS[name]})) == {(1, 0)}
    both = track(RIGHT, **{**usual, **SIGNS[name]}), track(LEFT, **{**usual, **SIGNS[name]})
    assert known(*both) == set()


def test_the_order_is_the_same_in_all_frames_of_a_meeting():
    """The nearer one is missed once, too, while the other one is found."""
    found = orders(track(RIGHT, missed=[14]), track(LEFT, missed=[12, 13, 15, 16, 17, 18]))
    assert {frozenset(pairs) for pairs in found if pairs} == {frozenset({(1, 0)})}


def twice(*, first, second):
    """Two things that meet in the frames around 15 and around 45."""
    places = [90 + 2 * frame for frame in range(30)] + [150 - 2 * frame for frame in range(30)]
    later = [frame + 30 for frame in HIDDEN]
    missed = ([], [])
    for own, frames in ((first, HIDDEN), (second, later)):
        if own is not None:
            missed[own].extend(frames)
    return orders(
        track(places, missed=missed[0]), track([240 - x for x in places], missed=missed[1]),
        frames=60,
    )  # fmt: skip


def test_each_meeting_has_its_own_order():
    found = twice(first=1, second=0)
    assert set().union(*found[:28]) == {(1, 0)}
    assert set().union(*found[32:]) == {(0, 1)}


@pytest.mark.parametrize(("first", "second"), [(1, None), (None, 1)])
def test_a_meeting_that_tells_nothing_has_the_order_of_the_other_one(first, second):
    assert set().union(*twice(first=first, second=second)) == {(1, 0)}


def test_a_part_of_a_thing_is_not_behind_it():
    """A face that is sometimes missed, in the box of its person."""
    face = track(RIGHT, missed=[3, 4, 5, 11, 12, 20])
    person = track(RIGHT, side=60, label="person")
    assert known(face, person) == set()


def test_tracks_that_end_where_something_covers_them_are_behind_it():
    parts = track(LEFT[:14]), track(LEFT[17:], first=17)
    assert known(track(RIGHT), *parts) == {(1, 0), (2, 0)}
    assert known(track(RIGHT), parts[0], cuts=(14,)) == set()


def test_three_at_one_place():
    still = track([120] * 30, missed=range(12, 19))
    found = known(track(RIGHT), track(LEFT, missed=HIDDEN), still)
    assert found >= {(1, 0), (2, 0)}
    assert not found & {(0, 1), (0, 2)}


# How much is seen


def test_the_share_that_is_seen():
    occlusions = Occlusions.of(
        Tracks(SIZE, FRAMES_OF_CLIP, (track(RIGHT), track(LEFT, missed=HIDDEN)))
    )
    seen = occlusions.partly_seen(1)
    assert list(seen) == list(range(11, 20))
    assert occlusions.partly_seen(0) == {}
    assert seen[15] == pytest.approx(0.0, abs=0.04)
    assert [seen[15 - n] for n in range(1, 5)] == pytest.approx(
        [seen[15 + n] for n in range(1, 5)], abs=0.01
    )
    # Two circles of the radius 10 whose centres are 8 pixels apart: 1 - 0.505.
    assert seen[13] == pytest.approx(0.495, abs=0.01)


@pytest.mark.parametrize("side", [10, 64, 400])
def test_the_share_that_is_seen_does_not_depend_on_the_size(side):
    own, other = (
        Sighting(0, Rect(300 + by * side, 300, side, side), Rect(300, 300, side, side))
        for by in (0, 0.4)
    )
    assert seen_share(own, Met({0: other})) == pytest.approx(0.495, abs=0.02)


def test_results_fade_with_the_share_that_is_seen():
    shares = (0.0, 0.2, 0.35, 0.5, 1.0)
    assert [visibility(share) for share in shares] == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_mask_that_is_smaller_than_usual_has_lost_what_is_hidden():
    own = Sighting(0, Rect(10, 10, 10, 10), Rect(10, 10, 20, 20),
                   mask=PackedMask.of(np.ones((4, 10), np.float32), Box(5, 5, 15, 9)))  # fmt: skip
    assert seen_share(own, ALONE) == 1
    assert seen_share(own, ALONE, fill=0.8) == pytest.approx(0.5)


# Masks


def boxes(apart):
    return [
        Sighting(0, Rect(20 + own, 20, 16, 16), Rect(20, 20, 32, 32)) for own in (0.0, float(apart))
    ]


def test_a_box_hides_what_its_ellipse_covers():
    near, _ = boxes(0)
    cover = cover_in(near, Box(12, 12, 28, 28))
    assert cover[8, 8] == 1
    assert cover[0, 0] == cover[1, 2] == 0
    assert cover[0, 7] > 0.9  # where it touches the box
    assert cover.sum() == pytest.approx(np.pi * 64, abs=1.5)
    assert np.array_equal(cover, cover[::-1])
    assert np.array_equal(cover, cover.T)


def test_masks_of_things_that_meet_have_no_pixel_in_common():
    near, far = boxes(6)
    region = Box(0, 0, 48, 40)
    top = parted_mask_in(near, Met(behind={1: far}), region)
    below = parted_mask_in(far, Met(nearer={0: near}), region)
    either = np.maximum(mask_in(near, region), mask_in(far, region))
    assert (top + below).max() <= 1 + 1e-6
    assert np.allclose(top + below, either, atol=0.26)  # at the edge of the ellipse
    assert (top[cover_in(near, region) == 1] == 1).all()
    assert (below[20, 20], below[20, 32]) == (0, 1)
    assert (top[13, 27], below[13, 27]) == (0, 1)  # a corner of the nearer box
    faded = parted_mask_in(near, Met(behind={1: far}, shown={1: 0.25}), region)
    assert faded[13, 27] == 0.75
    assert np.array_equal(parted_mask_in(near, ALONE, region), mask_in(near, region))


def test_masks_say_themselves_what_they_hide():
    near, far = boxes(6)
    values = np.ones((16, 4), np.float32)
    near = replace(near, mask=PackedMask.of(values, Box(20, 12, 24, 28)))
    region = Box(0, 0, 48, 40)
    top = parted_mask_in(near, Met(behind={1: far}), region)
    assert np.array_equal(top, mask_in(near, region))
    below = parted_mask_in(far, Met(nearer={0: near}), region)
    assert below.sum() == 16 * 16 - 16 * 4


@pytest.mark.parametrize("form", [CLIPS, FRAMES])
def test_segments_of_tracks_that_meet_are_parted(form):
    tracks = Tracks(SIZE, FRAMES_OF_CLIP, (track(RIGHT), track(LEFT, missed=HIDDEN, number=1)))
    _, segs = to_segs(tracks, form)
    whole = np.zeros((FRAMES_OF_CLIP, 2, 100, 240), np.float32)
    for seg in segs:
        x1, y1, x2, y2 = seg.crop_region
        if form == CLIPS:
            own = 0 if seg is segs[0] else 1
            whole[:, own, y1:y2, x1:x2] = seg.cropped_mask
        else:
            frame = seg.batch_image.index
            own = int(abs((x1 + x2) / 2 - RIGHT[frame]) > abs((x1 + x2) / 2 - LEFT[frame]))
            whole[frame, own, y1:y2, x1:x2] = seg.cropped_mask
    assert whole.sum(1).max() <= 1 + 1e-6
    areas = whole[:, 1].sum((1, 2))
    assert areas[[0, 5, 29]] == pytest.approx(400)
    assert (areas[[14, 15, 16]] == 0).all()  # most of it is hidden
    assert 100 < areas[12] < 400
    assert whole[15, 0].sum() == pytest.approx(400)


def test_the_text_of_tracks_says_who_is_behind_whom():
    tracks = Tracks(SIZE, FRAMES_OF_CLIP, (track(RIGHT), track(LEFT, missed=HIDDEN, number=1)))
    _, first, second = tracks_text(tracks).splitlines()
    assert first.endswith("20-20 px")
    assert second.endswith("5 bridged, 9 behind 1")
