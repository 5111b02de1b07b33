"""Whole runs over the tracks of clips."""

import gc
import json
import weakref
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from detailers.core.clips import CollectedFrames, HeldFrames
from detailers.core.detail.segment_plan import Curve, Overrides, Rule, SegmentPlan
from detailers.core.detail.selectors import read_selector
from detailers.core.detail.tracks import detail_tracks
from detailers.core.geometry import Box, Rect, Size
from detailers.core.settings import AUTO, NO_CROPS, OFF, Motion, Retry
from detailers.core.tracks.fitted import fitted_tracks
from detailers.core.tracks.track import PackedMask, Sighting, Track, Tracks
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeVAE,
    Interrupted,
    brighten,
    fake_models,
    fill,
    grain,
    identity,
    make_detail,
    masked,
    noise_image,
    state,
)
from detailers.utils.notes import collected_notes

PAINT = fill(0.75)
HEIGHT, WIDTH = 48, 64
SIZE = Size(WIDTH, HEIGHT)
PLAIN = Motion(smoothing=0.0)


def moving(frames=4, first=0, x=20.3, y=21.6, speed=1.7, side=8.0, factor=2.0, number=0, **more):
    """A track whose box moves to the right; its window is `factor` times as large."""
    sightings = []
    for place in range(frames):
        box = Rect(x + speed * place, y, side, side)
        window = Rect(box.x, box.y, side * factor, side * factor)
        sightings.append(Sighting(first + place, box, window, **more))
    return Track(number, "face", tuple(sightings))


def tracks_of(*tracks, frames=4, size=SIZE, **more):
    return Tracks(size, frames, tuple(tracks), **more)


def run(clip, tracks, draw=PAINT, motion=PLAIN, backend=None, **options):
    """The frames that come out, what `detail_tracks` gives, the backend and the notes."""
    backend = backend or FakeBackend(draw)
    sink = CollectedFrames(clip)
    options = {"batch": 0, "kept": NO_CROPS, **options}
    detail = make_detail(options.pop("models", None), **options)
    with collected_notes() as notes:
        done = detail_tracks(HeldFrames(clip), tracks, detail, motion, backend, sink)
    return sink.frames, done, backend, [note.text for note in notes]


def near(track, frame, grown=0.0):
    """[H,W] bool: the pixels that the box of a track touches."""
    left, top, right, bottom = track.at(frame).box.sides
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    inside = (x + 1 > left - grown) & (x < right + grown)
    return torch.from_numpy(inside & (y + 1 > top - grown) & (y < bottom + grown))


def flat(frames=4, value=0.25, channels=3):
    return torch.full((frames, HEIGHT, WIDTH, channels), value)


def changed(out, clip):
    """The frames that are not the same bits."""
    return [i for i in range(len(clip)) if not torch.equal(out[i], clip[i])]


# Pasting


def test_every_frame_is_redrawn_under_its_mask_and_nowhere_else():
    clip, track = noise_image(4, HEIGHT, WIDTH), moving()
    out, done, _, _ = run(clip, tracks_of(track))
    for frame in range(4):
        mask = near(track, frame)
        assert torch.equal(out[frame][~mask], clip[frame][~mask])
    assert changed(out, clip) == [0, 1, 2, 3]
    assert done.changed == 4


def test_the_inside_of_a_mask_takes_the_result():
    clip, track = flat(), moving()
    out, *_ = run(clip, tracks_of(track))
    for frame in range(4):
        x, y = int(track.at(frame).box.x), int(track.at(frame).box.y)
        middle = out[frame, y - 1 : y + 2, x - 1 : x + 2]
        assert torch.allclose(middle, torch.tensor(0.75), atol=0.03)


def test_a_side_of_a_box_inside_a_pixel_covers_it_in_part():
    box = Rect(20.25, 20.0, 8.5, 8.0)  # from 16 to 24.5
    track = Track(0, "face", (Sighting(0, box, Rect(20.25, 20.0, 16, 16)),))
    out, *_ = run(flat(1), tracks_of(track, frames=1), draw=fill(0.75), noise_mask=False)
    row = out[0, 20, :, 0]
    assert row[15] == 0.25
    assert row[20] == pytest.approx(0.75, abs=1e-4)
    assert row[24] == pytest.approx(0.5, abs=1e-4)
    assert row[25] == 0.25


def test_what_the_sampler_does_not_change_stays_to_the_bit():
    clip = noise_image(4, HEIGHT, WIDTH)
    out, *_ = run(clip, tracks_of(moving()), identity, motion=Motion(smoothing=1.0), feather=3)
    assert torch.equal(out, clip)


def test_the_windows_are_cut_at_their_sub_pixel_places():
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    clip = torch.stack([x / WIDTH, y / HEIGHT, x * 0], dim=-1)[None].repeat(4, 1, 1, 1)
    track = moving()
    _, _, backend, _ = run(clip, tracks_of(track))
    shown = torch.cat(backend.encoded)
    for frame in range(4):
        window = track.at(frame).window
        middle = shown[frame].mean(dim=(0, 1))
        assert float(middle[0]) * WIDTH == pytest.approx(window.x, abs=2e-3)
        assert float(middle[1]) * HEIGHT == pytest.approx(window.y, abs=2e-3)


def test_all_frames_of_a_track_have_one_size_one_seed_and_share_waves():
    first, second = moving(6), moving(6, x=16.2, y=36.4, number=1)
    _, done, backend, _ = run(noise_image(6, HEIGHT, WIDTH), tracks_of(first, second, frames=6))
    assert [len(run.latent) for run in backend.runs] == [12]
    noise = backend.runs[0].noise
    report = json.loads(done.report)
    assert [own["seed"] for own in report["segments"]] == [5, 6]
    assert all(torch.equal(noise[row], noise[0]) for row in range(0, 12, 2)) or all(
        torch.equal(noise[row], noise[0]) for row in range(6)
    )


def test_frames_that_nobody_is_in_are_the_same_bits():
    clip = noise_image(8, HEIGHT, WIDTH, channels=4)
    out, done, _, _ = run(clip, tracks_of(moving(3, first=2), frames=8), feather=4)
    assert changed(out, clip) == [2, 3, 4]
    assert done.changed == 3
    assert torch.equal(out[..., 3], clip[..., 3])


def test_a_window_that_leaves_the_frame_is_pasted_inside_only():
    clip, track = noise_image(4, HEIGHT, WIDTH), moving(x=WIDTH - 6.4, speed=3.3, factor=3.0)
    out, *_ = run(clip, tracks_of(track))
    assert out.shape == clip.shape
    assert changed(out, clip) == [0, 1, 2]  # in the last one the box is beyond the frame
    for frame in range(4):
        mask = near(track, frame)
        assert torch.equal(out[frame][~mask], clip[frame][~mask])


def test_a_window_that_has_left_the_frame_is_left_out():
    clip, track = noise_image(4, HEIGHT, WIDTH), moving(x=WIDTH - 2.4, speed=9.0)
    out, *_ = run(clip, tracks_of(track))
    assert changed(out, clip) == [0]


def test_a_window_larger_than_the_frame():
    clip, track = noise_image(2, HEIGHT, WIDTH), moving(2, x=30.2, factor=20.0)
    out, *_ = run(clip, tracks_of(track, frames=2))
    for frame in range(2):
        mask = near(track, frame)
        assert torch.equal(out[frame][~mask], clip[frame][~mask])
    assert changed(out, clip) == [0, 1]


def packed(values, x, y):
    height, width = values.shape
    return PackedMask.of(values, Box(x, y, x + width, y + height))


def test_masks_of_frames_say_what_is_pasted():
    clip = noise_image(2, HEIGHT, WIDTH)
    values = np.zeros((8, 8), np.float32)
    values[2:6, 3:5] = 1
    sightings = tuple(
        replace(own, mask=packed(values, 16 + own.frame, 18))
        for own in moving(2, x=20.0, y=22.0, speed=1.0).sightings
    )
    out, *_ = run(clip, tracks_of(Track(0, "face", sightings), frames=2))
    for frame in range(2):
        differs = (out[frame] != clip[frame]).any(dim=-1)
        rows, columns = differs.nonzero(as_tuple=True)
        assert (int(rows.min()), int(rows.max())) == (20, 23)
        assert (int(columns.min()), int(columns.max())) == (19 + frame, 20 + frame)


def test_a_frame_with_an_empty_mask_stays_and_tracks_of_empty_masks_are_skipped():
    clip = noise_image(3, HEIGHT, WIDTH)
    empty = packed(np.zeros((8, 8), np.float32), 16, 18)
    some = [replace(own, mask=empty if own.frame == 1 else None) for own in moving(3).sightings]
    out, *_ = run(clip, tracks_of(Track(0, "face", tuple(some)), frames=3))
    assert changed(out, clip) == [0, 2]
    none = tuple(replace(own, mask=empty) for own in some)
    out, done, backend, notes = run(clip, tracks_of(Track(0, "face", none), frames=3))
    assert torch.equal(out, clip)
    assert not backend.runs
    assert notes == ["track 1 skipped: its mask is empty"]
    assert json.loads(done.report)["segments"][0]["status"] == "skipped"


# Bad input


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("frames", [1, 3])
def test_clips_without_tracks_pass_through(frames, channels):
    clip = noise_image(frames, HEIGHT, WIDTH, channels)
    out, done, backend, notes = run(clip, tracks_of(frames=frames))
    assert torch.equal(out, clip)
    assert done.changed == 0
    assert not backend.runs
    assert notes == ["There are no tracks, so that the frames stay as they are."]
    assert json.loads(done.report)["segments"] == []


@pytest.mark.parametrize("motion", [PLAIN, Motion(smoothing=1.0)], ids=["plain", "smoothed"])
def test_a_clip_of_one_frame_and_a_track_of_one(motion):
    clip = noise_image(1, HEIGHT, WIDTH)
    alone, *_ = run(clip, tracks_of(moving(1), frames=1), motion=motion)
    assert changed(alone, clip) == [0]
    clip = noise_image(5, HEIGHT, WIDTH)
    out, *_ = run(clip, tracks_of(moving(1, first=3), frames=5), motion=motion)
    assert changed(out, clip) == [3]


def test_grey_frames_get_three_channels_all_of_them():
    clip = noise_image(3, HEIGHT, WIDTH, channels=1)
    out, *_ = run(clip, tracks_of(moving(1, first=1), frames=3))
    assert out.shape == (3, HEIGHT, WIDTH, 3)
    assert torch.equal(out[0], clip[0].expand(-1, -1, 3))
    assert changed(out, clip.expand(-1, -1, -1, 3)) == [1]


def test_frames_in_half_precision_stay_so():
    clip = noise_image(3, HEIGHT, WIDTH).half()
    track = moving(2)
    out, *_ = run(clip, tracks_of(track, frames=3))
    assert out.dtype == torch.float16
    assert changed(out, clip) == [0, 1]
    assert torch.equal(out[0][~near(track, 0)], clip[0][~near(track, 0)])


def test_tracks_for_another_number_of_frames_are_an_error():
    with pytest.raises(ValueError, match=r"clip of 5 frames, but the clip has 4.*Connect"):
        run(flat(4), tracks_of(moving(4), frames=5))


def test_tracks_for_another_size_are_scaled():
    clip = noise_image(2, HEIGHT, WIDTH)
    track = moving(2)
    values = np.ones((16, 16), np.float32)
    double = tuple(
        replace(
            own,
            box=Rect(2 * own.box.x, 2 * own.box.y, 16, 16),
            window=Rect(2 * own.window.x, 2 * own.window.y, 32, 32),
            mask=packed(values, round(2 * own.box.x - 8), round(2 * own.box.y - 8)),
        )
        for own in track.sightings
    )
    tracks = Tracks(Size(2 * WIDTH, 2 * HEIGHT), 2, (Track(0, "face", double),))
    out, _, _, notes = run(clip, tracks)
    assert changed(out, clip) == [0, 1]
    for frame in range(2):
        mask = near(track, frame, grown=1)
        assert torch.equal(out[frame][~mask], clip[frame][~mask])
    assert "made for frames of 128x96 pixels and are scaled to 64x48" in notes[0]


def test_all_that_is_known_of_a_track_is_scaled():
    own = Sighting(0, Rect(8, 6, 4, 2), Rect(8, 6, 8, 4), found=Rect(9, 7, 5, 3))
    with collected_notes():
        fitted = fitted_tracks(
            Tracks(Size(32, 16), 1, (Track(0, "face", (own,)),)), Size(64, 48), 1
        )
    (scaled,) = fitted.tracks[0].sightings
    assert (scaled.box, scaled.window) == (Rect(16, 18, 8, 6), Rect(16, 18, 16, 12))
    assert scaled.found == Rect(18, 21, 10, 9)


def test_frames_that_are_not_used_are_left_out():
    clip = noise_image(5, HEIGHT, WIDTH)
    sightings = [replace(own, used=own.frame not in (1, 2)) for own in moving(5).sightings]
    out, *_ = run(
        clip, tracks_of(Track(0, "face", tuple(sightings)), frames=5), motion=replace(PLAIN, fade=0)
    )
    assert changed(out, clip) == [0, 3, 4]
    none = tuple(replace(own, used=False) for own in sightings)
    out, _, _, notes = run(clip, tracks_of(Track(0, "face", none), frames=5))
    assert torch.equal(out, clip)
    assert "too small or too large, or out of the picture, in every frame" in notes[0]


# Several tracks


def test_tracks_that_cross_are_cut_from_the_frames_as_they_came():
    """The seeds of the noise show which track is on top."""
    clip = noise_image(3, HEIGHT, WIDTH)
    first, second = moving(3), moving(3, x=24.6, y=22.4, number=1)
    both, *_ = run(clip, tracks_of(first, second, frames=3), grain)
    only, *_ = run(clip, tracks_of(first, frames=3), grain)
    seeds, *_ = run(clip, tracks_of(second, frames=3), grain, seed=6)
    for frame in range(3):
        one, other = near(first, frame), near(second, frame)
        assert torch.equal(both[frame][one & ~other], only[frame][one & ~other])
        inside = other & ~one
        assert torch.equal(both[frame][inside], seeds[frame][inside])


def test_one_by_one_and_together_give_the_same():
    clip, tracks = noise_image(6, HEIGHT, WIDTH), tracks_of(moving(6), moving(6, y=36.2), frames=6)
    together, _, backend, _ = run(clip, tracks, grain)
    alone, _, singly, _ = run(clip, tracks, grain, batch=1)
    assert (len(backend.runs), len(singly.runs)) == (1, 12)
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_larger_window_later_makes_the_track_larger():
    clip = noise_image(3, HEIGHT, WIDTH)
    sides = (8.0, 8.0, 16.0)
    sightings = tuple(
        Sighting(frame, Rect(30.2, 24.4, side, side), Rect(30.2, 24.4, 3 * side, 3 * side))
        for frame, side in enumerate(sides)
    )
    tracks = tracks_of(Track(0, "face", sightings), frames=3)
    _, done, backend, _ = run(clip, tracks, guide_size=8)
    assert {tuple(pixels.shape[1:3]) for pixels in backend.encoded} == {(48, 48)}
    assert json.loads(done.report)["segments"][0]["working_size"] == [48, 48]
    _, _, limited, _ = run(clip, tracks, guide_size=8, max_size=32)
    assert {tuple(pixels.shape[1:3]) for pixels in limited.encoded} == {(32, 32)}


# Tracks that hide one another

MEETING = range(10, 14)  # frames in which the hidden one is missed
NEAR, FAR = 0.9, 0.1  # what is drawn for the nearer one and for the other


def crossing(near_first, **near_options):
    """24 frames of two tracks that pass each other, and which of them is the nearer one."""
    near = moving(24, x=16.0, y=22.0, speed=32 / 23, side=12.0, **near_options)
    far = gaps_at(moving(24, x=48.0, y=22.6, speed=-32 / 23, side=12.0), *MEETING)
    pair = [replace(near, label="near"), replace(far, label="far")]
    pair = pair if near_first else pair[::-1]
    tracks = [replace(own, number=number) for number, own in enumerate(pair)]
    return tracks_of(*tracks, frames=24), tracks[0 if near_first else 1], tracks[int(near_first)]


FAR_WEAKER = SegmentPlan((Rule(read_selector("label far"), Overrides(denoise=0.2)),))


def is_far(run):
    return len(run.schedule) > 60  # of which 20 steps are run


def by_denoise(run):
    """A sampler whose value tells which track it draws, by the length of its schedule."""
    value = FAR if is_far(run) else NEAR
    return masked(run, torch.full_like(run.latent, value))


def meet(clip, tracks, plan=FAR_WEAKER, **options):
    out, *_ = run(clip, tracks, by_denoise, steps=20, segment_plan=plan, **options)
    return out


def value_at(out, frame, x, y):
    return float(out[frame, int(y), int(x), 0])


@pytest.mark.parametrize(
    "motion", [PLAIN, Motion(smoothing=1.0, smoothing_frames=2)], ids=["plain", "smoothed"]
)
@pytest.mark.parametrize("near_first", [True, False])
def test_the_nearer_one_of_two_tracks_is_on_top_in_every_frame(near_first, motion):
    clip = flat(24, 0.5)
    tracks, near, far = crossing(near_first)
    out = meet(clip, tracks, motion=motion, noise_mask=False)
    for frame in range(24):
        one, other = near.at(frame).box, far.at(frame).box
        for dx, dy in ((0, 0), (4, 0), (-4, 0), (0, 4), (0, -4)):
            assert value_at(out, frame, one.x + dx, one.y + dy) == pytest.approx(NEAR, abs=0.02)
        if abs(one.x - other.x) > 13:
            assert value_at(out, frame, other.x, other.y) == pytest.approx(FAR, abs=0.02)


@pytest.mark.parametrize("near_first", [True, False])
def test_what_is_hidden_is_shown_as_far_as_it_is_seen(near_first):
    clip = flat(24, 0.5)
    tracks, near, far = crossing(near_first)
    out = meet(clip, tracks, noise_mask=False)
    # 1.5 pixels apart: nearly all is hidden, and nothing is pasted at the side that is seen
    assert near.at(11).box.sides[2] < 38 < far.at(11).box.sides[2]
    assert torch.equal(out[11, :, 38], clip[11, :, 38])
    # 7 pixels apart: the side that is seen, and a corner of the nearer one's box
    one, other = near.at(9).box, far.at(9).box
    assert value_at(out, 9, other.x + 4, other.y) == pytest.approx(FAR, abs=0.02)
    assert value_at(out, 9, one.x + 5.5, one.y + 5.5) == pytest.approx(FAR, abs=0.02)
    assert value_at(out, 9, one.x + 4, one.y) == pytest.approx(NEAR, abs=0.02)


def test_a_nearer_one_that_is_not_redrawn_is_not_covered():
    clip = flat(24, 0.5)
    tracks, near, far = crossing(near_first=True)
    plan = SegmentPlan((*FAR_WEAKER.rules, Rule(read_selector("label near"), Overrides(skip=True))))
    out = meet(clip, tracks, plan, noise_mask=False)
    for frame in range(24):
        one = near.at(frame).box
        assert value_at(out, frame, one.x, one.y) == 0.5
        assert value_at(out, frame, one.x + 4, one.y) == 0.5
    assert value_at(out, 0, far.at(0).box.x, 22) == pytest.approx(FAR, abs=0.02)
    assert value_at(out, 9, far.at(9).box.x + 4, 22) == pytest.approx(FAR, abs=0.02)


def test_a_nearer_one_that_fades_is_not_covered_either():
    clip = flat(24, 0.5)
    tracks, near, _ = crossing(near_first=True)
    faint = replace(near, sightings=tuple(replace(o, used=o.frame < 8) for o in near.sightings))
    tracks = replace(tracks, tracks=(faint, tracks.tracks[1]))
    out = meet(clip, tracks, noise_mask=False, motion=replace(PLAIN, fade=4))
    wanted = [1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0]
    found = [value_at(out, f, near.at(f).box.x, 22) for f in range(12)]
    assert found == pytest.approx([0.5 + 0.4 * share for share in wanted], abs=0.02)


def test_what_fails_is_not_covered_by_what_is_behind_it():
    clip = flat(24, 0.5)
    tracks, near, far = crossing(near_first=True)

    def broken(run):
        result = by_denoise(run)
        return result if is_far(run) else torch.full_like(result, float("nan"))

    out, *_ = run(
        clip, tracks, broken, steps=20, segment_plan=FAR_WEAKER, noise_mask=False, retry=Retry(0)
    )
    for frame in range(24):
        assert value_at(out, frame, near.at(frame).box.x, 22) == 0.5
    assert value_at(out, 9, far.at(9).box.x + 4, 22) == pytest.approx(FAR, abs=0.02)


def test_what_is_nearer_is_not_redrawn_in_the_window_of_what_is_hidden():
    clip = noise_image(24, HEIGHT, WIDTH)
    tracks, near, far = crossing(near_first=True)
    _, _, backend, _ = run(
        clip, tracks, by_denoise, steps=20, segment_plan=FAR_WEAKER, batch=1, guide_size=12
    )
    weak = [own for own in backend.runs if is_far(own)]
    assert len(weak) == 24 - 2  # two frames are hidden as a whole
    own = weak[9]
    assert own.noise_mask is not None
    offset = near.at(9).box.x - far.at(9).box.x, near.at(9).box.y - far.at(9).box.y
    middle = [round(24 / 2 + by) for by in offset]
    assert tuple(own.noise_mask.shape[-2:]) == (24, 24)
    assert own.noise_mask[0, middle[1], middle[0]] == 0
    assert own.noise_mask[0, 12, 16] == 1
    assert weak[0].noise_mask[0, 12, 12] == 1


def test_pixels_outside_of_the_boxes_stay_where_tracks_meet():
    clip = noise_image(24, HEIGHT, WIDTH)
    tracks, one, other = crossing(near_first=False)
    out = meet(clip, tracks, feather=2, motion=Motion(smoothing=1.0, smoothing_frames=2))
    again = meet(clip, tracks, feather=2, motion=Motion(smoothing=1.0, smoothing_frames=2))
    assert torch.equal(out, again)
    for frame in range(24):
        kept = ~(around(one, frame) | around(other, frame))
        assert torch.equal(out[frame][kept], clip[frame][kept])


def around(track, frame):
    """[H,W] bool: the pixels that the box of a track and its soft edge touch."""
    return near(track, frame, grown=2)


# Time


def gaps_at(track, *frames):
    return replace(
        track, sightings=tuple(replace(o, gap=o.frame in frames) for o in track.sightings)
    )


def strengths(out, clip, track):
    """How much of the result each frame has in the middle of the track, 0..1."""
    found = []
    for frame in range(len(clip)):
        x, y = int(track.at(frame).box.x), int(track.at(frame).box.y)
        found.append(float(out[frame, y, x, 0] - clip[frame, y, x, 0]) / 0.5)
    return found


def test_gaps_are_detailed_or_faded():
    track = gaps_at(moving(12, speed=0.0, x=20.0, y=22.0), 3, 4, 5, 6, 7, 8)
    clip, tracks = flat(12), tracks_of(track, frames=12)
    out, *_ = run(clip, tracks, noise_mask=False)
    assert strengths(out, clip, track) == pytest.approx([1.0] * 12, abs=0.01)
    faded = Motion(smoothing=0.0, gaps="fade", fade=2)
    out, _, backend, _ = run(clip, tracks, motion=faded, noise_mask=False)
    third = 1 / 3
    wanted = [1, 1, 1, 2 * third, third, 0, 0, third, 2 * third, 1, 1, 1]
    assert strengths(out, clip, track) == pytest.approx(wanted, abs=0.01)
    assert changed(out, clip) == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert sum(len(pixels) for pixels in backend.encoded) == 10  # nothing is sampled in vain
    out, *_ = run(clip, tracks, motion=replace(faded, fade=0), noise_mask=False)
    assert changed(out, clip) == [0, 1, 2, 9, 10, 11]


def test_results_fade_towards_frames_of_other_sizes():
    track = moving(8, speed=0.0, x=20.0, y=22.0)
    track = replace(track, sightings=tuple(replace(o, used=o.frame < 5) for o in track.sightings))
    clip = flat(8)
    out, *_ = run(
        clip, tracks_of(track, frames=8), motion=Motion(smoothing=0.0, fade=3), noise_mask=False
    )
    wanted = [1, 1, 0.75, 0.5, 0.25, 0, 0, 0]
    assert strengths(out, clip, track) == pytest.approx(wanted, abs=0.01)


def flickering(run):
    """A sampler that makes each row brighter by its place in the batch, alternating."""
    rows = torch.arange(len(run.latent)).view(-1, 1, 1, 1)
    return masked(run, state(run) + 0.2 + 0.1 * (rows % 2 * 2 - 1))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_smoothing_takes_the_flicker_out_of_colours(strength):
    track = moving(12, speed=0.6)
    clip = flat(12)
    motion = Motion(smoothing=strength, smoothing_frames=4)
    out, *_ = run(clip, tracks_of(track, frames=12), flickering, motion=motion, noise_mask=False)
    values = torch.tensor(strengths(out, clip, track)) * 0.5
    steps = (values[1:] - values[:-1]).abs().mean()
    assert float(steps) == pytest.approx(0.2 * (1 - 0.95 * strength), abs=0.012)
    assert float(values.mean()) == pytest.approx(0.2, abs=0.02)


def test_smoothing_keeps_what_becomes_brighter_by_itself():
    """Away from the ends of the track, where there are frames on both sides."""
    brightness = torch.linspace(0.3, 0.5, 24).view(24, 1, 1, 1)
    clip = brightness.expand(24, HEIGHT, WIDTH, 3).contiguous()
    track = moving(24, speed=0.0)
    motion = Motion(smoothing=1.0, smoothing_frames=4)
    out, *_ = run(clip, tracks_of(track, frames=24), brighten(0.2), motion=motion, noise_mask=False)
    values = out[:, 20:23, 19:22].mean(dim=(1, 2, 3))
    assert torch.allclose(values[4:-4], clip[4:-4, 0, 0, 0] + 0.2, atol=2e-3)
    assert torch.allclose(values, clip[:, 0, 0, 0] + 0.2, atol=0.02)


def test_smoothing_goes_along_the_motion_in_the_window():
    """A pattern drifts through a window that stands still, and flickers."""
    x = torch.arange(WIDTH).view(1, 1, WIDTH, 1)
    y = torch.arange(HEIGHT).view(1, HEIGHT, 1, 1)
    shift = 0.8 * torch.arange(12).view(12, 1, 1, 1)
    pattern = torch.sin((x - shift) * 0.5) * torch.sin(y * 0.45)
    clip = (0.4 + 0.08 * pattern).expand(12, HEIGHT, WIDTH, 3).contiguous()
    track = moving(12, side=24.0, x=32.2, y=24.4, speed=0.0, factor=1.5)
    tracks = tracks_of(track, frames=12)
    plain, *_ = run(clip, tracks, flickering, noise_mask=False)
    out, *_ = run(clip, tracks, flickering, motion=Motion(smoothing=1.0), noise_mask=False)
    inside = (slice(3, 9), slice(17, 32), slice(25, 40))
    wanted = clip[inside] + 0.2
    assert float((plain[inside] - wanted).abs().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((out[inside] - wanted).abs().mean()) < 0.005  # without it 0.008


def test_nothing_is_averaged_where_the_frames_differ():
    """The thing changes its colour at once in the sixth frame."""
    clip = flat(12, value=0.3)
    clip[6:] = 0.6
    out, *_ = run(
        clip, tracks_of(moving(12), frames=12), brighten(0.1), motion=Motion(smoothing=1.0),
        noise_mask=False,
    )  # fmt: skip
    for own in moving(12).sightings:
        value = float(out[own.frame, int(own.box.y), int(own.box.x), 0])
        assert value == pytest.approx(0.4 if own.frame < 6 else 0.7, abs=0.002)


def test_smoothing_brings_nothing_back_that_the_model_takes_out_of_the_frames():
    """The frames themselves flicker, and the model makes all of them alike."""
    brightness = torch.tensor([0.3, 0.4, 0.33, 0.42, 0.28, 0.37, 0.41, 0.3]).view(8, 1, 1, 1)
    clip = brightness.expand(8, HEIGHT, WIDTH, 3).contiguous()
    track = moving(8, side=24.0, x=30.2, y=24.4, speed=0.0, factor=1.8)
    out, *_ = run(
        clip, tracks_of(track, frames=8), fill(0.6), motion=Motion(smoothing=1.0), noise_mask=False
    )
    assert torch.allclose(out[:, 20:28, 26:34], torch.tensor(0.6), atol=0.01)


def test_nothing_is_averaged_across_tracks_or_frames_left_out():
    """The model makes everything before the cut brighter, and everything after it darker."""
    before, after = moving(6), moving(6, first=6, number=1)
    clip = flat(12, value=0.5)
    tracks = tracks_of(before, after, frames=12, cuts=(6,))

    def by_seed(run):
        signs = torch.tensor([1.0 if row < 6 else -1.0 for row in range(len(run.latent))])
        return masked(run, state(run) + 0.25 * signs.view(-1, 1, 1, 1))

    out, *_ = run(clip, tracks, by_seed, motion=Motion(smoothing=1.0), noise_mask=False)
    for track, wanted in ((before, 0.75), (after, 0.25)):
        for own in track.sightings:
            value = float(out[own.frame, int(own.box.y), int(own.box.x), 0])
            assert value == pytest.approx(wanted, abs=0.01)


def test_colours_are_matched_by_one_change_for_neighbours():
    """Alone each frame would be matched to its own ring of noise."""
    clip = noise_image(6, HEIGHT, WIDTH) * 0.1 + 0.4
    track = moving(6, side=24.0, x=30.2, y=24.4, speed=0.0, factor=1.8)
    out, *_ = run(
        clip, tracks_of(track, frames=6), brighten(0.2), colour_match=1.0,
        motion=Motion(smoothing=0.0, smoothing_frames=6), noise_mask=False,
    )  # fmt: skip
    means = out[:, 20:28, 26:34].mean(dim=(1, 2, 3)) - clip[:, 20:28, 26:34].mean(dim=(1, 2, 3))
    assert float((means - means.mean()).abs().max()) < 0.002
    assert float(means.abs().max()) < 0.06


def test_denoise_follows_the_smoothed_size():
    sides = [8.0] * 6 + [24.0] * 6
    sightings = tuple(
        Sighting(frame, Rect(30.2, 24.4, side, side), Rect(30.2, 24.4, 1.5 * side, 1.5 * side))
        for frame, side in enumerate(sides)
    )
    tracks = tracks_of(Track(0, "face", sightings), frames=12)
    motion = Motion(smoothing=0.0, denoise_by_size=Curve(((8.0, 0.8), (24.0, 0.4))))
    _, _, backend, _ = run(flat(12), tracks, motion=motion, batch=1, steps=100)
    denoise = [100 / (len(own.schedule) - 1) for own in backend.runs]  # steps that run of all
    assert len(denoise) == 12
    assert all(one >= other - 1e-3 for one, other in pairwise(denoise))
    assert denoise[0] - denoise[-1] > 0.1
    assert max(a - b for a, b in pairwise(denoise)) < 0.1


# What the rest of a detailer does


def test_a_segment_plan_sees_a_track_as_one_segment():
    clip = noise_image(4, HEIGHT, WIDTH)
    first, second = moving(4), replace(moving(4, y=36.4, number=1), label="hand")
    plan = SegmentPlan((
        Rule(read_selector("label hand"), Overrides(skip=True, reason="no hands")),
        Rule(read_selector("label face"), Overrides(seed=77, denoise=0.5, text="a cat")),
    ))  # fmt: skip
    out, done, backend, notes = run(clip, tracks_of(first, second), grain, segment_plan=plan)
    for frame in range(4):
        mask = near(first, frame)
        assert torch.equal(out[frame][~mask], clip[frame][~mask])
    assert [own.seed for own in backend.runs] == [77]
    one, other = json.loads(done.report)["segments"]
    assert (one["seed"], one["text"], one["sampling"]["denoise"]) == (77, "a cat", 0.5)
    assert (other["status"], other["reason"]) == ("skipped", "no hands")
    assert len(backend.texts) == 1
    assert len(notes) < 4


def test_a_broken_frame_keeps_its_pixels_and_is_told_once():
    clip = noise_image(20, HEIGHT, WIDTH)

    def broken(run):
        result = state(run) + 0.25
        for row in range(len(run.latent)):
            if row in (3, 4):
                result[row] = float("nan")
        return result

    out, done, _, notes = run(
        clip, tracks_of(moving(20), frames=20), broken, motion=Motion(smoothing=1.0), retry=Retry(0)
    )
    kept = [frame for frame in range(20) if frame not in changed(out, clip)]
    assert kept == [3, 4, 19]  # in a wave of 16, and in one of 4
    assert torch.isfinite(out).all()
    told = [text for text in notes if "keeps its original pixels" in text]
    assert len(told) == 1
    assert told[0].startswith("Track 1 keeps its original pixels in 3 of 20 frames (3, 4, 19):")
    segment = json.loads(done.report)["segments"][0]
    assert segment["frames"]["failed"] == kept
    assert segment["frames"]["detailed"] == 17
    assert segment["status"] == "done"


def test_a_track_that_fails_in_every_frame_has_failed():
    clip = noise_image(3, HEIGHT, WIDTH)
    out, done, _, notes = run(clip, tracks_of(moving(3), frames=3), fill(float("nan")))
    assert torch.equal(out, clip)
    segment = json.loads(done.report)["segments"][0]
    assert segment["status"] == "failed"
    assert len([text for text in notes if "keeps its original pixels in 3 of 3" in text]) == 1


def test_the_report_has_one_entry_for_a_track():
    _, done, _, _ = run(noise_image(20, HEIGHT, WIDTH), tracks_of(moving(18, first=1), frames=20))
    report = json.loads(done.report)
    assert report["images"] == {"count": 20, "size": [WIDTH, HEIGHT]}
    (segment,) = report["segments"]
    assert segment["frames"] == {
        "first": 1, "last": 18, "detailed": 18, "gaps": 0, "failed": [],
    }  # fmt: skip
    assert (segment["index"], segment["label"], segment["status"]) == (0, "face", "done")
    assert segment["seconds"] > 0
    assert report["counts"]["sampled"] == 1
    assert report["counts"]["sampler_calls"] == 2  # slices of 16 and of 4 frames


def test_interrupts_stop_the_run():
    with pytest.raises(Interrupted):
        run(flat(8), tracks_of(moving(8), frames=8), backend=FakeBackend(PAINT, stop_after=2))


def test_too_little_memory_for_a_wave_is_no_fault():
    clip, tracks = noise_image(8, HEIGHT, WIDTH), tracks_of(moving(8), frames=8)
    wide, *_ = run(clip, tracks, grain)
    narrow, _, backend, _ = run(clip, tracks, backend=FakeBackend(grain, rows=3))
    assert max(len(own.latent) for own in backend.runs) <= 3
    assert torch.allclose(narrow, wide, atol=1e-5)


class Hook:
    """Counts what it is asked, and marks every frame that something was pasted into."""

    shares_batches = True

    def __init__(self):
        self.pasted = 0

    def post_paste(self, image):
        self.pasted += 1
        image = image.clone()
        image[:, 0, 0] = 1.0
        return image

    def touch_scaled_size(self, width, height):
        return 24, 24


def test_hooks_are_asked():
    clip, hook = noise_image(5, HEIGHT, WIDTH), Hook()
    out, _, backend, _ = run(clip, tracks_of(moving(3, first=1), frames=5), hook=hook)
    assert hook.pasted == 3
    assert (out[1:4, 0, 0] == 1).all()
    assert torch.equal(out[[0, 4]], clip[[0, 4]])
    assert {tuple(pixels.shape[1:3]) for pixels in backend.encoded} == {(24, 24)}


@pytest.mark.parametrize("motion", [PLAIN, Motion(smoothing=1.0)], ids=["plain", "smoothed"])
def test_a_run_can_be_repeated_to_the_bit(motion):
    clip, tracks = noise_image(6, HEIGHT, WIDTH), tracks_of(moving(6), frames=6)
    assert torch.equal(run(clip, tracks, grain, motion)[0], run(clip, tracks, grain, motion)[0])


class Drawn:
    """Frames that are made when they are read, so that only what a run holds takes memory."""

    def __init__(self, count):
        self.count, self.size = count, Size(48, 32)

    def read(self, start, stop):
        shape = (stop - start, self.size.height, self.size.width, 3)
        return torch.rand(shape, generator=torch.Generator().manual_seed(start)) * 0.5


class Watching:
    """A sink that keeps nothing, and counts the bytes of all tensors while frames are written."""

    def __init__(self):
        self.written, self.bytes = 0, {}

    def write(self, frames):
        self.written += len(frames)
        if self.written % 5 == 0 and (32 <= self.written <= 64 or self.written > 96):
            own = [one for one in gc.get_objects() if type(one) is torch.Tensor]
            held = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in own}
            self.bytes[self.written] = sum(held.values())


class Forgetful(list):
    """What a backend for tests keeps, and a real one does not."""

    def append(self, item):
        pass


def long_tracks():
    return [
        moving(128, x=x, y=16.2, speed=0.0, number=number, side=10.0)
        for number, x in enumerate((14.3, 33.6))
    ]


def short_tracks():
    """A new track every four frames."""
    return [
        moving(4, first=first, x=20.3, y=16.2, side=10.0, number=number)
        for number, first in enumerate(range(0, 128, 4))
    ]


@pytest.mark.parametrize("tracks", [long_tracks, short_tracks])
def test_the_need_of_memory_does_not_grow_with_the_clip(tracks, request):
    gc.collect()
    gc.freeze()  # only what the run itself holds is counted
    request.addfinalizer(gc.unfreeze)
    source, sink, backend = Drawn(128), Watching(), FakeBackend(brighten(0.1))
    backend.encoded = backend.runs = backend.decoded = Forgetful()
    detail_tracks(
        source, tracks_of(*tracks(), frames=128, size=source.size),
        make_detail(batch=0, kept=NO_CROPS, steps=1), Motion(), backend, sink,
    )  # fmt: skip
    assert sink.written == 128
    early, late = (
        max(held for frame, held in sink.bytes.items() if (frame > 64) == later)
        for later in (False, True)
    )
    assert 0 < late <= 1.1 * early


class Counting(Drawn):
    """Frames that are made when they are read; it knows which of their storages are alive."""

    def __init__(self, count):
        super().__init__(count)
        self.alive = weakref.WeakSet()

    def read(self, start, stop):
        frames = super().read(start, stop)
        self.alive.add(frames.untyped_storage())
        return frames


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_a_frame_is_freed_when_it_is_written(smoothing):
    """Frames that wait for their neighbours do not keep the whole slice."""
    source, most = Counting(96), []

    class Sink:
        written = 0

        def write(self, frames):
            self.written += len(frames)
            most.append(sum(held.nbytes() for held in source.alive))

    backend = FakeBackend(brighten(0.1))
    backend.encoded = backend.runs = backend.decoded = Forgetful()
    detail_tracks(
        source, tracks_of(moving(96, x=20.3, y=16.2, speed=0.0, side=10.0), frames=96,
                          size=source.size),
        make_detail(batch=0, kept=NO_CROPS, steps=1), Motion(smoothing=smoothing), backend, Sink(),
    )  # fmt: skip
    frame = 48 * 32 * 3 * 4
    assert max(most[40:]) <= 24 * frame


class Parts:
    """A frame that knows which boxes of it were looked at."""

    def __init__(self, pixels):
        self._pixels, self.boxes = pixels, []
        self.size, self.channels = Size(pixels.shape[2], pixels.shape[1]), pixels.shape[-1]

    def part(self, box):
        self.boxes.append(box)
        return self._pixels[:, box.y1 : box.y2, box.x1 : box.x2]


class PartsOnly:
    """A source and sink of frames that do not become pixels as a whole."""

    def __init__(self, frames):
        self.count, self.size = len(frames), SIZE
        self.frames = [Parts(frame[None]) for frame in frames]
        self._first, self.taken = frames[:1], []

    def read(self, start, stop):
        assert (start, stop) == (0, 1)  # the frame by which a run knows what its frames are like
        return self._first

    def frame(self, number):
        return self.frames[number]

    def take(self, frame, change):
        self.taken.append((frame, change))


@pytest.mark.parametrize("motion", [PLAIN, Motion(smoothing=1.0)], ids=["plain", "smoothed"])
def test_only_the_regions_around_windows_become_pixels(motion):
    frames = noise_image(6, HEIGHT, WIDTH)
    tracks = tracks_of(moving(3, first=1), moving(2, first=2, x=40.0, number=1), frames=6)
    wanted, *_ = run(frames, tracks, brighten(0.1), motion)
    clip = PartsOnly(frames)
    detail = make_detail(batch=0, kept=NO_CROPS)
    detail_tracks(clip, tracks, detail, motion, FakeBackend(brighten(0.1)), clip)
    assert [frame for frame, _ in clip.taken] == clip.frames
    assert [change is None for _, change in clip.taken] == [True, False, False, False, True, True]
    for number, (frame, change) in enumerate(clip.taken):
        assert bool(frame.boxes) == (change is not None)
        assert all(box.area < HEIGHT * WIDTH for box in frame.boxes)
        made = frames[number].clone()
        if change is not None:
            box = change.box
            made[box.y1 : box.y2, box.x1 : box.x2] = change.pixels[0]
        assert torch.equal(made, wanted[number])


def test_a_hook_that_changes_images_gets_them_as_a_whole():
    class Hook:
        shapes = []

        def post_paste(self, image):
            self.shapes.append(tuple(image.shape))
            return image * 0.5

    frames = noise_image(3, HEIGHT, WIDTH)
    clip = PartsOnly(frames)
    detail = make_detail(batch=0, kept=NO_CROPS, hook=Hook())
    tracks = tracks_of(moving(1, first=1), frames=3)
    detail_tracks(clip, tracks, detail, PLAIN, FakeBackend(identity), clip)
    assert Hook.shapes == [(1, HEIGHT, WIDTH, 3)]
    _, change = clip.taken[1]
    assert change.box == Box(0, 0, WIDTH, HEIGHT)
    assert torch.equal(change.pixels[0], frames[1] * 0.5)


class CountingObjects(Watching):
    """A sink that counts the objects that are there when the first frame is written."""

    objects = 0

    def write(self, frames):
        if not self.written:
            gc.collect()
            self.objects = len(gc.get_objects())
        self.written += len(frames)


def test_little_is_kept_of_frames_to_come():
    counts = []
    for length in (64, 64, 192):  # the first run makes what stays
        source, sink = Drawn(length), CountingObjects()
        backend = FakeBackend(brighten(0.1))
        backend.encoded = backend.runs = backend.decoded = Forgetful()
        track = moving(length, x=20.3, y=16.2, speed=0.0, side=10.0)
        detail_tracks(
            source, tracks_of(track, frames=length, size=source.size),
            make_detail(batch=0, kept=NO_CROPS, steps=1), Motion(), backend, sink,
        )  # fmt: skip
        counts.append(sink.objects)
        del track
    # a sighting with three rectangles, its frame in the plan and its span
    assert (counts[2] - counts[1]) / 128 <= 7


@pytest.mark.parametrize("register", [OFF, AUTO])
def test_frames_are_not_moved_each_by_itself(register):
    _, _, _, notes = run(flat(), tracks_of(moving()), register=register)
    told = [text for text in notes if "is not used for the frames of a video" in text]
    assert len(told) == (register == AUTO)


def test_a_reference_to_the_first_frame_is_one_to_all_frames():
    """The frames move away from what it shows, but it stays the picture that is edited."""
    clip = torch.cat([noise_image(1, HEIGHT, WIDTH, seed=seed) for seed in range(3)])
    latent = FakeBackend().encode(FakeVAE(), clip[:1], tiled=False, video=False)
    positive = [[torch.ones(1, 1, 2), {"reference_latents": [latent]}]]
    models = fake_models(positive=positive)
    _, _, backend, _ = run(clip, tracks_of(moving(3), frames=3), models=models)
    rows = [run.positive[0][1]["reference_latents"][0] for run in backend.runs]
    assert {row.shape[-2:] for row in rows} == {run.latent.shape[-2:] for run in backend.runs}
