"""Our JavaScript shows texts and file names as texts, and never as HTML."""

import re

import pytest
from detailers.dev.packed import ROOT

MAKES_HTML = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|createContextualFragment|DOMParser|srcdoc"
    r"|document\.write|\beval\b|new Function|javascript:|setAttribute\(\s*[\"'`]on|v-html"
    r"|\.(?:src|href)\s*=(?!=)"
)
FILES = sorted((ROOT / "web").glob("**/*.js"))


def test_there_are_files():
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_text_becomes_html(path):
    found = MAKES_HTML.findall(path.read_text(encoding="utf-8"))
    assert found == []


@pytest.mark.parametrize(
    "line", ["a.innerHTML = b", "new Function(x)", "a.src = b", "a.setAttribute('onclick', b)"]
)
def test_what_would_is_found(line):
    assert MAKES_HTML.search(line)
