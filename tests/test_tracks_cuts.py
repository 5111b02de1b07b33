"""core/tracks/cuts.py: where a clip shows something else, and where it only moves or flashes."""

import pytest
import torch
from detailers.core.geometry import Size
from detailers.core.tracks.cuts import find_cuts, frame_looks

from .tracks_scenes import background

SIZE = Size(160, 96)
WIDE = Size(480, 96)


def cuts(*frames, threshold=0.2):
    return find_cuts(frame_looks(torch.stack(frames)), threshold)


def grain(frame):
    return (frame + 0.02 * torch.randn(frame.shape, generator=torch.Generator())).clamp(0, 1)


def test_a_cut_to_another_scene_is_found_at_its_first_frame():
    one, other = background(SIZE, 1), background(SIZE, 2)
    shots = [one] * 6 + [other] * 5 + [one] * 4
    assert cuts(*map(grain, shots)) == (6, 11)
    assert all(type(cut) is int for cut in cuts(*shots))


def test_a_higher_threshold_finds_fewer_cuts():
    shots = [background(SIZE, 1)] * 6 + [background(SIZE, 2)] * 6
    assert cuts(*shots, threshold=0.3) == (6,)
    assert cuts(*shots, threshold=0.5) == ()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_whole_frame_that_changes_its_brightness_for_good_is_a_cut(value):
    plain = torch.full((96, 160, 3), 0.4)
    assert cuts(*[plain] * 5, *[torch.full_like(plain, value)] * 5) == (5,)


def test_a_flash_is_no_cut():
    frame = background(SIZE, 1)
    flash = (0.15 * frame + 0.85).clamp(0, 1)
    for length in (1, 2, 3):
        assert cuts(*[frame] * 6, *[flash] * length, *[frame] * 6) == ()


def test_a_camera_that_moves_makes_no_cut():
    wide = background(WIDE, 1)
    pan = [wide[:, 12 * step : 12 * step + 160] for step in range(26)]
    assert cuts(*map(grain, pan)) == ()


def test_a_thing_that_crosses_the_frame_makes_no_cut():
    frames = []
    for step in range(20):
        frame = background(SIZE, 1).clone()
        frame[20:90, 8 * step : 8 * step + 50] = torch.tensor([0.9, 0.1, 0.1])
        frames.append(frame)
    assert cuts(*frames) == ()


def test_a_slow_dissolve_has_no_cut_and_noise_has_none():
    one, other = background(SIZE, 1), background(SIZE, 2)
    assert cuts(*[torch.lerp(one, other, step / 20) for step in range(21)]) == ()
    random = torch.Generator().manual_seed(0)
    assert cuts(*torch.rand(12, 96, 160, 3, generator=random)) == ()


def test_frames_that_stay_alike_have_no_cut_at_any_threshold():
    still, plain = background(SIZE, 1), torch.full((96, 160, 3), 0.5)
    for frame in (still, plain):
        assert cuts(*[frame] * 8, threshold=0.0) == ()
    assert cuts(*[still] * 6, *[background(SIZE, 2)] * 6, threshold=0.0) == (6,)


def test_one_frame_grey_frames_and_frames_with_alpha():
    grey = torch.rand(1, 8, 9, 1)
    assert find_cuts(frame_looks(grey), 0.2) == ()
    two = torch.cat([torch.zeros(3, 8, 9, 4), torch.ones(3, 8, 9, 4)])
    assert find_cuts(frame_looks(two), 0.2) == (3,)
    assert find_cuts(frame_looks(two), 1.0) == ()
