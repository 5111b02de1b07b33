"""Combining SEGS, and changing them."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import torch
from detailers.core.geometry import Box
from detailers.core.pixels.mask import dilate, feather
from detailers.core.segs.edit import (
    assign_labels,
    both,
    change_mask,
    change_masks,
    combine_with_mask,
    combine_with_masks,
    combine_with_segs,
    concat,
    edit_seg,
    merge,
    scale_bbox,
    set_pictures,
    without,
    without_pictures,
)
from detailers.core.segs.seg import SEG
from detailers.tests.fake_backend import make_seg, ramp_image

OtherSeg = namedtuple("OtherSeg", "cropped_image cropped_mask confidence crop_region bbox label")
EMPTY = ((0, 0), [])

NET = SimpleNamespace(apply=lambda positive, negative, image, mask: (positive, negative, []))


def other_pack(region):
    x1, y1, x2, y2 = region
    return OtherSeg(None, torch.ones(y2 - y1, x2 - x1), 0.5, region, region, "other")


def picture(height, width, batch=1):
    return np.full((batch, height, width, 3), 0.5, np.float32)


def block(height, width, *boxes):
    mask = torch.zeros(1, height, width)
    for x1, y1, x2, y2 in boxes:
        mask[:, y1:y2, x1:x2] = 1
    return mask


def covered(seg):
    """The pixels of a SEG's mask that are not 0, as (x, y) in its region."""
    return {(int(x), int(y)) for y, x in np.argwhere(seg.cropped_mask)}


def rectangle(x1, y1, x2, y2):
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


# Together


def test_segments_of_several_segs_follow_one_another():
    a, b, c = (make_seg((x, 0, x + 2, 2)) for x in (0, 2, 4))
    header, items = concat([((6, 9), [a, b]), EMPTY, ((6, 9), [c])])
    assert header == (6, 9)
    assert [id(seg) for seg in items] == [id(seg) for seg in (a, b, c)]


def test_segments_of_another_image_size_are_brought_to_the_first():
    header, items = concat([EMPTY, ((10, 20), []), ((5, 40), [make_seg((4, 1, 8, 3))])])
    assert header == (10, 20)
    assert items[0].crop_region == (2, 2, 4, 6)
    assert items[0].cropped_mask.shape == (4, 2)


def test_nothing_and_nothing_is_nothing():
    assert concat([EMPTY, EMPTY]) == EMPTY


def test_merging_makes_one_segment_that_holds_all():
    first = make_seg((0, 0, 4, 4), bbox=(1, 1, 2, 2), image=picture(4, 4), control=NET)
    second = make_seg((6, 2, 8, 4), bbox=(6, 3, 7, 4))._replace(confidence=0.25)
    header, (one,) = merge(((10, 9), [first, second]))
    assert header == (10, 9)
    assert one[0] is None
    assert one.crop_region == (0, 0, 8, 4)
    assert one.bbox == (1, 1, 7, 4)
    assert (one.confidence, one.label, one.control_net_wrapper) == (0.25, "merged", None)
    assert covered(one) == rectangle(0, 0, 4, 4) | rectangle(6, 2, 8, 4)


def test_merging_keeps_the_frames_of_clips():
    frames = np.zeros((3, 2, 2), np.float32)
    frames[1] = 1
    _, (one,) = merge(((9, 9), [make_seg((0, 0, 2, 2), mask=frames), make_seg((2, 0, 4, 2))]))
    assert one.cropped_mask.shape == (3, 2, 4)
    assert one.cropped_mask[:, 0].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]


def test_merging_nothing_or_what_is_outside_the_image_gives_nothing():
    assert merge(((6, 9), [])) == ((6, 9), [])
    assert merge(((6, 9), [make_seg((20, 20, 22, 22))])) == ((6, 9), [])


# Labels and pictures


def test_labels_go_to_the_segments_in_order():
    segs = ((9, 9), [make_seg((0, 0, 2, 2), label=label) for label in "abc"])
    assert [seg.label for seg in assign_labels(segs, " x ,\n犬")[1]] == ["x", "犬", "c"]
    assert [seg.label for seg in assign_labels(segs, "1,2,3,4")[1]] == ["1", "2", "3"]
    assert [seg.label for seg in assign_labels(segs, "1\n2,\n\n 3 \n")[1]] == ["1", "2", "3"]
    assert [seg.label for seg in assign_labels(segs, "1,,3")[1]] == ["1", "", "3"]
    assert [seg.label for seg in assign_labels(segs, " \n")[1]] == ["a", "b", "c"]
    assert assign_labels(EMPTY, "a") == EMPTY
    assert [seg.label for seg in segs[1]] == ["a", "b", "c"]


def test_segments_of_other_packs_take_labels_and_lose_pictures():
    segs = ((9, 9), [other_pack((0, 0, 2, 2))])
    assert assign_labels(segs, "new")[1][0].label == "new"
    (bare,) = without_pictures(segs)[1]
    assert bare.cropped_image is None
    assert bare.control_net_wrapper is None


def test_segments_get_their_regions_of_an_image_as_pictures():
    image = ramp_image(2, 6, 9)
    own = picture(2, 2)
    segs = ((6, 9), [make_seg((1, 2, 5, 4), control=NET), make_seg((0, 0, 2, 2), image=own)])
    _, (first, second) = set_pictures(segs, image, override=False)
    np.testing.assert_array_equal(first.cropped_image, image[:, 2:4, 1:5])
    assert first.control_net_wrapper is NET
    assert second.cropped_image is own
    _, (_, second) = set_pictures(segs, image, override=True)
    np.testing.assert_array_equal(second.cropped_image, image[:, :2, :2])


def test_pictures_are_copies():
    image = ramp_image(1, 6, 9)
    _, (seg,) = set_pictures(((6, 9), [make_seg((0, 0, 9, 6))]), image, override=True)
    before = image.numpy().copy()
    image.zero_()
    assert np.array_equal(seg.cropped_image, before)


def test_setting_pictures_brings_the_segments_to_the_images_size():
    header, (seg,) = set_pictures(
        ((5, 9), [make_seg((3, 1, 6, 2))]), ramp_image(1, 10, 3), override=True
    )
    assert header == (10, 3)
    assert seg.crop_region == (1, 2, 2, 4)
    assert seg.cropped_image.shape == (1, 2, 1, 3)


def test_pictures_are_removed():
    segs = ((9, 9), [make_seg((0, 0, 2, 2), image=picture(2, 2), control=NET)])
    (seg,) = without_pictures(segs)[1]
    assert seg.cropped_image is None
    assert seg.control_net_wrapper is NET


# Masks


def test_masks_are_dilated_within_their_regions():
    mask = np.zeros((5, 7), np.float32)
    mask[2, 0] = mask[2, 5] = 1
    segs = ((20, 20), [make_seg((3, 3, 10, 8), mask=mask, control=NET)])
    (seg,) = change_masks(segs, lambda mask: dilate(mask, 3))[1]
    assert covered(seg) == rectangle(0, 1, 2, 4) | rectangle(4, 1, 7, 4)
    assert seg.control_net_wrapper is NET
    assert segs[1][0].cropped_mask.sum() == 2  # what came in is left alone


def test_clips_are_changed_frame_by_frame():
    frames = np.zeros((2, 9, 9), np.float32)
    frames[0, 4, 4] = 1
    (seg,) = change_masks(
        ((9, 9), [make_seg((0, 0, 9, 9), mask=frames)]), lambda mask: feather(mask, 1, 10.0)
    )[1]
    assert seg.cropped_mask.shape == (2, 9, 9)
    assert covered(seg._replace(cropped_mask=seg.cropped_mask[0])) == rectangle(3, 3, 6, 6)
    assert not seg.cropped_mask[1].any()


def test_masks_of_other_packs_may_be_tensors():
    (seg,) = change_masks(((9, 9), [other_pack((0, 0, 2, 3))]), lambda mask: mask / 2)[1]
    assert isinstance(seg, SEG)
    assert seg.cropped_mask.dtype == np.float32
    assert (seg.cropped_mask == 0.5).all()


def test_a_segment_outside_the_image_is_left_out_of_changes():
    segs = ((9, 9), [make_seg((20, 20, 24, 24))])
    for changed in (
        change_masks(segs, lambda mask: dilate(mask, 3)),
        combine_with_mask(segs, torch.ones(1, 9, 9), both),
    ):
        assert changed[0] == (9, 9)
        (seg,) = changed[1]
        assert (seg.label, seg.cropped_image, Box.of(seg.crop_region).empty) == ("A", None, True)


def test_a_mask_limits_the_segments_masks():
    grey = np.full((4, 4), 0.5, np.float32)
    segs = ((8, 8), [make_seg((2, 2, 6, 6), mask=grey, control=NET), make_seg((0, 0, 2, 2))])
    mask = block(8, 8, (4, 0, 8, 8)) * 0.75
    first, second = combine_with_mask(segs, mask, both)[1]
    assert covered(first) == rectangle(2, 0, 4, 4)
    assert first.cropped_mask.max() == 0.5
    assert first.control_net_wrapper is NET
    assert not second.cropped_mask.any()  # it keeps its place


def test_a_mask_of_another_size_is_brought_to_the_segments():
    segs = ((8, 4), [make_seg((0, 0, 4, 8))])
    (seg,) = combine_with_mask(segs, block(16, 4, (0, 8, 4, 16)), both)[1]
    column = [0, 0, 0, 1 / 8, 7 / 8, 1, 1, 1]  # resized linearly, with the averaging of half size
    assert np.allclose(seg.cropped_mask, np.array(column)[:, None], atol=1e-6)


def test_segments_that_say_no_size_take_the_masks():
    header, (seg,) = combine_with_mask(
        ((0, 0), [make_seg((2, 2, 6, 6))]), block(8, 9, (4, 0, 9, 8)), both
    )
    assert header == (8, 9)
    assert covered(seg) == rectangle(2, 0, 4, 4)


def test_masks_of_frames_go_with_frames():
    frames = np.ones((2, 2, 2), np.float32)
    masks = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])
    clip, still = combine_with_mask(
        ((4, 4), [make_seg((0, 0, 2, 2), mask=frames), make_seg((0, 0, 2, 2))]), masks, both
    )[1]
    for seg in (clip, still):
        assert seg.cropped_mask.shape == (2, 2, 2)
        assert seg.cropped_mask.sum((1, 2)).tolist() == [0, 4]
    three = torch.stack([torch.zeros(4, 4), torch.zeros(4, 4), block(4, 4, (0, 0, 1, 4))[0]])
    (clip,) = combine_with_mask(((4, 4), [make_seg((0, 0, 2, 2), mask=frames)]), three, both)[1]
    assert clip.cropped_mask.sum((1, 2)).tolist() == [2, 2]  # united


def test_each_segment_has_a_mask_of_its_own():
    segs = ((4, 8), [make_seg((0, 0, 4, 4)), make_seg((4, 0, 8, 4)), make_seg((0, 0, 2, 2))])
    masks = torch.cat([block(4, 8, (0, 0, 8, 1)), block(4, 8, (0, 0, 5, 4))])
    first, second = combine_with_masks(segs, masks, both)[1]  # none for the third
    assert covered(first) == rectangle(0, 0, 4, 1)
    assert covered(second) == rectangle(0, 0, 1, 4)


def test_segments_are_limited_to_what_all_others_cover():
    segs = ((9, 20), [make_seg((0, 0, 10, 4), control=NET), make_seg((15, 5, 20, 9))])
    others = ((9, 20), [make_seg((0, 0, 2, 4)), make_seg((8, 0, 12, 2))])
    header, (seg,) = combine_with_segs(segs, others, both)  # the second shares nothing
    assert header == (9, 20)
    assert seg.crop_region == (0, 0, 10, 4)
    assert seg.control_net_wrapper is NET
    assert covered(seg) == rectangle(0, 0, 2, 4) | rectangle(8, 0, 10, 2)


def test_others_are_cut_out_of_segments():
    segs = ((9, 20), [make_seg((0, 0, 10, 4)), make_seg((15, 5, 20, 9)), make_seg((8, 0, 10, 2))])
    others = ((18, 20), [make_seg((8, 0, 12, 4))])  # of an image twice as high
    first, second = combine_with_segs(segs, others, without)[1]  # nothing is left of the third
    assert covered(first) == rectangle(0, 0, 8, 4) | rectangle(8, 2, 10, 4)
    assert covered(second) == rectangle(0, 0, 5, 4)


def test_nothing_limits_or_cuts_nothing():
    segs = ((9, 9), [make_seg((0, 0, 2, 2))])
    assert combine_with_segs(segs, EMPTY, both)[1] == []
    assert len(combine_with_segs(segs, EMPTY, without)[1]) == 1
    assert combine_with_segs(EMPTY, segs, both) == EMPTY
    assert combine_with_mask(((9, 9), []), torch.ones(1, 9, 9), both) == ((9, 9), [])


def test_subtracting_leaves_what_is_lighter():
    grey = np.full((2, 2), 0.75, np.float32)
    segs = ((2, 2), [make_seg((0, 0, 2, 2), mask=grey)])
    others = ((2, 2), [make_seg((0, 0, 2, 1), mask=np.full((1, 2), 0.5, np.float32))])
    (seg,) = combine_with_segs(segs, others, without)[1]
    assert seg.cropped_mask.tolist() == [[0.25, 0.25], [0.75, 0.75]]


# One segment


def test_a_box_is_scaled_about_its_centre_and_empties_the_mask_around_it():
    seg = scale_bbox(make_seg((10, 10, 30, 20), bbox=(16, 12, 24, 16), control=NET), 0.5)
    assert seg.bbox == (18, 13, 22, 15)
    assert seg.crop_region == (10, 10, 30, 20)
    assert covered(seg) == rectangle(8, 3, 12, 5)
    assert seg.control_net_wrapper is NET


def test_a_box_grows_no_further_than_its_crop_region():
    seg = scale_bbox(make_seg((10, 10, 30, 20), bbox=(16, 12, 24, 16)), 4)
    assert seg.bbox == (10, 10, 30, 20)
    assert seg.cropped_mask.all()


def test_a_box_never_vanishes():
    assert scale_bbox(make_seg((0, 0, 9, 9), bbox=(3, 3, 6, 4)), 0.01).bbox == (4, 3, 5, 4)


def test_the_masks_of_a_clip_are_emptied_in_every_frame():
    frames = np.ones((2, 4, 4), np.float32)
    seg = scale_bbox(make_seg((0, 0, 4, 4), mask=frames), 0.5)
    assert seg.cropped_mask.sum((1, 2)).tolist() == [4, 4]


def test_the_mask_of_one_segment_is_changed():
    seg = change_mask(other_pack((5, 5, 8, 9)), lambda mask: mask * 0.5)
    assert (seg.cropped_mask == 0.5).all()
    assert seg.crop_region == (5, 5, 8, 9)


def test_what_is_given_replaces_the_rest_stays():
    seg = make_seg((0, 0, 4, 4), control=NET)
    changed = edit_seg(
        seg, torch.ones(2, 4, 4, 3), torch.zeros(1, 4, 4), label="new", confidence=None,
        bbox=(1, 1, 2, 2),
    )  # fmt: skip
    assert changed.cropped_image.shape == (2, 4, 4, 3)
    assert changed.cropped_mask.shape == (4, 4)
    assert not changed.cropped_mask.any()
    assert (changed.label, changed.confidence, changed.bbox) == ("new", 1.0, (1, 1, 2, 2))
    assert changed.control_net_wrapper is NET
    assert edit_seg(seg, mask=torch.zeros(3, 4, 4)).cropped_mask.shape == (3, 4, 4)


def test_of_a_mask_of_the_whole_image_a_segment_takes_its_part():
    seg = make_seg((2, 1, 6, 4))
    whole = torch.arange(80.0).reshape(1, 8, 10) / 80
    assert np.array_equal(edit_seg(seg, mask=whole).cropped_mask, whole[0, 1:4, 2:6])
    moved = edit_seg(seg, mask=whole, crop_region=(0, 0, 3, 2))
    assert np.array_equal(moved.cropped_mask, whole[0, :2, :3])
    clip = edit_seg(seg, mask=whole.expand(5, 8, 10))
    assert clip.cropped_mask.shape == (5, 3, 4)
    small = torch.ones(1, 2, 2)  # of no image that the region lies in
    assert edit_seg(seg, mask=small).cropped_mask.shape == (2, 2)


def test_what_is_given_to_a_segment_is_copied():
    image, mask = torch.ones(1, 4, 4, 3), torch.ones(1, 4, 4)
    seg = edit_seg(make_seg((0, 0, 4, 4)), image, mask)
    seg.cropped_image[:], seg.cropped_mask[:] = 7, 7
    assert image.unique().tolist() == mask.unique().tolist() == [1.0]
