import logging

from detailers.utils.notes import Note, collected_notes, note


def test_a_note_is_collected_and_logged_once_for_a_run(caplog):
    with caplog.at_level(logging.WARNING), collected_notes() as notes:
        for _ in range(3):
            note("batch", "Two masks for three images.")
        note("skipped", "Segment 1 is skipped.")
    assert notes == [
        Note("batch", "Two masks for three images."),
        Note("skipped", "Segment 1 is skipped."),
    ]
    assert caplog.messages == ["Two masks for three images.", "Segment 1 is skipped."]


def test_a_run_within_a_run_keeps_its_notes_to_itself():
    with collected_notes() as outer:
        with collected_notes() as inner:
            note("batch", "inner")
        note("batch", "outer")
    assert [n.text for n in inner] == ["inner"]
    assert [n.text for n in outer] == ["outer"]


def test_outside_of_a_run_a_note_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        note("batch", "told")
        note("batch", "told")
    assert caplog.messages == ["told", "told"]


def test_half_signs_are_written_out():
    with collected_notes() as notes:
        note("wildcards", "There is no list 'a\ud800b'.")
    assert notes[0].text == r"There is no list 'a\ud800b'."
    assert notes[0].text.encode("utf-8")
