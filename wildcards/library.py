"""Wildcard lists in folders: found by name, read on demand, kept within a memory budget.

A list is a text file or a key of a YAML file:

- `hair/short.txt` is the list `hair/short`: one option a line; blank lines and lines that start
  with `#` are left out.
- In a YAML file, whatever its name, nested keys joined by `/` name a list; the value is a list of
  options, or a text with one option a line as above. Scalars are taken as written: `no` stays
  "no". A YAML file without keys is one list with the file's name. See `yaml_lists`.

`names.list_name` says how names are written. Where two lists have the same name, the text file
goes before the YAML key, then the earlier folder before the later one.
"""

from __future__ import annotations

import bisect
import codecs
import fnmatch
import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from ..utils.files import open_file
from ..utils.notes import note
from .budget import Budget
from .names import list_name, pattern_name
from .weights import is_weighted, split_weight
from .yaml_lists import read_yaml_lists, text_options

CACHE_BYTES = 64 * 2**20  # memory for lists that are not in use
MAX_FILE_BYTES = 64 * 2**20  # read of one file
NEW_LINE = b"\n"
MOST_FAULTS = 5  # of one file that are told

Lists = dict[str, list[str]]
Stamp = tuple[int, int]  # time of the last change in nanoseconds, size in bytes


class Library:
    """The lists of one or more folders and their sub-folders.

    Creating one reads nothing. The first look-up collects file names; a text file is read when its
    list is asked for, YAML files once a name is in no text file or all names are wanted. An edited
    file is read again at its next use, and new files are found without a restart. What cannot be
    read is told and left out. Threads may share a library.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        *,
        cache_bytes: int = CACHE_BYTES,
        samples: Library | None = None,
    ) -> None:
        """
        Args:
            folders: searched in this order; one that does not exist counts as empty. Links inside
                them are followed.
            cache_bytes: the most memory that lists take while they wait for their next use; the
                longest unused ones go first.
            samples: lists for names that nothing in `folders` has.
        """
        self._folders = [Path(folder) for folder in folders]
        self._cache = _Cache(cache_bytes)
        self._known: dict[_Source, tuple[Stamp, _Content]] = {}  # of every file read so far
        self._faulty: set[_Source] = set()  # files of which something was left out
        self._reported: dict[_Source, Stamp] = {}  # files whose faults `names` has told
        self._index: _Index | None = None
        self._samples = samples
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        """All lists' names, sorted. Reads the YAML files, whose keys are names."""
        others = self._samples.names() if self._samples else []
        with self._lock:
            self._rescan_if_changed()
            names = sorted({*self._sources(), *others})
            for source in self._faulty:
                stamp, content = self._known[source]
                if self._reported.get(source) != stamp:
                    self._reported[source] = stamp
                    content.tell(source)
            return names

    def options(self, name: str) -> Sequence[str]:
        """The options of a list, as in `Look.options`; each call sees the files as they are now."""
        return self.look().options(name)

    def look(self, budget: Budget | None = None) -> Look:
        """A view for many look-ups in a row, which asks the disk for new files but once.

        Args:
            budget: of what the look-ups may cost; without it, of this view's own.
        """
        return Look(self, budget or Budget())

    def refresh(self) -> None:
        """Forget everything that was read; the next look-up starts anew."""
        with self._lock:
            self._index = None
            self._known.clear()
            self._faulty.clear()
            self._cache.clear()
            if self._samples:
                self._samples.refresh()

    def _scanned(self) -> _Index:
        if self._index is None:
            self._index = _scan(self._folders)
            present = {*self._index.text.values(), *self._index.yaml}
            self._known = {s: known for s, known in self._known.items() if s in present}
            self._faulty &= present
        return self._index

    def _sources(self, budget: Budget | None = None) -> dict[str, _Source]:
        """Every list's file by the list's name. Within a budget, YAML files are part of it."""
        index = self._scanned()
        if budget is not None:
            budget.need_files({source.path: index.stamps[source.path][1] for source in index.yaml})
        if index.all is None:
            found = dict(index.text)
            for source in index.yaml:
                if budget is not None:
                    budget.need_time()
                for name in self._content(source).counts:
                    found.setdefault(name, source)
            index.all = found
            for name in index.all:
                start = name.find("/") + 1
                while start:
                    index.tails.setdefault(name[start:], []).append(name)
                    start = name.find("/", start) + 1
        return index.all

    def _matches(self, wanted: str, budget: Budget) -> list[str]:
        names = self._sources(budget)
        if "*" in wanted:
            found = set(_glob(wanted, names))
            if wanted.startswith("*/"):
                found.update(_glob(wanted[2:], names))
            return sorted(found)
        if wanted in names:
            return [wanted]
        return sorted(self._scanned().tails.get(wanted, ()))

    def _rescan_if_changed(self) -> None:
        if self._index and any(_stamp(path) != then for path, then in self._index.stamps.items()):
            self._index = None

    def _content(self, source: _Source) -> _Content:
        """What is known of a file, without its options."""
        known = self._known.get(source)
        if known is None or known[0] != _stamp(source.path):
            self._load(source)
            known = self._known[source]
        return known[1]

    def _load(self, source: _Source) -> Lists:
        stamp = _stamp(source.path)
        lists = self._cache.get(source, stamp)
        if lists is None:
            lists, faults, left_out = _read(source)
            self._known[source] = stamp, _Content.of(lists, faults, left_out)
            (self._faulty.add if faults or left_out else self._faulty.discard)(source)
            self._cache.put(source, stamp, lists)
        return lists

    def _lists(self, source: _Source) -> Lists:
        with self._lock:
            return self._load(source)


class Look:
    """A library as it was at one time, for look-ups that belong together."""

    def __init__(self, library: Library, budget: Budget) -> None:
        self._library = library
        self._budget = budget
        self._is_fresh = False
        self._told: set[_Source] = set()
        self._samples = library._samples.look(budget) if library._samples else None

    def options(self, name: str) -> Sequence[str]:
        """The options of a list, their weights (`2::text`) included; empty without such a list.

        Args:
            name: a list's name. `*` stands for any text, `/` included, and unites all lists that
                match in the order of their names; `*/` at the start also stands for no folder at
                all. A name that no list has stands for the lists of that name in any folder.

        Returns:
            A list, or for several lists a sequence that reads each only while it is looked at.

        Raises:
            WildcardError: the budget ends.
        """
        wanted = pattern_name(name)
        library = self._library
        with library._lock:
            names = self._exact(wanted)
            if not names:
                if not self._is_fresh:
                    library._rescan_if_changed()
                self._is_fresh = True
                names = library._matches(wanted, self._budget)
                self._tell(library._faulty)  # what was left out may have had the name
            if names:
                return self._united(names)
        return self._samples.options(name) if self._samples else []

    def __contains__(self, name: str) -> bool:
        """Whether there is a list of that name; `*` and missing folders as in `options`."""
        return len(self.options(name)) > 0

    @property
    def size(self) -> int:
        """How many lists a pattern is compared with."""
        with self._library._lock:
            return len(self._library._sources(self._budget))

    def _exact(self, wanted: str) -> list[str]:
        known = self._library._scanned().text
        is_there = wanted in known or wanted in self._library._sources(self._budget)
        return [wanted] if is_there else []

    def _united(self, names: Sequence[str]) -> Sequence[str]:
        library, budget = self._library, self._budget
        known = library._scanned().text
        sources = [known.get(name) or library._sources(budget)[name] for name in names]
        budget.need_files({source.path: _stamp(source.path)[1] for source in sources})
        if len(names) == 1:
            options: Sequence[str] = list(library._load(sources[0]).get(names[0], ()))
        else:
            counts = []
            for source in sources:
                budget.need_time()
                counts.append(library._content(source).counts)
            parts = [
                _Part(source, name, *counted[name])
                for source, name, counted in zip(sources, names, counts, strict=True)
                if name in counted
            ]
            options = United(library, [part for part in parts if part.count])
        self._tell(sources)
        return options

    def _tell(self, sources: Iterable[_Source]) -> None:
        """Tell what was left out of these files, once."""
        for source in self._library._faulty.intersection(sources):
            if source not in self._told:
                self._told.add(source)
                self._library._known[source][1].tell(source)


@dataclass(frozen=True)
class _Part:
    """One list of several that are united."""

    source: _Source
    name: str
    count: int
    weight: float  # of all its options


class United(Sequence[str]):
    """The options of several lists, one list after another. Only one list at a time is held."""

    def __init__(self, library: Library, parts: Sequence[_Part]) -> None:
        self._library = library
        self._parts = parts
        self._ends = list(accumulate(part.count for part in parts))

    @property
    def is_weighted(self) -> bool:
        """Whether some option has a weight."""
        return any(part.weight != part.count for part in self._parts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(index)
        position = bisect.bisect_right(self._ends, index)
        part = self._parts[position]
        return self._option(part, index - (self._ends[position] - part.count))

    def part_of(self, index: int) -> _Part:
        """The list that an option is of."""
        return self._parts[bisect.bisect_right(self._ends, index)]

    def part_at(self, share: float) -> _Part:
        """The list at a share (0 to 1) of all weights, added up in order."""
        return self._at(share)[0]

    def __iter__(self) -> Iterator[str]:
        source, lists = None, {}
        for part in self._parts:
            if part.source != source:
                source, lists = part.source, self._library._lists(part.source)
            options = lists.get(part.name)
            for index in range(part.count):  # as many as were counted, if the file has changed
                yield options[index % len(options)] if options else ""

    def at_share(self, share: float) -> str:
        """The option at a share (0 to 1) of all weights, added up in order."""
        part, left = self._at(share)
        options = self._library._lists(part.source).get(part.name)
        text = ""
        for option in options or ():
            weight, text = split_weight(option)
            if left < weight:
                break
            left -= weight
        return text

    def _at(self, share: float) -> tuple[_Part, float]:
        """The list at a share of all weights, and what of the share lies in it."""
        left = share * sum(part.weight for part in self._parts)
        for part in self._parts:
            if left < part.weight:
                break
            left -= part.weight
        return part, left

    def _option(self, part: _Part, index: int) -> str:
        options = self._library._lists(part.source).get(part.name)
        return options[index % len(options)] if options else ""


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
    tails: dict[str, list[str]] = field(default_factory=dict)  # names by what follows a folder
    stamps: dict[Path, Stamp] = field(default_factory=dict)  # of folders and YAML files


@dataclass(frozen=True)
class _Content:
    """What a file holds, without the options themselves."""

    counts: dict[str, tuple[int, float]]  # options of each list, and the sum of their weights
    faults: tuple[str, ...]  # what is wrong with the file as a whole
    left_out: tuple[str, ...]  # parts that could not be read

    @classmethod
    def of(cls, lists: Lists, faults: Sequence[str], left_out: Sequence[str]) -> _Content:
        counted: dict[int, tuple[int, float]] = {}  # aliases share one list
        counts = {}
        for name, options in lists.items():
            if id(options) not in counted:
                counted[id(options)] = len(options), _weight(options)
            counts[name] = counted[id(options)]
        return cls(counts, tuple(faults), tuple(left_out))

    def tell(self, source: _Source) -> None:
        """Tell what was left out of the file, if anything."""
        for fault in self.faults:
            note("wildcards", f"The wildcard file '{source.path}' {fault}.")
        if self.left_out:
            more = len(self.left_out) - MOST_FAULTS
            parts = "; ".join(self.left_out[:MOST_FAULTS])
            parts += f"; and {more} more" if more > 0 else ""
            note("wildcards", f"Part of the wildcard file '{source.path}' is left out: {parts}.")


def _weight(options: Sequence[str]) -> float:
    if not is_weighted(options):
        return len(options)
    return sum(split_weight(option)[0] for option in options)


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
        different = {id(options): options for options in lists.values()}
        size = sum(map(_memory, different.values()))
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
                name = list_name(str(path.relative_to(top).with_suffix("")))
                source = _Source(path, name, is_yaml=extension != ".txt")
                if source.is_yaml:
                    index.yaml.append(source)
                    index.stamps[path] = _stamp(path)
                else:
                    index.text.setdefault(name, source)
    return index


def _report(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        note(
            "wildcards",
            f"The wildcard folder '{error.filename}' cannot be listed: {error.strerror}",
        )


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
    matches = re.compile(fnmatch.translate(only_stars)).match
    return [name for name in names if matches(name)]


def _read(source: _Source) -> tuple[Lists, list[str], list[str]]:
    """The lists of a file, what is wrong with it, and the parts that could not be read."""
    faults: list[str] = []
    text = _read_text(source.path, faults)
    if not source.is_yaml:
        return {source.name: text_options(text)}, faults, []
    try:
        content = read_yaml_lists(text)
    except ImportError:
        faults.append(
            "is left out: YAML lists need the package PyYAML (pip install pyyaml). Text files work "
            "without it"
        )
        return {}, faults, []
    lists: Lists = {}
    for keys, options in content.lists:
        name = list_name("/".join(keys)) if keys else source.name
        lists[name] = [*lists[name], *options] if lists.get(name) else options
    return lists, faults, content.faults


def _read_text(path: Path, faults: list[str]) -> str:
    """A file's text, "" if it cannot be read. UTF-8 or, with its byte order mark, UTF-16."""
    try:
        with open_file(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        faults.append(f"cannot be read: {error.strerror}")
        return ""
    if len(data) > MAX_FILE_BYTES:
        data = data[: data.rfind(b"\n", 0, MAX_FILE_BYTES) + 1]
        faults.append(
            f"is read up to line {data.count(NEW_LINE)} only, since it is larger than "
            f"{MAX_FILE_BYTES // 2**20} MiB. Split it into several files"
        )
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        faults.append(
            f"is no valid {'UTF-16' if utf16 else 'UTF-8'} in line {line}, so it is read as "
            "Latin-1. Save it as UTF-8"
        )
        return data.decode("latin-1")
