"""Wildcard lists in folders: found by name, read on demand, cached within a memory budget.

A list is a text file or a key of a YAML file:

- `hair/short.txt` is the list `hair/short`, with one option in each line. Blank lines and lines
  that start with `#` are left out.
- In a YAML file of any name, nested keys joined by `/` name a list. The value is a list of options,
  or a text with one option in each line as above. Scalars are taken as written: `no` stays "no". A
  YAML file without keys is one list with the file's name. See `yaml_lists`.

`names.list_name` describes how names are written. If two lists have the same name, a text file is
preferred to a YAML key, and then an earlier folder to a later one.
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
MAX_FILE_BYTES = 64 * 2**20  # bytes that are read of one file
NEW_LINE = b"\n"
MOST_FAULTS = 5  # faults of one file that a note names

Lists = dict[str, list[str]]
Stamp = tuple[int, int]  # time of the last change in nanoseconds, size in bytes


class Library:
    """The lists of one or more folders and their sub-folders.

    A new library has read nothing. The first look-up collects file names. A text file is read when
    its list is needed; YAML files are read when a name is in no text file, or when all names are
    needed. An edited file is read again at its next use, and new files are found without a restart.
    What cannot be read is left out, with a note. Threads may share a library.
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
            folders: searched in this order; a folder that does not exist counts as empty. Links in
                them are followed.
            cache_bytes: the most memory for lists that are not in use; those that are unused for
                the longest time are dropped first.
            samples: lists for names that `folders` do not have.
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
        """The sorted names of all lists. This reads the YAML files, whose keys are names."""
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
        """The options of a list, as of `Look.options`, from the files as they are now."""
        return self.look().options(name)

    def look(self, budget: Budget | None = None) -> Look:
        """A view for many look-ups, which looks for new files only once.

        Args:
            budget: the budget of the look-ups; without it, the view has its own.
        """
        return Look(self, budget or Budget())

    def refresh(self) -> None:
        """Forget everything that was read; the next look-up reads again."""
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
        """The file of every list by its name. With a budget, YAML files are counted in it."""
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
        """The known content of a file, without its options."""
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
    """A view of a library at one time, for look-ups that belong together."""

    def __init__(self, library: Library, budget: Budget) -> None:
        self._library = library
        self._budget = budget
        self._is_fresh = False
        self._told: set[_Source] = set()
        self._samples = library._samples.look(budget) if library._samples else None

    def options(self, name: str) -> Sequence[str]:
        """The options of a list with their weights (`2::text`); empty if there is no such list.

        Args:
            name: a list's name. `*` matches any text, also with `/`, and gives all lists that
                match, in the order of their names. `*/` at the start also matches no folder at all.
                A name that no list has matches the lists of that name in any folder.

        Returns:
            A list; for several lists a sequence that reads each list only when it is needed.

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
                self._tell(library._faulty)  # parts that were left out may have had the name
            if names:
                return self._united(names)
        return self._samples.options(name) if self._samples else []

    def __contains__(self, name: str) -> bool:
        """Whether there is a list of that name; `*` and missing folders as in `options`."""
        return len(self.options(name)) > 0

    @property
    def size(self) -> int:
        """The number of lists that a pattern is compared with."""
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
        """Give a note on what was left out of these files, once for each."""
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
    weight: float  # sum of the weights of its options


class United(Sequence[str]):
    """The options of several lists, one list after another; only one list is in memory."""

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
        """The list that contains the option at an index."""
        return self._parts[bisect.bisect_right(self._ends, index)]

    def part_at(self, share: float) -> _Part:
        """The list at a share (0 to 1) of the sum of all weights."""
        return self._at(share)[0]

    def __iter__(self) -> Iterator[str]:
        source, lists = None, {}
        for part in self._parts:
            if part.source != source:
                source, lists = part.source, self._library._lists(part.source)
            options = lists.get(part.name)
            for index in range(
                part.count
            ):  # the number that was counted, even if the file has changed
                yield options[index % len(options)] if options else ""

    def at_share(self, share: float) -> str:
        """The option at a share (0 to 1) of the sum of all weights."""
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
        """The list at a share of the sum of all weights, and the rest of the weight within it."""
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
    """The result of a scan of the folders."""

    text: dict[str, _Source] = field(default_factory=dict)  # text files by their list's name
    yaml: list[_Source] = field(default_factory=list)
    all: dict[str, _Source] | None = None  # files by list name; None until YAML keys are known
    tails: dict[str, list[str]] = field(default_factory=dict)  # names by their part after a folder
    stamps: dict[Path, Stamp] = field(default_factory=dict)  # of folders and YAML files


@dataclass(frozen=True)
class _Content:
    """The content of a file without the options themselves."""

    counts: dict[str, tuple[int, float]]  # options of each list, and the sum of their weights
    faults: tuple[str, ...]  # faults of the file as a whole
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
        """Give a note on what was left out of the file, if anything."""
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
    """The lists of the files that were used last, up to a number of bytes."""

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
    """Collect file names; links are followed, but each real folder is entered only once."""
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
    only_stars = re.sub(
        r"([\[?])", r"[\1]", pattern
    )  # fnmatch has more special characters than `*`
    matches = re.compile(fnmatch.translate(only_stars)).match
    return [name for name in names if matches(name)]


def _read(source: _Source) -> tuple[Lists, list[str], list[str]]:
    """The lists of a file, its faults, and the parts that could not be read."""
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
    """The text of a file in UTF-8 or, with its byte order mark, UTF-16; "" if it is unreadable."""
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
