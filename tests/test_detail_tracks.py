"""Whole runs over the tracks of clips."""

import json

import numpy as np
import pytest
import torch
from detailers.core.clips import CollectedFrames, HeldFrames
from detailers.core.detail.tracks import detail_tracks
from detailers.core.geometry import Rect, Size
from detailers.core.settings import NO_CROPS, Motion
from detailers.core.tracks.track import Sighting, Track, Tracks
from detailers.tests.fake_backend import (
    FakeBackend,
    fill,
    identity,
    make_detail,
    noise_image,
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
