"""The jobs of a plan: their size, seed, text and order, and the segments that are skipped."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from detailers.core.detail.plan import Job, Plan, Skipped, batches, levels, make_plan
from detailers.core.geometry import Box, Size, Sizing
from detailers.tests.fake_backend import make_detail, make_seg
from hypothesis import given
from hypothesis import strategies as st

IMAGE = Size(2048, 2048)
ALWAYS = Sizing(guide_size=64, max_size=256, force_inpaint=True)
IF_SMALL = Sizing(guide_size=64, max_size=256, force_inpaint=False)
THREE = [make_seg((0, 0, 20, 10)), make_seg((30, 0, 50, 10)), make_seg((60, 0, 80, 10))]


def plan_of(segs, text="", sizing=ALWAYS, seed=100, **options):
    return make_plan(segs, IMAGE, settings(sizing, text), seed, **options)


def settings(sizing=ALWAYS, text=""):
    return replace(make_detail(), sizing=sizing, text=text)


def dealt(plan):
    """(position, seed, text) of every job."""
    return [(job.position, job.seed, job.text) for job in plan.jobs]


# Jobs


def test_a_job_knows_size_boxes_and_seed():
    seg = make_seg((10, 20, 50, 40), bbox=(20, 25, 40, 35), label="face")
    (job,) = plan_of([seg]).jobs
    # 10, the shorter side of the box, becomes 64: 6.4 times
    assert job == Job(
        0, seg, Box(20, 25, 40, 35), Box(10, 20, 50, 40), Size(256, 128), 100, job.detail
    )


def test_segments_get_the_next_seed_each_in_working_order():
    assert dealt(plan_of(THREE)) == [(0, 100, None), (1, 101, None), (2, 102, None)]
    assert dealt(plan_of(THREE, "[DSC] a")) == [(2, 100, "a"), (1, 101, "a"), (0, 102, "a")]


def test_texts_are_dealt_and_may_name_seeds():
    plan = plan_of(THREE, "[ASC] red [SEP:7] green")
    assert dealt(plan) == [(0, 100, "red"), (1, 7, "green"), (2, 102, "red")]
    assert not any(job.concat for job in plan.jobs)


def test_concat_is_passed_on():
    assert [job.concat for job in plan_of(THREE, "[CONCAT] red").jobs] == [True, True, True]


def test_labels_choose_texts():
    segs = [make_seg((0, 0, 9, 9), label="eye"), make_seg((9, 0, 18, 9), label="mouth")]
    assert dealt(plan_of(segs, "[LAB] [mouth] smile [eye] blue")) == [
        (0, 100, "blue"), (1, 101, "smile"),
    ]  # fmt: skip


def test_the_seed_wraps_at_64_bits():
    assert [job.seed for job in plan_of(THREE, seed=2**64 - 2).jobs] == [2**64 - 2, 2**64 - 1, 0]


def test_touch_size_has_the_last_word():
    seen = []

    def touch(size):
        seen.append(size)
        return Size(999, 7)

    plan = plan_of([make_seg((0, 0, 20, 10))], touch_size=touch)
    assert seen == [Size(128, 64)]
    assert plan.jobs[0].size == Size(999, 7)


# Skipped segments


@pytest.mark.parametrize(
    ("seg", "reason"),
    [
        (make_seg((0, 0, 8, 8), mask=np.zeros((8, 8), np.float32)), "its mask is empty"),
        (make_seg((0, 0, 8, 8), bbox=(4, 4, 4, 9)), "its bounding box has no area"),
        (make_seg((8, 8, 8, 8), bbox=(0, 0, 4, 4)), "its crop region has no area"),
    ],
)
def test_what_cannot_be_worked_on_is_skipped_with_a_reason(seg, reason):
    plan = plan_of([THREE[0], seg, THREE[1]])
    assert [job.position for job in plan.jobs] == [0, 2]
    assert plan.skipped == (Skipped(1, seg, reason, by_size=False),)
    assert plan.jobs[1].seed == 102  # the skipped one's seed is not passed on to the next


def test_a_mask_that_is_empty_in_most_frames_is_not_empty():
    mask = np.zeros((3, 8, 8), np.float32)
    mask[2, 4, 4] = 0.1
    assert len(plan_of([make_seg((0, 0, 8, 8), mask=mask)]).jobs) == 1


def test_a_segment_that_is_large_enough_is_skipped_by_size_unless_forced():
    seg = make_seg((0, 0, 80, 64))
    (skipped,) = plan_of([seg], sizing=IF_SMALL).skipped
    assert skipped.by_size
    assert "80x64" in skipped.reason
    assert "guide_size 64" in skipped.reason
    assert plan_of([seg]).jobs[0].size == Size(80, 64)


def test_force_inpaint_keeps_to_max_size():
    seg = make_seg((0, 0, 1024, 512), bbox=(100, 100, 300, 300))
    (job,) = plan_of([seg]).jobs
    assert job.size == Size(256, 128)


def test_skip_and_stop():
    plan = plan_of(THREE, "red [SEP] [SKIP] [SEP] blue")
    assert dealt(plan) == [(0, 100, "red"), (2, 102, "blue")]
    assert plan.skipped[0].reason == "its text is [SKIP]"
    plan = plan_of(THREE, "red [SEP] [STOP]")
    assert dealt(plan) == [(0, 100, "red")]
    assert [(entry.position, entry.by_size) for entry in plan.skipped] == [(1, False), (2, False)]
    assert all("[STOP]" in entry.reason for entry in plan.skipped)


def test_every_segment_has_one_entry_in_working_order():
    plan = plan_of(THREE, "[DSC] red [SEP] [SKIP]")
    assert [(type(entry).__name__, entry.position) for entry in plan.entries] == [
        ("Job", 2), ("Skipped", 1), ("Job", 0),
    ]  # fmt: skip


def test_the_log_says_who_is_skipped_and_why(caplog):
    with caplog.at_level(logging.INFO):
        plan_of(THREE, "red [SEP] [SKIP] [SEP] blue").report()
    assert caplog.messages == ["segment 1 skipped: its text is [SKIP]"]


def test_no_segments_make_an_empty_plan():
    assert plan_of([], "red") == Plan(())
    assert batches([Plan(())], 4) == []


# Levels and batches


def test_levels_of_a_chain_and_a_loner():
    regions = [Box(0, 0, 4, 4), Box(3, 0, 7, 4), Box(20, 0, 24, 4), Box(6, 0, 9, 4)]
    assert levels(regions) == [[0, 2], [1], [3]]


def test_regions_that_only_touch_share_a_level():
    assert levels([Box(0, 0, 4, 4), Box(4, 0, 8, 4), Box(0, 4, 4, 8)]) == [[0, 1, 2]]


spans = st.tuples(st.integers(0, 12), st.integers(1, 6))
boxes = st.builds(
    lambda x, y: Box(x[0], y[0], x[0] + x[1], y[0] + y[1]), spans, spans,
)  # fmt: skip


def plain_levels(regions):
    """What a region's level is by definition, pair by pair."""
    level_of = []
    for index, region in enumerate(regions):
        below = [level_of[i] for i in range(index) if regions[i].intersects(region)]
        level_of.append(1 + max(below, default=-1))
    return [
        [i for i, level in enumerate(level_of) if level == wanted]
        for wanted in range(max(level_of, default=-1) + 1)
    ]


small_and_large = st.tuples(st.integers(-40, 200), st.sampled_from([-1, 0, 1, 2, 3, 7, 40, 150]))
mixed_boxes = st.builds(
    lambda x, y: Box(x[0], y[0], x[0] + x[1], y[0] + y[1]), small_and_large, small_and_large,
)  # fmt: skip


@given(st.lists(mixed_boxes, max_size=60))
def test_levels_are_those_of_the_plain_definition(regions):
    assert levels(regions) == plain_levels(regions)


TILES = [Box(x, y, x + 128, y + 128) for y in range(0, 6048, 96) for x in range(0, 6048, 96)]


def test_levels_of_many_tiles_take_few_comparisons(monkeypatch):
    compared = []
    intersects = Box.intersects
    monkeypatch.setattr(
        Box, "intersects", lambda box, other: compared.append(1) or intersects(box, other)
    )
    found = levels(TILES)
    assert len(TILES) == 3969
    # a tile is above its left, upper and upper right neighbours: the level is x + 2 y
    assert [len(level) for level in found] == [
        sum(0 <= number - 2 * y < 63 for y in range(63)) for number in range(187)
    ]
    assert len(compared) < 30 * len(TILES)


def test_the_images_of_a_batch_share_the_levels_of_their_plan(monkeypatch):
    from detailers.core.detail import plan as module

    calls = []
    monkeypatch.setattr(module, "levels", lambda regions: calls.append(1) or levels(regions))
    plan = plan_of(THREE)
    gathered = batches([plan] * 5, 99)
    assert [(row, job.position) for row, job in gathered[0]] == [
        (row, position) for row in range(5) for position in range(3)
    ]
    assert len(calls) == 1


@given(st.lists(boxes, max_size=12))
def test_levels_are_independent_ordered_and_as_low_as_can_be(regions):
    result = levels(regions)
    level_of = {index: level for level, group in enumerate(result) for index in group}
    assert sorted(index for group in result for index in group) == list(range(len(regions)))
    for j, region in enumerate(regions):
        earlier = [level_of[i] for i in range(j) if regions[i].intersects(region)]
        # above all that it overlaps, and no higher than that asks for: so no level holds two that
        # overlap, and of two that do the earlier one comes first
        assert level_of[j] == max(earlier, default=-1) + 1


@given(st.lists(boxes, max_size=12), st.integers(2, 5))
def test_batches_keep_the_order_of_what_overlaps(regions, limit):
    segs = [make_seg(region.as_tuple()) for region in regions]
    plan = plan_of(segs, sizing=Sizing(guide_size=8, max_size=16, force_inpaint=True))
    result = [[job for _, job in batch] for batch in batches([plan], limit)]
    batch_of = {job.position: index for index, batch in enumerate(result) for job in batch}
    assert sorted(job.position for batch in result for job in batch) == list(range(len(regions)))
    assert all(1 <= len(batch) <= limit for batch in result)
    assert all(len({job.size for job in batch}) == 1 for batch in result)
    for j, region in enumerate(regions):
        for i in range(j):
            if regions[i].intersects(region):
                assert batch_of[i] < batch_of[j]


def test_batches_gather_what_has_one_size():
    small, large = (0, 0, 10, 10), (20, 0, 40, 10)
    moved = [(x, 50, x + 10, 60) for x in (0, 20, 40)]
    plan = plan_of([make_seg(region) for region in (small, large, *moved)])
    gathered = [[job.position for _, job in batch] for batch in batches([plan], 3)]
    assert gathered == [[0, 2, 3], [4], [1]]


def test_batches_gather_what_is_padded_to_one_size():
    plan = plan_of(
        [make_seg(region) for region in ((0, 0, 10, 10), (0, 20, 10, 36), (20, 0, 36, 9))]
    )
    sizes = [job.size for job in plan.jobs]
    assert len(set(sizes)) == 3
    grid = max(max(size) for size in sizes)
    assert len(batches([plan], 8)) == 3
    assert len(batches([plan], 8, grid)) == 1


def test_batches_reach_over_images_and_keep_each_image_in_order():
    chain = plan_of([make_seg((0, 0, 10, 10)), make_seg((5, 0, 15, 10))])
    alone = plan_of([make_seg((0, 0, 10, 10))])
    gathered = [[(row, job.position) for row, job in b] for b in batches([chain, alone], 8)]
    assert gathered == [[(0, 0), (1, 0)], [(0, 1)]]


def test_a_batch_of_one_keeps_the_working_order():
    plan = plan_of(THREE, "[DSC] a")
    assert batches([plan], 1) == [[(0, job)] for job in plan.jobs]
