"""Which variants there are of segments, the text of the choices, scores, and what is chosen."""

import numpy as np
import pytest
import torch
from detailers.core.detectors.confidence import confidence_in
from detailers.core.prompts.variant_texts import dealt_texts
from detailers.core.segs.likeness import likeness_to_persons, likeness_to_texts
from detailers.core.segs.seg import (
    SEG,
    BatchImage,
    Variant,
    as_variant,
    edited,
    normalise,
    of_image,
)
from detailers.core.segs.sharpness import sharpness
from detailers.core.segs.variant_grid import originals, variant_grid
from detailers.core.segs.variants import (
    FIRST,
    HAND,
    SCORE,
    Place,
    candidates_of,
    choose,
    read_choices,
    written_choices,
)
from detailers.tests.fake_backend import make_seg
from detailers.tests.test_people import BLUE, GREEN, RED, Colours, persons
from detailers.utils.notes import collected_notes
from detailers.wildcards.grammar import expand
from detailers.wildcards.library import Library
from hypothesis import given
from hypothesis import strategies as st

REGION = (4, 5, 24, 15)
FRAME = [0.24, 0.78, 0.44]  # of the variant that is chosen
numbers = st.integers(0, 999_999_999)
places = st.builds(Place, numbers, st.one_of(st.just(-1), numbers))


def variant(segment, number, region=REGION, value=0.5, image=None, label="A"):
    width, height = region[2] - region[0], region[3] - region[1]
    picture = np.full((1, height, width, 3), value, np.float32)
    seg = make_seg(region, label=label)
    seg = seg if image is None else of_image(seg, BatchImage(image, 4))
    return as_variant(seg, Variant(segment, number, 7 + number), picture)


# The text


@given(st.dictionaries(places, st.one_of(st.none(), numbers)))
def test_what_is_written_is_read_again(choices):
    assert read_choices(written_choices(choices)) == choices


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        (" , \n", {}),
        ("0:2, 3:1", {Place(0): 2, Place(3): 1}),
        ("0:2 3:1;4:0\n5 : 6", {Place(0): 2, Place(3): 1, Place(4): 0, Place(5): 6}),
        ("1:original, 2:ORIGINAL", {Place(1): None, Place(2): None}),
        ("0@3:2, 0:1", {Place(0, 3): 2, Place(0): 1}),
        ("0:1, 0:2", {Place(0): 2}),
        ("，0：1、1：2", {Place(0): 1, Place(1): 2}),
    ],
)
def test_choices_as_text(text, found):
    assert read_choices(text) == found


@pytest.mark.parametrize(
    ("text", "number", "rest"),
    [("best", 1, "best"), ("0:1, 2:x", 2, "2:x"), ("0:-1", 1, "0:-1"), ("0:1.5", 1, "0:1.5"),
     ("0", 1, "0"), ("0:1000000000000", 1, "0:1000000000000"), ("0:1,1:2:3", 2, "1:2:3")],
)  # fmt: skip
def test_what_is_no_choice_is_told_with_its_place(text, number, rest):
    with pytest.raises(ValueError, match=f"'choices', entry {number}: '{rest}"):
        read_choices(text)


def test_choices_are_written_by_segment_and_image():
    choices = {Place(3): 1, Place(0, 2): None, Place(0): 4}
    assert written_choices(choices) == "0:4, 0@2:original, 3:1"


# Which there are


def test_variants_come_together_by_segment():
    items = [variant(1, 0), variant(0, 1, (0, 0, 9, 9)), variant(1, 2), variant(0, 0, (0, 0, 9, 9))]
    groups = candidates_of(items)
    assert [(group.place, group.numbers) for group in groups] == [
        (Place(1), (0, 2)), (Place(0), (0, 1)),
    ]  # fmt: skip
    assert groups[1].segs == (items[3], items[1])


def test_segments_of_several_images_are_apart():
    items = [variant(0, number, image=image) for image in (0, 2) for number in (0, 1)]
    groups = candidates_of(items)
    assert [group.place for group in groups] == [Place(0, 0), Place(0, 2)]
    assert [group.place.name for group in groups] == ["0@0", "0@2"]


def test_what_a_segment_carries_stays_with_it():
    seg = variant(2, 1, image=1)
    for other in (seg._replace(label="B"), edited(seg, label="B"), of_image(seg, None),
                  normalise(((30, 60), [seg]), (120, 60), "segs")[1][0]):  # fmt: skip
        assert other.variant == Variant(2, 1, 8)
    assert make_seg(REGION).variant is None


def test_segments_of_other_packs_are_variants_where_they_lie_in_the_same_place():
    plain = [make_seg(REGION), make_seg((0, 0, 9, 9)), make_seg(REGION), variant(0, 0)]
    groups = candidates_of([SEG(*seg) for seg in plain[:3]] + plain[3:])
    assert [(group.place, group.numbers) for group in groups] == [
        (Place(1), (0, 1)), (Place(2), (0,)), (Place(0), (0,)),
    ]  # fmt: skip


def test_variants_of_two_detailers_can_be_joined():
    faces = [variant(0, 0), variant(0, 1)]
    again, hands = [variant(0, 0), variant(0, 1)], [variant(0, 0, (30, 5, 50, 15))]
    groups = candidates_of([*faces, *again, *hands])
    assert [(group.place, group.numbers) for group in groups] == [
        (Place(0), (0, 1, 2, 3)), (Place(1), (0,)),
    ]  # fmt: skip


# What is chosen


def chosen(items, text="", scores=None):
    groups = candidates_of(items)
    with collected_notes() as notes:
        found = choose(groups, read_choices(text), scores)
    numbers = [None if own.index is None else own.candidates.numbers[own.index] for own in found]
    return numbers, [own.by for own in found], [note.text for note in notes]


TWO = [variant(0, 0), variant(0, 1), variant(1, 0, (0, 0, 9, 9)), variant(1, 1, (0, 0, 9, 9))]


def test_without_scores_it_is_the_first():
    assert chosen(TWO) == ([0, 0], [FIRST, FIRST], [])


def test_the_best_score_wins_and_of_equal_ones_the_first():
    scores = [[0.1, 0.7], [0.5, 0.5]]
    assert chosen(TWO, scores=scores) == ([1, 0], [SCORE, SCORE], [])
    scores = [[None, 0.2], [float("nan"), None]]
    assert chosen(TWO, scores=scores) == ([1, 0], [SCORE, FIRST], [])


def test_choices_by_hand_win():
    scores = [[0.1, 0.7], [0.5, 0.9]]
    assert chosen(TWO, "0:0", scores) == ([0, 1], [HAND, SCORE], [])
    assert chosen(TWO, "1:original", scores) == ([1, None], [SCORE, HAND], [])
    assert chosen(TWO, "0@0:0", scores) == ([0, 1], [HAND, SCORE], [])  # the only image


def test_choices_of_what_is_not_there_are_told():
    numbers, by, told = chosen(TWO, "0:5, 7:1")
    assert (numbers, by) == ([0, 0], [FIRST, FIRST])
    assert told == [
        "'choices' takes variant 5 of segment 0, which has the variants 0 to 1: the choice is left"
        " out.",
        "'choices' names segments of which no variant came in: 7. There are: 0, 1.",
    ]


def test_a_choice_without_an_image_holds_for_every_image():
    items = [variant(0, number, image=image) for image in (0, 1) for number in (0, 1)]
    assert chosen(items, "0:1") == ([1, 1], [HAND, HAND], [])
    assert chosen(items, "0:1, 0@1:0") == ([1, 0], [HAND, HAND], [])
    _, _, told = chosen(items, "0@3:1")
    assert told == [
        "'choices' names segments of which no variant came in: 0@3. There are: 0@0, 0@1."
    ]


# Scores


def test_sharpness_is_that_within_the_mask():
    board = (
        torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(5, 10)[None, ..., None].expand(1, 10, 20, 3)
    )
    half = np.zeros((10, 20), np.float32)
    half[:, :10] = 1
    seg = make_seg(REGION, mask=half)
    pictures = [board.numpy(), (0.5 * board).numpy(), np.full((1, 10, 20, 3), 0.5, np.float32)]
    sharp, soft, flat = (sharpness(seg._replace(cropped_image=own)) for own in pictures)
    assert sharp == pytest.approx(4 * soft)
    assert flat == 0
    outside = pictures[0].copy()
    outside[:, :, :11] = 0.5
    assert sharpness(seg._replace(cropped_image=outside)) == 0
    inner = make_seg(REGION, mask=_inside())._replace(cropped_image=pictures[0])
    # A board of 0 and 1: its Laplacian is 4 and -4 in turn, which is 16 of variance.
    assert sharpness(inner) == pytest.approx(16_000)
    assert sharpness(seg) is None


def _inside():
    mask = np.zeros((10, 20), np.float32)
    mask[2:8, 4:16] = 1
    return mask


class Detector:
    """Finds two things in every picture, as sure as the picture's mean is bright."""

    def __init__(self, *boxes):
        self.boxes = boxes

    def detect(self, image, threshold, dilation, crop_factor, drop_size=1, detailer_hook=None):
        sure = float(image.mean())
        segs = [
            make_seg(box)._replace(confidence=np.array([sure * (place + 1) / len(self.boxes)]))
            for place, box in enumerate(self.boxes)
        ]
        return tuple(image.shape[1:3]), segs


def test_confidence_is_of_the_surest_find_in_the_segments_box():
    seg = variant(0, 0, value=0.8)._replace(bbox=(4, 5, 14, 15))
    here, beside = (2, 2, 8, 8), (12, 2, 18, 8)
    assert confidence_in(seg, Detector(here)) == pytest.approx(0.8)
    assert confidence_in(seg, Detector(here, beside)) == pytest.approx(0.4)
    assert confidence_in(seg, Detector(beside)) == 0
    assert confidence_in(seg, Detector()) == 0
    assert confidence_in(make_seg(REGION), Detector(here)) is None


def coloured(segment, number, colour, label="A", frames=1):
    picture = np.tile(np.array(colour, np.float32), (frames, 10, 20, 1))
    seg = make_seg((4, 5, 24, 15), label=label)
    return as_variant(seg, Variant(segment, number, 7 + number), picture)


def by_persons(items, *colours, names=None):
    known = persons(*colours, names=names or [""] * len(colours))
    scores = likeness_to_persons(candidates_of(items), Colours(), known)
    return [[None if own is None else round(own, 3) for own in row] for row in scores]


def test_references_are_compared_with_every_segment_and_the_most_alike_counts():
    items = [coloured(0, 0, RED), coloured(0, 1, (1.0, 1.0, 0.0)), coloured(0, 2, BLUE)]
    assert by_persons(items, RED) == [[1.0, 0.707, 0.0]]
    assert by_persons(items, RED, BLUE) == [[1.0, 0.707, 1.0]]


def test_references_with_names_go_with_segments_of_these_labels():
    items = [coloured(0, 0, RED, "anna"), coloured(1, 0, RED, "ben"), coloured(2, 0, RED, "cleo")]
    found = by_persons(items, RED, GREEN, names=["anna", "ben"])
    assert found == [[1.0], [0.0], [None]]


def test_of_a_clip_the_frames_are_compared():
    clip = coloured(0, 0, RED, frames=40)
    clip.cropped_image[20:] = GREEN
    assert by_persons([clip], RED) == [[0.5]]


def test_only_the_segments_box_is_compared():
    seg = coloured(0, 0, GREEN)._replace(bbox=(4, 5, 10, 11))
    seg.cropped_image[:, :8, :8] = RED
    assert by_persons([seg], RED) == [[1.0]]


def test_texts_are_dealt_and_drawn_as_in_the_detailer():
    items = [coloured(0, 0, RED), coloured(0, 1, RED), coloured(1, 0, RED, "hand")]
    groups = candidates_of(items)
    texts = dealt_texts(groups, "[LAB] [A] face {a|b|c|d} <lora:x:1> [hand] fingers", Library([]))
    found = [[texts(group, seg) for seg in group.segs] for group in groups]
    assert found == [[f"face {expand('{a|b|c|d}', seed, Library([]))}" for seed in (7, 8)],
                     ["fingers"]]  # fmt: skip
    assert dealt_texts(groups, "one [SEP] [SKIP]", Library([]))(groups[1], items[2]) == ""


def test_likeness_to_texts_asks_for_vectors_of_the_pictures_length():
    items = [coloured(0, 0, RED), coloured(0, 1, BLUE)]
    asked = []

    def vector_for(group, seg, length):
        asked.append((group.place, seg.variant.number, length))
        return torch.tensor(BLUE) if seg.variant.number else None

    assert likeness_to_texts(candidates_of(items), Colours(), vector_for) == [[None, 1.0]]
    assert asked == [(Place(0), 0, 3), (Place(0), 1, 3)]


# The grid


def test_the_grid_has_a_row_for_each_segment_and_a_frame_around_what_is_chosen():
    image = torch.full((1, 30, 60, 3), 0.25)
    items = [variant(0, 0), variant(0, 1), variant(1, 0, (0, 0, 9, 9))]
    groups = candidates_of(items)
    found = choose(groups, read_choices("0:1, 1:original"), None)
    before = originals(image, groups)
    assert [tuple(picture.shape) for picture in before] == [(1, 10, 20, 3), (1, 9, 9, 3)]
    grid = variant_grid(before, found)
    assert grid.shape == (1, 2 * 204, 3 * 204, 3)
    corners = [[grid[0, 204 * row, 204 * column] for column in range(3)] for row in range(2)]
    framed = [[torch.allclose(own, torch.tensor(FRAME)) for own in row] for row in corners]
    assert framed == [[False, False, True], [True, False, False]]
    assert grid[0, 102, 102].tolist() == pytest.approx([0.25] * 3)
    assert grid[0, 102, 306].tolist() == pytest.approx([0.5] * 3)
    assert variant_grid([], []).shape == (1, 64, 64, 3)


def test_a_grid_of_many_segments_stays_small():
    groups = candidates_of([variant(place, 0, (0, 0, 9, 9 + place)) for place in range(100)])
    image = torch.zeros(1, 200, 60, 3)
    grid = variant_grid(originals(image, groups), choose(groups, {}, None))
    assert max(grid.shape[1:3]) <= 100 * (81 + 6)
