"""Tracks through motion models and video models: their frames are sampled together, in chunks."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detailers.core.clips import CollectedFrames, HeldFrames
from detailers.core.detail.tracks import detail_tracks
from detailers.core.geometry import Box, Rect, Size
from detailers.core.noise import start_noise
from detailers.core.settings import NO_CROPS, Motion
from detailers.core.tracks.track import PackedMask, Sighting, Track, Tracks
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeControl,
    FakeModel,
    FakeVAE,
    brighten,
    fake_models,
    fill,
    grain,
    identity,
    make_detail,
    masked,
    noise_image,
    state,
    text_of,
)
from detailers.utils.notes import collected_notes

HEIGHT, WIDTH = 48, 96
SIZE = Size(WIDTH, HEIGHT)
MOTION = fake_models(model=FakeModel(motion=True, frames=16))
WAN = fake_models(FakeVAE(4, every=4), FakeModel(frames=17))
BOTH = pytest.mark.parametrize("models", [MOTION, WAN], ids=["motion", "video"])
SIDE = 16.0


def track_of(frames, first=0, x=20.0, speed=1.0, number=0, unused=(), gaps=(), **more):
    """A face whose window is twice as large and moves to the right."""
    sightings = []
    for place in range(frames):
        box = Rect(x + speed * place, 24.0, SIDE, SIDE)
        window = Rect(box.x, box.y, 2 * SIDE, 2 * SIDE)
        sightings.append(
            Sighting(
                first + place, box, window, gap=place in gaps, used=place not in unused, **more
            )
        )
    return Track(number, "face", tuple(sightings))


def run(clip, *tracks, draw=identity, motion=None, models=WAN, backend=None, **options):
    """The frames that come out, the backend, and the notes."""
    backend = backend or FakeBackend(draw)
    sink = CollectedFrames(clip)
    settings = {"noise_mask_feather": 0, "kept": NO_CROPS, **options}
    detail = make_detail(models, **settings)
    motion = motion or Motion(fade=0)
    with collected_notes() as notes:
        value = Tracks(SIZE, len(clip), tracks)
        detail_tracks(HeldFrames(clip), value, detail, motion, backend, sink)
    return sink.frames, backend, [note.text for note in notes]


def flat(frames, value=0.25):
    return torch.full((frames, HEIGHT, WIDTH, 3), value)


def middle(out, track):
    """The mean colour in the middle of the track in each of its frames: [frames]."""
    colours = []
    for own in track.sightings:
        x, y = int(own.box.x), int(own.box.y)
        colours.append(out[own.frame, y - 3 : y + 3, x - 3 : x + 3].mean())
    return torch.stack(colours)


def of_the_calls(*amounts):
    """A stand-in that adds another amount in each call, where the noise mask is."""
    given = list(amounts)
    return lambda run: masked(run, state(run) + given.pop(0))


# Frames together


@BOTH
def test_all_frames_of_a_track_are_sampled_in_one_call(models):
    clip, track = noise_image(13, HEIGHT, WIDTH), track_of(13)
    out, backend, notes = run(clip, track, models=models, draw=fill(0.75))
    assert len(backend.runs) == 1 and not notes
    shape = tuple(backend.runs[0].latent.shape)
    assert shape == ((13, 48, 8, 8) if models is MOTION else (1, 192, 4, 8, 8))
    assert torch.allclose(middle(out, track), torch.tensor(0.75), atol=0.05)
    for frame, own in enumerate(track.sightings):
        left, top, right, bottom = (int(side) for side in own.box.sides)
        outside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
        outside[top : bottom + 1, left : right + 1] = False
        assert torch.equal(out[frame][outside], clip[frame][outside])


@BOTH
@pytest.mark.parametrize("frames", [1, 2, 16, 17, 40])
def test_what_the_model_leaves_as_it_is_stays_to_the_bit(models, frames):
    clip = noise_image(frames, HEIGHT, WIDTH)
    out, *_ = run(clip, track_of(frames), models=models)
    assert torch.equal(out, clip)


@pytest.mark.parametrize(("frames", "padded"), [(1, 1), (2, 5), (14, 17)])
def test_a_video_model_gets_the_last_frame_again_up_to_its_length(frames, padded):
    clip = noise_image(frames, HEIGHT, WIDTH)
    out, backend, _ = run(clip, track_of(frames), draw=brighten(0.1))
    (shown,) = backend.encoded
    assert len(shown) == padded and len(out) == frames
    assert torch.equal(shown[frames:], shown[frames - 1].expand_as(shown[frames:]))


def test_a_motion_model_gets_no_frame_that_there_is_not():
    _, backend, _ = run(noise_image(14, HEIGHT, WIDTH), track_of(14), models=MOTION)
    assert len(backend.encoded[0]) == 14


def test_tracks_are_sampled_one_after_another():
    first, second = track_of(9), track_of(9, x=70.0, number=1, speed=0.0)
    out, backend, _ = run(noise_image(9, HEIGHT, WIDTH), first, second, draw=fill(0.75))
    assert [len(run.latent) for run in backend.runs] == [1, 1]
    for track in (first, second):
        assert torch.allclose(middle(out, track), torch.tensor(0.75), atol=0.05)


@BOTH
@pytest.mark.parametrize("near_first", [True, False])
def test_the_nearer_one_of_two_tracks_is_on_top(models, near_first):
    clip = flat(15)
    near = track_of(15, x=24.0, speed=3.0)
    far = track_of(15, x=72.0, speed=-3.0, gaps=(7, 8, 9))
    pair = (near, far) if near_first else (far, near)
    amounts = {True: (0.3, 0.1), False: (0.1, 0.3)}[near_first]
    out, *_ = run(clip, *pair, models=models, draw=of_the_calls(*amounts), noise_mask=False)
    assert torch.allclose(middle(out, near), torch.tensor(0.55), atol=0.02)
    alone = [0, 1, 2, 3, 4, 12, 13, 14]
    assert torch.allclose(middle(out, far)[alone], torch.tensor(0.35), atol=0.02)
    left = out[8, :, :, 0]  # the frame in which one is in front of the other
    assert not ((left > 0.3) & (left < 0.4))[18:30, 42:54].any()


def test_image_models_still_get_each_frame_by_itself():
    _, backend, _ = run(noise_image(5, HEIGHT, WIDTH), track_of(5), models=fake_models(), batch=0)
    assert len(backend.runs) == 1
    noise = backend.runs[0].noise
    assert all(torch.equal(noise[row], noise[0]) for row in range(5))


# Chunks


@BOTH
def test_a_long_track_is_sampled_in_overlapping_chunks(models):
    _, backend, _ = run(noise_image(40, HEIGHT, WIDTH), track_of(40), models=models)
    # motion: 3 chunks of 16, 8 shared, hold 32; 4 hold 40. video: 17 and 9 shared are 8 new each
    counts = [len(shown) for shown in backend.encoded]
    assert counts == ([16] * 4 if models is MOTION else [17] * 4)


@BOTH
@pytest.mark.parametrize("amounts", [(0.1,) * 9, (0.0, 0.3, 0.05, 0.4, 0.1, 0.2, 0.3, 0.0, 0.1)])
def test_a_chunk_that_is_brighter_leaves_no_step(models, amounts):
    """Jumps of 0.35 between chunks become slopes over the frames in which they overlap."""
    clip, track = flat(40), track_of(40)
    out, backend, _ = run(clip, track, models=models, draw=of_the_calls(*amounts))
    assert len(backend.runs) >= 4
    steps = middle(out, track).diff().abs()
    jumps = [abs(b - a) for a, b in pairwise(amounts[: len(backend.runs)])]
    assert steps.max() <= max(jumps) / 4 + 1e-3  # a fade of 4 frames or more has 5 steps


@BOTH
def test_seams_are_no_rougher_than_what_lies_between_them(models):
    """On a clip that changes by itself, under a model that changes by the place in its chunk."""
    clip = flat(40) + 0.3 * torch.linspace(0, 1, 40).view(-1, 1, 1, 1)
    track = track_of(40)

    def ramp(run):
        time = 2 if run.latent.ndim == 5 else 0
        count = run.latent.shape[time]
        shape = [count if axis == time else 1 for axis in range(run.latent.ndim)]
        return masked(run, state(run) + 0.1 * torch.linspace(0, 1, count).view(shape))

    out, *_ = run(clip, track, models=models, draw=ramp)
    steps = (middle(out, track) - middle(clip, track)).diff().abs()
    # 0.1 over 15 frames, or over 4 latent steps, is 0.025 at most; a hard joint would be 0.1
    assert steps.max() < 0.03


@BOTH
def test_a_chunk_goes_on_from_what_the_one_before_has_made(models):
    clip, track = flat(24), track_of(24)
    _, backend, _ = run(clip, track, models=models, draw=of_the_calls(0.5, 0.0))
    second = backend.runs[1]
    mask = second.noise_mask.amax(dim=(-1, -2))  # [steps or rows]
    shown = backend.encoded[1][:, 14:18, 14:18].mean(dim=(1, 2, 3))
    if models is MOTION:  # 24 frames, 8 shared: chunks of 16, of which 4 are kept
        assert (mask == 0).tolist() == [True] * 4 + [False] * 12
    else:  # 17 frames, 9 shared: 5 frames are kept, which are two steps
        assert (mask == 0).tolist() == [True] * 2 + [False] * 3
    kept = 4 if models is MOTION else 5
    assert torch.allclose(shown[:kept], torch.tensor(0.75), atol=1e-3)
    assert torch.allclose(shown[kept:], torch.tensor(0.25), atol=1e-3)


def test_frames_are_kept_without_a_noise_mask_too():
    clip, track = flat(24), track_of(24)
    _, backend, _ = run(clip, track, models=MOTION, draw=of_the_calls(0.5, 0.0), noise_mask=False)
    first, second = backend.runs
    assert first.noise_mask is None
    assert torch.equal(second.noise_mask[:4], torch.zeros_like(second.noise_mask[:4]))
    assert torch.equal(second.noise_mask[4:], torch.ones_like(second.noise_mask[4:]))


@BOTH
def test_chunks_have_the_same_noise_in_the_frames_that_they_share(models):
    _, backend, _ = run(noise_image(24, HEIGHT, WIDTH), track_of(24), models=models, draw=grain)
    first, second = (run.noise for run in backend.runs)
    if models is MOTION:
        assert torch.equal(first[8:], second[:8])
        assert torch.equal(first[:1], start_noise(first[:1], 5))
        assert not torch.equal(first[0], first[1])
        assert backend.runs[0].seeds[8:] == backend.runs[1].seeds[:8]
    else:  # frames 0, 1-4 ... 13-16 and 8, 9-12 ... 21-24: the steps that end with 8, 12 and 16
        assert torch.equal(first[:, :, 2:], second[:, :, :3])


def test_settings_choose_the_chunks():
    motion = Motion(fade=0, chunk=9, overlap=2)
    _, backend, _ = run(noise_image(16, HEIGHT, WIDTH), track_of(16), motion=motion, models=MOTION)
    assert [len(shown) for shown in backend.encoded] == [9, 9]


def test_a_run_is_repeated_to_the_bit():
    clip, track = noise_image(40, HEIGHT, WIDTH), track_of(40)
    first, *_ = run(clip, track, draw=grain)
    second, *_ = run(clip, track, draw=grain)
    other, *_ = run(clip, track, draw=grain, seed=6)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


# Frames that are not pasted


def test_frames_that_are_not_used_are_sampled_and_not_pasted():
    clip, track = noise_image(12, HEIGHT, WIDTH), track_of(12, unused=(0, 5, 6, 11))
    out, backend, _ = run(clip, track, draw=fill(0.75), models=MOTION)
    assert [len(shown) for shown in backend.encoded] == [10]  # not those at the ends
    same = [frame for frame in range(12) if torch.equal(out[frame], clip[frame])]
    assert same == [0, 5, 6, 11]


def test_a_long_time_without_the_person_divides_a_clip():
    clip = noise_image(40, HEIGHT, WIDTH)
    track = track_of(40, unused=range(8, 30))
    out, backend, _ = run(clip, track, draw=fill(0.75), models=MOTION)
    assert [len(shown) for shown in backend.encoded] == [8, 10]
    same = [frame for frame in range(40) if torch.equal(out[frame], clip[frame])]
    assert same == list(range(8, 30))


def test_gaps_are_sampled_with_the_rest_and_fade():
    clip, track = flat(12), track_of(12, gaps=range(3, 9))
    motion = Motion(gaps="fade", fade=2)
    out, backend, _ = run(clip, track, draw=fill(1.0), models=MOTION, motion=motion)
    assert [len(shown) for shown in backend.encoded] == [12]
    shares = (middle(out, track) - 0.25) / 0.75
    expected = [1, 1, 1, 2 / 3, 1 / 3, 0, 0, 1 / 3, 2 / 3, 1, 1, 1]
    assert torch.allclose(shares, torch.tensor(expected), atol=0.03)
    assert torch.equal(out[5:7], clip[5:7])


def test_masks_of_a_video_model_go_over_time():
    clip, track = flat(9), track_of(9, speed=0.0, unused=())
    boxes = [replace(own, box=Rect(own.box.x - 6 + own.frame, 24.0, 4.0, 4.0))
             for own in track.sightings]  # fmt: skip
    track = replace(track, sightings=tuple(boxes))
    _, backend, _ = run(clip, track)
    (only,) = backend.runs
    assert only.noise_mask.shape[0] == 3  # frame 0, 1-4 and 5-8: the union of their masks
    widths = [(step.amax(dim=0) > 0.5).sum() for step in only.noise_mask]
    assert widths[0] < widths[1] == widths[2]


# Memory


def test_chunks_get_smaller_where_memory_runs_out():
    clip, track = flat(16), track_of(16)
    backend = FakeBackend(brighten(0.25), rows=8)
    out, _, notes = run(clip, track, models=MOTION, backend=backend)
    assert max(len(run.latent) for run in backend.runs) == 8
    assert torch.allclose(middle(out, track), torch.tensor(0.5), atol=0.02)
    assert len([text for text in notes if "chunks of 8 frames" in text]) == 1


def test_later_chunks_start_with_the_length_that_fits():
    backend = FakeBackend(brighten(0.25), rows=8)
    first, second = track_of(16), track_of(16, x=70, speed=0, number=1)
    run(flat(16), first, second, models=MOTION, backend=backend)
    assert backend.unloaded == 1  # memory ran out once


def test_a_single_frame_that_does_not_fit_is_an_error():
    with pytest.raises(MemoryError, match="track 1 in frame 0"):
        run(flat(1), track_of(1), models=MOTION, backend=FakeBackend(rows=0))


class Lagging:
    """A source and sink that know how many frames were read and are not written yet."""

    def __init__(self, frames):
        self.frames, self.written, self.most, self.read_to = frames, 0, 0, 0
        self.count, self.size = len(frames), SIZE

    def read(self, start, stop):
        self.read_to = max(self.read_to, stop)
        self.most = max(self.most, self.read_to - self.written)
        return self.frames[start:stop]

    def write(self, frames):
        self.written += len(frames)


@BOTH
def test_frames_wait_no_longer_than_a_chunk(models):
    """Two tracks whose chunks begin in different frames, in a clip of any length."""
    most = []
    for count in (48, 144):
        clip = Lagging(flat(count))
        tracks = [track_of(count, speed=0.2), track_of(count - 7, first=7, x=70, speed=0, number=1)]
        detail = make_detail(models, noise_mask_feather=0, kept=NO_CROPS)
        value = Tracks(SIZE, count, tuple(tracks))
        detail_tracks(clip, value, detail, Motion(fade=0), FakeBackend(identity), clip)
        assert clip.written == count
        most.append(clip.most)
    assert max(most) <= 17 + 2 * 16  # a chunk, and the slices in which it is read


WINDOWED = fake_models(model=FakeModel(motion=True, frames=8, windows=True))


def test_with_context_windows_of_the_host_a_track_is_one_call():
    out, backend, notes = run(flat(60), track_of(60, speed=0.5), models=WINDOWED, draw=fill(0.75))
    assert [len(run.latent) for run in backend.runs] == [60] and not notes
    assert (out[:, 24, 20:50].amax(dim=1) > 0.7).all()


def test_what_memory_cannot_hold_is_divided_even_with_context_windows(monkeypatch):
    monkeypatch.setattr("detailers.core.detail.track_clips.MOST_AT_ONCE", 20 * 32 * 32)
    _, backend, notes = run(flat(60), track_of(60, speed=0.5), models=WINDOWED)
    assert max(len(run.latent) for run in backend.runs) <= 20
    assert any("20 frames at a time" in text for text in notes)


# Odd input


@BOTH
@pytest.mark.parametrize("channels", [1, 4])
def test_frames_of_other_channels(models, channels):
    clip = noise_image(20, HEIGHT, WIDTH, channels=channels)
    out, *_ = run(clip, track_of(20), models=models, draw=fill(0.75))
    assert out.shape[-1] == (3 if channels == 1 else 4)
    assert torch.allclose(middle(out[..., :3], track_of(20)), torch.tensor(0.75), atol=0.05)
    if channels == 4:
        assert torch.equal(out[..., 3], clip[..., 3])


@BOTH
def test_a_window_that_leaves_the_frame_or_is_larger(models):
    clip = noise_image(20, HEIGHT, WIDTH)
    leaving = track_of(20, x=70.0, speed=3.0)  # the last frames see nothing of it
    out, *_ = run(clip, leaving, models=models, draw=fill(0.75))
    inside = replace(leaving, sightings=leaving.sightings[:5])
    assert torch.allclose(middle(out, inside), torch.tensor(0.75), atol=0.05)
    large = track_of(20, speed=0.0)
    window = Rect(20.0, 24.0, 300.0, 300.0)
    large = replace(large, sightings=tuple(replace(own, window=window) for own in large.sightings))
    out, *_ = run(clip, large, models=models, max_size=64)
    assert torch.equal(out, clip)


@BOTH
def test_empty_masks_change_nothing_and_cost_nothing(models):
    clip = noise_image(20, HEIGHT, WIDTH)
    nothing = PackedMask.of(np.zeros((16, 16), np.float32), Box(12, 16, 28, 32))
    out, backend, _ = run(clip, track_of(20, mask=nothing), models=models, draw=fill(0.75))
    assert torch.equal(out, clip) and not backend.runs


# Faults


def test_a_chunk_with_a_fault_costs_only_its_own_frames():
    clip, track = flat(40), track_of(40)
    calls = iter(range(9))

    def second_fails(run):
        value = float("nan") if next(calls) == 1 else 0.75
        return masked(run, torch.full_like(run.latent, value))

    motion = Motion(fade=0, chunk=16, overlap=4)
    out, backend, notes = run(clip, track, models=MOTION, draw=second_fails, motion=motion)
    # 0-16, 12-28 and 24-40: the frames that only the second chunk makes stay as they are
    same = [frame for frame in range(40) if torch.equal(out[frame], clip[frame])]
    assert same == list(range(16, 24))
    assert torch.isfinite(out).all() and any("Track 1 keeps" in text for text in notes)
    mask = backend.runs[2].noise_mask.amax(dim=(-1, -2))
    assert (mask > 0).all()  # nothing to go on from


# Settings for each frame


def test_one_denoise_holds_for_a_chunk():
    track = track_of(12)
    grown = tuple(
        replace(own, box=Rect(own.box.x, own.box.y, SIDE - place, SIDE - place))
        for place, own in enumerate(track.sightings)
    )
    curve = SimpleNamespace(at=lambda size: size / 100)
    motion = Motion(fade=0, denoise_by_size=curve)
    _, backend, _ = run(flat(12), replace(track, sightings=grown), models=MOTION, motion=motion,
                        steps=20)  # fmt: skip
    (only,) = backend.runs
    sizes = sorted(SIDE - place for place in range(12))
    total = only.schedule.max()  # steps of the whole schedule, of which 20 are run
    assert 20 / total == pytest.approx(sizes[5] / 100, abs=0.02)


def test_a_hint_for_each_frame_is_cut_frame_by_frame():
    clip, track = flat(24), track_of(24)
    hint = torch.linspace(0, 1, 24).view(-1, 1, 1, 1).expand(24, 3, HEIGHT, WIDTH).clone()
    positive = text_of("positive")
    positive[0][1]["control"] = FakeControl(hint)
    models = fake_models(model=FakeModel(motion=True, frames=16), positive=positive)
    _, backend, _ = run(clip, track, models=models)
    for run_, first in zip(backend.runs, (0, 8), strict=True):
        shown = run_.positive[0][1]["control"].cond_hint_original
        assert shown.shape[0] == 16
        assert torch.allclose(shown.mean(dim=(1, 2, 3)), torch.arange(first, first + 16) / 23.0)


def over_time(steps, clip, track):
    """What each call sees of planes for so many latent steps: [(mean of each step), ...], notes.

    A plane's value is the number of its step, plus up to a half from the left to the right.
    """
    planes = torch.arange(float(steps)).view(1, 1, -1, 1, 1)
    planes = planes.expand(1, 4, steps, HEIGHT // 4, WIDTH // 4)
    positive = text_of("positive")
    positive[0][1]["control_video"] = planes + 0.5 * torch.linspace(0, 1, WIDTH // 4)
    _, backend, notes = run(clip, track, models=WAN._replace(positive=positive))
    shown = [own.positive[0][1]["control_video"] for own in backend.runs]
    return [own.mean(dim=(0, 1, 3, 4)) for own in shown], notes


def expected_over_time(steps, frames, first):
    """The steps, with the middle of the window in each frame; it is at 20 in the first one."""
    places = [(20 + frame - first) / WIDTH for frame in frames]
    return torch.tensor(steps) + 0.5 * torch.tensor(places)


def test_planes_over_time_are_cut_step_by_step():
    """A control video of the whole clip: each chunk sees the steps of its own frames."""
    shown, notes = over_time(9, flat(33), track_of(30, first=3))
    assert len(shown) == 3 and not notes
    for own, start in zip(shown, (3, 11, 19), strict=True):  # chunks of 17 frames, or fewer
        frames = [min(start + 4 * step, 32) for step in range(5)]
        steps = [-(-frame // 4) for frame in frames]
        assert torch.allclose(own, expected_over_time(steps, frames, 3), atol=0.03)


def test_planes_for_another_number_of_steps_begin_with_the_clip():
    frames = [3, 7, 11, 15, 19]
    (own,), notes = over_time(3, flat(33), track_of(17, first=3))
    assert torch.allclose(own, expected_over_time([1, 2, 2, 2, 2], frames, 3), atol=0.03)
    assert any("for 3 latent steps, but the clip has 9" in text for text in notes)
    (own,), notes = over_time(5, flat(33), track_of(17, first=3))  # as many as the track has
    assert torch.allclose(own, expected_over_time([0, 1, 2, 3, 4], frames, 3), atol=0.03)
    assert not notes


def test_a_first_chunk_that_fails_leaves_the_later_ones_that_overlap_it():
    """Of 18 frames, three chunks share frame 8, and it is kept from before in two of them."""
    wan = fake_models(FakeVAE(4, every=4), FakeModel(frames=13))
    track, clip = track_of(18), noise_image(18, HEIGHT, WIDTH)
    calls = []

    def draw(run):
        calls.append(run)
        return state(run) * float("nan") if len(calls) == 1 else state(run) + 0.25

    out, _, notes = run(clip, track, draw=draw, models=wan, motion=Motion(fade=0, overlap=8))
    changed = [frame for frame in range(18) if not torch.equal(out[frame], clip[frame])]
    assert changed == list(range(4, 18))
    assert [text for text in notes if "4 of 18 frames (0, 1, 2, 3)" in text]
