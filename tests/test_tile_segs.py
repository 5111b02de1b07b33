"""Tiles: their places, and that together they cover everything."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from detailers.core.geometry import Size
from detailers.core.segs.tile_segs import IRREGULAR_MODES, TileLayout, covered, tile_segs
from detailers.tests.fake_backend import make_seg
from hypothesis import given, settings
from hypothesis import strategies as st


def tiles(size, bbox_size, overlap=5, crop_factor=1.0, irregularity=0.0, mode="Reuse fast", **more):
    layout = TileLayout(bbox_size, crop_factor, overlap, irregularity, mode)
    return tile_segs(Size(*size), layout, **more)


def united(segs):
    """How many tiles cover each pixel [H,W]."""
    (height, width), items = segs
    result = np.zeros((height, width), int)
    for seg in items:
        x1, y1, x2, y2 = seg.crop_region
        result[y1:y2, x1:x2] += seg.cropped_mask > 0
    return result


def boxes(segs):
    return [seg.bbox for seg in segs[1]]


def test_tiles_go_row_by_row_with_equal_overlaps():
    header, items = tiles((1024, 768), 512)
    assert header == (768, 1024)
    assert [seg.bbox for seg in items] == [
        (x, y, x + 512, y + 512) for y in (0, 256) for x in (0, 256, 512)
    ]
    seg = items[0]
    assert seg.cropped_image is None
    assert (seg.confidence, seg.label, seg.control_net_wrapper) == (1.0, "", None)
    assert seg.cropped_mask.dtype == np.float32
    assert seg.cropped_mask.all()


def test_a_tile_has_a_crop_region_around_it_within_the_image():
    seg = tiles((1024, 768), 512, crop_factor=1.5)[1][0]
    assert seg.crop_region == (0, 0, 768, 768)
    assert seg.cropped_mask.shape == (768, 768)
    assert seg.cropped_mask.sum() == 512 * 512
    assert seg.cropped_mask[:512, :512].all()


def test_tiles_are_no_larger_than_the_images_shorter_side():
    assert boxes(tiles((300, 100), 512, overlap=10)) == [
        (x, 0, x + 100, 100) for x in (0, 66, 133, 200)
    ]
    assert boxes(tiles((20, 20), 512)) == [(0, 0, 20, 20)]


def test_the_overlap_is_half_a_tile_at_most():
    assert boxes(tiles((128, 64), 64, overlap=512)) == [(x, 0, x + 64, 64) for x in (0, 21, 42, 64)]


layouts = st.tuples(
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(64, 200),
    st.integers(0, 120),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(IRREGULAR_MODES),
)


@settings(max_examples=40, deadline=None)
@given(layouts)
def test_together_tiles_cover_every_pixel(drawn):
    width, height, bbox_size, overlap, irregularity, mode = drawn
    segs = tiles((width, height), bbox_size, overlap, irregularity=irregularity, mode=mode)
    assert united(segs).all()
    for x1, y1, x2, y2 in boxes(segs):
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height


@settings(max_examples=40, deadline=None)
@given(st.integers(64, 900), st.integers(64, 200), st.integers(0, 120))
def test_neighbours_share_what_they_should(width, bbox_size, overlap):
    spans = sorted({(x1, x2) for x1, _, x2, _ in boxes(tiles((width, 300), bbox_size, overlap))})
    shared = [end - start for (_, end), (start, _) in pairwise(spans)]
    side = spans[0][1] - spans[0][0]
    assert min(shared, default=side) >= min(overlap, side // 2)
    assert max(shared, default=0) - min(shared, default=0) <= 1


# Irregular edges


@pytest.mark.parametrize("mode", IRREGULAR_MODES)
def test_irregular_tiles_are_the_same_every_time_and_not_rectangles(mode):
    first = tiles((600, 600), 256, 64, irregularity=0.7, mode=mode)
    second = tiles((600, 600), 256, 64, irregularity=0.7, mode=mode)
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(a.cropped_mask, b.cropped_mask)
        assert set(np.unique(a.cropped_mask)) == {0, 1}
    inner = first[1][len(first[1]) // 2]
    columns = inner.cropped_mask.sum(0)
    assert len(np.unique(columns[columns > 0])) > 3


def test_no_global_random_state_is_touched():
    before = torch.get_rng_state()
    tiles((600, 600), 256, 64, irregularity=0.7, mode="All random fast")
    assert torch.equal(torch.get_rng_state(), before)


def middle_masks(mode):
    """The masks of tiles with a neighbour on every side."""
    segs = tiles((1200, 1200), 256, 64, irregularity=1.0, mode=mode)
    inner = [seg for seg in segs[1] if min(seg.bbox) > 0 and max(seg.bbox) < 1200]
    assert len(inner) >= 4
    return [seg.cropped_mask for seg in inner]


def test_reusing_gives_every_tile_the_same_edges_and_random_its_own():
    reused, random = middle_masks("Reuse fast"), middle_masks("All random fast")
    assert all((mask == reused[0]).all() for mask in reused)
    assert not any((mask == random[0]).all() for mask in random[1:])


def test_edges_wander_further_with_more_irregularity():
    def least(irregularity):
        segs = tiles((600, 600), 256, 64, irregularity=irregularity)
        return min(seg.cropped_mask.mean() for seg in segs[1])

    assert least(1.0) < least(0.5) < least(0.1) < 1


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match=r"'irregular_mask_mode' is 'Smooth'.*Reuse fast"):
        tiles((64, 64), 64, mode="Smooth")


# Filters


def mask_of(size, *box):
    return covered(
        ((size[1], size[0]), [make_seg(box)]), Size(*size), dilation=0, name="filter_in_segs_opt"
    )


def test_tiles_are_made_of_what_is_filtered_in():
    only = mask_of((512, 512), 100, 200, 300, 260)
    segs = tiles((512, 512), 128, only=only)
    assert boxes(segs) == [(x, 200, x + 64, 264) for x in (100, 145, 190, 236)]
    np.testing.assert_array_equal(united(segs) > 0, only[0] > 0)


def test_a_small_find_gets_a_tile_of_the_smallest_size_within_the_image():
    only = mask_of((512, 512), 500, 506, 510, 510)
    (seg,) = tiles((512, 512), 256, only=only)[1]
    assert seg.bbox == (448, 448, 512, 512)
    assert seg.cropped_mask.sum() == 10 * 4


def test_what_is_filtered_out_is_cut_out_and_empty_tiles_are_dropped():
    exclude = mask_of((256, 128), 0, 0, 140, 128)
    segs = tiles((256, 128), 128, overlap=0, exclude=exclude)
    assert boxes(segs) == [(128, 0, 256, 128)]
    np.testing.assert_array_equal(united(segs) > 0, exclude[0] == 0)


def test_irregular_tiles_cover_all_of_what_is_filtered_in():
    only = mask_of((700, 500), 60, 60, 640, 450)
    segs = tiles((700, 500), 128, 32, irregularity=1.0, mode="All random quality", only=only)
    np.testing.assert_array_equal(united(segs) > 0, only[0] > 0)


def test_nothing_filtered_in_gives_no_tiles():
    only = covered(((512, 512), []), Size(512, 512), 20, "filter_in_segs_opt")
    assert tiles((512, 512), 128, only=only) == ((512, 512), [])


def test_filters_are_dilated_and_brought_to_the_images_size():
    segs = ((50, 100), [make_seg((20, 20, 30, 30))])
    mask = covered(segs, Size(200, 50), 5, "filter_in_segs_opt")
    assert mask.shape == (1, 50, 200)
    assert torch.nonzero(mask[0].amax(0)).flatten()[[0, -1]].tolist() == [38, 61]
    assert torch.nonzero(mask[0].amax(1)).flatten()[[0, -1]].tolist() == [18, 31]
    assert not covered(segs, Size(100, 50), -20, "filter_in_segs_opt").any()


@pytest.mark.parametrize(("bbox_size", "overlap"), [(0, 0), (-5, 100), (1, -7)])
def test_tiles_of_no_size_are_of_one_pixel_and_not_without_number(bbox_size, overlap):
    assert len(tiles((12, 10), bbox_size, overlap)[1]) == 120
    with pytest.raises(ValueError, match=r"would be 1000000; the most is 65536\. .*'bbox_size'"):
        tiles((1000, 1000), bbox_size, overlap)
