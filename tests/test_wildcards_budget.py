"""wildcards/budget.py, and the code that draws within it."""

import pytest
from detailers.wildcards import library as library_module
from detailers.wildcards.budget import MOST_BYTES, MOST_OPTIONS, MOST_SECONDS, Budget, WildcardError
from detailers.wildcards.grammar import expand
from detailers.wildcards.library import Library

FILES = 20
BYTES = 2 * 500  # of each file


class Clock:
    """Each look at it takes a second."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture
def folder(tmp_path):
    for number in range(FILES):
        (tmp_path / f"{number:02}.txt").write_text(f"{number % 10}\n" * 500)
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read."""
    names = []
    read = library_module._read

    def counted(source):
        names.append(source.name)
        return read(source)

    monkeypatch.setattr(library_module, "_read", counted)
    return names


def test_the_bounds_are_those_that_the_readme_tells():
    assert (MOST_BYTES, MOST_OPTIONS, MOST_SECONDS) == (512 * 2**20, 20_000_000, 60.0)


def test_files_that_are_too_large_together_are_refused_before_they_are_read(folder, reads):
    library = Library([folder])
    with pytest.raises(WildcardError, match=r"files of more than 0 MiB together\. Draw from fewer"):
        expand("a __*__", 1, library, Budget(most_bytes=FILES * BYTES - 1))
    assert reads == []
    assert expand("a __*__", 1, library, Budget(most_bytes=FILES * BYTES)) == "a 2"


def test_files_count_the_same_once_they_are_known_and_each_once(folder):
    """A refusal does not depend on what the server has in memory."""
    library = Library([folder])
    expand("__*__", 1, library)
    with pytest.raises(WildcardError, match="together"):
        expand("__*__", 1, library, Budget(most_bytes=FILES * BYTES - 1))
    budget = Budget(most_bytes=2 * BYTES)
    assert expand("__03__ __04__ __03__", 1, library, budget) == "3 4 3"
    assert expand("__04__", 2, library, budget) == "4"
    assert budget.ended == ""
    with pytest.raises(WildcardError, match="together"):
        expand("__05__", 3, library, budget)
    assert "together" in budget.ended


def test_yaml_files_count_when_their_names_are_needed(folder):
    (folder / "long.yaml").write_text("y:\n" + "  - of yaml\n" * 500)
    budget = Budget(most_bytes=BYTES)
    assert expand("__03__", 1, Library([folder]), budget) == "3"
    with pytest.raises(WildcardError, match="together"):
        expand("__y__", 1, Library([folder]), budget)
    assert expand("__y__", 1, Library([folder])) == "of yaml"


def test_a_text_that_takes_too_long_is_refused_and_what_was_read_is_kept(folder, reads):
    library = Library([folder])
    with pytest.raises(WildcardError, match=r"takes more than 10 seconds\. What was .* queue"):
        expand("__*__", 1, library, Budget(seconds=10, clock=Clock()))
    first = list(reads)
    assert 0 < len(first) < FILES
    assert expand("__*__", 1, library) == "2"
    assert sorted(reads) == [f"{number:02}" for number in range(FILES)]  # each once
    assert expand("__*__", 1, Library([folder])) == "2"


def test_after_the_time_every_text_is_refused(folder):
    budget = Budget(seconds=5, clock=Clock())
    assert expand("{a|b}", 1, None, budget)
    with pytest.raises(WildcardError, match="takes more than 5 seconds"):
        expand("9#__03__", 1, Library([folder]), budget)
    with pytest.raises(WildcardError, match="takes more than 5 seconds"):
        expand("{a|b}", 1, None, budget)


@pytest.mark.parametrize("text", ["{3$$__*__}", "__long__", "{2$$a|b|__long__}"])
def test_a_race_of_many_options_looks_at_the_clock(folder, text):
    (folder / "long.txt").write_text("2::x\n" * 60_000)
    with pytest.raises(WildcardError, match="takes more than 50 seconds"):
        expand(text, 1, Library([folder]), Budget(seconds=50, clock=Clock()))


def test_draws_out_of_many_lists_count_what_they_may_have_to_read(folder):
    """Each may read a file of 500 lines again; the search for names looks at 40."""
    library = Library([folder])
    draws = expand("9#__*__", 1, library, Budget(options=9 * 500 + 40))
    assert len(draws.split(", ")) == 9
    with pytest.raises(WildcardError, match=r"more than 4,539 options"):
        expand("9#__*__", 1, library, Budget(options=9 * 500 + 39))


def test_an_index_that_is_not_finished_is_not_used(folder):
    for number in range(5):
        (folder / f"y{number}.yaml").write_text(f"k{number}: [v{number}]\n")
    library = Library([folder])
    with pytest.raises(WildcardError, match="seconds"):
        expand("__k4__", 1, library, Budget(seconds=3, clock=Clock()))
    assert expand("__k4__", 1, library) == "v4"
    assert len(library.names()) == FILES + 5
