"""Ten thousand random texts and files; `python run.py bench fuzz` takes a million."""

import time

import pytest
from detailers.core.segs.classify import Condition
from detailers.tests.fuzz import TEXTS, YAML, check_text, check_yaml, fuzz, library_in
from detailers.wildcards import library as library_module
from detailers.wildcards.deal import Segment, deal
from detailers.wildcards.grammar import WildcardError, expand, parse_prompt, tell_untaken
from detailers.wildcards.library import Library
from detailers.wildcards.yaml_lists import read_yaml_lists


def test_five_thousand_texts(tmp_path):
    library = library_in(tmp_path)
    fuzz(TEXTS, lambda text: check_text(text, library), 5000)


def test_five_thousand_yaml_files():
    fuzz(YAML, check_yaml, 5000)


SIGNS = [
    *["{", "}", "|", "$$", "__", "_", "{|", "{1$$", "{2-$$a|", "__a", "__a__ ", "#", "1#__a__"],
    *["::", "\\", "\n", "\n# ", "<", "<lora:", "<lora:a:", "< ", ">", "[SEP]", "[", "[SEP:"],
    *["[LAB]", "\0", "BREAK", " ", "\t", "1::", "<lora:a:1:LBW=", "猫", "{a|b}", "=", "< =", "- "],
    *["a: ", "'", '"', "&a ", "*a ", "[[", "{a: ", "- - ", "? ", "!!a ", "%", ": ", " #", '"\\'],
    *["|\n", "'' "],
]


@pytest.mark.parametrize("sign", SIGNS)
def test_a_hundred_kilobytes_of_one_sign_take_no_time(sign, tmp_path):
    text = sign * (100_000 // len(sign))
    library = library_in(tmp_path)

    def parse_condition():
        try:
            Condition.parse(text)
        except ValueError as error:
            assert len(str(error)) < 1000

    def expand_it():
        try:
            return expand(text, 0, library)
        except WildcardError:
            return ""

    def read(text=text):
        return (parse_prompt(text), tell_untaken(text, markers=True))

    for work in (
        expand_it,
        read,
        lambda: read_yaml_lists(text),
        lambda: read_yaml_lists(f"a:\n  - {text}\nb: {text}\n"),
        parse_condition,
        lambda: deal(text, [Segment((0, 0, 1, 1), "a")] * 3, 0),
    ):
        start = time.process_time()
        work()
        assert time.process_time() - start < 3, work


def test_many_files_are_named_without_being_read_and_a_pattern_leaves_none_out(
    tmp_path, monkeypatch
):
    for number in range(500):
        folder = tmp_path / f"folder{number % 10}"
        folder.mkdir(exist_ok=True)
        (folder / f"list{number}.txt").write_text(f"option {number}\n" * (number % 3 + 1))
    read, before = [], library_module._read
    monkeypatch.setattr(library_module, "_read", lambda source: read.append(1) or before(source))
    library = Library([tmp_path], cache_bytes=10_000)
    assert len(library.names()) == 500
    assert read == []
    assert expand("__folder7/list7__", 0, library) == "option 7"
    assert len(read) == 1
    found = library.look().options("*")
    assert len(set(found)) == 500 and len(found) == sum(number % 3 + 1 for number in range(500))
    assert library._cache._size <= 10_000
