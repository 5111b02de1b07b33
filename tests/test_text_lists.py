"""Texts split into labelled prompts, selected and joined."""

from detailers.core.prompts.text_lists import join_texts, labelled_prompts, select_text


def test_labelled_prompts_keep_order_tags_and_labels():
    text, labels = labelled_prompts("cat, dog\nbird, Cat", "\\n", "<", ">", "cat, bird", "dog")
    assert text == "[LAB]\n[1] <cat>\n[2] <bird, Cat>"
    assert labels == "1,2"


def test_labelled_prompts_of_nothing():
    assert labelled_prompts("", "\\n", "", "", "", "") == ("[LAB]", "")


def test_select_text_by_line_counts_round():
    assert [select_text("a\nb\nc", i, blocks=False) for i in (0, 2, 3, 7)] == ["a", "c", "a", "b"]


def test_select_text_by_block():
    text = "#one\nmore\n#two\n\n#three"
    assert [select_text(text, i, blocks=True) for i in range(4)] == [
        "one\nmore", "two", "three", "one\nmore",
    ]  # fmt: skip


def test_join_texts_reads_escapes():
    assert join_texts(["a", "b"], "\\n") == "a\nb"
    assert join_texts(["a", "b"], ", ") == "a, b"
