"""core/tracks/people.py: which person each track shows."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from detailers.core.clips import HeldFrames, Watch
from detailers.core.geometry import Rect, Size
from detailers.core.segs.people import Naming, Persons
from detailers.core.tracks.people import assign_tracks, label_by_person
from detailers.core.tracks.track import Sighting, Track, Tracks
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = Size(64, 40)
COLOURS = {"Ada": (0.9, 0.1, 0.1), "Ben": (0.1, 0.9, 0.1), "Cyd": (0.1, 0.1, 0.9)}


class Eye:
    """An embedder that sees the mean colour."""

    size = Size(8, 8)

    def embed(self, pictures):
        return pictures.mean((1, 2)) - 0.2


def persons(*names):
    pictures = torch.stack([torch.tensor(COLOURS[name]).expand(12, 12, 3) for name in names])
    return Persons(pictures, names, [None] * len(names))


def scene(*things, count=12):
    """Frames and tracks of coloured things: (colours by frame, x, frames)."""
    frames = torch.full((count, SIZE.height, SIZE.width, 3), 0.5)
    tracks = []
    for number, (colours, x, seen) in enumerate(things):
        box = Rect(x, 20, 12, 12)
        for place, frame in enumerate(seen):
            colour = torch.tensor(COLOURS[colours[place % len(colours)]])
            frames[frame, 14:26, x - 6 : x + 6] = colour
        tracks.append(
            Track(number, "face", tuple(Sighting(n, box, box, found=box) for n in seen), number)
        )
    return HeldFrames(frames), Tracks(SIZE, count, tuple(tracks))


def named(source, tracks, known, threshold=0.8, unknown="unknown"):
    result, rows, faces = label_by_person(
        tracks, source, known, Eye(), Naming(threshold, unknown, 0.0)
    )
    assert len(faces) == len(known.each) and len(rows) == len(tracks.tracks)
    return [track.label for track in result.tracks]


def test_tracks_get_the_names_of_persons_and_change_in_nothing_else():
    source, tracks = scene((["Ben"], 14, range(12)), (["Ada"], 44, range(12)))
    result, rows, _ = label_by_person(
        tracks, source, persons("Ada", "Ben"), Eye(), Naming(0.8, "unknown", 0.0)
    )
    assert [track.label for track in result.tracks] == ["Ben", "Ada"]
    assert [track.sightings for track in result.tracks] == [
        track.sightings for track in tracks.tracks
    ]
    assert rows[0].person == 1 and rows[0].scores[1] == pytest.approx(1, abs=1e-4)
    assert rows[0].seen.shape == (8, 8, 3)


def test_the_bar_counts_frames_that_are_looked_at_and_comparing_can_be_stopped():
    source, tracks = scene((["Ben"], 14, range(12)), (["Ada"], 44, range(12)))
    totals, values = [], []

    def begin(total):
        totals.append(total)
        return lambda done, *_: values.append(done)

    def stop():
        if len(values) == 14:  # among those that vote
            raise InterruptedError

    own = tracks, source, persons("Ada", "Ben"), Eye(), Naming(0.8, "unknown", 0.0)
    label_by_person(*own, Watch(progress=begin))
    assert totals == [24] and values == list(range(1, 25))
    values.clear()
    with pytest.raises(InterruptedError):
        label_by_person(*own, Watch(stop, begin))
    assert values == list(range(1, 15))


def test_a_person_who_comes_back_has_two_tracks_of_one_name():
    source, tracks = scene((["Ada"], 14, range(5)), (["Ada"], 44, range(7, 12)))
    assert named(source, tracks, persons("Ada", "Ben")) == ["Ada", "Ada"]


def test_two_tracks_in_one_frame_are_never_one_person():
    source, tracks = scene((["Ada"], 14, range(12)), (["Ada"], 44, range(11, 12)))
    assert named(source, tracks, persons("Ada")) == ["Ada", "unknown"]
    assert named(source, tracks, persons("Ada"), unknown="") == ["Ada", "face"]


def test_the_frames_of_a_track_vote():
    colours = ["Ada", "Ada", "Ben", "Ada"]  # some frames look like another person
    source, tracks = scene((colours, 14, range(12)))
    assert named(source, tracks, persons("Ada", "Ben"), threshold=0.3) == ["Ada"]


def test_strangers_and_things_outside_of_the_frame_are_nobody():
    source, tracks = scene((["Cyd"], 14, range(12)))
    assert named(source, tracks, persons("Ada", "Ben"), unknown="stranger") == ["stranger"]
    box = Rect(-40, 20, 12, 12)
    outside = Tracks(SIZE, 12, (Track(0, "face", (Sighting(0, box, box, found=box),)),))
    assert named(source, outside, persons("Ada"), threshold=-1.0) == ["unknown"]
    assert named(source, Tracks(SIZE, 12), persons("Ada")) == []


def test_tracks_without_confidence_are_compared_too():
    source, tracks = scene((["Ben"], 14, range(12)))
    (track,) = tracks.tracks
    sightings = tuple(replace(one, confidence=0.0) for one in track.sightings)
    unsure = replace(tracks, tracks=(replace(track, sightings=sightings),))
    assert named(source, unsure, persons("Ada", "Ben")) == ["Ben"]


def test_frames_of_another_size_show_the_same_things():
    source, tracks = scene((["Ben"], 14, range(12)), (["Ada"], 44, range(12)))
    frames = source.read(0, 12)
    twice = frames.repeat_interleave(2, 1).repeat_interleave(2, 2)
    for other in (twice, frames[:, ::2, ::2]):
        result, _, _ = label_by_person(
            tracks, HeldFrames(other), persons("Ada", "Ben"), Eye(), Naming(0.8, "unknown", 0.0)
        )
        assert [track.label for track in result.tracks] == ["Ben", "Ada"]
        assert result.size == tracks.size
        assert [track.sightings for track in result.tracks] == [
            track.sightings for track in tracks.tracks
        ]


@pytest.mark.parametrize("count", [5, 24])
def test_another_number_of_frames_is_an_error(count):
    source, tracks = scene((["Ben"], 14, range(12)))
    other = HeldFrames(source.read(0, 12).repeat(2, 1, 1, 1)[:count])
    with pytest.raises(ValueError, match=f"a clip of 12 frames, but the clip has {count}"):
        named(other, tracks, persons("Ben"))


def test_the_name_of_strangers_is_no_name_of_a_person():
    source, tracks = scene((["Ada"], 14, range(3)))
    with pytest.raises(ValueError, match="'unknown_label' is 'ada'"):
        named(source, tracks, persons("Ada"), unknown="ada")


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_names_are_given_in_the_best_of_all_ways(seed, count, people):
    random = np.random.default_rng(seed)
    scores = random.uniform(-0.2, 1, (count, people))
    lengths = random.integers(1, 60, count)
    spans = np.sort(random.integers(0, 20, (count, 2)), axis=1)
    together = []
    for first, _ in spans:
        group = [i for i, (start, end) in enumerate(spans) if start <= first <= end]
        together += [group] if len(group) > 1 else []

    def gain(way):
        fits = all(
            len(own) == len(set(own))
            for own in ([way[i] for i in group if way[i] is not None] for group in together)
        )
        good = all(p is None or scores[i, p] >= 0.4 for i, p in enumerate(way))
        if not (fits and good):
            return -1
        return sum(
            (scores[i, p] - 0.4) * lengths[i] ** 0.5 for i, p in enumerate(way) if p is not None
        )

    best = max(map(gain, itertools.product([None, *range(people)], repeat=count)))
    found = assign_tracks(scores, lengths, together, 0.4)
    assert gain(found) == pytest.approx(best, abs=1e-4)
    assert found == assign_tracks(scores, lengths, together, 0.4)
