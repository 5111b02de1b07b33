"""Checks of texts that become paths, before the file system is asked for them.

On Windows, a mere check whether `//host/share/file` exists sends the user's name and a proof of the
password to that host, and `NUL`, `a:b` and `a.` are not the files that they look like.
"""

from __future__ import annotations

import os
import re

LONGEST = 4096  # characters; no system has longer paths
LONGEST_NAME = 255  # bytes of one part
_SLASHES = re.compile(r"[/\\]")
_CONTROL = re.compile(r"[\x00-\x1f]")
_DEVICES = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])(?:[ ]*[.:].*|[ ]*)",
    re.IGNORECASE | re.DOTALL,
)


def path_fault(text: str, *, windows: bool = os.name == "nt") -> str | None:
    """Why a text may not become a path, as the end of a sentence; None if it may.

    The caller still has to check that the path stays in its folder.

    Args:
        windows: apply the rules of Windows, where more names have a special meaning.
    """
    if len(text) > LONGEST:
        return f"has {len(text)} characters, more than a path can have"
    if "\0" in text or (windows and _CONTROL.search(text)):
        return "holds a control character"
    if re.match(r"[/\\]{2}", text):
        return "begins with two slashes, which leads to another computer or a device"
    parts = _SLASHES.split(text)
    if any(len(part.encode("utf-8", "surrogatepass")) > LONGEST_NAME for part in parts):
        return f"has a part of more than {LONGEST_NAME} bytes, longer than a file's name can be"
    if not windows:
        return None
    if ":" in text:
        return "holds a colon, which stands for a drive or for a hidden part of a file"
    for part in parts:
        if _DEVICES.fullmatch(part):
            return f"holds the name {part!r}, which is that of a device"
        if part not in ("", ".", "..") and part[-1] in ". ":
            return "has a part that ends in a point or a space, which Windows drops"
    return None


def expect_path(text: str, name: str) -> None:
    """Check that a text may become a path.

    Args:
        name: the name of the input with the text.

    Raises:
        ValueError: the text may not become a path.
    """
    fault = path_fault(text)
    if fault is not None:
        raise ValueError(
            f"'{name}' is {text[:100]!r}, which {fault}. Write the name of a file in its folder."
        )
