"""Names of wildcard lists: the form of a file's or key's name between the underscores.

The same function makes the names that the editor offers, and the form in which names in a text are
looked up. So every name that is offered can be read.
"""

from __future__ import annotations

import re
import unicodedata

_BLANK = re.compile(r"\s")
# Characters with a meaning in the language: choices, line ends, `*` for any text.
_SYNTAX = re.compile(r"[{}|\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]|\$\$")
_UNDERSCORES = re.compile(r"__+")


def list_name(name: str) -> str:
    """The name of a list from its file's path, without the extension, or from its keys.

    "Hair\\My List" becomes "hair/my-list". Characters that the language cannot read in `__name__`
    are replaced: braces, bars and `*` by `-`, several underscores by one. Underscores at the ends
    are removed.
    """
    return _form(name.replace("*", "-"))


def pattern_name(name: str) -> str:
    """The form in which a name in a text is looked up; `*` is kept, and matches any text."""
    return _form(name)


def _form(name: str) -> str:
    name = unicodedata.normalize("NFC", name.strip().lower().replace("\\", "/"))
    name = _UNDERSCORES.sub("_", _SYNTAX.sub("-", _BLANK.sub("-", name)))
    return name.strip("_") or "-"
