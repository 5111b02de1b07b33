"""The measures of the video bench on cases with known answers."""

from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
from detailers.core.geometry import Rect, Size
from detailers.core.tracks.track import Sighting, Track, Tracks
from detailers.dev.known_clip import KnownClip, flicker_inside, psnr_inside
from detailers.dev.miniature.clips import detections, draw_clip

LENGTH, SIZE = 16, (384, 216)


@pytest.fixture(scope="module", autouse=True)
def bench(bench_module):
    names = {"shown": "video", "clips": "video_clips", "tracks": "video_tracks"}
    return SimpleNamespace(**{name: bench_module(own) for name, own in names.items()})


@lru_cache
def clip(name):
    return draw_clip(name, LENGTH, SIZE)


def true_tracks(one, found, shift=lambda frame: (0.0, 0.0), joined=()):
    """Tracks with the true heads as windows, and what was found as boxes.

    Args:
        shift: of the windows in each frame.
        joined: pairs of persons; the second one's frames after the middle go to the first.
    """
    sightings = {person: [] for person in one.persons}
    takes = dict(joined)
    for frame, heads in enumerate(found):
        for head in heads:
            left, top, right, bottom = one.head(head.person, frame)
            dx, dy = shift(frame)
            window = Rect.of_box((left + dx, top + dy, right + dx, bottom + dy))
            owner = takes.get(head.person, head.person) if frame >= LENGTH // 2 else head.person
            sightings[owner].append(Sighting(frame, Rect.of_box(head.box), window))
    made = tuple(
        Track(number, "head", tuple(own)) for number, own in enumerate(sightings.values()) if own
    )
    return Tracks(Size(*SIZE), LENGTH, made, one.cuts)


def test_true_windows_have_no_unrest_and_an_even_shift_does_no_harm(bench):
    one = clip("walking")
    found = detections(one)
    measured = bench.tracks.measure_tracks(one, found, true_tracks(one, found))
    assert measured.wander == pytest.approx(0, abs=1e-9)
    assert measured.size_wander == pytest.approx(0, abs=1e-9)
    assert measured.switches == 0
    assert (measured.tracks, measured.appearances) == (2, 2)
    assert measured.step == pytest.approx(0, abs=1e-9)
    assert measured.off_path == pytest.approx(measured.bounds)  # these windows are the bounds
    assert 0.05 < measured.bounds < 0.6
    assert 0.5 < measured.raw < 3
    assert (
        1.2 < measured.raw_step / measured.raw < 1.6
    )  # of boxes that are off by up to a twentieth
    shifted = true_tracks(one, found, lambda frame: (7.0, -3.0))
    assert bench.tracks.measure_tracks(one, found, shifted).wander == pytest.approx(0, abs=1e-9)


def test_windows_that_shake_have_as_much_unrest(bench):
    one = clip("turning")
    found = detections(one, dropped=0)
    shaking = true_tracks(one, found, lambda frame: (1.5 * (-1) ** frame, 0.0))
    measured = bench.tracks.measure_tracks(one, found, shaking)
    assert measured.wander == pytest.approx(1.5)
    assert measured.step == pytest.approx(3)
    drifting = true_tracks(one, found, lambda frame: (0.2 * frame, 0.0))
    measured = bench.tracks.measure_tracks(one, found, drifting)
    assert measured.wander == pytest.approx(0.2 * np.std(np.arange(LENGTH)))
    assert measured.step == pytest.approx(0.2)  # hardly to be seen


def test_a_track_that_goes_on_with_another_person_is_a_switch(bench):
    one = clip("crossing")
    found = detections(one)
    right = bench.tracks.measure_tracks(one, found, true_tracks(one, found))
    wrong = true_tracks(one, found, joined={0: 1, 1: 0})
    assert right.switches == 0
    assert bench.tracks.measure_tracks(one, found, wrong).switches == 2


def test_people_appear_as_often_as_they_come_and_after_cuts(bench):
    count = bench.tracks.appearances
    assert count(clip("leaving and coming back")) == 2
    assert count(clip("cut")) == 3
    assert count(clip("crossing")) == 3


def test_windows_that_change_with_what_is_beyond_a_cut_are_told(bench):
    one = clip("cut")
    half = one.cuts[0]
    found = detections(one)
    whole = true_tracks(one, found)
    parts = []
    for first, last in ((0, half), (half, LENGTH)):
        tracks = [
            replace(track, sightings=tuple(
                replace(own, frame=own.frame - first)
                for own in track.sightings if first <= own.frame < last
            ))
            for track in whole.tracks
        ]  # fmt: skip
        parts.append(replace(whole, tracks=tuple(one for one in tracks if one.sightings)))
    assert bench.tracks.across_cut(one, whole, parts) == (0.0, 0)
    moved = true_tracks(one, found, lambda frame: (2.0 if frame == half else 0.0, 0.0))
    assert bench.tracks.across_cut(one, moved, parts) == (2.0, 0)
    first, second, third = whole.tracks
    across = replace(first, sightings=(*first.sightings, *third.sightings))
    joined = replace(whole, tracks=(across, second))
    assert bench.tracks.across_cut(one, joined, parts)[1] == 1


@pytest.fixture(scope="module")
def walking():
    one = clip("walking")
    truth = np.stack([one.truth(frame) for frame in range(LENGTH)])
    poor = np.stack([one.poor(frame) for frame in range(LENGTH)])
    return KnownClip(one, truth, poor, detections(one))


def test_psnr_counts_the_heads_alone(bench, walking):
    off = walking.truth + np.float32(0.1)
    assert psnr_inside(walking, off, (0, 1)) == pytest.approx(20, abs=1e-3)
    off[~walking.masks.any(0)] = 0
    assert psnr_inside(walking, off, (0, 1)) == pytest.approx(20, abs=1e-3)
    off[walking.masks[1]] = walking.truth[walking.masks[1]]
    assert psnr_inside(walking, off, (1,)) > 90
    assert psnr_inside(walking, off, (0,)) == pytest.approx(20, abs=1e-3)


def test_frames_that_flicker_do_so_more_than_the_truth(bench, walking):
    own = flicker_inside(walking, walking.truth)
    assert own < 12
    blinking = walking.truth.copy()
    blinking[::2] += np.float32(20 / 255)
    assert flicker_inside(walking, blinking) == pytest.approx(20, abs=own)
    assert flicker_inside(walking, blinking) > own + 5


def test_the_middle_of_a_clip_keeps_truth_and_cuts_together():
    one = clip("cut")
    numbered = np.broadcast_to(np.arange(LENGTH, dtype=np.float32)[:, None, None, None],
                               (LENGTH, 1, 1, 3))  # fmt: skip
    test = KnownClip(one, numbered, numbered, detections(one)).middle(6)
    assert len(test) == 6
    assert test.truth[:, 0, 0, 0].tolist() == [5, 6, 7, 8, 9, 10]
    assert test.clip.cuts == (3,)
    assert test.clip.head(0, 0) == one.head(0, 5)
    assert test.found == detections(one)[5:11]


def test_the_middle_of_a_clip_is_a_part_in_which_somebody_is():
    one = clip("leaving and coming back")
    blank = np.zeros((LENGTH, 1, 1, 3), np.float32)
    found = detections(one, dropped=0)
    assert not any(found[5:11])
    assert sum(map(bool, KnownClip(one, blank, blank, found).middle(6).found)) >= 2


class Nobody:
    """A clip of four frames in which nobody is."""

    def __len__(self):
        return 4

    def head(self, person, frame):
        return None


def test_a_walk_is_longer_than_a_head_and_standing_is_not(bench):
    assert bench.clips.path_in_heads(clip("walking"), 0) > 5
    assert bench.clips.path_in_heads(clip("walking"), 1) < 0.5
    assert bench.clips.path_in_heads(Nobody(), 0) == 0


def test_changes_where_nothing_should_change_are_told(bench):
    before = np.zeros((3, 20, 30, 3), np.float32)
    masks = np.zeros((3, 20, 30), np.float32)
    masks[:2, 8:12, 10:16] = 1
    after = before.copy()
    after[0, 6:14, 8:18] = 0.5  # two pixels around the mask
    assert bench.clips.change_beyond(before, after, masks, 2) == (0, 0, 1)
    assert bench.clips.change_beyond(before, after, masks, 1) == (0, 0.5, 1)
    after[2, 3, 3] = 0.25
    assert bench.clips.change_beyond(before, after, masks, 2) == (0.25, 0, 1)


def test_box_masks_have_rounded_sides(bench):
    mask = bench.clips.box_mask([(1.6, 2.4, 5.2, 4.5), (-3, 8.2, 1.4, 99)], (8, 10))
    assert mask.shape == (10, 8)
    assert mask[2:4, 2:5].all()
    assert mask[8:, :1].all()
    assert mask.sum() == 6 + 2


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        ([[1] * 12], [8, 9]),  # two after the middle
        ([[1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]], [5, 6]),
        ([[0.2, 0.2, 0.6, 0.7, 0.1, 0, 0, 0, 0, 0, 0, 0]], [2, 3]),  # nobody is seen as a whole
        ([[0] * 12, [0] * 12], [8, 9]),
    ],
)
def test_frames_are_shown_in_which_somebody_is_seen(bench, seen, shown):
    class Shown:
        def __len__(self):
            return 12

    test = Shown()
    test.seen = np.array(seen, float)
    assert bench.shown.frames_to_show(test) == shown
