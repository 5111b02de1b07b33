"""core/tracks/sources.py and given.py: what is followed, from all that may be connected."""

import numpy as np
import pytest
import torch
from detailers.core.clips import HeldFrames
from detailers.core.detectors.base import BoxDetector, Detection
from detailers.core.detectors.detect import DetectionOptions
from detailers.core.geometry import Box, Rect, Size
from detailers.core.segs.seg import SEG, BatchImage, from_mask, from_mask_frames, of_image
from detailers.core.tracks.follow import Choosing, Clip, Following, follow
from detailers.core.tracks.given import Found, clip_and_finder
from detailers.utils.notes import collected_notes

FRAMES, SIZE = 6, Size(48, 32)
OPTIONS = DetectionOptions(0.5, 0, 3.0, 1)


class Detector(BoxDetector):
    """Finds a box that moves by 2 pixels a frame; knows the frame by its brightness."""

    def __init__(self, mask=None, label="face"):
        self.mask, self.label = mask, label

    def find(self, image, threshold):
        frame = round(float(image.mean()) * 10)
        box = Box(4 + 2 * frame, 8, 14 + 2 * frame, 20)
        return [Detection(box, 0.9, self.label, self.mask)]


def frames(channels=3):
    values = torch.arange(FRAMES)[:, None, None, None] / 10
    return values.expand(FRAMES, SIZE.height, SIZE.width, channels).clone()


def finds(found, source=None, options=OPTIONS):
    clip, finder = clip_and_finder(source, found, options)
    pictures = [None] * clip.count if source is None else source.read(0, clip.count).split(1)
    return clip, [finder(number, picture) for number, picture in enumerate(pictures)]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_bbox_detector_searches_every_frame(channels):
    clip, found = finds(Found(bbox_detector=Detector()), HeldFrames(frames(channels)))
    assert (clip.count, clip.size) == (FRAMES, SIZE)
    for number, (find,) in enumerate(found):
        assert (find.frame, find.label, find.confidence) == (number, "face", 0.9)
        assert find.box == Rect.of_box((4 + 2 * number, 8, 14 + 2 * number, 20))
        assert find.mask is None and find.grown == 0


def test_a_dilation_grows_the_box_that_is_redrawn():
    options = DetectionOptions(0.5, 6, 3.0, 1)
    _, found = finds(Found(bbox_detector=Detector()), HeldFrames(frames()), options)
    assert [find.grown for (find,) in found] == [3.0] * FRAMES
    assert {find.box.width for (find,) in found} == {10}


def test_a_segm_detector_gives_masks_alone_or_within_boxes():
    mask = torch.zeros(12, 10)
    mask[2:9, 1:8] = 1
    alone = Found(segm_detector=Detector(mask))
    both = Found(bbox_detector=Detector(), segm_detector=Detector(mask))
    for found in (alone, both):
        _, own = finds(found, HeldFrames(frames()))
        for number, (find,) in enumerate(own):
            assert find.mask.box == Box(5 + 2 * number, 10, 12 + 2 * number, 17)
            assert find.mask.unpacked().min() == 1


def test_a_detector_needs_frames():
    with pytest.raises(ValueError, match="neither 'frames' nor 'video' is connected"):
        clip_and_finder(None, Found(bbox_detector=Detector()), OPTIONS)


def test_exactly_one_source_is_needed():
    with pytest.raises(ValueError, match=r"nothing to follow[.] Connect one of 'bbox_detector'"):
        clip_and_finder(HeldFrames(frames()), Found(), OPTIONS)
    both = Found(bbox_detector=Detector(), boxes=[])
    with pytest.raises(ValueError, match="come from detector and boxes"):
        clip_and_finder(HeldFrames(frames()), both, OPTIONS)


def shape_masks(*corners):
    masks = torch.zeros(FRAMES, SIZE.height, SIZE.width)
    for frame in range(FRAMES):
        for x, y in corners:
            masks[frame, y : y + 8, x + frame : x + frame + 6] = 1
    return masks


def test_masks_give_a_thing_for_every_shape_without_frames_too():
    clip, found = finds(Found(masks=shape_masks((4, 4), (30, 16))))
    assert (clip.count, clip.size, clip.source) == (FRAMES, SIZE, None)
    assert [len(own) for own in found] == [2] * FRAMES
    result = follow(clip, lambda number, _: found[number], Following())
    assert [track.seen for track in result.tracks] == [FRAMES] * 2
    assert [track.at(0).box.x for track in result.tracks] == pytest.approx([7, 33], abs=0.5)


def test_empty_masks_give_no_track_and_a_note():
    clip, finder = clip_and_finder(None, Found(masks=torch.zeros(4, 16, 16)), OPTIONS)
    with collected_notes() as notes:
        result = follow(clip, finder, Following())
    assert result.tracks == () and result.frames == 4
    assert "Nothing was found in 4 frames" in notes[0].text


def test_one_mask_holds_for_every_frame_and_another_number_is_told():
    one = shape_masks((4, 4))[:1]
    _, found = finds(Found(masks=one), HeldFrames(frames()))
    assert [len(own) for own in found] == [1] * FRAMES
    with collected_notes() as notes:
        _, found = finds(Found(masks=shape_masks((4, 4))[:4]), HeldFrames(frames()))
    assert [len(own) for own in found] == [1, 1, 1, 1, 0, 0]
    assert "found in 4 frames, but the clip has 6" in notes[0].text


def test_masks_of_another_size_are_stretched_to_the_frames():
    small = shape_masks((4, 4))[:, ::2, ::2]
    with collected_notes():
        _, found = finds(Found(masks=small), HeldFrames(frames()))
    box = found[0][0].box
    assert (box.x, box.y) == pytest.approx((7, 8), abs=1)


def test_segs_that_know_their_frame_are_linked():
    segs = from_mask(shape_masks((4, 4), (30, 16)), False, 3.0, False, 1, "hand")
    assert segs[1][0].batch_image == BatchImage(0, FRAMES)
    clip, finder = clip_and_finder(None, Found(segs=segs), OPTIONS)
    assert (clip.count, clip.size) == (FRAMES, SIZE)
    result = follow(clip, finder, Following())
    assert [(track.label, track.seen, track.object_id) for track in result.tracks] == [
        ("hand", FRAMES, None)
    ] * 2


def test_segs_with_a_mask_for_each_frame_are_a_track_each():
    masks = shape_masks((4, 4), (30, 16))
    masks[3, :, :20] = 0  # the left one is not seen there
    segs = from_mask_frames(masks, False, 3.0, False, 1)
    clip, finder = clip_and_finder(None, Found(segs=segs), OPTIONS)
    result = follow(clip, finder, Following())
    assert sorted(track.object_id for track in result.tracks) == [0, 1]
    left, right = result.tracks
    assert [one.gap for one in left.sightings] == [False] * 3 + [True] + [False] * 2
    assert right.seen == FRAMES
    assert right.at(5).found == Rect.of_box((35, 16, 41, 24))


def test_a_segment_of_all_frames_stays_where_it_is():
    segs = (
        (32, 48),
        [SEG(None, np.ones((8, 8), np.float32), 0.9, (4, 4, 12, 12), (4, 4, 12, 12), "face")],
    )
    clip, finder = clip_and_finder(HeldFrames(frames()), Found(segs=segs), OPTIONS)
    (track,) = follow(clip, finder, Following()).tracks
    assert (track.seen, track.object_id) == (FRAMES, 0)
    places = [(one.box.x, one.box.y, one.box.width) for one in track.sightings]
    assert np.allclose(places, 8)


def test_boxes_keep_their_fractions():
    boxes = [
        [{"x": 4.25 + n, "y": 6.5, "width": 10.5, "height": 12.0, "label": "dog", "score": 0.8}]
        for n in range(FRAMES)
    ]
    boxes[2].append({"x": 30, "y": 6, "width": 8, "height": 8, "score": 0.1})
    _, found = finds(Found(boxes=boxes), HeldFrames(frames()))
    assert [len(own) for own in found] == [1] * FRAMES  # the score is below the threshold
    assert found[1][0].box == Rect(10.5, 12.5, 10.5, 12.0)
    assert (found[1][0].label, found[1][0].confidence) == ("dog", 0.8)
    with pytest.raises(ValueError, match="do not tell the size"):
        clip_and_finder(None, Found(boxes=boxes), OPTIONS)


def test_boxes_that_are_too_small_are_dropped():
    boxes = [[{"x": 4, "y": 6, "width": 12, "height": height} for height in (12, 11, 8, 0, -3)]]
    _, found = finds(Found(boxes=boxes), HeldFrames(frames()), DetectionOptions(0.5, 0, 3.0, 11))
    assert [[one.box.height for one in own] for own in found] == [[12]] * FRAMES


def test_boxes_for_another_number_of_frames_are_told_by_the_name_of_the_input():
    with collected_notes() as notes:
        finds(Found(boxes=[[], []]), HeldFrames(frames()))
    assert [note.text[:28] for note in notes] == ["'boxes' has boxes for 2 imag"]
    with pytest.raises(ValueError, match="'boxes' should hold boxes"):
        finds(Found(boxes=[[{"x": 4}]]), HeldFrames(frames()))


def test_segments_of_faint_masks_are_followed():
    faint = np.zeros((FRAMES, 12, 12), np.float32)
    faint[:3, 2:10, 4:10] = 0.3
    segs = ((32, 48), [SEG(None, faint, 0.9, (4, 4, 16, 16), (4, 4, 16, 16), "face")])
    _, found = finds(Found(segs=segs), HeldFrames(frames()))
    assert [[one.box for one in own] for own in found[:3]] == [[Rect.of_box((8, 6, 14, 14))]] * 3
    assert found[3:] == [[]] * 3  # nothing is in the mask there


def packed(masks):
    """Masks [F,N,h,w] as SAM 3 packs them: eight pixels in a byte, the first in the lowest bit."""
    bits = masks.bool().unflatten(-1, (-1, 8))
    return (bits * torch.tensor([1, 2, 4, 8, 16, 32, 64, 128])).sum(-1).to(torch.uint8)


def sam_tracks():
    masks = torch.zeros(FRAMES, 3, 16, 24)  # half the size of the frames
    for frame in range(FRAMES):
        masks[frame, 0, 4:10, 2 + frame : 7 + frame] = 1
        masks[frame, 2, 2:8, 14:20] = 1
    masks[2, 0] = 0  # hidden
    masks[:, 2, 15, 0] = 1  # a speck far away
    return {"packed_masks": packed(masks), "orig_size": (32, 48), "scores": [0.9, 0.8, 0.7]}


def test_objects_of_sam_3_are_tracks_and_keep_their_numbers():
    clip, finder = clip_and_finder(None, Found(sam_tracks=sam_tracks()), OPTIONS)
    assert (clip.count, clip.size) == (FRAMES, SIZE)
    with collected_notes():
        result = follow(clip, finder, Following(choosing=Choosing(min_frames=2)))
    assert [track.object_id for track in result.tracks] == [0, 2]
    first, still = result.tracks
    assert [one.gap for one in first.sightings] == [False, False, True, False, False, False]
    assert (first.at(0).found.x, first.at(0).found.y) == pytest.approx((9, 14), abs=0.6)
    assert still.at(0).found.width == pytest.approx(12, abs=1.1)  # the speck is no part of it
    assert still.at(0).confidence == pytest.approx(0.7)
    assert first.at(0).mask.unpacked().max() == 1


def test_objects_of_sam_3_on_frames_of_another_size_and_none_at_all():
    large = HeldFrames(torch.zeros(FRAMES, 64, 96, 3))
    _, found = finds(Found(sam_tracks=sam_tracks()), large)
    assert (found[0][0].box.x, found[0][0].box.y) == pytest.approx((18, 28), abs=1)
    nothing = {"packed_masks": None, "n_frames": 3, "orig_size": (32, 48), "scores": []}
    clip, found = finds(Found(sam_tracks=nothing))
    assert clip.count == 3 and found == [[], [], []]


@pytest.mark.parametrize(
    "wrong",
    [5, {}, {"packed_masks": torch.zeros(2, 3), "orig_size": (4, 4)},
     {"packed_masks": torch.zeros(2, 1, 4, 1), "orig_size": (4, 8)},
     {"packed_masks": None, "orig_size": (4, 8)},
     {"packed_masks": None, "n_frames": 2, "orig_size": ("a", 8)}],
)  # fmt: skip
def test_what_is_no_track_of_sam_3_is_an_error(wrong):
    with pytest.raises(ValueError, match="'sam_tracks' should be the track_data of"):
        clip_and_finder(None, Found(sam_tracks=wrong), OPTIONS)


def test_a_segment_outside_of_the_frames_is_no_find():
    outside = of_image(
        SEG(None, np.ones((4, 4), np.float32), 1.0, (90, 90, 94, 94), (90, 90, 94, 94), "a"),
        BatchImage(0, FRAMES),
    )
    _, found = finds(Found(segs=((32, 48), [outside])), HeldFrames(frames()))
    assert found == [[]] * FRAMES
    assert Clip.of(HeldFrames(frames())).size == SIZE


def test_only_detectors_miss_what_is_there():
    assert Found(bbox_detector=Detector()).may_miss
    assert Found(segm_detector=Detector()).may_miss
    given = {"segs": of_image([], SIZE), "masks": torch.ones(1, 8, 8), "boxes": []}
    assert not any(Found(**{name: value}).may_miss for name, value in given.items())
