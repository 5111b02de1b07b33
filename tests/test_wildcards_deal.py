"""wildcards/deal.py: working order, parts, seeds, labels."""

import random

import pytest
from detailers.utils.notes import collected_notes
from detailers.wildcards.deal import Dealt, Segment, deal
from hypothesis import given, settings
from hypothesis import strategies as st

# In the order of detection: right, left and large, left but lower and flat.
THREE = [
    Segment((50, 0, 70, 20), "A"),  # area 400
    Segment((10, 5, 40, 35), "B"),  # area 900
    Segment((10, 40, 70, 45), "A"),  # area 300, though its sides add up to the most
]
IN_A_ROW = [Segment((10 * i, 0, 10 * i + 5, 5), "A") for i in range(7)]


def texts(text, segments=THREE, seed=7):
    """Index and text of each entry in working order."""
    return [(entry.index, entry.text) for entry in deal(text, segments, seed)]


def seeds(text, segments=IN_A_ROW, seed=7):
    return [entry.seed for entry in deal(text, segments, seed)]


@pytest.mark.parametrize("text", ["", "  \n ", "# nothing\n  # at all"])
def test_a_blank_text_leaves_every_segment_the_positive_and_its_seed(text):
    assert deal(text, THREE, 7) == [Dealt(0, None, 7), Dealt(1, None, 8), Dealt(2, None, 9)]


def test_without_a_marker_all_get_the_text_in_input_order():
    assert deal(" red, {a|b} __c__ ", THREE, 7) == [
        Dealt(0, "red, {a|b} __c__", 7),
        Dealt(1, "red, {a|b} __c__", 8),
        Dealt(2, "red, {a|b} __c__", 9),
    ]


@pytest.mark.parametrize(
    ("marker", "order"),
    [
        ("[ASC]", [1, 2, 0]),
        ("[DSC]", [0, 2, 1]),
        ("[ASC-SIZE]", [2, 0, 1]),
        ("[DSC-SIZE]", [1, 0, 2]),
        ("[RND]", [0, 1, 2]),
        ("[LAB]", [0, 1, 2]),
        ("[asc]", [1, 2, 0]),
        ("[Dsc-Size]", [1, 0, 2]),
        ("# note [DSC]\n\n  [ASC]", [1, 2, 0]),
        ("[CONCAT][ASC]", [1, 2, 0]),
        ("[ASC] [CONCAT]", [1, 2, 0]),
    ],
)
def test_the_marker_sets_the_working_order_and_seeds_follow_it(marker, order):
    dealt = deal(marker, THREE, 100)
    assert [entry.index for entry in dealt] == order
    assert [entry.seed for entry in dealt] == [100, 101, 102]
    assert [entry.text for entry in dealt] == [None] * 3


@pytest.mark.parametrize("marker", ["[ASC]", "[DSC]", "[ASC-SIZE]", "[DSC-SIZE]"])
def test_equal_segments_keep_their_order(marker):
    same = [Segment((3, 4, 9, 9), label) for label in "abcd"]
    assert [entry.index for entry in deal(marker, same, 0)] == [0, 1, 2, 3]


def test_a_marker_counts_only_at_the_start():
    assert texts("red [DSC]") == [(0, "red [DSC]"), (1, "red [DSC]"), (2, "red [DSC]")]


def test_the_first_of_two_modes_counts(caplog):
    assert texts("[DSC][ASC]red") == [(0, "red"), (2, "red"), (1, "red")]
    assert "[DSC] and [ASC]" in caplog.text


@pytest.mark.parametrize(
    "text", ["[CONCAT]green", "[concat] green", "[CONCAT][RND]green", "[RND][CONCAT]green"]
)
def test_concat_is_told_and_removed(text):
    dealt = deal(text, THREE, 0)
    assert [(entry.text, entry.concat) for entry in dealt] == [("green", True)] * 3


def test_parts_are_dealt_in_turn_and_over_again():
    assert texts("[ASC]red[SEP] green\n[sep]blue, [a:b]", IN_A_ROW) == [
        (0, "red"),
        (1, "green"),
        (2, "blue, [a:b]"),
        (3, "red"),
        (4, "green"),
        (5, "blue, [a:b]"),
        (6, "red"),
    ]


def test_a_blank_part_keeps_the_positive_and_its_turn():
    assert texts("red[SEP][SEP]blue") == [(0, "red"), (1, None), (2, "blue")]
    assert texts("[ASC] red [SEP]\n") == [(1, "red"), (2, None), (0, "red")]


def test_comment_lines_vanish_before_the_parts_are_told_apart():
    assert texts("red[SEP]\n# or [SEP] green\nblue") == [(0, "red"), (1, "blue"), (2, "red")]


def test_a_named_seed_goes_with_its_part_each_time():
    assert seeds("red[SEP:123]green[SEP: 0 ]blue") == [7, 123, 0, 10, 123, 0, 13]


def test_seeds_wrap_at_64_bits():
    assert seeds("", seed=2**64 - 2) == [2**64 - 2, 2**64 - 1, 0, 1, 2, 3, 4]
    assert seeds(f"a[SEP:{2**64 - 1}]b")[1] == 2**64 - 1


@pytest.mark.parametrize("named", ["x", "-1", "1.5", str(2**64), "9" * 5000, "R2", "", "²"])
def test_what_names_no_seed_still_ends_a_part(named, caplog):
    assert texts(f"red[SEP:{named}]blue") == [(0, "red"), (1, "blue"), (2, "red")]
    assert seeds(f"red[SEP:{named}]blue") == [7, 8, 9, 10, 11, 12, 13]
    assert ("names no seed" in caplog.text) == bool(named)


def test_random_seeds_are_drawn_each_time_from_the_nodes_seed():
    generator = random.Random(7)
    drawn = [int(generator.random() * 2**53) for _ in range(3)]
    assert seeds("red[SEP:R]green") == [7, drawn[0], 9, drawn[1], 11, drawn[2], 13]
    assert seeds("red[sep:r]green") == seeds("red[SEP:R]green")
    assert seeds("red[SEP:R]green", seed=8)[1] != drawn[0]


def test_random_order_shuffles_anew_every_round():
    text = "[RND]a[SEP]b[SEP]c"
    dealt = [entry.text for entry in deal(text, IN_A_ROW * 3, 3)]
    rounds = ["".join(dealt[i : i + 3]) for i in range(0, 21, 3)]
    assert rounds == ["acb", "cab", "acb", "acb", "bca", "abc", "acb"]
    assert [entry.index for entry in deal(text, THREE, 3)] == [0, 1, 2]


def test_more_segments_do_not_change_what_the_first_ones_get():
    text = "[RND]a[SEP:R]b[SEP]c"
    assert deal(text, IN_A_ROW, 5)[:4] == deal(text, IN_A_ROW[:4], 5)


def test_skip_leaves_its_segment_undone_and_takes_a_turn():
    assert deal("[ASC][SKIP][SEP]green[SEP]blue", THREE, 7) == [
        Dealt(1, None, 7, skip=True),
        Dealt(2, "green", 8),
        Dealt(0, "blue", 9),
    ]
    assert deal("[skip] whatever", THREE[:1], 0) == [Dealt(0, None, 0, skip=True)]


def test_stop_leaves_out_its_segment_and_all_later_ones():
    assert texts("[ASC]green[SEP][STOP][SEP]blue") == [(1, "green")]
    assert texts("[STOP]") == []


def test_skip_and_stop_inside_a_text_are_text():
    assert texts("a [SKIP]", THREE[:1]) == [(0, "a [SKIP]")]


def test_labels_choose_exactly_and_all_goes_before():
    text = "[LAB]\n[ALL] detailed\n[A] green\n[C] unused"
    assert texts(text) == [(0, "detailed, green"), (1, "detailed"), (2, "detailed, green")]
    assert texts("[LAB][A]green") == [(0, "green"), (1, None), (2, "green")]
    assert texts("[LAB][ALL]blue [B]green", [Segment((0, 0, 9, 9), "A")]) == [(0, "blue")]
    assert texts("[lab][all]x [ B ]green") == [(0, "x"), (1, "x, green"), (2, "x")]


def test_labels_ignore_case_where_none_fits_exactly():
    segments = [Segment((0, 0, 9, 9), label) for label in ("Face", "face", "HAND", "Foot")]
    with collected_notes() as notes:
        dealt = deal("[LAB][face]small [hand]five [FOOT]toes [Foot]shoe", segments, 0)
    assert [entry.text for entry in dealt] == [None, "small", "five", "shoe"]
    assert [note.text for note in notes] == [
        "[LAB]: no segment has the label [hand]; [HAND] gets its text.",
        "[LAB]: no segment has the label [FOOT], so its text goes to none. There are: [Face], "
        "[Foot], [HAND], [face].",
    ]


def test_a_label_that_fits_nothing_names_those_that_exist():
    segments = [Segment((0, 0, 9, 9), f"label {i:02}") for i in range(25)]
    with collected_notes() as notes:
        deal("[LAB][lable 3]x", segments, 0)
    (only,) = notes
    assert only.kind == "labels"
    assert "[lable 3]" in only.text
    assert only.text.endswith("[label 18], [label 19] and 5 more.")


def test_an_all_text_that_ends_with_a_comma_gets_no_second_one():
    assert texts("[LAB][ALL] laugh,\n[A] blue eyes")[0] == (0, "laugh, blue eyes")


def test_labels_may_touch_the_text_before_them():
    assert texts("[LAB][A]green[B]blue") == [(0, "green"), (1, "blue"), (2, "green")]


@pytest.mark.parametrize(
    "syntax", ["[red:blue:0.5]", "[a|b]", "[]", "[ ]", "[.]", "[a, b]", "[SEP]", "[CONCAT]"]
)
def test_other_brackets_stay_in_a_labels_text(syntax):
    assert texts(f"[LAB][A] x {syntax} y")[0] == (0, f"x {syntax} y")


@pytest.mark.parametrize(
    "label", ["left hand", "face_2", "v1.5-x", "лицо", "目", "हाथ", "face:0", "a|b", "α/β"]
)
def test_labels_in_any_script_and_those_of_segments_with_any_sign(label):
    segments = [Segment((0, 0, 1, 1), label), Segment((0, 0, 1, 1), "A")]
    assert texts(f"[LAB][A] one [{label}] two", segments) == [(0, "two"), (1, "one")]


@pytest.mark.parametrize("label", ["left hand", "face_2", "v1.5-x", "лицо", "目", "हाथ"])
def test_labels_that_no_segment_has_end_the_entry_before_them(label):
    assert texts(f"[LAB][A] one [{label}] two", THREE[:1]) == [(0, "one")]


def test_labels_skip_and_stop():
    assert deal("[LAB][A][SKIP][B]green", THREE, 7) == [
        Dealt(0, None, 7, skip=True),
        Dealt(1, "green", 8),
        Dealt(2, None, 9, skip=True),
    ]
    assert texts("[LAB][A]green [B] [stop]") == [(0, "green")]
    assert [e.skip for e in deal("[LAB][ALL]x [B][SKIP]", THREE, 0)] == [False, True, False]
    assert texts("[LAB][ALL][SKIP][B]green") == [(0, None), (1, "green"), (2, None)]


def test_of_two_texts_for_a_label_the_last_counts(caplog):
    assert texts("[LAB][A]one [A]two")[0] == (0, "two")
    assert "several texts for [A]" in caplog.text


def test_text_before_the_first_label_is_reported(caplog):
    assert texts("[LAB] lost [A] green")[0] == (0, "green")
    assert texts("[LAB] lost")[0] == (0, None)
    assert caplog.text.count("'lost' stands before any [label]") == 2


def test_no_segments_no_entries():
    assert deal("[RND]a[SEP:R]b", [], 7) == []


TOKENS = [
    *["[ASC]", "[DSC]", "[ASC-SIZE]", "[DSC-SIZE]", "[RND]", "[LAB]", "[CONCAT]", "[SKIP]"],
    *["[STOP]", "[SEP]", "[SEP:R]", "[SEP:5]", "[SEP:x]", "[ALL]", "[A]", "[B]", "[red:blue:0.5]"],
    *["[", "]", ",", "red", "{a|b}", "__c__", "#", " ", "\n"],
]
TEXTS = st.one_of(st.lists(st.sampled_from(TOKENS)).map("".join), st.text(max_size=60))
BOXES = st.tuples(*[st.integers(-50, 50)] * 4)
SEGMENTS = st.lists(
    st.builds(Segment, BOXES, st.sampled_from(["A", "B", "", "left hand", "["])), max_size=8
)
SEEDS = st.integers(0, 2**64 - 1)


@settings(deadline=None)
@given(TEXTS, SEGMENTS, SEEDS)
def test_any_text_is_dealt_the_same_way_twice(text, segments, seed):
    state = random.getstate()
    dealt = deal(text, segments, seed)
    assert dealt == deal(text, segments, seed)
    assert random.getstate() == state
    assert len({entry.index for entry in dealt}) == len(dealt) <= len(segments)
    assert all(0 <= entry.index < len(segments) for entry in dealt)
    assert all(0 <= entry.seed < 2**64 for entry in dealt)
    assert all(entry.text is None or entry.text.strip() for entry in dealt)
    assert not any(entry.skip and entry.text for entry in dealt)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "c d", "e, f"]), min_size=1, max_size=5), SEGMENTS, SEEDS
)
def test_parts_cycle_for_any_number_of_parts_and_segments(parts, segments, seed):
    dealt = deal("[DSC]" + "[SEP]".join(parts), segments, seed)
    assert [entry.text for entry in dealt] == [parts[i % len(parts)] for i in range(len(segments))]
    assert [entry.seed for entry in dealt] == [(seed + i) % 2**64 for i in range(len(segments))]
