"""SEGS from masks, SEGS at other sizes, masks from SEGS, and SEGS by label."""

import logging
from collections import namedtuple

import numpy as np
import pytest
import torch
from detailers.core.geometry import Box, Size
from detailers.core.segs import seg as segs_module
from detailers.core.segs.seg import (
    SEG,
    combined_mask,
    empty,
    filter_by_labels,
    from_mask,
    from_mask_frames,
    mask_list,
    normalise,
    scale_to,
)
from detailers.utils.notes import collected_notes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

OtherSeg = namedtuple("OtherSeg", "cropped_image cropped_mask confidence crop_region bbox label")


def rectangles(height, width, *boxes):
    mask = torch.zeros(height, width)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = 1
    return mask


def shapes(mask, combined=False, crop_factor=2.0, bbox_fill=False, drop_size=1, **options):
    return from_mask(mask, combined, crop_factor, bbox_fill, drop_size, **options)


def seg(region, mask=None, bbox=None, label="A", image=None):
    box = Box(*region)
    mask = np.ones((box.height, box.width), np.float32) if mask is None else mask
    return SEG(image, mask, 1.0, region, bbox or region, label)


def test_a_seg_has_the_fields_that_other_packs_expect():
    assert SEG._fields == (
        "cropped_image",
        "cropped_mask",
        "confidence",
        "crop_region",
        "bbox",
        "label",
        "control_net_wrapper",
    )
    assert seg((0, 0, 1, 1)).control_net_wrapper is None


# From a mask


def test_every_shape_becomes_a_seg_with_its_own_mask():
    mask = rectangles(60, 100, (10, 10, 20, 16), (24, 12, 30, 20))
    (height, width), segs = shapes(mask, crop_factor=3.0)
    assert (height, width) == (60, 100)
    assert [s.bbox for s in segs] == [(24, 12, 30, 20), (10, 10, 20, 16)]
    assert [s.crop_region for s in segs] == [(18, 4, 36, 28), (0, 4, 30, 22)]
    for s in segs:
        assert s.cropped_mask.dtype == np.float32
        x1, y1, _, _ = s.crop_region
        expected = rectangles(60, 100, s.bbox).numpy()[
            y1 : y1 + s.cropped_mask.shape[0], x1 : x1 + s.cropped_mask.shape[1]
        ]
        assert np.array_equal(s.cropped_mask, expected)  # the other shape is not in it
        assert (s.confidence, s.label, s.cropped_image) == (1.0, "A", None)


def test_shapes_not_wider_and_taller_than_drop_size_are_dropped():
    mask = rectangles(60, 100, (0, 0, 10, 30), (20, 0, 31, 11), (40, 0, 90, 10))
    assert [s.bbox for s in shapes(mask, drop_size=10)[1]] == [(20, 0, 31, 11)]


def test_combined_is_one_seg_whose_box_ends_at_the_last_pixel():
    mask = rectangles(60, 100, (10, 10, 20, 16), (24, 12, 30, 20)) * 0.5
    _, (only,) = shapes(mask, combined=True, crop_factor=1.0)
    assert only.bbox == (10, 10, 29, 19)
    assert only.crop_region == (10, 10, 29, 19)
    assert np.array_equal(only.cropped_mask, mask[10:19, 10:29].numpy())


@pytest.mark.parametrize("combined", [True, False])
def test_a_single_pixel_is_a_seg(combined):
    mask = rectangles(5, 7, (6, 4, 7, 5))
    _, (only,) = shapes(mask, combined=combined, drop_size=0)
    assert only.bbox == (6, 4, 7, 5)
    assert only.cropped_mask.sum() == 1


@pytest.mark.parametrize("combined", [True, False])
def test_an_empty_mask_gives_no_seg(combined):
    assert shapes(torch.zeros(5, 7), combined=combined) == ((5, 7), [])


def test_a_mask_may_touch_every_border():
    _, (only,) = shapes(torch.ones(5, 7))
    assert only.bbox == only.crop_region == (0, 0, 7, 5)
    assert only.cropped_mask.all()


def test_contour_fill_makes_shapes_solid_and_otherwise_grey_values_stay():
    mask = rectangles(30, 30, (5, 5, 25, 25)) * 0.5
    mask[10:20, 10:20] = 0
    grey = shapes(mask, crop_factor=1.0)[1][0].cropped_mask
    assert np.array_equal(grey, mask[5:25, 5:25].numpy())
    full = shapes(mask, crop_factor=1.0, contour_fill=True)[1][0].cropped_mask
    assert np.array_equal(full, np.ones((20, 20), np.float32))


@pytest.mark.parametrize("combined", [True, False])
def test_bbox_fill_fills_the_box_where_it_lies_in_the_crop(combined):
    mask = torch.zeros(60, 100)
    for i in range(40, 50):
        mask[i, i + 30 : i + 34] = 1
    _, (only,) = shapes(mask, combined=combined, bbox_fill=True)
    x1, y1, x2, y2 = only.bbox
    left, top, _, _ = only.crop_region
    inside = only.cropped_mask[y1 - top : y2 - top, x1 - left : x2 - left]
    assert inside.size == (x2 - x1) * (y2 - y1)
    assert inside.all()
    outline = mask.clone()
    outline[y1:y2, x1:x2] = 1
    assert only.cropped_mask.sum() == outline.sum()


def test_the_given_mask_is_not_changed():
    mask = rectangles(30, 30, (5, 5, 15, 10))
    before = mask.clone()
    _, (only,) = shapes(mask, combined=True, bbox_fill=True, crop_factor=1.0)
    only.cropped_mask[...] = 0.5
    assert torch.equal(mask, before)


def test_masks_of_a_batch_follow_one_another():
    batch = torch.stack([rectangles(20, 30, (1, 1, 9, 9)), rectangles(20, 30, (2, 3, 9, 9))])
    assert [s.bbox for s in shapes(batch)[1]] == [(1, 1, 9, 9), (2, 3, 9, 9)]


def test_a_hook_may_replace_the_region_but_not_leave_the_image():
    calls = []

    def adjust(width, height, bbox, region):
        calls.append((width, height, bbox, region))
        return [0, 0, 500, 15]

    mask = rectangles(20, 30, (4, 6, 8, 12))
    _, (only,) = shapes(mask, adjust_region=adjust)
    assert calls == [(30, 20, (4, 6, 8, 12), (2, 3, 10, 15))]
    assert only.crop_region == (0, 0, 30, 15)
    assert np.array_equal(only.cropped_mask, mask[:15].numpy())


@pytest.mark.parametrize("region", [(20, 12, 28, 18), (0, 0, 3, 5), (9, 9, 9, 20)])
def test_a_hook_may_lead_away_from_the_shape(region):
    mask = rectangles(20, 30, (4, 6, 8, 12))
    _, (only,) = shapes(mask, bbox_fill=True, adjust_region=lambda *_: region)
    assert only.crop_region == region
    assert not only.cropped_mask.any()


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 30), st.integers(1, 30)),
        elements=st.sampled_from([0, 0, 0.5, 1]),
    ),
    st.floats(1.0, 5.0),
    st.booleans(),
)
def test_segs_lie_within_the_image_and_together_give_the_mask(mask, factor, contour_fill):
    tensor = torch.from_numpy(mask)
    shape, segs = shapes(tensor, crop_factor=factor, drop_size=0, contour_fill=contour_fill)
    size = Size(mask.shape[1], mask.shape[0])
    for s in segs:
        region, bbox = Box.of(s.crop_region), Box.of(s.bbox)
        assert region.clipped(size) == region
        assert region.contains(bbox)
        assert s.cropped_mask.shape == (region.height, region.width)
        outside = s.cropped_mask.copy()
        outside[
            bbox.y1 - region.y1 : bbox.y2 - region.y1, bbox.x1 - region.x1 : bbox.x2 - region.x1
        ] = 0
        assert not outside.any()
    together = combined_mask((shape, segs))[0].numpy()
    if contour_fill:
        assert (together[mask > 0] == 1).all()
    else:
        assert np.array_equal(together, mask)


# From the masks of a clip


def test_frames_share_a_window_and_keep_their_own_masks():
    frames = torch.stack([rectangles(40, 60, (10 + i, 10, 20 + i, 20)) for i in range(3)])
    frames[1, 30:38, 50:58] = 1
    (_, segs) = from_mask_frames(frames, False, 1.5, False, 1)
    assert [s.bbox for s in segs] == [(50, 30, 58, 38), (10, 10, 22, 20)]
    assert segs[0].cropped_mask.shape == (3, 12, 12)
    assert segs[0].cropped_mask.any(axis=(1, 2)).tolist() == [False, True, False]
    x1, y1, x2, y2 = segs[1].crop_region
    expected = frames[:, y1:y2, x1:x2].numpy()
    assert np.array_equal(segs[1].cropped_mask, expected)


def test_frames_may_be_filled_or_combined():
    frames = torch.stack([rectangles(40, 60, (10, 10, 30, 30)) for _ in range(2)])
    frames[0, 15:20, 15:20] = 0
    _, (filled,) = from_mask_frames(frames, False, 1.0, False, 1, contour_fill=True)
    assert filled.cropped_mask.all()
    _, (boxed,) = from_mask_frames(frames, False, 1.0, True, 1)
    assert boxed.cropped_mask.all()
    frames[1, 35:39, 50:55] = 1
    _, (combined,) = from_mask_frames(frames, True, 1.0, False, 1)
    assert combined.bbox == (10, 10, 54, 38)
    assert np.array_equal(combined.cropped_mask, frames[:, 10:38, 10:54].numpy())


def test_a_single_frame_is_a_still_mask():
    mask = rectangles(40, 60, (10, 10, 20, 20))[None]
    still, frames = shapes(mask)[1][0], from_mask_frames(mask, False, 2.0, False, 1)[1][0]
    assert frames.cropped_mask.shape == (20, 20)
    assert np.array_equal(frames.cropped_mask, still.cropped_mask)


# To another size


def test_scaling_takes_each_axis_by_its_own_ratio():
    mask = np.zeros((20, 40), np.float32)
    mask[:, 20:] = 1
    picture = np.ones((1, 20, 40, 3), np.float32) * 0.5
    segs = ((100, 200), [seg((100, 10, 140, 30), mask, (110, 15, 130, 25), image=picture)])
    shape, (scaled,) = scale_to(segs, Size(100, 200))
    assert shape == (200, 100)
    assert scaled.crop_region == (50, 20, 70, 60)
    assert scaled.bbox == (55, 30, 65, 50)
    assert scaled.cropped_mask.shape == (40, 20)
    assert scaled.cropped_mask[:, :9].max() == 0
    assert scaled.cropped_mask[:, 11:].min() == 1
    assert scaled.cropped_image.shape == (1, 40, 20, 3)
    assert np.allclose(scaled.cropped_image, 0.5)


def test_scaling_video_masks_keeps_their_frames():
    mask = np.stack([np.full((4, 6), i / 2, np.float32) for i in range(3)])
    _, (scaled,) = scale_to(((10, 10), [seg((2, 2, 8, 6), mask)]), Size(20, 30))
    assert scaled.cropped_mask.shape == (3, 12, 12)
    assert scaled.cropped_mask[:, 0, 0].tolist() == [0, 0.5, 1]


def test_segs_without_a_size_only_take_the_new_one():
    only = seg((2, 2, 8, 6))
    assert scale_to(((0, 0), [only]), Size(20, 30)) == ((30, 20), [only])


def test_a_one_pixel_seg_survives_shrinking():
    _, (scaled,) = scale_to(((64, 64), [seg((60, 60, 64, 64), bbox=(63, 63, 64, 64))]), Size(4, 2))
    assert scaled.crop_region == scaled.bbox == (3, 1, 4, 2)
    assert np.allclose(scaled.cropped_mask, [[1.0]])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.data())
def test_scaling_up_and_back_is_exact_for_the_boxes(width, height, fx, fy, data):
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    segs = ((height, width), [seg((x1, y1, x2, y2))])
    there = scale_to(segs, Size(width * fx, height * fy))
    assert there[1][0].crop_region == (x1 * fx, y1 * fy, x2 * fx, y2 * fy)
    _, (back,) = scale_to(there, Size(width, height))
    assert back.crop_region == (x1, y1, x2, y2)
    assert np.allclose(back.cropped_mask, 1)


# From other packs


def test_segs_of_another_class_become_ours():
    mask = torch.ones(4, 3, dtype=torch.float64)
    other = OtherSeg(None, mask, 0.5, [1, 2, 4, 6], np.array([1, 2, 4, 6]), "face")
    shape, (only,) = normalise([np.array([10, 20]), [other]], Size(20, 10), "segs")
    assert shape == (10, 20)
    assert isinstance(only, SEG)
    assert only.crop_region == only.bbox == (1, 2, 4, 6)
    assert all(type(value) is int for value in only.crop_region + only.bbox)
    assert only.cropped_mask.dtype == np.float32
    assert only.cropped_mask.shape == (4, 3)
    assert (only.confidence, only.label, only.control_net_wrapper) == (0.5, "face", None)


def test_normalising_what_fits_copies_nothing():
    original = seg((1, 2, 4, 6))
    _, (only,) = normalise(((10, 20), [original]), Size(20, 10), "segs")
    assert only.cropped_mask is original.cropped_mask


def test_none_counts_as_no_segs():
    assert normalise(None, Size(20, 10), "segs") == empty((10, 20)) == ((10, 20), [])


def test_regions_over_the_border_are_clipped_with_mask_and_picture():
    mask = np.arange(24, dtype=np.float32).reshape(4, 6) / 24
    picture = np.arange(24, dtype=np.float32).reshape(1, 4, 6, 1) / 24
    segs = ((10, 20), [seg((-2, 8, 4, 12), mask, (-1, 9, 3, 11), image=picture)])
    _, (only,) = normalise(segs, Size(20, 10), "segs")
    assert only.crop_region == (0, 8, 4, 10)
    assert only.bbox == (0, 9, 3, 10)
    assert np.array_equal(only.cropped_mask, mask[:2, 2:])
    assert np.array_equal(only.cropped_image, picture[:, :2, 2:])


def test_a_picture_of_another_size_than_its_region_is_cut_in_proportion():
    picture = np.arange(8 * 18, dtype=np.float32).reshape(1, 8, 18, 1) / 200
    segs = ((10, 20), [seg((-2, 8, 4, 12), image=picture)])
    _, (only,) = normalise(segs, Size(20, 10), "segs")
    assert np.array_equal(only.cropped_image, picture[:, :4, 6:])


def test_a_seg_outside_the_image_keeps_its_place_with_an_empty_region():
    picture = np.ones((1, 4, 4, 3), np.float32)
    segs = ((10, 20), [seg((30, 2, 34, 6), label="far", image=picture), seg((1, 2, 4, 6))])
    _, (far, near) = normalise(segs, Size(20, 10), "segs")
    assert far.label == "far"
    assert far.cropped_mask.size == 0
    assert far.cropped_image is None
    assert Box.of(far.crop_region).empty
    assert near == segs[1][1]


def test_empty_regions_survive_scaling():
    segs = ((10, 20), [seg((4, 4, 4, 8), np.zeros((4, 0), np.float32))])
    _, (only,) = normalise(segs, Size(40, 40), "segs")
    assert Box.of(only.crop_region).empty
    assert only.cropped_mask.size == 0


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[0, 255]], np.uint8),
        np.array([[0, 1]], np.uint8),
        np.array([[False, True]]),
        np.array([[-1.0, 2.0]]),
        torch.tensor([[0, 255]], dtype=torch.uint8),
    ],
)
def test_masks_are_brought_to_0_1(mask):
    _, (only,) = normalise(((1, 2), [seg((0, 0, 2, 1), mask)]), Size(2, 1), "segs")
    assert only.cropped_mask.tolist() == [[0, 1]]


def test_a_mask_of_another_size_than_its_region_is_resized_and_reported(caplog):
    segs = ((10, 20), [seg((1, 2, 5, 8), np.ones((3, 2), np.float32))])
    with caplog.at_level(logging.WARNING, logger=segs_module.__name__):
        _, (only,) = normalise(segs, Size(20, 10), "segs")
    assert only.cropped_mask.shape == (6, 4)
    assert "2x3 pixels, the region 4x6" in caplog.text


def test_a_mask_with_nan_names_the_seg():
    bad = seg((0, 0, 2, 1), np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match="mask of SEG 1' holds 1 values"):
        normalise(((1, 2), [seg((0, 0, 2, 1)), bad]), Size(2, 1), "segs")


def test_what_is_no_segs_is_refused():
    with pytest.raises(ValueError, match="'segs' should be SEGS"):
        normalise(torch.zeros(1, 5, 7), Size(7, 5), "segs")


# To masks


def test_masks_are_laid_at_their_places():
    half = np.full((2, 3), 0.5, np.float32)
    segs = ((5, 7), [seg((1, 1, 4, 3), half), seg((3, 2, 7, 5))])
    single = [rectangles(5, 7, (1, 1, 4, 3))[None] * 0.5, rectangles(5, 7, (3, 2, 7, 5))[None]]
    for mask, expected in zip(mask_list(segs), single, strict=True):
        assert torch.equal(mask, expected)
    assert torch.equal(combined_mask(segs), torch.maximum(*single))


def test_masks_over_the_border_are_cut():
    segs = ((5, 7), [seg((-2, -1, 3, 2)), seg((9, 9, 12, 12))])
    assert torch.equal(combined_mask(segs)[0], rectangles(5, 7, (0, 0, 3, 2)))


def test_masks_of_other_packs_are_understood():
    other = OtherSeg(None, np.array([[0, 255]], np.uint8), 0.5, [1, 2, 3, 3], [1, 2, 3, 3], "face")
    expected = rectangles(5, 7, (2, 2, 3, 3))[None]
    assert torch.equal(combined_mask(((5, 7), [other])), expected)
    assert torch.equal(mask_list(((5, 7), [other]))[0], expected)


def test_video_masks_combine_frame_by_frame_where_they_agree():
    clip = np.stack([np.full((2, 2), i / 2, np.float32) for i in range(3)])
    segs = ((5, 7), [seg((0, 0, 2, 2), clip), seg((4, 0, 6, 2), torch.from_numpy(clip))])
    both = combined_mask(segs)
    assert both.shape == (3, 5, 7)
    assert both[:, 0, 0].tolist() == both[:, 0, 4].tolist() == [0, 0.5, 1]
    mixed = combined_mask(((5, 7), [*segs[1], seg((0, 3, 2, 5), clip[:2]), seg((4, 3, 6, 5))]))
    assert mixed.shape == (1, 5, 7)
    assert mixed[0, [0, 0, 3, 3], [0, 4, 0, 4]].tolist() == [1, 1, 0.5, 1]
    assert mask_list(segs)[0].shape == (3, 5, 7)


def test_no_segs_give_an_empty_mask():
    assert torch.equal(combined_mask(empty((5, 7))), torch.zeros(1, 5, 7))
    assert combined_mask(empty((0, 0))).shape == (1, 64, 64)
    assert mask_list(empty((5, 7))) == []


# By label


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        ("face", ["face"]),
        (" hand , face", ["face", "hand"]),
        ("face\nhand\n", ["face", "hand"]),
        ("eyes", ["left_eye"]),
        ("all", ["face", "hand", "left_eye"]),
        ("face, all", ["face", "hand", "left_eye"]),
        ("", ["face", "hand", "left_eye"]),
        ("nose", []),
    ],
)
def test_labels_choose_segs(labels, kept):
    segs = ((5, 7), [seg((0, 0, 1, 1), label=name) for name in ("face", "hand", "left_eye")])
    shape, items = filter_by_labels(segs, labels)
    assert shape == (5, 7)
    assert [s.label for s in items] == kept


def test_labels_that_fit_nothing_exactly_ignore_case_and_are_told():
    names = ("Face", "face", "HAND")
    segs = ((5, 7), [seg((0, 0, 1, 1), label=name) for name in names])
    with collected_notes() as notes:
        _, items = filter_by_labels(segs, "Face, hand, nose")
    assert [s.label for s in items] == ["Face", "HAND"]
    assert [note.text for note in notes] == [
        "No segment has the label 'hand'; 'HAND' is taken for it.",
        "No segment has the label 'nose'. There are: 'Face', 'HAND', 'face'.",
    ]
    with collected_notes() as notes:
        assert filter_by_labels(((5, 7), []), "face")[1] == []
        filter_by_labels(segs, "all, nose")
    assert notes == []
