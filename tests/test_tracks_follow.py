"""core/tracks/follow.py: tracks of things with known paths, from poor finds."""

import weakref
from functools import cache

import numpy as np
import pytest
import torch
from detailers.core.clips import HeldFrame, HeldFrames, Watch
from detailers.core.geometry import Rect, Size
from detailers.core.tracks import crossings
from detailers.core.tracks.association import Linking
from detailers.core.tracks.crossings import untangled
from detailers.core.tracks.finds import Find
from detailers.core.tracks.follow import Choosing, Clip, Following, follow
from detailers.core.tracks.windows import Shaping
from detailers.utils.notes import collected_notes

from .tracks_scenes import FRAME, along, drawn, finder, jittered, window_jitter

COUNT = 40
TIME = np.arange(COUNT)
PATHS = {
    "constant velocity": lambda size: along(60 + 2.3 * TIME, 70 + 0.4 * TIME, size),
    "walking": lambda size: along(
        60 + 2.1 * TIME, 90 + 0.05 * size * np.sin(2 * np.pi * TIME / 14), size
    ),
    "turning": lambda size: along(
        150 + 50 * np.cos(TIME / 9), 90 + 20 * np.sin(TIME / 9), size * (1 + 0.004 * TIME)
    ),
}


@cache
def crossing_frames(name, alike):
    paths = CROSSINGS[name]
    return drawn(paths, FRAME, [5] * len(paths) if alike else None)


def tracks_of(frames, finds, **how):
    return follow(Clip.of(HeldFrames(frames)), finder(finds), Following(**how))


@pytest.mark.parametrize("size", [24, 60])
@pytest.mark.parametrize("name", PATHS)
def test_windows_follow_jittered_boxes_to_a_quarter_of_a_pixel(name, size):
    path = PATHS[name](size)
    finds, _ = jittered([path])
    (track,) = tracks_of(drawn([path], FRAME), finds).tracks
    assert window_jitter(track, path) <= 0.25
    assert {one.window.width / one.window.height for one in track.sightings} == {1.0}
    widths = np.log([one.window.width for one in track.sightings])
    assert np.abs(np.diff(widths - np.log(path[track.first : track.last + 1, 2]))).max() < 0.01


def test_without_pixels_boxes_are_smoothed_as_far_as_noise_allows():
    path = along(20 + 1.1 * np.arange(96), 40 + 0.3 * np.arange(96), 20)
    finds, _ = jittered([path])
    result = follow(Clip(96, Size(200, 120)), finder(finds), Following())
    assert window_jitter(result.tracks[0], path) <= 0.25
    raw = Following(shaping=Shaping(centre_frames=1, size_frames=1))
    unsmoothed = follow(Clip(96, Size(200, 120)), finder(finds), raw)
    assert window_jitter(unsmoothed.tracks[0], path) > 0.5


CROSSINGS = {
    "two": [along(50 + 5.4 * TIME, 92, 44), along(270 - 5.4 * TIME, 100, 44)],
    "three": [
        along(50 + 5.4 * TIME, 92, 44), along(270 - 5.4 * TIME, 100, 44),
        along(160, 20 + 4 * TIME, 44),
    ],
    "one that overtakes": [along(60 + 2 * TIME, 92, 44), along(20 + 6 * TIME, 100, 44)],
}  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("alike", [False, True], ids=["unlike", "alike"])
@pytest.mark.parametrize("name", CROSSINGS)
def test_nothing_is_mistaken_for_another_thing_that_it_crosses(name, alike, seed):
    paths = CROSSINGS[name]
    finds, owners = jittered(paths, seed)
    hidden = [  # a thing is not found while a nearer one covers it
        [
            find
            for find in own
            if not any(
                nearer > owners[id(find)]
                and np.hypot(*(paths[nearer][frame, :2] - paths[owners[id(find)]][frame, :2])) < 20
                for nearer in range(len(paths))
            )
        ]
        for frame, own in enumerate(finds)
    ]
    result = tracks_of(
        crossing_frames(name, alike), hidden, choosing=Choosing(order="first seen"),
        shaping=Shaping(measured=False),
    )  # fmt: skip
    assert len(result.tracks) == len(paths)
    places = {find.box: owners[id(find)] for own in hidden for find in own}
    for track in result.tracks:
        assert len({places[one.found] for one in track.sightings if one.found}) == 1


@pytest.mark.parametrize("seed", [24, 26])
def test_things_that_are_missed_while_they_cross_end_a_track(seed):
    finds, _ = jittered(CROSSINGS["two"], seed)
    how = Following(Linking(max_gap=0), choosing=Choosing(min_frames=1))
    tracks = follow(Clip(len(TIME), FRAME), finder(finds), how).tracks
    assert sum(track.seen for track in tracks) == sum(map(len, finds))
    assert not any(one.gap for track in tracks for one in track.sightings)


def test_what_is_found_only_while_others_cross_is_a_thing_of_its_own():
    def found(frame, x, y):
        return Find(frame, Rect(x, y, 20.0, 20.0), "face")

    there = [found(t, 10.0 + 4 * t, 50.0) for t in range(21)]
    back = [found(t, 90.0 - 4 * t, 50.0) for t in range(21)]
    mistaken = [there[:11] + back[11:], back[:11] + there[11:]]
    false = [found(10, 52.0, 60.0), found(11, 52.0, 60.0)]
    assert untangled([*mistaken, false]) == [there, back, false]


def test_only_things_that_share_frames_are_compared(monkeypatch):
    compared = []
    real = crossings._spans_of
    monkeypatch.setattr(crossings, "_spans_of", lambda *pair: compared.append(pair) or real(*pair))
    chains = [
        [Find(frame, Rect(10.0, 10.0, 8.0, 8.0), "face") for frame in (2 * place, 2 * place + 1)]
        for place in range(400)
    ]
    beside = [Find(frame, Rect(90.0, 10.0, 8.0, 8.0), "face") for frame in range(10)]
    assert untangled([*chains, beside]) == [*chains, beside]
    assert len(compared) == 5


def test_nothing_is_smoothed_across_a_cut():
    before, after = along(60 + 2 * TIME, 70, 40), along(230 - 2 * TIME, 110, 40)
    cut = COUNT // 2
    path = np.concatenate([before[:cut], after[cut:]])
    frames = torch.cat([drawn([before[:cut]], FRAME), drawn([after[cut:]], FRAME, [8], behind=3)])
    finds, _ = jittered([path], dropped=0)
    whole = tracks_of(frames, finds)
    assert whole.cuts == (cut,)
    assert [(track.first, track.last) for track in whole.tracks] == [(0, 19), (20, 39)]
    alone = tracks_of(frames[:cut], finds[:cut])
    assert whole.tracks[0].sightings == alone.tracks[0].sightings  # nothing of the other shot is in
    assert tracks_of(frames, finds, cut_threshold=1.0).cuts == ()


def test_gaps_are_bridged_and_marked_and_longer_ones_end_a_track():
    path = along(60 + 2 * TIME, 90, 40)
    finds, _ = jittered([path], jitter=0, dropped=0)
    for frame in (10, 11, 12):
        finds[frame] = []
    frames = drawn([path], FRAME)
    (track,) = tracks_of(frames, finds, linking=Linking(max_gap=3)).tracks
    assert [one.frame for one in track.sightings if one.gap] == [10, 11, 12]
    assert all((one.found is None) == one.gap for one in track.sightings)
    assert track.seen == COUNT - 3
    assert track.at(11).box.x == pytest.approx(82, abs=0.3)
    assert len(tracks_of(frames, finds, linking=Linking(max_gap=2)).tracks) == 2


def found_between(first, last, jitter=0.0):
    """A thing on a path, and finds of it in these frames alone."""
    path = along(60 + 2 * TIME, 90, 40)
    finds, _ = jittered([path], jitter=jitter, dropped=0)
    return path, [own if first <= frame <= last else [] for frame, own in enumerate(finds)]


def test_what_a_detector_misses_at_the_ends_of_a_clip_is_followed_in_the_pixels():
    path, finds = found_between(2, COUNT - 4)
    (track,) = tracks_of(drawn([path], FRAME), finds).tracks
    assert (track.first, track.last) == (0, COUNT - 1)
    at_ends = [one for one in track.sightings if not 2 <= one.frame <= COUNT - 4]
    assert [one.frame for one in at_ends] == [0, 1, COUNT - 3, COUNT - 2, COUNT - 1]
    assert all(one.gap and one.found is None for one in at_ends)
    for one in at_ends:
        assert (one.box.x, one.box.y) == pytest.approx(path[one.frame, :2], abs=0.5)


def test_a_thing_that_moves_off_its_line_where_it_is_missed_is_still_followed():
    path, finds = found_between(0, COUNT - 4, jitter=0.05)
    path[-3:, 1] += (3, 6, 9)  # it suddenly goes down
    (track,) = tracks_of(drawn([path], FRAME), finds).tracks
    assert track.last == COUNT - 1
    assert track.at(COUNT - 1).box.y == pytest.approx(99, abs=2)


def test_a_thing_that_is_gone_at_the_end_of_a_clip_is_not_followed_further():
    path, finds = found_between(1, COUNT - 4)
    path[0] = path[-3:] = np.nan
    (track,) = tracks_of(drawn([path], FRAME), finds).tracks
    assert (track.first, track.last) == (1, COUNT - 4)


def test_a_thing_that_another_one_covers_at_the_end_is_not_followed_further():
    path, finds = found_between(0, COUNT - 4)
    nearer = along(path[-3, 0] - 4 * (COUNT - 3 - TIME), 90, 44)
    others, _ = jittered([nearer], jitter=0, dropped=0)
    both = [own + other for own, other in zip(finds, others, strict=True)]
    tracks = tracks_of(drawn([path, nearer], FRAME), both).tracks
    assert sorted(track.last for track in tracks) == [COUNT - 4, COUNT - 1]


@pytest.mark.parametrize(
    "how",
    [{"may_miss": False}, {"linking": Linking(max_gap=2)}, {"shaping": Shaping(measured=False)}],
    ids=["exact finds", "max_gap", "nothing measured"],
)
def test_a_track_ends_with_its_finds_where_it_may_not_be_followed_further(how):
    path, finds = found_between(0, COUNT - 4)
    (track,) = tracks_of(drawn([path], FRAME), finds, **how).tracks
    assert track.last == COUNT - 4


def test_a_thing_that_is_missed_for_long_before_the_end_is_not_followed_further():
    path, finds = found_between(5, COUNT - 6)
    (track,) = tracks_of(drawn([path], FRAME), finds).tracks
    assert (track.first, track.last) == (5, COUNT - 6)


def test_what_is_missed_before_a_cut_is_followed_up_to_the_cut():
    path, finds = found_between(0, 17)
    frames = drawn([path], FRAME)
    frames[20:] = drawn([path], FRAME, [7], behind=42)[20:]
    result = tracks_of(frames, finds)
    assert result.cuts == (20,)
    (track,) = result.tracks
    assert (track.first, track.last) == (0, 19)


def test_short_tracks_are_dropped_with_a_note():
    path = along(60 + 2 * TIME, 90, 40)
    finds, _ = jittered([path], dropped=0)
    other, _ = jittered([along(250, 40, 30)], dropped=0)
    finds[7], finds[8] = finds[7] + other[7], finds[8] + other[8]
    with collected_notes() as notes:
        result = tracks_of(drawn([path], FRAME), finds)
    assert len(result.tracks) == 1
    (dropped,) = result.dropped
    assert (dropped.label, dropped.first, dropped.last) == ("face", 7, 8)
    assert dropped.reason == "found in 2 of at least 5 frames (min_frames)"
    assert any("face in frames 7-8" in one.text for one in notes)


def test_order_and_limit_choose_tracks():
    paths = [along(240, 90, 50), along(60 + TIME / 4, 60, 30), along(150, 120, 40)]
    finds, _ = jittered(paths, dropped=0)
    clip = Clip(COUNT, FRAME)
    for order, places in {
        "left to right": [60, 150, 240], "right to left": [240, 150, 60],
        "largest first": [240, 150, 60], "smallest first": [60, 150, 240],
        "top to bottom": [60, 240, 150],
    }.items():  # fmt: skip
        result = follow(clip, finder(finds), Following(choosing=Choosing(order=order)))
        xs = [track.at(0).box.x for track in result.tracks]
        assert np.allclose(xs, places, atol=2), order
        assert [track.number for track in result.tracks] == [0, 1, 2]
    with collected_notes() as notes:
        result = follow(clip, finder(finds), Following(choosing=Choosing(limit=1)))
    assert [round(track.at(0).box.x / 10) for track in result.tracks] == [6]
    assert {one.reason for one in result.dropped} == {
        "beyond the limit of 1 (limit, in the order 'left to right')"
    }
    assert len(notes) == 1


def test_labels_are_not_mixed_and_can_be_chosen():
    faces, _ = jittered([along(60 + 2 * TIME, 90, 40)], dropped=0)
    hands, _ = jittered([along(62 + 2 * TIME, 92, 40)], 1, dropped=0, label="hand")
    both = [one + other for one, other in zip(faces, hands, strict=True)]
    clip = Clip(COUNT, FRAME)
    result = follow(clip, finder(both), Following())
    assert sorted(track.label for track in result.tracks) == ["face", "hand"]
    assert all(track.seen == COUNT for track in result.tracks)
    only = follow(clip, finder(both), Following(labels="hand"))
    assert [track.label for track in only.tracks] == ["hand"]


def test_no_find_at_all_gives_no_track_and_a_note():
    frames = torch.rand(6, 20, 30, 3)
    with collected_notes() as notes:
        result = follow(Clip.of(HeldFrames(frames)), lambda number, picture: [], Following())
    assert (result.tracks, result.frames, result.size) == ((), 6, Size(30, 20))
    assert [one.kind for one in notes] == ["tracks"]
    assert "Nothing was found in 6 frames" in notes[0].text


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_frames_and_frames_with_alpha_are_followed(channels):
    path = along(60 + 2 * TIME, 90, 40)
    finds, _ = jittered([path])
    frames = drawn([path], FRAME)
    frames = {
        1: frames.mean(-1, keepdim=True), 3: frames,
        4: torch.cat([frames, torch.ones(*frames.shape[:3], 1)], -1),
    }[channels]  # fmt: skip
    (track,) = tracks_of(frames, finds).tracks
    assert window_jitter(track, path) <= 0.25


def test_a_clip_of_one_frame_and_a_track_of_one_frame():
    path = along([60.0], [90.0], 40)
    finds, _ = jittered([path], dropped=0)
    result = tracks_of(drawn([path], FRAME), finds)
    (track,) = result.tracks
    assert (track.first, track.last, track.seen) == (0, 0, 1)
    alone = [[]] * 5 + finds + [[]] * 5
    alone[5] = [type(finds[0][0])(5, finds[0][0].box, "face")]
    one = follow(Clip(11, FRAME), finder(alone), Following(choosing=Choosing(min_frames=1)))
    assert [(track.first, track.last) for track in one.tracks] == [(5, 5)]


def test_costs_of_many_pairs_are_those_of_each_pair_alone():
    from detailers.core.tracks.association import _NEVER, _Pairs, _Path

    random = np.random.default_rng(3)

    def find(frame, place):
        looks = None if place == 2 else random.uniform(0, 0.02, 6).astype(np.float32)
        box = Rect(*random.uniform(40, 60, 2), *random.uniform(20, 24, 2))
        return Find(frame, box, "hand" if place == 4 else "face", looks=looks)

    paths = [_Path(find(0, place)) for place in range(6)]
    for path in paths:
        path.predict(2)
    finds = [find(2, place) for place in range(5)]
    for costs_of in (_Pairs.costs, _Pairs.leap_costs):
        costs = costs_of(_Pairs.of(paths, finds))
        alone = [[costs_of(_Pairs.of([path], [own])).item() for own in finds] for path in paths]
        np.testing.assert_allclose(costs, alone, rtol=1e-5)
        assert (costs[4, :4] == _NEVER).all() and (costs[:4, 4] == _NEVER).all()  # other labels
        assert costs[4, 4] < _NEVER and (costs[:4, :4] < _NEVER).mean() > 0.5


class Copied(HeldFrames):
    """Frames of which each slice is a copy, as those of a file are; `alive` are still held."""

    def __init__(self, frames):
        super().__init__(frames)
        self.alive, self.most = weakref.WeakSet(), 0

    def read(self, start, stop):
        self.most = max(self.most, len(self.alive) + 1)
        frames = super().read(start, stop).clone()
        self.alive.add(frames)
        return frames


def test_one_slice_of_frames_is_held_at_a_time():
    path = PATHS["walking"](30)
    source = Copied(drawn([path], FRAME))
    assert len(follow(Clip.of(source), finder(jittered([path])[0]), Following()).tracks) == 1
    assert source.most == 1


def test_the_looks_of_all_finds_are_kept_in_few_blocks():
    path = PATHS["walking"](30)
    kept = []
    finds, _ = jittered([path])

    def linked(frames, how):
        kept.extend(find.looks for own in frames for find in own)
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detailers.core.tracks.follow.linked", linked)
        tracks_of(drawn([path], FRAME), finds)
    assert len(kept) == sum(map(len, finds)) > 30
    assert len({id(looks.base) for looks in kept}) == 1
    assert len({looks.tobytes() for looks in kept}) > 20  # each is its own


class Bar:
    """The values that a progress bar gets."""

    def __init__(self):
        self.total, self.values = None, []

    def begin(self, total):
        self.total = total
        return lambda done, model, latent: self.values.append(done)


@pytest.mark.parametrize("measured", [True, False])
def test_the_bar_counts_frames_that_are_searched_and_measured(measured):
    path, bar = PATHS["walking"](30), Bar()
    shaping = Shaping(measured=measured)
    clip, own = Clip.of(HeldFrames(drawn([path], FRAME))), finder(jittered([path])[0])
    follow(clip, own, Following(shaping=shaping), Watch(progress=bar.begin))
    assert bar.total == COUNT * (2 if measured else 1)
    assert bar.values == sorted(bar.values)
    assert set(range(1, COUNT + 1)) <= set(bar.values)
    assert bar.values[-1] == bar.total
    assert all(later - value <= 8 for value, later in zip(bar.values, bar.values[1:], strict=False))


def test_the_bar_ends_where_nothing_is_found():
    bar = Bar()
    clip = Clip.of(HeldFrames(torch.rand(5, 16, 16, 3)))
    with collected_notes():
        follow(clip, lambda number, frame: [], Following(), Watch(progress=bar.begin))
    assert bar.values[-1] == bar.total == 10


@pytest.mark.parametrize("stopped", [0, 7, COUNT, COUNT + 3, 2 * COUNT - 8])
def test_work_stops_between_frames_in_both_passes(stopped):
    path, bar = PATHS["walking"](30), Bar()

    def check():
        if bar.values and bar.values[-1] >= stopped:
            raise InterruptedError

    watch = Watch(check, bar.begin)
    clip, own = Clip.of(HeldFrames(drawn([path], FRAME))), finder(jittered([path])[0])
    with pytest.raises(InterruptedError):
        follow(clip, own, Following(), watch)
    assert bar.values[-1] < stopped + 8


def test_a_crowd_is_measured_a_few_pairs_at_a_time(monkeypatch):
    from detailers.core.tracks import links

    asked = []

    def motions(pairs):
        asked.append(len(pairs))
        return [pair.start for pair in pairs]

    monkeypatch.setattr(links, "motions", motions)
    frames = [HeldFrame(torch.rand(1, 40, 200, 3))] * 8
    things = [links.Links(0, [Rect(20.0 * k + 10, 20, 12, 12)] * 8) for k in range(9)]
    links.measure(things, frames, 0)
    assert max(asked) <= links.AT_ONCE
    assert sum(asked) == 9 * (7 + 6 + 4)


def test_a_clip_is_read_in_slices_and_the_result_does_not_depend_on_them(monkeypatch):
    path = PATHS["walking"](30)
    finds, _ = jittered([path])
    frames = drawn([path], FRAME)

    class Source(HeldFrames):
        longest = 0

        def read(self, start, stop):
            Source.longest = max(Source.longest, stop - start)
            return super().read(start, stop)

    from detailers.core.tracks import follow as module

    whole = follow(Clip.of(Source(frames)), finder(finds), Following())
    assert 1 < Source.longest <= 17
    monkeypatch.setattr(module, "SLICE", 3)
    Source.longest = 0
    sliced = follow(Clip.of(Source(frames)), finder(finds), Following())
    assert Source.longest <= 4
    for one, other in zip(whole.tracks[0].sightings, sliced.tracks[0].sightings, strict=True):
        assert one.window.x == pytest.approx(other.window.x, abs=1e-4)
    again = follow(Clip.of(Source(frames)), finder(finds), Following())
    assert again == sliced


def test_large_frames_are_read_fewer_at_a_time():
    from detailers.core.tracks.follow import SLICE, SLICE_VALUES, _slices

    for size, most in ((Size(64, 48), SLICE), (Size(1920, 1080), 5), (Size(7680, 4320), 1)):
        slices = list(_slices(20, size))
        assert max(map(len, slices)) == most
        assert [number for each in slices for number in each] == list(range(20))
        assert most == 1 or most * 3 * size.width * size.height <= SLICE_VALUES


class AsCoded(HeldFrames):
    """Frames that the source holds in a form of its own; it knows which boxes were looked at."""

    def __init__(self, frames):
        super().__init__(frames)
        self.boxes = []

    def frame(self, number):
        source = self

        class Noted(HeldFrame):
            def part(self, box):
                source.boxes.append(box)
                return super().part(box)

        return Noted(self.read(number, number + 1))


def test_motion_is_measured_in_the_parts_around_things_alone():
    path = PATHS["walking"](20)
    frames, (finds, _) = drawn([path], FRAME), jittered([path])
    source = AsCoded(frames)
    tracks = follow(Clip.of(source), finder(finds), Following())
    assert tracks == follow(Clip.of(HeldFrames(frames)), finder(finds), Following())
    assert len(source.boxes) >= 18
    assert max(box.area for box in source.boxes) < 0.5 * FRAME.width * FRAME.height
