"""The files of a published or copied pack, and words that must not be in them.

They are the files that git tracks (without git: all files) without those in `.comfyignore`, as
`comfy node pack` takes them. Needs only the standard library.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent

# The Comfy registry holds a version back for a person to look at when a file has one of these.
# Upper and lower case count alike, and comments too.
FORBIDDEN = (
    "import_module", "__import__", "os.environ", "aiohttp", "base64", "subprocess", "socket",
    "requests", "urllib", "pickle", "ctypes", ".send(", ".connect(", "eval(", "exec(",
)  # fmt: skip
FORBIDDEN_WORDS = ("eval", "exec")  # as a word of their own


def packed_files(root: Path = ROOT) -> list[str]:
    """The files of the pack, as paths relative to `root` with forward slashes, sorted.

    Raises:
        ValueError: `.comfyignore` has a pattern of a form that is not understood here.
    """
    patterns = _patterns(root / ".comfyignore")
    there = (name for name in _tracked(root) or _all(root) if (root / name).is_file())
    return sorted(name for name in there if not any(_names(p, name) for p in patterns))


def forbidden_in(file: Path) -> Iterator[str]:
    """Words that the registry rejects, as "line 3: socket"; none for a file that is no text."""
    try:
        text = file.read_text(encoding="utf-8").lower()
    except UnicodeDecodeError:
        return
    forms = {word: re.escape(word) for word in FORBIDDEN}
    forms |= {word: rf"\b{word}\b" for word in FORBIDDEN_WORDS}
    for word, form in forms.items():
        if word in text:  # by far the quickest to find out
            for found in re.finditer(form, text):
                yield f"line {text.count(chr(10), 0, found.start()) + 1}: {word}"


def _patterns(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for pattern in patterns:
        if pattern.startswith(("!", "\\")) or "**" in pattern or "/" in pattern[:-1].lstrip("/"):
            raise ValueError(f"{file}: write {pattern!r} as a name or a name with a slash after it")
    return patterns


def _names(pattern: str, path: str) -> bool:
    """Whether a pattern of `.comfyignore` names a file, or a folder that it is in."""
    *folders, name = PurePosixPath(path).parts
    parts = folders if pattern.endswith("/") else [*folders, name]
    wanted = pattern.strip("/")
    return any(fnmatchcase(part, wanted) for part in parts[: 1 if pattern[0] == "/" else None])


def _tracked(root: Path) -> list[str]:
    """The files that git tracks; none if `root` is no work tree."""
    if not (root / ".git").exists():
        return []
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z"],
            capture_output=True,
        )
    except OSError:
        return []
    return [name for name in os.fsdecode(done.stdout).split("\0") if name]


def _all(root: Path) -> Iterable[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
        for name in files:
            yield Path(folder, name).relative_to(root).as_posix()
