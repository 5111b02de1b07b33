"""Segments labelled by person: what is compared, who gets which name, and how it is shown."""

import math

import numpy as np
import pytest
import torch
from detailers.core.geometry import Box, Size
from detailers.core.segs.people import Naming, Persons, label_by_person, read_names
from detailers.core.segs.people_sheet import people_sheet, people_table, people_tiles
from detailers.core.segs.seg import BatchImage, of_image
from detailers.core.segs.sights import around_box, around_eyes, cut, eyes_within, sight_of
from detailers.tests.fake_backend import make_seg, noise_image
from detailers.utils.notes import collected_notes

RED, GREEN, BLUE, GREY = (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (0.5, 0.5, 0.5)
NAMING = Naming(0.8, "unknown", 0.0)


class Colours:
    """Tells persons apart by the mean colour of their pictures."""

    def __init__(self, size=(8, 8)):
        self.size = size
        self.seen = []

    def embed(self, pictures):
        self.seen += list(pictures)
        return pictures.mean(dim=(1, 2))


def painted(*colours, side=16):
    """[1,side,side * n,3]: a square of each colour, and the SEGS of these squares."""
    image = torch.cat([torch.tensor(own).expand(1, side, side, 3) for own in colours], dim=2)
    boxes = [(i * side, 0, (i + 1) * side, side) for i in range(len(colours))]
    return image, ((side, side * len(colours)), [make_seg(box, label="face") for box in boxes])


def persons(*colours, names="ABC", landmarks=None, boxes=None):
    pictures = torch.stack([torch.tensor(own).expand(5, 7, 3) for own in colours])
    return Persons(pictures, list(names[: len(colours)]), boxes or [None] * len(colours), landmarks)


def labels(segs):
    return [seg.label for seg in segs[1]]


def named(image, segs, known, how=NAMING, embedder=None):
    return labels(label_by_person(segs, image, known, embedder or Colours(), how)[0])


# Who gets which name


def test_names_go_by_what_segments_show_and_not_by_their_order():
    known = persons(RED, GREEN, BLUE)
    assert named(*painted(GREEN, RED), known) == ["B", "A"]
    assert named(*painted(BLUE, GREEN, RED), known) == ["C", "B", "A"]


def test_who_is_like_nobody_is_unknown():
    segs = painted(GREEN, GREY, RED)
    assert named(*segs, persons(RED, BLUE)) == ["unknown", "unknown", "A"]
    assert named(*segs, persons(RED, BLUE), Naming(0.8, "guest", 0)) == ["guest", "guest", "A"]
    assert named(*segs, persons(RED, BLUE), Naming(0.8, "", 0)) == ["face", "face", "A"]


def test_nobody_is_there_twice():
    orange = (1.0, 0.4, 0)
    assert named(*painted(orange, RED, RED), persons(RED, GREEN))[0] == "unknown"
    assert sorted(named(*painted(RED, RED), persons(RED, GREEN))) == ["A", "unknown"]
    assert named(*painted(orange, RED), persons(RED, (0.6, 0.8, 0)), Naming(0.5, "?", 0)) == [
        "B",
        "A",
    ]


def test_a_person_may_have_several_pictures():
    known = persons(RED, GREEN, BLUE, names="ABA")
    assert known.each == ["A", "B"]
    assert named(*painted(BLUE, GREEN), known) == ["A", "B"]
    assert named(*painted(BLUE, RED), known).count("A") == 1


def test_all_else_of_a_segment_stays():
    image, (header, items) = painted(GREEN, RED)
    items[0] = make_seg(
        (0, 0, 16, 16), bbox=(2, 3, 9, 11), label="x", image=noise_image(1, 16, 16).numpy()
    )
    before = list(items)
    (shape, found), results, faces = label_by_person(
        (header, items), image, persons(RED, GREEN), Colours(), NAMING
    )
    assert shape == header
    assert items == before
    for old, new in zip(items, found, strict=True):
        assert new._replace(label=old.label) == old
        assert new.cropped_mask is old.cropped_mask
    assert [one.label for one in results] == ["B", "A"]
    assert [face.shape for face in faces] == [(8, 8, 3)] * 2


def test_segs_of_another_size_are_brought_to_the_image():
    image, _ = painted(GREEN, RED)
    segs = ((8, 16), [make_seg((8, 0, 16, 8)), make_seg((0, 0, 8, 8))])
    found, *_ = label_by_person(segs, image, persons(RED, GREEN), Colours(), NAMING)
    assert found[0] == (8, 16)
    assert [(seg.label, seg.bbox) for seg in found[1]] == [
        ("A", (8, 0, 16, 8)),
        ("B", (0, 0, 8, 8)),
    ]


def test_no_segments():
    found, results, faces = label_by_person(
        ((16, 16), []), torch.zeros(1, 16, 16, 3), persons(RED), Colours(), NAMING
    )
    assert (found, results, len(faces)) == (((16, 16), []), [], 1)


def test_a_segment_without_a_pixel_is_unknown():
    image, (header, items) = painted(GREEN, RED)
    outside = make_seg((90, 0, 99, 9), mask=np.ones((9, 9), np.float32))
    found, results, _ = label_by_person(
        (header, [outside, *items]), image, persons(RED), Colours(), NAMING
    )
    assert labels(found) == ["unknown", "unknown", "A"]
    assert (results[0].scores, results[0].seen, results[0].best) == ([], None, None)


# Batches and video


def test_each_image_of_a_batch_is_named_by_itself():
    image = torch.cat([painted(GREEN, RED)[0], painted(RED, GREEN)[0]])
    _, (left, right) = painted(RED, RED)[1]
    items = [of_image(seg, BatchImage(row, 2)) for row in (0, 1) for seg in (left, right)]
    assert named(image, ((16, 32), items), persons(RED, GREEN)) == ["B", "A", "A", "B"]
    for row in range(2):
        alone = ((16, 32), [left, right])
        assert (
            named(image[row : row + 1], alone, persons(RED, GREEN)) == [["B", "A"], ["A", "B"]][row]
        )


def test_what_holds_for_all_images_goes_by_all_of_them():
    """Twice green and once red is green; who is named so is in no image a second time."""
    image = torch.cat([painted(own, GREEN)[0] for own in (GREEN, RED, GREEN)])
    _, (left, right) = painted(RED, RED)[1]
    of_first = of_image(right, BatchImage(0, 3))
    segs = ((16, 32), [of_first, left])
    how = Naming(0.3, "unknown", 0.0)
    found, results, _ = label_by_person(segs, image, persons(RED, GREEN), Colours(), how)
    assert labels(found) == ["unknown", "B"]
    np.testing.assert_allclose(results[1].scores, [1 / 3, 2 / 3], atol=1e-6)
    assert [one.image for one in results] == [0, None]


def test_a_clip_is_looked_at_where_its_mask_is_in_each_frame():
    """The thing moves by its own width from frame to frame, and is nowhere in the last."""
    frames = torch.cat([painted(*colours)[0] for colours in (
        (RED, GREEN, GREEN), (GREEN, RED, GREEN), (GREEN, GREEN, GREEN),
    )])  # fmt: skip
    mask = np.zeros((3, 16, 48), np.float32)
    mask[0, :, :16] = mask[1, :, 16:32] = 1
    segs = ((16, 48), [make_seg((0, 0, 48, 16), mask=mask)])
    embedder = Colours()
    found, results, _ = label_by_person(
        segs, frames, persons(RED, GREEN), embedder, Naming(0.9, "unknown", 0.0)
    )
    assert labels(found) == ["A"]
    assert results[0].scores == [1.0, 0.0]
    assert len(embedder.seen) == 2 + 2


def test_a_long_clip_is_looked_at_here_and_there():
    frames = torch.cat([painted(RED if row % 2 else GREEN)[0] for row in range(40)])
    embedder = Colours()
    segs = ((16, 16), [make_seg((0, 0, 16, 16))])
    label_by_person(segs, frames, persons(BLUE), embedder, NAMING)
    assert len(embedder.seen) == 1 + 16


# What is compared


def test_a_window_has_the_networks_proportions_and_goes_on_beyond_the_border():
    image = torch.zeros(1, 20, 30, 3)
    image[:, :, :10] = 1.0
    window = around_box(0, Box(0, 5, 10, 15), Size(4, 8), 0.1)
    assert window.size == (12.0, 24.0)
    assert window.centre == (5.0, 10.0)
    shown = cut(image, window, Size(12, 24))
    assert shown.shape == (1, 24, 12, 3)
    assert shown[:, 4:-4, :9].min() > 0.9  # white to the left border, and on beyond it
    assert shown[:, 4:-4, -1].max() < 0.2


def test_the_margin_is_around_the_box():
    image, segs = painted(GREEN, RED, GREEN)
    embedder = Colours((30, 30))
    middle = (segs[0], segs[1][1:2])
    label_by_person(middle, image, persons(RED), embedder, Naming(0.5, "?", 0.0))
    assert embedder.seen[-1][..., 0].min() > 0.99
    label_by_person(middle, image, persons(RED), embedder, Naming(0.5, "?", 0.5))
    row = embedder.seen[-1][15]
    assert row[8:-8, 0].min() > 0.95
    assert row[:6, 0].max() < 0.05 > row[-6:, 0].max()


def test_only_the_part_of_a_reference_that_shows_the_person_counts():
    pictures, _ = painted(GREEN, RED)
    known = Persons(pictures, ["A"], [Box(16, 0, 32, 16)])
    assert named(*painted(GREEN, RED), known) == ["unknown", "A"]


def test_that_part_has_the_margin_of_a_segment():
    """A box is looked at with as much around it, whether it is in the image or in a reference."""
    image, segs = painted(GREEN, RED, GREEN)
    middle = (segs[0], segs[1][1:2])
    embedder = Colours((30, 30))
    known = Persons(image, ["A"], [Box(16, 0, 32, 16)])
    label_by_person(middle, image, known, embedder, Naming(0.5, "?", 0.5))
    reference, segment = embedder.seen
    assert reference[15, :6, 1].min() > 0.9
    torch.testing.assert_close(reference, segment)
    whole = Persons(image, ["A"], [None])
    label_by_person(middle, image, whole, embedder, Naming(0.5, "?", 0.5))
    assert embedder.seen[2][:, 0, 1].min() > 0.9  # from border to border: nothing is around it
    assert embedder.seen[2][15, 10:20, 0].min() > 0.9


def landmarks(size, *faces):
    """FACE_LANDMARKS of one image: two eyes and the mouth of each face."""
    lines = {part: [(n, n)] for n, part in enumerate(("right_eye", "left_eye", "lips"))}
    frames = [[{"landmarks_xy": np.array(face, float)} for face in faces]]
    return {"frames": frames, "image_size": (size[1], size[0]), "connection_sets": lines}


@pytest.mark.parametrize("degrees", [0, 30, -75, 180])
def test_eyes_come_to_where_networks_of_faces_expect_them(degrees):
    """38.3 and 73.5 across and 51.6 down of 112 pixels, whichever way the face leans."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    places = np.array([[-12, 0], [12, 0], [0, 26]]) @ turn.T + (90, 80)
    image = torch.zeros(1, 160, 180, 3)
    y, x = torch.meshgrid(torch.arange(160) + 0.5, torch.arange(180) + 0.5, indexing="ij")
    for channel, (px, py) in enumerate(places[:2]):
        image[0, ..., channel] = torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
    found = eyes_within(landmarks((180, 160), places), Size(180, 160), 0, Box(60, 50, 120, 130))
    shown = cut(image, around_eyes(0, found, Size(112, 112)), Size(112, 112))[0]
    for channel, column in ((0, 38.3), (1, 73.5)):
        weight = shown[..., channel] ** 2
        across = (weight.sum(0) * (torch.arange(112) + 0.5)).sum() / weight.sum()
        down = (weight.sum(1) * (torch.arange(112) + 0.5)).sum() / weight.sum()
        assert abs(float(across) - column) < 0.5
        assert abs(float(down) - 51.6) < 0.5


def test_landmarks_of_another_face_or_image_are_passed_over():
    face = [(20, 20), (30, 20), (25, 30)]
    known = landmarks((64, 64), face)
    box, shape, size = Box(40, 40, 60, 60), Size(8, 8), Size(64, 64)
    plain = around_box(0, box, shape, 0.2)
    assert sight_of(0, box, shape, size, 0.2, known) == plain
    assert sight_of(1, Box(10, 10, 40, 40), shape, size, 0.2, known).angle == 0.0
    assert sight_of(1, box, shape, size, 0.2, None).size == plain.size
    assert sight_of(0, Box(10, 10, 40, 40), shape, size, 0.2, known).size != plain.size


# Embedders of others


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda pictures: None, "gave None"),
        (lambda pictures: torch.zeros(1, 3), r"gave a Tensor of the shape \[1, 3\]"),
        (lambda pictures: torch.zeros(len(pictures), 3, 4), "a vector of finite numbers for each"),
        (lambda pictures: torch.full((len(pictures), 3), float("nan")), "not finite"),
        (lambda pictures: torch.ones(len(pictures), 2 + len(pictures)), "as it did before"),
        (lambda pictures: 1 / 0, "failed with ZeroDivisionError"),
    ],
)
def test_what_an_embedder_must_not_give(answer, words):
    embedder = Colours()
    embedder.embed = answer
    image, segs = painted(RED, GREEN, BLUE)
    with pytest.raises((ValueError, RuntimeError), match=f"The embedder Colours .*{words}"):
        label_by_person(segs, image, persons(RED, GREEN), embedder, NAMING)


@pytest.mark.parametrize("size", [None, (0, 8), ("a", 8), (8,), (10**6, 8)])
def test_an_embedder_says_what_size_it_takes(size):
    with pytest.raises(ValueError, match=r"The embedder Colours .* as its size"):
        label_by_person(
            ((16, 16), []), torch.zeros(1, 16, 16, 3), persons(RED), Colours(size), NAMING
        )


def test_an_embedder_gets_a_few_pictures_at_a_time_in_their_order():
    sizes = []

    class Counting(Colours):
        def embed(self, pictures):
            sizes.append(len(pictures))
            return super().embed(pictures)

    colours = [((i % 5) / 4, (i % 7) / 6, 0.3) for i in range(20)]
    known = persons(colours[13])
    assert named(*painted(*colours), known, Naming(0.9999, "?", 0), Counting()).index("A") == 13
    assert sizes == [1, 16, 4]


def test_pictures_with_alpha_and_grey_ones_are_taken():
    image, segs = painted(GREY, (0.1, 0.1, 0.1))
    known = persons(GREY)
    rgba = torch.cat([image, torch.ones(1, 16, 32, 1)], dim=-1)
    assert named(rgba, segs, known) == named(image, segs, known)
    assert named(image[..., :1], segs, known) == named(image, segs, known)


# Names


def test_names_are_lines():
    assert read_names("Ada\n Ben  Lee \n\n", 2) == ["Ada", "Ben Lee"]
    assert read_names("Ada\r\n李雷\r\nADA", 3) == ["Ada", "李雷", "Ada"]


@pytest.mark.parametrize(
    ("text", "count", "words"),
    [
        ("", 2, "'names' has 0 lines .none. but 'references' has 2 pictures"),
        ("\n \n", 1, "'names' has 0 lines"),
        ("Ada", 2, "'names' has 1 line .'Ada'. but 'references' has 2 pictures"),
        ("Ada\nBen\nCleo", 2, "'names' has 3 lines"),
        ("Ada\n\nBen", 3, "line 2 is empty"),
    ],
)
def test_names_have_to_fit_the_pictures(text, count, words):
    with pytest.raises(ValueError, match=words):
        read_names(text, count)


def test_persons_who_are_too_much_alike_are_told():
    image, segs = painted(RED)
    orange, purple = (1.0, 0.3, 0), (1.0, 0, 0.1)  # 0.958 and 0.995 alike to red
    known = persons(RED, GREEN, orange, purple, names="ABCD")
    with collected_notes() as notes:
        named(image, segs, known, Naming(0.9, "unknown", 0))
    (told,) = notes
    assert told.kind == "persons"
    assert "'A' and 'D' are 1.00 alike" in told.text
    for threshold in (0.999, -1.0):
        with collected_notes() as notes:
            named(image, segs, known, Naming(threshold, "unknown", 0))
        assert notes == []
    with collected_notes() as notes:  # two pictures of one person may be as alike as they are
        named(image, segs, persons(RED, purple, names="AA"), Naming(0.9, "unknown", 0))
    assert notes == []


def test_nobody_may_be_called_unknown():
    image, segs = painted(RED)
    known = persons(RED, names=["unknown"])
    with pytest.raises(ValueError, match="'unknown_label' is 'unknown', which is also one of"):
        named(image, segs, known)


# To look at


def test_the_table_has_a_line_for_each_segment():
    image, segs = painted(GREEN, GREY, RED)
    _, results, _ = label_by_person(segs, image, persons(RED, GREEN), Colours(), NAMING)
    assert people_table(results, ["A", "B"]) == (
        "number\timage\tlabel\tsimilarity\tA\tB\n"
        "1\t1\tB\t1.000\t0.000\t1.000\n"
        "2\t1\tunknown\t0.577\t0.577\t0.577\n"
        "3\t1\tA\t1.000\t1.000\t0.000"
    )


def test_the_sheet_shows_each_segment_beside_its_person():
    image, segs = painted(GREEN, GREY, RED)
    _, results, faces = label_by_person(segs, image, persons(RED, GREEN), Colours(), NAMING)
    tiles = people_tiles(results, ["A", "B"], faces)
    assert len(tiles) == 3
    height, width = tiles[0].shape[1:3]
    for tile, seen, face in zip(tiles, (GREEN, GREY, RED), (GREEN, RED, RED), strict=True):
        assert tile.shape == (1, height, width, 3)
        torch.testing.assert_close(tile[0, 60, 60], torch.tensor(seen))
        torch.testing.assert_close(tile[0, 60, width - 60], torch.tensor(face))
        assert tile[0, 150:].max() > 0.6  # the text
    sheet = people_sheet(tiles)
    assert sheet.shape == (1, 2 * height, 2 * width, 3)
    torch.testing.assert_close(sheet[:, :height, width:], tiles[1])
    assert people_sheet([]).shape == (1, 64, 64, 3)


def test_a_sheet_of_long_and_foreign_names_and_nothing_to_see():
    image, (header, items) = painted(GREEN)
    outside = make_seg((90, 0, 99, 9), mask=np.ones((9, 9), np.float32))
    known = persons(GREEN, names=["李雷 " * 40])
    with collected_notes():
        _, results, faces = label_by_person(
            (header, [outside, *items]), image, known, Colours((4, 8)), NAMING
        )
    first, second = people_tiles(results, known.each, faces)
    assert first.shape == second.shape
    assert people_table(results, known.each).splitlines()[1] == "1\t1\tunknown\t\t"
