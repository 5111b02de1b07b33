"""Clips in chunks: which frames each samples, and how their results are joined."""

from itertools import pairwise

import pytest
import torch
from detailers.core.detail.chunks import (
    Chunk,
    FrameGrid,
    Joiner,
    chunk_weights,
    fade_weights,
    plan_chunks,
    stretches,
)
from hypothesis import given, settings
from hypothesis import strategies as st

ANY = FrameGrid.of_any_length()
FEW = settings(deadline=None, max_examples=60)


def every(step):
    """The grid of a causal video VAE: 1, 1 + step, 1 + 2 step ... frames."""
    return FrameGrid(lambda frames: -(-(frames - 1) // step) * step + 1)


WAN, LTX = every(4), every(8)
THREES = FrameGrid(lambda frames: -(-frames // 3) * 3)  # of a VAE with 3 frames in every step
grids = st.sampled_from([ANY, WAN, LTX, every(6), THREES])


def spans(chunks):
    return [(chunk.start, chunk.stop) for chunk in chunks]


# Planning


def test_a_clip_that_fits_is_one_chunk():
    assert plan_chunks(16, 16, 4, ANY) == (Chunk(0, 16),)
    assert plan_chunks(1, 81, 16, WAN) == (Chunk(0, 1),)
    assert plan_chunks(80, 81, 16, WAN) == (Chunk(0, 80),)  # the model gets 81 frames


def test_a_motion_model_gets_chunks_of_equal_length():
    # 40 frames, 16 at most, 4 shared: 3 chunks hold 16 * 3 - 4 * 2 = 40
    assert plan_chunks(40, 16, 4, ANY) == (
        Chunk(0, 16), Chunk(12, 28, 2, 2), Chunk(24, 40, 2, 2),
    )  # fmt: skip
    # 20 frames need 2 chunks, and 12 frames each are enough
    assert plan_chunks(20, 16, 4, ANY) == (Chunk(0, 12), Chunk(8, 20, 2, 2))


def test_a_video_model_gets_chunks_on_its_grid_that_start_at_whole_steps():
    # 161 frames, 81 at most, 17 = 81 - 4 * 16 shared: 3 chunks of (161 + 34) / 3 = 65 frames
    assert plan_chunks(161, 81, 16, WAN) == (
        Chunk(0, 65), Chunk(48, 113, 9, 8), Chunk(96, 161, 9, 8),
    )  # fmt: skip


def test_most_that_is_no_length_of_the_model_becomes_the_next_smaller_one():
    assert spans(plan_chunks(30, 20, 4, LTX)) == [(0, 17), (8, 25), (16, 30)]


def test_a_chunk_of_one_latent_step_has_no_overlap():
    assert spans(plan_chunks(3, 1, 4, WAN)) == [(0, 1), (1, 2), (2, 3)]
    assert spans(plan_chunks(3, 1, 0, ANY)) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(("frames", "most"), [(0, 4), (4, 0)])
def test_nothing_to_divide(frames, most):
    with pytest.raises(ValueError, match="frames"):
        plan_chunks(frames, most, 1, ANY)


@FEW
@given(st.integers(1, 400), st.integers(1, 90), st.integers(0, 60), grids)
def test_chunks_cover_the_clip_within_what_the_model_takes(frames, most, overlap, grid):
    chunks = plan_chunks(frames, most, overlap, grid)
    longest = grid.most_within(most)
    step = grid.step_at(longest)
    step = step if step <= longest else 1
    assert chunks[0].start == 0 and chunks[0].overlap == 0 and chunks[-1].stop == frames
    for before, chunk in pairwise(chunks):
        shared = before.stop - chunk.start
        assert before.start < chunk.start and before.stop < chunk.stop
        assert chunk.overlap == shared >= (min(overlap, longest // 2) if longest >= 2 * step else 0)
        assert 0 <= chunk.context <= 0.6 * shared
        assert chunk.context == 0 or grid.length(chunk.context) == chunk.context
        assert chunk.start % step == 0
        assert before.settled <= chunk.settled and chunk.settled <= before.stop
    for chunk in chunks:
        assert 1 <= chunk.frames <= longest and grid.length(chunk.frames) <= grid.length(longest)


@FEW
@given(st.integers(2, 400), st.integers(8, 90), st.integers(0, 40), grids)
def test_there_are_no_more_chunks_than_are_needed(frames, most, overlap, grid):
    chunks = plan_chunks(frames, most, overlap, grid)
    longest = grid.most_within(most)
    step = min(grid.step_at(longest), longest)
    most_new = longest - min(overlap, longest // 2)
    new = max(step, most_new // step * step)  # frames that each chunk adds, in whole steps
    assert len(chunks) == 1 + max(0, -(-(frames - longest) // new))


# Joining


def results(chunks, make):
    """What a stand-in makes of every chunk: make(index, places [n]) -> [n], as pictures."""
    for index, chunk in enumerate(chunks):
        places = torch.arange(chunk.start, chunk.stop, dtype=torch.float32)
        yield make(index, places).view(-1, 1, 1, 1).expand(-1, 2, 3, 3).clone()


def joined(chunks, make):
    """The joined clip [F], and how many frames were final after each chunk."""
    joiner, parts, done = Joiner(chunks), [], []
    for result in results(chunks, make):
        start, final = joiner.add(result)
        assert start == sum(map(len, parts))
        parts.append(final.clone())
        done.append(start + len(final))
    assert joiner.context is None
    return torch.cat(parts)[:, 0, 0, 0], done


@FEW
@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 20), grids)
def test_chunks_that_agree_give_the_clip_itself(frames, most, overlap, grid):
    chunks = plan_chunks(frames, most, overlap, grid)
    clip, done = joined(chunks, lambda index, places: places)
    assert torch.allclose(clip, torch.arange(frames, dtype=torch.float32), atol=1e-4)
    assert done == [*(chunk.settled for chunk in chunks[1:]), frames]  # as soon as they are final


@pytest.mark.parametrize("grid", [ANY, WAN, LTX])
def test_a_bias_of_each_chunk_leaves_no_step(grid):
    """Chunk i is 0.6 i brighter: a hard joint would be a step of 0.6."""
    chunks = plan_chunks(100, 41, 16, grid)
    assert len(chunks) > 2
    clip, _ = joined(chunks, lambda index, places: torch.full_like(places, 0.6 * index))
    steps = clip.diff()
    least = min(chunk.fade for chunk in chunks[1:])
    assert least >= 7
    assert (steps >= 0).all() and steps.max() <= 0.6 / (least + 1) + 1e-6
    for chunk in chunks[1:]:  # the seam itself is no larger than the frames beside it
        around = steps[chunk.start + chunk.context : chunk.start + chunk.overlap]
        assert torch.allclose(around, around.mean().expand_as(around), atol=1e-6)


def test_a_drift_within_each_chunk_leaves_no_step():
    """Every chunk begins dark and grows brighter by 1 / 32 a frame; a hard joint falls by 0.75."""
    chunks = plan_chunks(104, 32, 8, ANY)
    assert [chunk.start for chunk in chunks] == [0, 24, 48, 72]
    clip, _ = joined(chunks, lambda index, places: (places - places[0]) / 32)
    # over a fade of 4 frames the fall of 0.75 takes 5 equal parts
    assert clip.diff().min() >= -0.75 / 5 - 1e-6


def test_context_comes_from_the_chunk_before_and_the_fade_rises_evenly():
    chunks = (Chunk(0, 8), Chunk(4, 12, 1, 3))
    clip, _ = joined(chunks, lambda index, places: torch.full_like(places, float(index)))
    assert clip.tolist() == [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert fade_weights(3).tolist() == [0.25, 0.5, 0.75]


@FEW
@given(st.integers(1, 120), st.integers(1, 40), st.integers(0, 20), grids)
def test_weights_say_what_a_joiner_does(frames, most, overlap, grid):
    chunks = plan_chunks(frames, most, overlap, grid)
    weights = chunk_weights(chunks)

    def make(index, places):
        return torch.sin(places * (index + 1))

    expected, _ = joined(chunks, make)
    found, shares = torch.zeros(frames), torch.zeros(frames)
    for index, (chunk, own) in enumerate(zip(chunks, weights, strict=True)):
        places = torch.arange(chunk.start, chunk.stop)
        found[places] += torch.tensor(own) * make(index, places)
        shares[places] += torch.tensor(own)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(shares, torch.ones(frames))


def test_a_chunk_without_a_result_is_left_out():
    chunks = plan_chunks(40, 16, 4, ANY)
    joiner = Joiner(chunks)
    joiner.skip()
    assert joiner.context is None
    start, final = joiner.add(torch.full((16, 2, 3, 3), 2.0))
    assert start == chunks[1].settled
    assert (final == 2).all()
    assert (joiner.context == 2).all()


def test_the_next_chunk_is_told_what_its_context_shows():
    chunks = plan_chunks(20, 12, 4, ANY)
    joiner = Joiner(chunks)
    assert joiner.context is None
    first = torch.rand(12, 2, 3, 3)
    joiner.add(first.clone())
    assert torch.equal(joiner.context, first[8:10])


def test_a_joiner_holds_the_overlap_alone():
    chunks = plan_chunks(100, 41, 16, ANY)
    joiner = Joiner(chunks)
    joiner.add(torch.rand(chunks[0].frames, 2, 3, 3))
    context = joiner.context  # as large in memory as the overlap and no larger
    assert context.untyped_storage().nbytes() == chunks[1].overlap * 2 * 3 * 3 * 4


def test_a_result_of_another_length_is_refused():
    with pytest.raises(ValueError, match="12 frames came back with 11"):
        Joiner(plan_chunks(20, 12, 4, ANY)).add(torch.rand(11, 2, 3, 3))


# Which frames


def parts(text, bridged):
    return [(part.start, part.stop) for part in stretches([c == "x" for c in text], bridged)]


def test_frames_between_wanted_ones_are_sampled_with_them():
    assert parts("..xx..x...", 2) == [(2, 7)]
    assert parts("..xx...x..", 2) == [(2, 4), (7, 8)]
    assert parts("xxx", 0) == [(0, 3)]
    assert parts("...", 5) == [] == parts("", 5)


@FEW
@given(st.lists(st.booleans(), max_size=60), st.integers(0, 10))
def test_stretches_cover_what_is_wanted_and_begin_and_end_with_it(wanted, bridged):
    covered = set()
    for part in stretches(wanted, bridged):
        assert wanted[part.start] and wanted[part.stop - 1]
        covered |= set(range(part.start, part.stop))
    assert covered >= {place for place, is_wanted in enumerate(wanted) if is_wanted}
