"""SEGS of the images of a batch: the image that a SEG knows, and how the core uses it."""

import copy
import pickle
from collections import namedtuple

import numpy as np
import pytest
import torch
from detailers.core.detectors import host_data
from detailers.core.detectors.host_data import (
    SegmentOptions,
    box_video_to_segs,
    boxes_to_segs,
    landmarks_to_segs,
    mesh_to_segs,
    segs_to_boxes,
)
from detailers.core.detectors.sam.model import sam_masks_of_batch
from detailers.core.detectors.sam.questions import SamHints
from detailers.core.geometry import Box, Size
from detailers.core.hook_protocol import Hook
from detailers.core.pixels.blend import Blending
from detailers.core.segs.edit import (
    assign_labels,
    both,
    change_masks,
    combine_with_mask,
    combine_with_segs,
    concat,
    edit_seg,
    merge,
    scale_bbox,
    set_pictures,
    without,
    without_pictures,
)
from detailers.core.segs.filter import (
    closest_to_mask,
    pick,
    split_by_order,
    split_by_range,
    suppress_overlaps,
    without_overlap,
)
from detailers.core.segs.from_masks import segs_for_images
from detailers.core.segs.image_batch import (
    as_clip,
    belonging_to,
    by_batch_image,
    images_of,
    in_batch,
    in_each_image,
    in_image,
    positions_by_image,
)
from detailers.core.segs.pictures import paste_segs, segment_pictures
from detailers.core.segs.seg import (
    SEG,
    BatchImage,
    combined_mask,
    confidence,
    edited,
    filter_by_labels,
    from_mask,
    normalise,
    of_image,
    scale_to,
)
from detailers.core.segs.tile_segs import TileLayout, covered, tile_batch
from detailers.core.settings import Pasting
from detailers.tests.fake_backend import make_seg, ramp_image
from detailers.tests.test_host_data import CONNECTIONS, POINTS
from detailers.utils.notes import collected_notes

OtherSeg = namedtuple("OtherSeg", "cropped_image cropped_mask confidence crop_region bbox label")
SIZE = Size(60, 40)
HEADER = (40, 60)


def placed(index, count=3, region=(0, 0, 10, 10), **fields):
    return of_image(make_seg(region)._replace(**fields), BatchImage(index, count))


def where(items):
    return [seg.batch_image and (seg.batch_image.index, seg.batch_image.count) for seg in items]


def told(notes):
    return [note.kind for note in notes]


# The SEG


def test_a_seg_of_an_image_is_the_same_tuple_of_seven_for_everybody():
    plain = make_seg((0, 0, 10, 10))
    seg = of_image(plain, BatchImage(1, 3))
    assert seg == plain
    assert len(seg) == 7
    assert len(tuple(seg)) == len(SEG._fields) == 7
    assert list(seg._asdict()) == list(SEG._fields)
    _, _, sure, region, box, label, control = seg
    assert (sure, region, box, label, control) == plain[2:]
    rebuilt = SEG(*seg)
    assert type(rebuilt) is type(seg) is SEG
    assert rebuilt.batch_image is None
    assert repr(seg) == repr(plain)


@pytest.mark.parametrize(
    "through",
    [
        copy.copy,
        copy.deepcopy,
        lambda seg: pickle.loads(pickle.dumps(seg)),
        lambda seg: pickle.loads(pickle.dumps(seg, protocol=0)),
        lambda seg: seg._replace(label="x"),
        lambda seg: getattr(copy, "replace", SEG._replace)(seg, label="x"),
        lambda seg: edited(seg, label="x"),
        lambda seg: edit_seg(seg, label="x"),
        lambda seg: scale_bbox(seg, 0.5),
        lambda seg: normalise((HEADER, [seg]), Size(30, 20), "segs")[1][0],
        lambda seg: scale_to((HEADER, [seg]), Size(120, 80))[1][0],
        lambda seg: change_masks((HEADER, [seg]), lambda mask: 1 - mask)[1][0],
        lambda seg: combine_with_mask((HEADER, [seg]), torch.ones(1, *HEADER), both)[1][0],
        lambda seg: combine_with_segs((HEADER, [seg]), (HEADER, []), without)[1][0],
        lambda seg: without_pictures((HEADER, [seg]))[1][0],
        lambda seg: set_pictures((HEADER, [seg]), ramp_image(3, *HEADER), override=True)[1][0],
        lambda seg: assign_labels((HEADER, [seg]), "x")[1][0],
        lambda seg: concat([(HEADER, []), (HEADER, [seg])])[1][0],
        lambda seg: concat([((20, 30), []), (HEADER, [seg])])[1][0],
        lambda seg: merge((HEADER, [seg]))[1][0],
        lambda seg: filter_by_labels((HEADER, [seg]), "A")[1][0],
        lambda seg: split_by_range((HEADER, [seg]), "width", 0, 99)[0][1][0],
        lambda seg: suppress_overlaps((HEADER, [seg]), 0.5)[1][0],
        lambda seg: pick((HEADER, [seg]), "1")[1][0],
    ],
)
def test_the_image_travels_with_the_seg(through):
    assert through(placed(1)).batch_image == BatchImage(1, 3)


def test_a_seg_of_another_pack_can_be_given_an_image():
    other = OtherSeg(*make_seg((0, 0, 10, 10))[:6])
    (seg,) = belonging_to((HEADER, [other]), 1, 2)[1]
    assert type(seg) is SEG
    assert seg.batch_image == BatchImage(1, 2)
    assert belonging_to((HEADER, [other]), 0, 1)[1] == [other]


# Which images


def test_each_seg_holds_for_its_image_and_those_without_for_all():
    with collected_notes() as notes:
        assert images_of([placed(2), placed(0)], 3) == [[2], [0]]
        assert images_of([placed(None)], 3) == [[0, 1, 2]]
        assert images_of([make_seg((0, 0, 9, 9))], 1) == [[0]]
    assert told(notes) == []
    with collected_notes() as notes:
        plain = [make_seg((0, 0, 9, 9)), make_seg((0, 0, 9, 9))]
        assert images_of([*plain, placed(1)], 3) == [[0, 1, 2], [0, 1, 2], [1]]
    (note,) = notes
    assert note.text.startswith("2 segments without an image of the batch")
    with collected_notes() as notes:
        assert images_of([placed(2, 4), placed(1, 4)], 2) == [[0, 1], [0, 1]]
    (note,) = notes
    assert "a batch of 4 images or masks and are used on 2 images" in note.text
    assert positions_by_image([placed(1), placed(0), placed(None)], 3) == [[1, 2], [0, 2], [2]]


def test_a_mask_for_each_image_goes_image_by_image():
    masks = np.stack([np.full((4, 5), value, np.float32) for value in (0.25, 0.5)])
    clip = make_seg((0, 0, 5, 4), mask=masks)
    with collected_notes() as notes:
        images_of([clip], 2)
    assert told(notes) == []
    assert in_image(clip, 1, 2).cropped_mask.tolist() == masks[1].tolist()
    assert in_image(clip, 0, 3) is clip
    with collected_notes() as notes:
        images_of([clip], 3)
    assert any("masks for 2 frames and are used on 3 images" in note.text for note in notes)


def test_a_detector_is_called_for_each_image():
    image = ramp_image(3, *HEADER)
    seen = []

    def detect(single):
        seen.append(single)
        assert single.shape == (1, *HEADER, 3)
        return None if len(seen) == 2 else (HEADER, [make_seg((len(seen), 0, 20, 10))])

    header, items = in_each_image(image, detect)
    assert header == HEADER
    assert where(items) == [(0, 3), (2, 3)]
    assert torch.equal(torch.cat(seen), image)
    alone = in_each_image(image[:1], lambda single: (HEADER, [make_seg((0, 0, 9, 9))]))
    assert where(alone[1]) == [None]


def test_a_mask_batch_gives_segs_of_its_images():
    mask = torch.zeros(2, *HEADER)
    mask[0, 2:9, 2:9] = mask[1, 20:30, 20:40] = 1
    segs = from_mask(mask, False, 1.0, False, 1)
    assert where(segs[1]) == [(0, 2), (1, 2)]
    assert torch.equal(combined_mask(segs), mask)
    every = (HEADER, [*segs[1], make_seg((50, 30, 60, 40))])
    both_masks = mask.clone()
    both_masks[:, 30:40, 50:60] = 1
    assert torch.equal(combined_mask(every), both_masks)
    assert where(from_mask(mask[:1], False, 1.0, False, 1)[1]) == [None]


def test_masks_that_fit_no_number_of_images_are_told():
    mask = torch.zeros(3, *HEADER)
    mask[1, 2:20, 2:20] = 1
    with collected_notes() as notes:
        segs_for_images(mask, 2, Hook(), crop_factor=1.0, drop_size=1)
    assert "3 masks for 2 images" in notes[0].text
    with collected_notes() as notes:
        segs_for_images(mask, 3, Hook(), crop_factor=1.0, drop_size=1)
        segs_for_images(mask[:1], 3, Hook(), crop_factor=1.0, drop_size=1)
    assert told(notes) == []


# Filters and lists


def test_filters_look_at_each_image_by_itself():
    items = [
        placed(0, 2, (0, 0, 10, 10), label="a"),
        placed(1, 2, (0, 0, 20, 20), label="b"),
        placed(0, 2, (0, 0, 30, 30), label="c"),
        placed(1, 2, (0, 0, 25, 25), label="d"),
    ]
    segs = (HEADER, items)
    assert by_batch_image(items) == [[0, 2], [1, 3]]
    taken, others = split_by_order(segs, "width", descending=True, start=0, count=1)
    assert [seg.label for seg in taken[1]] == ["c", "d"]
    assert [seg.label for seg in others[1]] == ["a", "b"]
    assert [seg.label for seg in assign_labels(segs, "x, y")[1]] == ["x", "x", "y", "y"]
    assert [seg.bbox for seg in merge(segs)[1]] == [(0, 0, 30, 30), (0, 0, 25, 25)]
    assert where(merge(segs)[1]) == [(0, 2), (1, 2)]
    kept = suppress_overlaps(segs, 0.3)[1]
    assert [seg.label for seg in kept] == ["a", "b", "c"]  # d is b's, in the same image
    others = (HEADER, [placed(1, 2, (0, 0, 60, 40))])
    assert [seg.label for seg in without_overlap(segs, others, 0.5)[1]] == ["a", "c"]
    assert without_overlap(segs, (HEADER, [make_seg((0, 0, 60, 40))]), 0.5)[1] == []


def test_the_closest_mask_is_that_of_the_image():
    items = [placed(0, 2, (0, 0, 10, 10)), placed(0, 2, (20, 0, 30, 10)),
             placed(1, 2, (0, 0, 10, 10)), placed(1, 2, (20, 0, 30, 10))]  # fmt: skip
    mask = torch.zeros(2, *HEADER)
    mask[0, :10, :10] = mask[1, :10, 20:25] = 1
    taken, score, scores = closest_to_mask((HEADER, items), mask, 0.1)
    assert [seg.crop_region for seg in taken[1]] == [(0, 0, 10, 10), (20, 0, 30, 10)]
    assert where(taken[1]) == [(0, 2), (1, 2)]
    assert (score, scores) == (1.0, [1.0, 0.0, 0.0, 0.5])


def test_segs_are_combined_with_what_is_in_their_image():
    items = [placed(0, 2, (0, 0, 10, 10)), placed(1, 2, (0, 0, 10, 10))]
    mask = torch.zeros(2, *HEADER)
    mask[1, :10, :4] = 1
    first, second = combine_with_mask((HEADER, items), mask, both)[1]
    assert first.cropped_mask.sum() == 0
    assert second.cropped_mask.sum() == 40
    others = (HEADER, [placed(1, 2, (0, 0, 4, 10))])
    first, second = combine_with_segs((HEADER, items), others, without)[1]
    assert (first.cropped_mask.sum(), second.cropped_mask.sum()) == (100, 60)
    with collected_notes() as notes:
        first, second = combine_with_mask((HEADER, items), torch.cat([mask, mask[:1]]), both)[1]
    assert first.cropped_mask.shape == (10, 10)
    assert "There are 3 masks, but the segments are of 2 images" in notes[0].text


def test_pictures_are_those_of_the_image():
    image = ramp_image(3, *HEADER) * torch.tensor([1.0, 0.5, 0.25])[:, None, None, None]
    segs = (HEADER, [placed(2, 3, (5, 5, 15, 20)), make_seg((0, 0, 9, 9))])
    with collected_notes() as notes:
        own, every = segment_pictures(segs, image)
    assert len(told(notes)) == 1
    assert torch.equal(own, image[2:, 5:20, 5:15])
    assert torch.equal(every, image[:, :9, :9])
    first, second = set_pictures(segs, image, override=True)[1]
    assert torch.equal(torch.from_numpy(first.cropped_image), image[2:, 5:20, 5:15])
    assert second.cropped_image.shape == (3, 9, 9, 3)


def test_a_picture_is_pasted_into_its_image_alone():
    image = ramp_image(3, *HEADER)
    white = np.ones((1, 10, 10, 3), np.float32)
    segs = (HEADER, [placed(1, 3, (5, 5, 15, 15), cropped_image=white)])
    result = paste_segs(image, segs, Blending(0, Pasting()))
    expected = image.clone()
    expected[1, 5:15, 5:15] = 1
    assert torch.equal(result, expected)
    reference = image.flip(0)
    result = paste_segs(image, segs, Blending(0, Pasting()), reference=reference)
    expected[1, 5:15, 5:15] = reference[1, 5:15, 5:15]
    assert torch.equal(result, expected)


def test_pasting_nothing_is_told():
    image = ramp_image(1, *HEADER)
    pictured = make_seg((5, 5, 15, 15))._replace(cropped_image=np.ones((1, 10, 10, 3), np.float32))
    with collected_notes() as notes:
        paste_segs(image, (HEADER, [make_seg((0, 0, 9, 9)), pictured]), Blending(0, Pasting()))
    (note,) = notes
    assert note.kind == "no picture"
    assert note.text.startswith("1 of 2 segments have no picture of their own")
    with collected_notes() as notes:
        paste_segs(image, (HEADER, [pictured]), Blending(0, Pasting()))
        paste_segs(image, (HEADER, [make_seg((0, 0, 9, 9))]), Blending(0, Pasting()), 1.0, image)
    assert told(notes) == []


def test_tiles_are_of_all_images_or_of_those_that_the_filter_names():
    layout = TileLayout(64, 1.0, 0)
    every = tile_batch(SIZE, 2, layout)
    assert set(where(every[1])) == {(None, 2)}
    assert where(tile_batch(SIZE, 1, layout)[1]) == [None] * len(every[1])
    only = covered((HEADER, [placed(1, 2, (0, 0, 10, 10))]), SIZE, 0, "filter")
    assert only.shape == (2, *HEADER)
    items = tile_batch(SIZE, 2, layout, only)[1]
    assert where(items) == [(1, 2)]
    assert items[0].cropped_mask.sum() == 100
    left = tile_batch(SIZE, 2, layout, None, only)[1]
    assert [seg.cropped_mask.sum() for seg in left] == [1600, 1600, 1500, 1600]
    with collected_notes() as notes:
        tile_batch(SIZE, 3, layout, only)
    assert "made for 2 images and are used on 3 images" in notes[0].text


# Detectors and bridges


class Sam:
    """A SAM_MODEL of another pack that marks the boxes in bright images."""

    def prepare_device(self):
        pass

    def release_device(self):
        pass

    def predict(self, image, points, plabs, bbox, threshold):
        mask = np.zeros(image.shape[:2], bool)
        x1, y1, x2, y2 = bbox
        mask[y1:y2, x1:x2] = image.mean() > 127
        return [mask]


def test_sam_is_asked_in_each_image_about_its_segments():
    image = torch.stack([torch.ones(*HEADER, 3), torch.zeros(*HEADER, 3), torch.ones(*HEADER, 3)])
    items = [
        placed(2, 3, (0, 0, 10, 10)),
        placed(0, 3, (20, 0, 30, 10)),
        placed(1, 3, (0, 0, 5, 5)),
    ]
    united, each = sam_masks_of_batch(Sam(), (HEADER, items), image, SamHints(threshold=0.5))
    assert united.sum(dim=(1, 2)).tolist() == [100, 0, 100]
    assert each.sum(dim=(1, 2)).tolist() == [100, 100, 0]  # in the segments' order
    assert each[1, :10, 20:30].all()
    _, each = sam_masks_of_batch(
        Sam(), (HEADER, [make_seg((0, 0, 10, 10))]), image, SamHints(threshold=0.5)
    )
    assert each.sum(dim=(1, 2)).tolist() == [100, 0, 100]
    united, each = sam_masks_of_batch(Sam(), (HEADER, []), image, SamHints())
    assert (united.shape, each.shape) == ((3, *HEADER), (0, *HEADER))


def bounding(x, y, width, height, **more):
    return {"x": x, "y": y, "width": width, "height": height, **more}


def test_boxes_become_segments_of_their_images_and_boxes_again():
    image = ramp_image(3, *HEADER)
    boxes = [[bounding(2, 3, 10, 8)], [], [bounding(20, 10, 12, 12), bounding(0, 0, 9, 9)]]
    segs = boxes_to_segs(image, boxes, 0.5, SegmentOptions(1.0, 1))
    assert where(segs[1]) == [(0, 3), (2, 3), (2, 3)]
    assert [len(frame) for frame in segs_to_boxes(segs, False)] == [1, 0, 2]
    assert torch.equal(torch.from_numpy(segs[1][1].cropped_image), image[2:, 10:22, 20:32])
    with collected_notes() as notes:
        boxes_to_segs(image, boxes[:2], 0.5, SegmentOptions(1.0, 1))
    assert "boxes for 2 images, but is used on 3 images" in notes[0].text
    every = boxes_to_segs(image, [bounding(2, 3, 10, 8)], 0.5, SegmentOptions(1.0, 1))
    assert where(every[1]) == [(0, 3), (1, 3), (2, 3)]


def test_landmarks_of_images_become_segments_of_each():
    moved = np.add(POINTS, [3, 0])
    landmarks = {
        "frames": [[{"landmarks_xy": POINTS}], [{"landmarks_xy": moved}]],
        "image_size": (200, 200),
        "connection_sets": CONNECTIONS,
    }
    making = SegmentOptions(1.0, 1)
    (clip,) = landmarks_to_segs(landmarks, ["face"], making)[1]
    assert clip.cropped_mask.ndim == 3
    first, second = landmarks_to_segs(landmarks, ["face"], making, video=False)[1]
    assert where([first, second]) == [(0, 2), (1, 2)]
    assert first.cropped_mask.shape == second.cropped_mask.shape
    assert second.bbox[0] == first.bbox[0] + 3


def test_face_meshes_are_looked_at_one_by_one():
    image = torch.zeros(2, 60, 60, 3)
    for row, x in enumerate((10, 30)):
        image[row, 20:40, x : x + 20] = torch.tensor([10, 200, 10]) / 255
    items = mesh_to_segs(image, ["face"], SegmentOptions(1.0, 1))[1]
    assert where(items) == [(0, 2), (1, 2)]
    assert [seg.bbox for seg in items] == [(10, 20, 30, 40), (30, 20, 50, 40)]


# Clips


def test_segments_of_single_frames_become_clips():
    items = [placed(i, 4, (5 * i, 0, 5 * i + 10, 10)) for i in range(3)]
    items += [placed(3, 4, (40, 20, 50, 30)), placed(3, 4, (40, 30, 50, 40), label="b")]
    still = make_seg((0, 30, 9, 39))
    with collected_notes() as notes:
        first, moving, apart, other = as_clip([*items, still], 4)
    assert "'MASK to SEGS for Video' makes clips of masks" in notes[0].text
    assert first is still
    assert (moving.bbox, moving.crop_region) == ((0, 0, 20, 10), (0, 0, 20, 10))
    assert moving.cropped_mask.sum(axis=(1, 2)).tolist() == [100, 100, 100, 0]
    assert moving.cropped_mask[2, :, 10:].all()
    assert (apart.cropped_mask.shape, apart.label, other.label) == ((4, 10, 10), "A", "b")
    assert where([first, moving]) == [None, None]
    with collected_notes() as notes:
        as_clip(items, 6)
    assert any("masks for 4 frames and are used on 6 frames" in note.text for note in notes)
    with collected_notes() as notes:
        assert as_clip([still], 4) == [still]
    assert told(notes) == []


@pytest.mark.parametrize("dilation", [0, 3, 6, -4])
@pytest.mark.parametrize("crop_factor", [1.0, 2.5])
def test_boxes_of_a_video_give_what_whole_masks_would(dilation, crop_factor):
    generator = np.random.default_rng(dilation + 5)
    frames = torch.zeros(4, 90, 120, 3)

    def drawn():
        x, y = map(int, generator.integers(0, [100, 70]))
        width, height, label = map(int, generator.integers([4, 4, 0], [20, 20, 2]))
        return bounding(x, y, width, height, label=str(label))

    boxes = [[drawn() for _ in range(5)] for _ in range(4)]
    making = SegmentOptions(crop_factor, 2, dilation)
    found = box_video_to_segs(frames, boxes, 0.5, making)
    masks = {}
    for index, frame in enumerate(boxes):
        for box in frame:
            mask = masks.setdefault(box["label"], torch.zeros(4, 90, 120))
            x, y = box["x"], box["y"]
            mask[index, y : y + box["height"], x : x + box["width"]] = 1
    expected = []
    for label, mask in masks.items():
        expected += host_data._shapes(mask, making, label, host_data.from_mask_frames)
    assert len(expected) > 2
    for seg, other in zip(found[1], expected, strict=True):
        assert (seg.bbox, seg.crop_region, seg.label) == (
            other.bbox,
            other.crop_region,
            other.label,
        )
        np.testing.assert_array_equal(seg.cropped_mask, other.cropped_mask)


def test_boxes_of_a_video_need_memory_for_what_they_cover(monkeypatch):
    made = []
    zeros = torch.zeros

    def counted(*shape, **options):
        result = zeros(*shape, **options)
        made.append(result.numel())
        return result

    frames = torch.zeros(8, 200, 300, 3)
    boxes = [[bounding(10 + i, 20, 12, 12), bounding(200, 150, 10, 10)] for i in range(8)]
    monkeypatch.setattr(torch, "zeros", counted)
    (_, items) = box_video_to_segs(frames, boxes, 0.5, SegmentOptions(1.0, 1))
    assert len(items) == 2
    assert made == [8 * 12 * 19, 8 * 10 * 10]


# SEGS of other packs


@pytest.mark.parametrize(
    "kept",
    [0.5, np.float32(0.5), np.array([0.5]), np.array([[0.25, 0.5]]), torch.tensor(0.5),
     torch.tensor([0.5], requires_grad=True), [0.5]],
)  # fmt: skip
def test_a_confidence_may_be_a_number_an_array_or_a_tensor(kept):
    seg = OtherSeg(*make_seg((0, 0, 10, 10))[:6])._replace(confidence=kept)
    assert confidence(seg) == 0.5
    segs = (HEADER, [seg, make_seg((20, 0, 30, 10))])
    assert normalise(segs, SIZE, "segs")[1][0].confidence == 0.5
    assert merge(segs)[1][0].confidence == 0.5
    assert suppress_overlaps(segs, 0.5)[1][1] is seg
    assert segs_to_boxes(segs, False)[0][0]["score"] == 0.5
    taken, _ = split_by_order(segs, "confidence", descending=False, start=0, count=1)
    assert taken[1][0] is seg


def test_pictures_in_bytes_are_0_to_255():
    bytes_ = np.full((10, 10, 3), 51, np.uint8)
    seg = OtherSeg(*make_seg((0, 0, 10, 10))[:6])
    for picture in (bytes_, bytes_[None], torch.from_numpy(bytes_), np.ones_like(bytes_)):
        segs = (HEADER, [seg._replace(cropped_image=picture)])
        value = 51 / 255 if picture.max() == 51 else 1 / 255
        (shown,) = segment_pictures(segs)
        assert shown.shape == (1, 10, 10, 3)
        assert torch.allclose(shown, torch.tensor(value))
        pasted = paste_segs(torch.ones(1, *HEADER, 3), segs, Blending(0, Pasting()))
        assert torch.allclose(pasted[0, :10, :10], torch.tensor(value))
        for size in (SIZE, Size(30, 20)):
            (clean,) = normalise(segs, size, "segs")[1]
            np.testing.assert_allclose(clean.cropped_image, value, atol=1e-6)
        (_, joined) = concat([((80, 120), [make_seg((0, 0, 9, 9))]), segs])[1]
        np.testing.assert_allclose(joined.cropped_image, value, atol=1e-6)


def test_segs_of_one_batch_come_apart_by_image_and_others_do_not():
    items = [placed(1, 2), make_seg((0, 0, 9, 9)), placed(0, 2)]
    assert [(image.index, places) for image, places in in_batch(items)] == [
        (0, [1, 2]),
        (1, [0, 1]),
    ]
    assert by_batch_image(items) == [[1], [2], [0]]
    mixed = [placed(1, 2), placed(0, 3)]
    assert in_batch(mixed) == [(None, [0, 1])]
    assert by_batch_image(mixed) == [[0, 1]]
    assert Box.of(merge((HEADER, mixed))[1][0].bbox) == Box(0, 0, 10, 10)
