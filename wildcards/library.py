"""Wildcard lists in folders: found by name, read on demand, kept within a memory budget.

A list is a text file or a key of a YAML file:

- `hair/short.txt` is the list `hair/short`: one option a line; blank lines and lines that start
  with `#` are left out.
- In a YAML file, whatever its name, nested keys joined by `/` name a list; the value is a list of
  options, or a text with one option a line as above. Scalars are taken as written: `no` stays
  "no". A YAML file without keys is one list with the file's name.

Names ignore case, and spaces in them count as `-`. Where two lists have the same name, the text
file goes before the YAML key, then the earlier folder before the later one.
"""

from __future__ import annotations

import codecs
import fnmatch
import io
import logging
import os
import re
import sys
import threading
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

CACHE_BYTES = 64 * 2**20  # memory for lists that are not in use
MAX_FILE_BYTES = 64 * 2**20  # read of one file
MAX_UNITED_BYTES = 256 * 2**20  # memory for the lists that one `*` unites
MAX_YAML_DEPTH = 64  # far above real files, far below what the recursive loaders survive

Lists = dict[str, list[str]]
Stamp = tuple[int, int]  # time of the last change in nanoseconds, size in bytes


class Library:
    """The lists of one or more folders and their sub-folders.

    Creating one reads nothing. The first look-up collects file names; a text file is read when its
    list is asked for, YAML files once a name is in no text file or all names are wanted. An edited
    file is read again at its next use, and new files are found without a restart. What cannot be
    read is reported in the log and left out. Threads may share a library.
    """

    def __init__(self, folders: Sequence[str | Path], *, cache_bytes: int = CACHE_BYTES) -> None:
        """
        Args:
            folders: searched in this order; one that does not exist counts as empty. Links inside
                them are followed.
            cache_bytes: the most memory that lists take while they wait for their next use; the
                longest unused ones go first.
        """
        self._folders = [Path(folder) for folder in folders]
        self._cache = _Cache(cache_bytes)
        self._index: _Index | None = None
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        """All lists' names, sorted. Reads the YAML files, whose keys are names."""
        with self._lock:
            self._rescan_if_changed()
            return sorted(self._sources())

    def options(self, name: str) -> list[str]:
        """The options of a list, their weights (`2::text`) included; [] if there is no such list.

        Args:
            name: a list's name. `*` stands for any text, `/` included, and unites all lists that
                match in the order of their names; `*/` at the start also stands for no folder at
                all. A name that no list has stands for the lists of that name in any folder.
        """
        wanted = normalise(name)
        with self._lock:
            options = self._exact(wanted)
            if not options:
                self._rescan_if_changed()
                options = self._united(self._matches(wanted))
            return options

    def refresh(self) -> None:
        """Forget everything that was read; the next look-up starts anew."""
        with self._lock:
            self._index = None
            self._cache.clear()

    def _exact(self, wanted: str) -> list[str]:
        source = self._scanned().text.get(wanted) or self._sources().get(wanted)
        return list(self._load(source).get(wanted, ())) if source else []

    def _matches(self, wanted: str) -> list[str]:
        names = self._sources()
        if "*" in wanted:
            found = set(_glob(wanted, names))
            if wanted.startswith("*/"):
                found.update(_glob(wanted[2:], names))
        elif wanted in names:
            found = {wanted}
        else:
            found = {name for name in names if name.endswith("/" + wanted)}
        return sorted(found)

    def _united(self, names: Sequence[str]) -> list[str]:
        options: list[str] = []
        loaded: dict[_Source, Lists] = {}
        size = 0
        for name in names:
            source = self._sources()[name]
            if source not in loaded:
                loaded[source] = self._load(source)
            found = loaded[source].get(name, [])
            size += _memory(found)
            if size > MAX_UNITED_BYTES:
                log.warning(
                    "The wildcard lists from '%s' to '%s' are left out: together with those before"
                    " them they exceed %d MiB. Ask for fewer lists at once.",
                    name, names[-1], MAX_UNITED_BYTES // 2**20,
                )  # fmt: skip
                break
            options += found
        return options

    def _scanned(self) -> _Index:
        if self._index is None:
            self._index = _scan(self._folders)
        return self._index

    def _sources(self) -> dict[str, _Source]:
        """Every list's file by the list's name."""
        index = self._scanned()
        if index.all is None:
            index.all = dict(index.text)
            for source in index.yaml:
                for name in self._load(source):
                    index.all.setdefault(name, source)
        return index.all

    def _rescan_if_changed(self) -> None:
        if self._index and any(_stamp(path) != then for path, then in self._index.stamps.items()):
            self._index = None

    def _load(self, source: _Source) -> Lists:
        stamp = _stamp(source.path)
        lists = self._cache.get(source, stamp)
        if lists is None:
            text = _read_text(source.path)
            if source.is_yaml:
                lists = _yaml_lists(text, source)
            else:
                lists = {source.name: _lines(text)}
            self._cache.put(source, stamp, lists)
        return lists


def normalise(name: str) -> str:
    """The form in which names are compared: "Hair\\My List" becomes "hair/my-list"."""
    name = name.strip().lower().replace("\\", "/").replace(" ", "-")
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class _Source:
    """A file that holds lists."""

    path: Path
    name: str  # relative to its folder, without extension, normalised
    is_yaml: bool


@dataclass
class _Index:
    """What a scan of the folders found."""

    text: dict[str, _Source] = field(default_factory=dict)  # text files by their list's name
    yaml: list[_Source] = field(default_factory=list)
    all: dict[str, _Source] | None = None  # files by list name; None until YAML keys are known
    stamps: dict[Path, Stamp] = field(default_factory=dict)  # of folders and YAML files


class _Cache:
    """Keeps the lists of the files used last, within a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[_Source, tuple[Stamp, Lists, int]] = OrderedDict()

    def get(self, source: _Source, stamp: Stamp) -> Lists | None:
        entry = self._entries.get(source)
        if entry is None or entry[0] != stamp:
            return None
        self._entries.move_to_end(source)
        return entry[1]

    def put(self, source: _Source, stamp: Stamp, lists: Lists) -> None:
        if source in self._entries:
            self._size -= self._entries.pop(source)[2]
        size = sum(_memory(options) for options in lists.values())
        if size > self._limit:
            return
        self._entries[source] = (stamp, lists, size)
        self._size += size
        while self._size > self._limit:
            self._size -= self._entries.popitem(last=False)[1][2]

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0


def _scan(folders: Sequence[Path]) -> _Index:
    """Collect file names, following links but entering each real folder only once."""
    index = _Index()
    entered: set[str] = set()
    for top in folders:
        index.stamps[top] = _stamp(top)
        for where, subfolders, files in os.walk(top, onerror=_report, followlinks=True):
            real = os.path.realpath(where)
            if real in entered:
                subfolders.clear()
                continue
            entered.add(real)
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            here = Path(where)
            index.stamps[here] = _stamp(here)
            for file in sorted(files):
                path = here / file
                extension = path.suffix.lower()
                if file.startswith(".") or extension not in (".txt", ".yaml", ".yml"):
                    continue
                name = normalise(str(path.relative_to(top).with_suffix("")))
                source = _Source(path, name, is_yaml=extension != ".txt")
                if source.is_yaml:
                    index.yaml.append(source)
                    index.stamps[path] = _stamp(path)
                else:
                    index.text.setdefault(name, source)
    return index


def _report(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        log.warning("The wildcard folder '%s' cannot be listed: %s", error.filename, error.strerror)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return 0, -1
    return status.st_mtime_ns, status.st_size


def _memory(options: Sequence[str]) -> int:
    return sum(map(sys.getsizeof, options)) + sys.getsizeof(options)


def _glob(pattern: str, names: Iterable[str]) -> list[str]:
    only_stars = re.sub(r"([\[?])", r"[\1]", pattern)  # fnmatch knows more signs than `*`
    return [name for name in names if fnmatch.fnmatchcase(name, only_stars)]


def _read_text(path: Path) -> str:
    """A file's text, "" if it cannot be read. UTF-8 or, with its byte order mark, UTF-16."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        log.warning("The wildcard file '%s' cannot be read: %s", path, error.strerror)
        return ""
    if len(data) > MAX_FILE_BYTES:
        data = data[: data.rfind(b"\n", 0, MAX_FILE_BYTES) + 1]
        log.warning(
            "The wildcard file '%s' is read up to line %d only: it is larger than %d MiB. "
            "Split it into several files.",
            path, data.count(b"\n"), MAX_FILE_BYTES // 2**20,
        )  # fmt: skip
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        log.warning(
            "The wildcard file '%s' is no valid %s in line %d, so it is read as Latin-1. "
            "Save it as UTF-8.",
            path, "UTF-16" if utf16 else "UTF-8", data.count(b"\n", 0, error.start) + 1,
        )  # fmt: skip
        return data.decode("latin-1")


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in io.StringIO(text, newline=None))
    return [line for line in lines if line and not line.startswith("#")]


def _yaml_lists(text: str, source: _Source) -> Lists:
    try:
        import yaml
    except ImportError:
        log.warning(
            "The wildcard file '%s' is left out: YAML lists need the package PyYAML "
            "(pip install pyyaml). Text files work without it.", source.path,
        )  # fmt: skip
        return {}
    # BaseLoader builds nothing but text, lists and mappings, whatever tags a file holds.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_YAML_DEPTH:
                raise yaml.MarkedYAMLError("nested too deeply", problem_mark=event.start_mark)
        tree = yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else text.count("\n", 0, getattr(error, "position", 0)) + 1
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        log.warning(
            "The wildcard file '%s' is left out: line %d is no valid YAML, %s",
            source.path, line, reason,
        )  # fmt: skip
        return {}
    entered: Counter[int] = Counter()
    lists = dict(_walk(tree, "", source, entered))
    if repeats := entered.total() - len(entered):
        log.warning(
            "The wildcard file '%s' repeats mappings by alias; %d repeats are left out. Repeat "
            "the lists in them instead.", source.path, repeats,
        )  # fmt: skip
    return lists


def _walk(
    node: Any, name: str, source: _Source, entered: Counter[int]
) -> Iterator[tuple[str, list[str]]]:
    """Each list under a node of a YAML tree, with its name.

    Args:
        name: of the node, "" for the root.
        entered: how often each mapping was reached, by id. Each is walked once, since aliases of
            aliases could unfold to any size.
    """
    if node is None:  # an empty file
        return
    if isinstance(node, str):
        yield name or source.name, _lines(node)
    elif isinstance(node, list):
        options = [item.strip() for item in node if isinstance(item, str)]
        if len(options) < len(node):
            log.warning(
                "The wildcard file '%s' has %d entries under '%s' that are no text; they are left "
                "out. Put options that contain ': ' or start with a bracket in quotes.",
                source.path, len(node) - len(options), name or source.name,
            )  # fmt: skip
        yield name or source.name, options
    else:
        entered[id(node)] += 1
        if entered[id(node)] > 1:
            return
        for key, child in node.items():
            yield from _walk(
                child, normalise(f"{name}/{key}" if name else str(key)), source, entered
            )
