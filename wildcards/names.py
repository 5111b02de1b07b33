"""Names of wildcard lists: how a file's or key's name is written between the underscores.

The same function makes the names that the editor offers and the form in which a text's names are
looked up, so every name that is offered can be read.
"""

from __future__ import annotations

import re
import unicodedata

_BLANK = re.compile(r"\s")
# Signs that the language reads before it looks for names: choices, line ends, `*` for any text.
_SYNTAX = re.compile(r"[{}|\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]|\$\$")
_UNDERSCORES = re.compile(r"__+")


def list_name(name: str) -> str:
    """The name of a list by its file's path or its keys, without extension.

    "Hair\\My List" becomes "hair/my-list". What the language could not read inside `__name__` is
    replaced: braces, bars and `*` by `-`, several underscores by one; none stand at its ends.
    """
    return _form(name.replace("*", "-"))


def pattern_name(name: str) -> str:
    """The form in which a text's name is looked up; `*` stays, which stands for any text."""
    return _form(name)


def _form(name: str) -> str:
    name = unicodedata.normalize("NFC", name.strip().lower().replace("\\", "/"))
    name = _UNDERSCORES.sub("_", _SYNTAX.sub("-", _BLANK.sub("-", name)))
    return name.strip("_") or "-"
