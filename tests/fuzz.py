"""Random texts for the wildcard language, random YAML files, and the properties that all must have.

A text is drawn as bytes, one for each piece of syntax, which is cheap for hypothesis. The tests
draw 10,000 texts; `python run.py bench fuzz` draws any number.
"""

import random
import time
from pathlib import Path

from detailers.wildcards.grammar import WildcardError, expand, parse_prompt, tell_untaken
from detailers.wildcards.library import Library
from detailers.wildcards.yaml_lists import read_yaml_lists
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

SLOW = 2.0  # seconds that no text of this length may take, on a busy machine

WORDS = [
    *"{}|{}|", "$$", "1", "2$$", "1-3$$", "-$$", "9-$$, $$", "2::", "0::", "1e9::", ",", "\\",
    "\\{", "#", "\n", "__", "__", "_", "*", "__*__", "__*/*__", "/", "__one__", "__two__",
    "__nested__", "__loop__", "__grow__", "__none__", "__y/a__", "__y/**__", "3#__two__", "99#",
    "<lora:", "<lora:x:0.5:LBW=", ">", ":", "A=", ";", "BREAK", "[SEP]", "[SKIP]", "[LAB]", "[ASC]",
    "a", "ü", "猫", " ", "\r", "\t", "\0", "\u2028", "\ud800", "x" * 50,
]  # fmt: skip
LINES = [
    *"-:?[]{},#&*!|>'\"%@`", "- ", ": ", " #", "\n", "\n", "\n  ", "\n    ", "\n- ", "\n  - ", "a:",
    "b: ", "\n\t", "&x ", "*x", "&y", "*y", "<<: ", "!!python/object:os.system ", "!!set ", "---",
    "...", "|\n", ">-\n", "''", '"', '"\\x', "{a: [", "]}", "~", "null", "0x1", "1e9", "__a__", "a",
    "ü", "猫", "\0", "\x85", "\u2028", "\ufeff", "\r\n", "x" * 50, "- *x\n", "? ", "[*x, *x]",
]  # fmt: skip
FILES = {
    "one.txt": "alone\n", "two.txt": "a\nb\n", "nested.txt": "__one__ {__two__|c}\n2::__two__\n",
    "loop.txt": "__loop__\nend\n", "grow.txt": "__grow__ __grow__\nx\n", "sub/two.txt": "c\n",
    "y.yaml": "y:\n  a: &x [p, '2::q']\n  b: *x\n  c:\n    - __one__\n",
}  # fmt: skip


def made_of(pieces: list[str], most: int) -> st.SearchStrategy[str]:
    return st.binary(max_size=most).map(
        lambda data: "".join(pieces[byte % len(pieces)] for byte in data)
    )


TEXTS = made_of(WORDS, 40)
YAML = made_of(LINES, 60)


def library_in(folder: Path) -> Library:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return Library([folder])


def check_text(text: str, library: Library) -> None:
    """A text gives the same each time or the documented error, soon, and leaves all else alone."""
    state, start = random.getstate(), time.process_time()
    results = []
    for _ in range(2):
        try:
            results.append(expand(text, len(text), library))
        except WildcardError as error:
            results.append(error)
    assert str(results[0]) == str(results[1])
    if isinstance(results[0], str):
        assert len(results[0]) <= 1_000_000 + len(text)
        prompt = parse_prompt(results[0])
        assert len({lora.name for lora in prompt.loras}) == len(prompt.loras)
        tell_untaken(results[0], markers=True)
    assert random.getstate() == state
    assert time.process_time() - start < SLOW


def check_yaml(text: str) -> None:
    """A file is read without an error, soon, and holds no more than what is written in it."""
    start = time.process_time()
    content = read_yaml_lists(text)
    different = {id(options): options for _, options in content.lists}
    assert sum(len(option) for options in different.values() for option in options) <= 4 * len(text)
    for keys, options in content.lists:
        assert all(isinstance(key, str) for key in keys)
        assert all(isinstance(option, str) and option for option in options)
    assert len(content.lists) <= len(text) + 1
    assert time.process_time() - start < SLOW


def fuzz(strategy: st.SearchStrategy[str], check, examples: int, first: int = 0) -> None:
    """Check so many random texts; the same ones for the same `first`."""
    rules = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    seed(first)(rules(given(strategy)(check)))()
