"""SEGS from the outputs of ComfyUI's own detection nodes, and back."""

import numpy as np
import pytest
import torch
from detailers.core.detectors.host_data import (
    SegmentOptions,
    box_frames,
    box_video_to_segs,
    boxes_to_segs,
    landmarks_to_segs,
    masks_to_segs,
    mesh_to_segs,
    segs_to_boxes,
)
from detailers.core.geometry import Box
from detailers.core.segs.face_landmarks import FACE_PARTS

IMAGE = torch.zeros(1, 60, 90, 3)
PLAIN = SegmentOptions(crop_factor=1.0, drop_size=1)


def box(x, y, width, height, **more):
    return {"x": x, "y": y, "width": width, "height": height, **more}


# Boxes


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (box(1, 2, 3, 4), [1, 1]),  # the same for every image
        ([box(1, 2, 3, 4)] * 2, [2, 2]),
        ([[box(1, 2, 3, 4)] * 2], [2, 2]),
        ([[box(1, 2, 3, 4)], []], [1, 0]),
        ([[], [box(1, 2, 3, 4)], [box(1, 2, 3, 4)]], [0, 1]),
        ([], [0, 0]),
        (None, [0, 0]),
        ([[]], [0, 0]),
    ],
)
def test_boxes_come_in_many_forms(value, counts):
    assert [len(frame) for frame in box_frames(value, 2)] == counts


def test_boxes_become_segments_with_score_and_label():
    boxes = [[box(10.4, 5.0, 19.2, 10.0, label="猫", score=0.75), box(0, 0, 9, 9, score=0.2)]]
    shape, (seg,) = boxes_to_segs(IMAGE, boxes, 0.5, SegmentOptions(crop_factor=2.0, drop_size=5))
    assert shape == (60, 90)
    assert (seg.bbox, seg.label, seg.confidence) == ((10, 5, 30, 15), "猫", 0.75)
    assert seg.crop_region == (0, 0, 40, 20)
    assert seg.cropped_mask.sum() == 200
    assert seg.cropped_image.shape == (1, 20, 40, 3)


def test_boxes_without_score_and_label_count_fully():
    _, (seg,) = boxes_to_segs(IMAGE, box(0, 0, 20, 20), 1.0, PLAIN)
    assert (seg.label, seg.confidence) == ("A", 1.0)


def test_what_is_no_box_is_an_error():
    with pytest.raises(ValueError, match="'bboxes' should hold boxes with x, y, width and height"):
        boxes_to_segs(IMAGE, [[{"x": 1}]], 0.5, PLAIN)


def test_boxes_of_a_video_that_touch_are_one_segment():
    frames = IMAGE.expand(3, -1, -1, -1)
    boxes = [
        [box(0, 0, 20, 20, label="a")],
        [box(10, 0, 20, 20, label="a"), box(50, 0, 10, 10, label="b")],
        [box(70, 30, 10, 10, label="a"), box(0, 0, 5, 5, label="a", score=0.1)],
    ]
    _, segs = box_video_to_segs(frames, boxes, 0.5, PLAIN)
    found = {(seg.label, seg.bbox): [mask.sum() for mask in seg.cropped_mask] for seg in segs}
    assert found == {
        ("a", (0, 0, 30, 20)): [400, 400, 0],
        ("a", (70, 30, 80, 40)): [0, 0, 100],
        ("b", (50, 0, 60, 10)): [0, 100, 0],
    }


def test_segments_go_back_to_boxes():
    boxes = [[box(10, 5, 20, 10, label="cat", score=0.75), box(0, 0, 9, 9, label="A", score=1.0)]]
    segs = boxes_to_segs(IMAGE, boxes, 0.5, SegmentOptions(crop_factor=2.0, drop_size=1))
    assert segs_to_boxes(segs, of_crop=False) == boxes
    assert segs_to_boxes(segs, of_crop=True)[0][0] == box(0, 0, 40, 20, label="cat", score=0.75)
    assert segs_to_boxes(((60, 90), []), of_crop=False) == [[]]


def test_confidences_of_other_packs_may_be_arrays():
    _, (seg,) = boxes_to_segs(IMAGE, box(0, 0, 20, 20), 0.0, PLAIN)
    seg = seg._replace(confidence=np.array([0.5], np.float32))
    assert segs_to_boxes(((60, 90), [seg]), of_crop=False)[0][0]["score"] == 0.5


# Masks


def test_each_mask_is_one_segment_even_in_pieces():
    masks = torch.zeros(3, 60, 90)
    masks[0, 10:20, 10:20] = masks[0, 10:20, 40:50] = 1
    masks[2, 0:4, 0:40] = 1
    shape, (first, last) = masks_to_segs(
        masks, SegmentOptions(crop_factor=1.5, drop_size=3), "thing"
    )
    assert shape == (60, 90)
    assert (first.bbox, first.label, first.confidence) == ((10, 10, 50, 20), "thing", 1.0)
    assert first.crop_region == (0, 7, 60, 22)
    assert first.cropped_mask.sum() == 200
    assert last.bbox == (0, 0, 40, 4)
    _, filled = masks_to_segs(masks, SegmentOptions(1.0, 4, bbox_fill=True), "thing")
    assert [seg.cropped_mask.sum() for seg in filled] == [400]  # the other is not higher than 4


def test_masks_take_scores_and_labels_of_as_many_boxes():
    masks = torch.zeros(2, 60, 90)
    masks[0, :10, :10] = masks[1, :20, :20] = 1
    boxes = [[box(0, 0, 10, 10, score=0.5)], [box(0, 0, 20, 20, score=0.7, label="dog")]]
    _, segs = masks_to_segs(masks, PLAIN, "x", boxes)
    assert [(seg.label, seg.confidence) for seg in segs] == [("x", 0.5), ("dog", 0.7)]
    _, segs = masks_to_segs(masks, PLAIN, "x", [boxes[0]])
    assert [(seg.label, seg.confidence) for seg in segs] == [("x", 1.0), ("x", 1.0)]


def test_no_masks_are_no_segments():
    assert masks_to_segs(torch.zeros(0, 60, 90), PLAIN, "x") == ((60, 90), [])
    assert masks_to_segs(torch.zeros(2, 60, 90), PLAIN, "x") == ((60, 90), [])


def test_masks_that_hold_nan_are_refused():
    with pytest.raises(ValueError, match="'masks' holds 1 values that are not finite"):
        masks_to_segs(torch.full((1, 1, 1), float("nan")), PLAIN, "x")


# Faces


def outlined(image, corner, colour, side=20):
    """A square line drawing of one pixel in an image [H,W,3] of bytes."""
    x, y = corner
    for part in (
        image[y, x : x + side], image[y + side - 1, x : x + side], image[y : y + side, x],
        image[y : y + side, x + side - 1],
    ):  # fmt: skip
        part[...] = torch.tensor(colour, dtype=torch.uint8)


def mesh():
    image = torch.zeros(60, 90, 3, dtype=torch.uint8)
    outlined(image, (5, 10), (10, 200, 10))  # face
    outlined(image, (50, 10), (10, 200, 10))
    outlined(image, (10, 12), (180, 200, 10), 6)  # left eye
    outlined(image, (10, 22), (10, 180, 10), 7)  # mouth
    return image[None].float() / 255


def test_the_parts_of_a_drawn_mesh_are_filled():
    shape, segs = mesh_to_segs(mesh(), ["mouth", "face", "left_eye", "right_eye"], PLAIN)
    assert shape == (60, 90)
    assert [(seg.label, seg.bbox, seg.cropped_mask.sum()) for seg in segs] == [
        ("face", (50, 10, 70, 30), 400),
        ("face", (5, 10, 25, 30), 400),
        ("mouth", (10, 22, 17, 29), 49),
        ("left_eye", (10, 12, 16, 18), 36),
    ]


def test_small_parts_get_a_crop_of_the_least_size():
    making = SegmentOptions(crop_factor=1.0, drop_size=1, crop_min_size=30)
    _, (seg,) = mesh_to_segs(mesh(), ["left_eye"], making)
    assert seg.crop_region == (0, 0, 30, 30)


def test_a_picture_without_a_mesh_has_no_parts():
    assert mesh_to_segs(IMAGE + 0.5, FACE_PARTS, PLAIN) == ((60, 90), [])


CONNECTIONS = {
    "face_oval": [[0, 1], [1, 2], [2, 3], [3, 0]],
    "lips": [[4, 5], [5, 6], [6, 4]],
    "left_eye": [[7, 8]],
    "right_eye": [[9, 10]],
    "left_eyebrow": [[7, 8]],
    "right_eyebrow": [[9, 10]],
    "irises": [[13, 14], [11, 12], [12, 11]],
}
POINTS = [
    (10, 10), (49, 10), (49, 49), (10, 49),  # oval
    (25, 40), (35, 40), (30, 45),  # lips
    (35, 20), (45, 24), (15, 20), (25, 24),  # left eye, right eye
    (18, 20), (20, 22), (38, 20), (41, 23),  # right iris, left iris
]  # fmt: skip


def landmarks(*frames):
    sets = {name: frozenset(map(tuple, lines)) for name, lines in CONNECTIONS.items()}
    return {"frames": list(frames), "image_size": (60, 90), "connection_sets": sets}


def face(dx=0, dy=0, score=0.9):
    return {"landmarks_xy": np.array(POINTS, np.float32) + np.float32([dx, dy]), "score": score}


def test_parts_of_faces_come_from_their_landmarks():
    _, segs = landmarks_to_segs(landmarks([face(), face(40, 5, 0.6)]), FACE_PARTS, PLAIN)
    found = {(seg.label, seg.bbox): seg.confidence for seg in segs}
    assert found[("face", (10, 10, 50, 50))] == 0.9
    assert found[("face", (50, 15, 90, 55))] == 0.6
    assert found[("mouth", (25, 40, 36, 46))] == 0.9
    assert found[("left_pupil", (38, 20, 42, 24))] == 0.9
    assert found[("right_pupil", (18, 20, 21, 23))] == 0.9
    assert ("right_eye", (55, 25, 66, 30)) in found
    assert len(segs) == 16
    oval = next(seg for seg in segs if seg.label == "face")
    assert oval.cropped_mask.sum() == 1600


def test_faces_of_a_video_get_a_mask_for_each_frame():
    value = landmarks([face()], [], [face(5)])
    _, (seg,) = landmarks_to_segs(value, ["face"], PLAIN)
    assert seg.bbox == (10, 10, 55, 50)
    assert [mask.sum() for mask in seg.cropped_mask] == [1600, 0, 1600]


def test_frames_without_faces_give_nothing():
    assert landmarks_to_segs(landmarks([]), FACE_PARTS, PLAIN) == ((60, 90), [])
    assert landmarks_to_segs(landmarks([], []), FACE_PARTS, PLAIN) == ((60, 90), [])


def test_landmarks_beyond_the_image_or_not_finite_do_no_harm():
    wild = face()
    wild["landmarks_xy"][:3] = [[-1e9, np.nan], [1e9, 5], [np.inf, 1e9]]
    _, segs = landmarks_to_segs(landmarks([wild]), ["face"], PLAIN)
    assert all(Box.of(seg.bbox).clipped((90, 60)) == Box.of(seg.bbox) for seg in segs)


def test_what_is_no_landmarks_is_an_error():
    with pytest.raises(ValueError, match="'face_landmarks' should come from ComfyUI's"):
        landmarks_to_segs({"frames": []}, FACE_PARTS, PLAIN)


@pytest.mark.parametrize(
    "boxes",
    [
        5, "boxes", [5], [["box"]], [[{"x": 1}]],
        [[{"x": np.nan, "y": 0, "width": 5, "height": 5}]],
        [[{"x": 10**400, "y": 0, "width": 5, "height": 5}]], torch.zeros(2, 4),
        [[{"x": 0, "y": 0, "width": 5, "height": 5, "score": "sure"}]],
        [[{"x": 0, "y": 0, "width": 5, "height": 5, "score": np.inf}]],
    ],
)  # fmt: skip
def test_boxes_that_are_none_are_an_error(boxes):
    with pytest.raises(ValueError, match="'bboxes' should hold boxes"):
        box_frames(boxes, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": (0, 90)}, {"image_size": "60"}, {"image_size": (np.nan, 90)}, {"frames": 5},
        {"frames": [[5]]}, {"frames": [[{"landmarks_xy": "points"}]]}, {"connection_sets": [1]},
        {"frames": [[{"landmarks_xy": np.zeros((2, 2))}]]}, {"connection_sets": {"lips": [5]}},
        {"frames": [[{"landmarks_xy": np.zeros((99, 3))}]]},
    ],
)  # fmt: skip
def test_parts_of_landmarks_of_the_wrong_kind_are_an_error(changes):
    with pytest.raises(ValueError, match="'face_landmarks' should come from ComfyUI's"):
        landmarks_to_segs(landmarks([face()]) | changes, FACE_PARTS, PLAIN)


def test_landmarks_of_too_large_an_image_are_refused():
    with pytest.raises(ValueError, match="The image of 'face_landmarks' would be"):
        landmarks_to_segs(landmarks([face()]) | {"image_size": (10**9, 10**9)}, FACE_PARTS, PLAIN)
