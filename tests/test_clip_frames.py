"""Frames and latent steps of video VAEs, from the settings of the VAEs."""

import pytest
from detailers.core.sampling.clip_frames import causal, frames_of_steps, whole_length

# (steps of so many frames, frames of so many steps), as the host's VAEs tell them
FOURS = (lambda n: (n + 3) // 4, lambda t: 4 * t - 3)
EIGHTS = (lambda n: (n + 7) // 8, lambda t: 8 * t - 7)
CHUNKS = (
    lambda n: max(1, (n - 5) // 17 * 5 + 2) if n > 1 else 1,
    lambda t: max(1, (t - 2) // 5 * 17 + 5),
)  # 17k+5 frames, 5k+2 steps


@pytest.mark.parametrize(
    ("grid", "lengths"),
    [
        (FOURS, {1: 1, 2: 5, 5: 5, 6: 9, 81: 81, 82: 85}),
        (EIGHTS, {1: 1, 2: 9, 9: 9, 10: 17}),
        (CHUNKS, {1: 1, 2: 5, 4: 5, 5: 5, 6: 22, 22: 22, 23: 39, 124: 124, 125: 141}),
    ],
)
def test_clips_are_lengthened_to_what_comes_back_whole(grid, lengths):
    assert {frames: whole_length(frames, *grid) for frames in lengths} == lengths


def test_a_vae_that_gives_no_length_back_takes_clips_as_they_are():
    assert whole_length(7, lambda n: 1, lambda t: 0) == 7


def slices(*bounds):
    return [slice(start, end) for start, end in bounds]


def test_each_step_stands_for_the_frames_that_come_with_it():
    assert frames_of_steps(3, 9, FOURS[1]) == slices((0, 1), (1, 5), (5, 9))
    assert frames_of_steps(2, 9, EIGHTS[1]) == slices((0, 1), (1, 9))
    assert frames_of_steps(1, 1, FOURS[1]) == slices((0, 1))


def test_steps_that_bring_frames_together_stand_for_all_of_them():
    chunk = (5, 22)
    assert frames_of_steps(7, 22, CHUNKS[1]) == slices((0, 1), (1, 5), *[chunk] * 5)


def test_every_frame_has_a_step_and_every_step_a_frame():
    assert frames_of_steps(1, 6, FOURS[1]) == slices((0, 6))
    assert frames_of_steps(2, 9, FOURS[1]) == slices((0, 1), (1, 9))
    assert frames_of_steps(4, 5, FOURS[1]) == slices((0, 1), (1, 5), (4, 5), (4, 5))
    for steps in range(1, 9):
        for frames in range(1, 30):
            groups = frames_of_steps(steps, frames, CHUNKS[1])
            assert len(groups) == steps
            covered = {frame for group in groups for frame in range(group.start, group.stop)}
            assert covered == set(range(frames))
            assert all(group.start < group.stop for group in groups)


def test_where_the_vae_does_not_tell_the_first_frame_is_alone():
    assert frames_of_steps(3, 7, causal(7, 3)) == slices((0, 1), (1, 4), (4, 7))
    assert frames_of_steps(3, 6, causal(6, 3)) == slices((0, 1), (1, 4), (4, 6))
