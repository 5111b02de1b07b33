"""Boxes, crop regions, working sizes and padding."""

import pytest
from detailers.core.geometry import (
    NATIVE,
    Box,
    Size,
    Sizing,
    Skip,
    crop_region,
    padding,
    within,
    working_size,
)
from hypothesis import assume, given
from hypothesis import strategies as st

sizes = st.builds(Size, st.integers(1, 3000), st.integers(1, 3000))


@st.composite
def boxes_in(draw, size):
    x1, y1 = draw(st.integers(0, size.width - 1)), draw(st.integers(0, size.height - 1))
    x2, y2 = draw(st.integers(x1 + 1, size.width)), draw(st.integers(y1 + 1, size.height))
    return Box(x1, y1, x2, y2)


image_and_box = sizes.flatmap(lambda size: st.tuples(st.just(size), boxes_in(size)))


# Box


def test_box_measures_itself():
    box = Box(1, 2, 6, 9)
    assert (box.width, box.height, box.size, box.area) == (5, 7, Size(5, 7), 35)
    assert not box.empty
    assert Box(3, 3, 3, 9).empty


def test_a_box_turned_inside_out_is_empty():
    assert Box(5, 5, 2, 9).area == 0


def test_box_of_numbers_cuts_fractions_off():
    assert Box.of([1.9, 2.0, 6.5, 9.2]) == Box(1, 2, 6, 9)
    assert Box.of(Box(1, 2, 6, 9).as_tuple()) == Box(1, 2, 6, 9)


@pytest.mark.parametrize("values", [(1, 2, 3), (1, 2, 3, float("nan")), None, "abcd"])
def test_box_of_anything_else_is_an_error(values):
    with pytest.raises(ValueError, match="four finite numbers"):
        Box.of(values)


def test_clipping_keeps_the_part_inside():
    assert Box(-3, 2, 4, 99).clipped(Size(5, 7)) == Box(0, 2, 4, 7)
    assert Box(1, 2, 4, 6).clipped(Size(5, 7)) == Box(1, 2, 4, 6)


@pytest.mark.parametrize("box", [Box(5, 0, 9, 7), Box(-9, 0, 0, 7), Box(0, 7, 5, 8)])
def test_clipping_a_box_outside_leaves_nothing_inside_the_image(box):
    clipped = box.clipped(Size(5, 7))
    assert clipped.empty
    assert Box(0, 0, 5, 7).contains(clipped)


def test_boxes_that_only_touch_do_not_intersect():
    assert not Box(0, 0, 4, 4).intersects(Box(4, 0, 8, 4))
    assert Box(0, 0, 4, 4).intersects(Box(3, 3, 8, 8))
    assert not Box(0, 0, 4, 4).intersects(Box(3, 4, 8, 8))


def test_union_shift_and_contains():
    assert Box(0, 5, 2, 6).union(Box(1, 0, 3, 2)) == Box(0, 0, 3, 6)
    assert Box(1, 2, 3, 4).shifted(-1, 10) == Box(0, 12, 2, 14)
    assert Box(0, 0, 5, 7).contains(Box(0, 0, 5, 7))
    assert not Box(0, 0, 5, 7).contains(Box(0, 0, 5, 8))


def test_box_scales_each_axis_by_its_own_factor():
    assert Box(512, 0, 1024, 256).scaled(Size(1024, 512), Size(512, 512)) == Box(256, 0, 512, 256)
    assert Box(10, 20, 30, 50).scaled(Size(100, 200), Size(300, 400)) == Box(30, 40, 90, 100)


def test_a_pixel_does_not_vanish_in_scaling():
    assert Box(3, 3, 4, 4).scaled(Size(8, 8), Size(2, 4)) == Box(0, 1, 1, 2)
    assert Box(7, 7, 8, 8).scaled(Size(8, 8), Size(1, 1)) == Box(0, 0, 1, 1)


@given(image_and_box, sizes)
def test_scaled_boxes_stay_inside_and_never_empty(pair, new):
    size, box = pair
    scaled = box.scaled(size, new)
    assert not scaled.empty
    assert scaled.clipped(new) == scaled


@given(image_and_box, st.integers(1, 5), st.integers(1, 5))
def test_enlarging_by_whole_factors_and_back_is_exact(pair, fx, fy):
    size, box = pair
    large = Size(size.width * fx, size.height * fy)
    scaled = box.scaled(size, large)
    assert scaled == Box(box.x1 * fx, box.y1 * fy, box.x2 * fx, box.y2 * fy)
    assert scaled.scaled(large, size) == box


# Crop region


@pytest.mark.parametrize(
    ("bbox", "factor", "region"),
    [  # the regions that ComfyUI-Impact-Pack gives in an image of 256x168
        (Box(90, 52, 154, 116), 2.0, Box(58, 20, 186, 148)),
        (Box(26, 32, 66, 72), 2.0, Box(6, 12, 86, 92)),
        (Box(200, 30, 232, 62), 2.0, Box(184, 14, 248, 78)),
        (Box(90, 52, 154, 116), 3.0, Box(26, 0, 218, 168)),
        (Box(26, 32, 66, 72), 3.0, Box(0, 0, 120, 120)),
        (Box(200, 30, 232, 62), 3.0, Box(160, 0, 256, 96)),
        (Box(26, 30, 231, 115), 2.0, Box(0, 0, 256, 168)),
    ],
)
def test_crop_regions_of_shared_workflows(bbox, factor, region):
    assert crop_region(bbox, Size(256, 168), factor) == region


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_a_region_is_never_smaller_than_its_box(factor):
    assert crop_region(Box(10, 20, 40, 31), Size(100, 50), factor) == Box(10, 20, 40, 31)


def test_region_is_shifted_rather_than_shrunk():
    assert crop_region(Box(0, 0, 10, 20), Size(100, 50), 2.0) == Box(0, 0, 20, 40)
    assert crop_region(Box(90, 30, 100, 50), Size(100, 50), 2.0) == Box(80, 10, 100, 50)


def test_region_has_at_least_the_minimum_size():
    assert crop_region(Box(40, 20, 50, 25), Size(100, 50), 2.0, 16) == Box(35, 14, 55, 30)
    assert crop_region(Box(40, 20, 50, 25), Size(100, 12), 1.0, 99).height == 12


def test_a_cut_off_fraction_does_not_leave_the_box_outside():
    # 3 * 1.1 = 3.3 pixels from 9.85 on would end at 12
    assert crop_region(Box(10, 10, 13, 13), Size(50, 60), 1.1) == Box(10, 10, 13, 13)


@given(image_and_box, st.floats(1.0, 100.0), st.one_of(st.none(), st.integers(0, 4000)))
def test_region_lies_inside_and_contains_the_box(pair, factor, min_size):
    size, box = pair
    region = crop_region(box, size, factor, min_size)
    assert region.clipped(size) == region
    assert region.contains(box)


@given(image_and_box, st.floats(1.0, 100.0), st.one_of(st.none(), st.integers(0, 4000)))
def test_region_keeps_its_sides_unless_longer_than_the_image(pair, factor, min_size):
    size, box = pair
    region = crop_region(box, size, factor, min_size)
    for side, own, limit in zip(region.size, box.size, size, strict=True):
        wanted = max(own * factor, min_size or 0)
        assert side == limit if wanted >= limit else wanted - 1 < side < wanted + 1


# Working size


def test_scale_comes_from_the_box_or_from_the_crop():
    bbox, crop = Box(10, 10, 42, 26), Box(0, 0, 64, 40)
    assert working_size(bbox, crop, Sizing(64, True, 4096)) == Size(256, 160)
    assert working_size(bbox, crop, Sizing(80, False, 4096)) == Size(128, 80)


def test_max_size_limits_the_longer_side_and_keeps_the_shape():
    bbox, crop = Box(10, 10, 26, 18), Box(0, 0, 40, 20)
    assert working_size(bbox, crop, Sizing(64, True, 100)) == Size(100, 50)


@pytest.mark.parametrize(
    ("bbox", "crop", "sizing", "word"),
    [
        (Box(0, 0, 64, 70), Box(0, 0, 90, 90), Sizing(64, True, 768), "at least guide_size 64"),
        (Box(0, 0, 20, 99), Box(0, 0, 90, 99), Sizing(64, False, 768), "not be enlarged"),
        (Box(0, 0, 20, 20), Box(0, 0, 90, 90), Sizing(64, True, 80), "not be enlarged"),
        (Box(0, 0, 0, 20), Box(0, 0, 90, 90), Sizing(64, True, 768, True), "empty"),
        (Box(0, 0, 20, 20), Box(5, 5, 5, 90), Sizing(64, True, 768, True), "empty"),
    ],
)
def test_skipped_with_a_reason(bbox, crop, sizing, word):
    skip = working_size(bbox, crop, sizing)
    assert isinstance(skip, Skip)
    assert word in skip.reason


def test_a_box_short_on_one_side_is_worked_on():
    assert working_size(Box(0, 0, 32, 99), Box(0, 0, 50, 99), Sizing(64, True, 768)) == Size(
        100, 198
    )


def test_force_inpaint_works_at_the_crops_own_size():
    bbox, crop = Box(0, 0, 100, 90), Box(0, 0, 130, 120)
    assert working_size(bbox, crop, Sizing(64, True, 768, True)) == Size(130, 120)


def test_max_size_holds_with_force_inpaint_too():
    bbox, crop = Box(0, 0, 900, 900), Box(0, 0, 2000, 1000)
    assert working_size(bbox, crop, Sizing(512, True, 768, True)) == Size(768, 384)
    assert working_size(Box(0, 0, 900, 1), Box(0, 0, 4000, 1), Sizing(0, True, 768, True)) == Size(
        768, 1
    )


def test_a_crop_that_has_its_size_already_is_not_enlarged():
    bbox, crop = Box(5, 5, 15, 15), Box(0, 0, 64, 100)
    skipped = working_size(bbox, crop, Sizing(64, guide_size_for_bbox=False))
    assert "would not be enlarged: scale 1.000" in skipped.reason
    assert working_size(bbox, crop, Sizing(65, guide_size_for_bbox=False)) == Size(65, 101)
    assert working_size(bbox, crop, Sizing(64, False, force_inpaint=True)) == Size(64, 100)


@pytest.mark.parametrize(
    ("grid", "limit", "size"),
    [
        (0, 768, (130, 121)), (1, 768, (130, 121)), (8, 768, (136, 128)), (64, 768, (192, 128)),
        (64, 150, (128, 128)),  # up would exceed max_size
        (512, 300, (130, 121)),  # no multiple of it fits
    ],
)  # fmt: skip
def test_a_grid_rounds_the_working_size_up(grid, limit, size):
    sizing = Sizing(64, True, limit, force_inpaint=True, grid=grid)
    assert working_size(Box(0, 0, 100, 90), Box(0, 0, 130, 121), sizing) == size


def native(side=512, max_size=4096, force=True, grid=8):
    return Sizing(999, True, max_size, force, grid, NATIVE, side * side)


@pytest.mark.parametrize(
    ("crop", "size"),
    [
        (Size(100, 100), Size(512, 512)),  # enlarged
        (Size(1600, 1600), Size(512, 512)),  # shrunk
        (Size(200, 100), Size(728, 360)),
        (Size(90, 210), Size(336, 784)),
        (Size(512, 512), Size(512, 512)),
    ],
)
def test_the_models_area_is_what_every_crop_is_brought_to(crop, size):
    found = working_size(Box(5, 5, 30, 30), Box(0, 0, *crop), native())
    assert found == size
    assert found.width / found.height == pytest.approx(crop.width / crop.height, rel=0.03)
    assert found.width * found.height == pytest.approx(512 * 512, rel=0.03)


def test_max_size_holds_for_the_models_area_too():
    size = working_size(Box(5, 5, 30, 30), Box(0, 0, 400, 100), native(max_size=700))
    assert size == Size(696, 176)


def test_without_force_what_has_the_models_area_is_skipped():
    large, small = Box(0, 0, 600, 600), Box(0, 0, 500, 500)
    assert working_size(large, large, native(force=False)).reason == (
        "its crop of 600x600 would not be enlarged: scale 0.853 to the model's area of 262144 "
        "pixels at max_size 4096 (force_inpaint is off)"
    )
    assert working_size(small, small, native(force=False)) == Size(512, 512)


@given(image_and_box, st.integers(64, 2048), st.integers(16, 2048), st.sampled_from([1, 8, 64]))
def test_the_models_area_never_exceeds_max_size_and_keeps_to_the_grid(pair, side, limit, grid):
    _, crop = pair
    size = working_size(crop, crop, native(side, limit, grid=grid))
    assert max(size) <= limit
    if grid <= limit:
        assert min(size) >= grid
        assert not any(length % grid for length in size)


def test_a_grid_holds_for_enlarged_crops_too():
    bbox, crop = Box(10, 10, 42, 26), Box(0, 0, 64, 40)
    assert working_size(bbox, crop, Sizing(64, True, 4096, grid=96)) == Size(288, 192)


@given(
    image_and_box,
    st.floats(1.0, 5.0),
    st.floats(1, 2048),
    st.floats(1, 2048),
    st.booleans(),
    st.booleans(),
)
def test_working_size_has_pixels_and_never_exceeds_max_size(
    pair, factor, guide, max_size, for_bbox, force
):
    image, bbox = pair
    crop = crop_region(bbox, image, factor)
    size = working_size(bbox, crop, Sizing(guide, for_bbox, max_size, force))
    assert not (force and isinstance(size, Skip))
    assume(isinstance(size, Size))
    assert min(size) >= 1
    assert max(size) <= max_size
    if not force:
        assert max(size) >= max(crop.size)


@pytest.mark.parametrize(
    ("size", "longest", "shrunk"),
    [
        ((640, 480), 320, (320, 240)),
        ((100, 480), 240, (50, 240)),
        ((100, 90), 100, (100, 90)),
        ((1000, 1), 100, (100, 1)),
    ],
)
def test_a_size_within_a_longest_side_keeps_its_proportions(size, longest, shrunk):
    assert within(Size(*size), longest) == Size(*shrunk)


# Padding


def test_padding_goes_to_the_right_and_the_bottom():
    assert padding(Size(5, 7), 8) == (0, 3, 0, 1)
    assert padding(Size(16, 8), 8) == (0, 0, 0, 0)
    assert padding(Size(17, 33), 16) == (0, 15, 0, 15)
    assert padding(Size(5, 7), 1) == (0, 0, 0, 0)


def test_the_overlap_of_boxes():
    box = Box(0, 0, 10, 10)
    assert box.iou(box) == 1
    assert box.iou(Box(5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert box.iou(Box(10, 0, 20, 10)) == 0
    assert Box(3, 3, 3, 3).iou(Box(4, 4, 4, 4)) == 0  # both are empty
