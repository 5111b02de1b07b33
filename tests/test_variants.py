"""Segments drawn several times over: what is pasted, what is kept, and with which seeds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detailers.core.detail.images import detail_image, detail_segs, detail_versions
from detailers.core.detail.video import detail_frames
from detailers.core.segs.seg import BatchImage, Variant, of_image
from detailers.core.settings import NO_CROPS
from detailers.tests.fake_backend import (
    FakeBackend,
    fill,
    grain,
    make_detail,
    make_seg,
    noise_image,
)
from detailers.utils.notes import collected_notes

LEFT, RIGHT = (4, 5, 24, 15), (34, 5, 54, 15)
TWO = ((30, 60), [make_seg(LEFT, label="left"), make_seg(RIGHT, label="right")])
OVERLAPPING = ((30, 60), [make_seg(LEFT), make_seg((14, 5, 34, 15))])
KEPT = replace(NO_CROPS, variants=True)
STEP = 1_000_000  # between the seeds of two variants


def run(image, segs=TWO, variants=3, backend=None, **options):
    backend = backend or FakeBackend(grain)
    options = {"kept": KEPT, "seed": 7, **options}
    result = detail_image(image, segs, make_detail(variants=variants, **options), backend)
    return result, backend


def named(segs):
    """The variants by segment and number."""
    return {(seg.variant.segment, seg.variant.number): seg for seg in segs}


@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("segs", [TWO, OVERLAPPING])
def test_the_pasted_picture_is_that_of_the_first_variant(segs, batch):
    image = noise_image(2, 30, 60)
    alone, _ = run(image, segs, variants=1, batch=batch)
    several, _ = run(image, segs, variants=4, batch=batch)
    assert torch.equal(several.image, alone.image)
    assert [seg.variant.number for seg in alone.variants] == [0] * 4


def test_what_else_comes_out_is_of_the_first_variant_alone():
    kept = replace(KEPT, segs=True, cropped=True, refined=True, refined_alpha=True)
    image = noise_image(1, 30, 60)
    alone, _ = run(image, variants=1, kept=kept)
    several, _ = run(image, variants=3, kept=kept)
    for one, other in zip(alone.pictures, several.pictures, strict=True):
        assert len(one) == len(other)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    for one, other in zip(alone.segs[1], several.segs[1], strict=True):
        np.testing.assert_array_equal(one.cropped_image, other.cropped_image)
        assert other.variant is None


def test_each_variant_is_what_a_run_with_its_seed_draws():
    image = noise_image(1, 30, 60)
    several, _ = run(image, variants=3)
    assert [seg.variant for seg in several.variants] == [
        Variant(0, 0, 7), Variant(0, 1, 7 + STEP), Variant(0, 2, 7 + 2 * STEP),
        Variant(1, 0, 8), Variant(1, 1, 8 + STEP), Variant(1, 2, 8 + 2 * STEP),
    ]  # fmt: skip
    for number in range(3):
        alone, _ = run(image, variants=1, seed=7 + number * STEP)
        for one, position in zip(alone.variants, (0, 1), strict=True):
            own = named(several.variants)[position, number]
            np.testing.assert_array_equal(own.cropped_image, one.cropped_image)
            assert (own.label, own.crop_region) == (one.label, one.crop_region)
    first, second, _ = (own.cropped_image for own in several.variants[:3])
    assert np.abs(first - second).max() > 0.01


def test_variants_of_later_segments_see_the_first_variant_of_those_below():
    image = noise_image(1, 30, 60)
    several, _ = run(image, OVERLAPPING, variants=2)
    alone, _ = run(image, ((30, 60), OVERLAPPING[1][:1]), variants=1)
    later, _ = run(alone.image, ((30, 60), OVERLAPPING[1][1:]), variants=1, seed=8 + STEP)
    np.testing.assert_array_equal(
        named(several.variants)[1, 1].cropped_image, later.variants[0].cropped_image
    )


def test_variants_ride_in_the_waves_of_their_segments():
    image = noise_image(1, 30, 60)
    _, alone = run(image, variants=1, batch=0)
    _, several = run(image, variants=4, batch=0)
    assert [len(run.latent) for run in alone.runs] == [2]
    assert [len(run.latent) for run in several.runs] == [8]
    assert [bar.total for bar in several.bars] == [4 * bar.total for bar in alone.bars]
    assert several.bars[0].done[-1] == several.bars[0].total


def test_sixteen_segments_with_variants_are_still_one_wave():
    boxes = [make_seg((20 * i, 0, 20 * i + 20, 10)) for i in range(16)]
    _, backend = run(noise_image(1, 10, 320), ((10, 320), boxes), variants=4, batch=0)
    assert [len(run.latent) for run in backend.runs] == [64]


def test_seeds_of_texts_have_variants_of_their_own_and_each_draws_its_own_text():
    words = "{red|blue|green|grey|black|white|pink|brown} [SEP:42] plain"
    several, backend = run(noise_image(1, 30, 60), variants=8, text=words)
    assert [seg.variant.seed for seg in several.variants[8:10]] == [42, 42 + STEP]
    drawn = {text for _, text in backend.texts}
    assert "plain" in drawn
    assert len(drawn) > 3  # eight variants that all drew one colour would be two texts


def test_where_they_are_not_kept_only_the_first_is_drawn():
    result, backend = run(noise_image(1, 30, 60), variants=4, kept=NO_CROPS)
    assert result.variants == []
    assert [len(run.latent) for run in backend.runs] == [1, 1]


def test_variants_know_their_image_of_a_batch():
    segs = ((30, 60), [
        of_image(make_seg(LEFT), BatchImage(0, 2)), of_image(make_seg(RIGHT), BatchImage(1, 2)),
    ])  # fmt: skip
    result, _ = run(noise_image(2, 30, 60), segs, variants=2)
    assert [(seg.batch_image, seg.variant.number) for seg in result.variants] == [
        (BatchImage(0, 2), 0), (BatchImage(0, 2), 1), (BatchImage(1, 2), 0), (BatchImage(1, 2), 1),
    ]  # fmt: skip
    assert result.variant_segs[0] == (30, 60)


def test_a_variant_that_fails_is_left_out_and_told():
    def draw(run):
        new = fill(0.75)(run)
        if run.seed == 7 + STEP:
            new[..., 0, 0] = torch.nan
        return new

    backend = FakeBackend(draw)
    with collected_notes() as notes:
        result, _ = run(noise_image(1, 30, 60), variants=3, backend=backend, batch=1)
    assert list(named(result.variants)) == [(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [note.text.split(":")[0] for note in notes] == ["There is no variant 1 of segment 0"]


def test_without_pasting_the_segments_carry_the_first_variant():
    image = noise_image(1, 30, 60)
    alone = detail_segs(image, TWO, make_detail(seed=7), FakeBackend(grain))
    detail = make_detail(seed=7, kept=KEPT, variants=2)
    several = detail_segs(image, TWO, detail, FakeBackend(grain), batch_size=2)
    for one, other in zip(alone.segs[1], several.segs[1], strict=False):
        np.testing.assert_array_equal(one.cropped_image, other.cropped_image)
    assert len(several.segs[1]) == 4
    assert [seg.variant for seg in several.variants] == [
        Variant(0, 0, 8), Variant(0, 1, 8 + STEP), Variant(1, 0, 8), Variant(1, 1, 8 + STEP),
        Variant(0, 2, 9), Variant(0, 3, 9 + STEP), Variant(1, 2, 9), Variant(1, 3, 9 + STEP),
    ]  # fmt: skip


def test_versions_of_masks_have_variants_each():
    detail = make_detail(seed=7, kept=KEPT, variants=2)
    image = noise_image(1, 30, 60)
    result = detail_versions(image, [TWO], detail, FakeBackend(grain), 2)
    assert [(seg.batch_image.index, *vars(seg.variant).values()) for seg in result.variants] == [
        (0, 0, 0, 7), (0, 0, 1, 7 + STEP), (0, 1, 0, 8), (0, 1, 1, 8 + STEP),
        (1, 0, 0, 8), (1, 0, 1, 8 + STEP), (1, 1, 0, 9), (1, 1, 1, 9 + STEP),
    ]  # fmt: skip


@pytest.mark.parametrize("pasted", [True, False])
def test_clips_have_variants_of_all_frames(pasted):
    frames = noise_image(3, 30, 60)
    once, several = (
        detail_frames(
            frames, TWO, make_detail(seed=7, kept=KEPT, variants=count), FakeBackend(grain),
            pasted=pasted,
        )
        for count in (1, 2)
    )  # fmt: skip
    assert torch.equal(once.image, several.image)
    assert [seg.variant for seg in several.variants] == [
        Variant(0, 0, 7), Variant(0, 1, 7 + STEP), Variant(1, 0, 7), Variant(1, 1, 7 + STEP),
    ]  # fmt: skip
    assert {seg.cropped_image.shape for seg in several.variants} == {(3, 10, 20, 3)}
    np.testing.assert_array_equal(several.segs[1][0].cropped_image, once.segs[1][0].cropped_image)
