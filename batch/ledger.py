"""The ledger: one SQLite file in OUT, which says what is to be done, goes on and is done.

The driver alone writes it, and one driver at a time: it holds a lock file beside it. Others may
read (`--status`), as it is in write-ahead mode. Each row of `units` is a file or a part of one, to
be made with certain settings; `claims` says which unit a file in OUT is from; `files` keeps hashes
of files that have not changed since.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .faults import Problem, is_full
from .files import Stamp

APPLICATION = 0x44544C52  # "DTLR", in the file's header
VERSION = 2
NEW, HANDED, STAGED, DONE, ASIDE, PARTS = range(6)
WHOLE, CLIP = -1, -2  # in place of a part's number: a whole file; a clip that is joined from parts
STATES = ("waiting", "running", "staged", "done", "failed", "in parts")

# Version 1 had whole files only, and did not count the servers that died.
MIGRATIONS = {
    1: """
    ALTER TABLE units ADD COLUMN part INTEGER NOT NULL DEFAULT -1;
    ALTER TABLE units ADD COLUMN span TEXT;
    ALTER TABLE units ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE units ADD COLUMN name INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE claims (path PRIMARY KEY, input NOT NULL, unit INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX by_input ON units (input, run) WHERE part >= 0;
    """
}
SCHEMA_1 = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, settings TEXT NOT NULL,
        workflow TEXT NOT NULL, status TEXT
    );
    CREATE TABLE units (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        input NOT NULL,
        source BLOB NOT NULL,
        extra TEXT,
        state INTEGER NOT NULL,
        run INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        worker TEXT, started REAL, ended REAL, seconds REAL,
        outputs TEXT, report TEXT, fault TEXT,
        UNIQUE (key, input)
    );
    CREATE INDEX waiting ON units (run, id) WHERE state = 0;
    CREATE TABLE files (
        path PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER,
        read_ns INTEGER, hash BLOB NOT NULL
    ) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Unit:
    """A unit as the ledger has it.

    Attributes:
        key: SHA-256 of all that decides the result.
        input: path in IN, with forward slashes.
        source: SHA-256 of the input's bytes.
        extra: overrides for this file alone, {node: {input: value}}.
        part: number of the part, WHOLE or CLIP.
        span: of a part, (first frame, frames).
        tries: failures so far.
        deaths: servers that died while they ran it.
        name: which of its possible names in OUT is the first that it may take.
    """

    id: int
    key: bytes
    input: str
    source: bytes
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)
    part: int = WHOLE
    span: tuple[int, int] | None = None
    tries: int = 0
    deaths: int = 0
    name: int = 0
    worker: str | None = None
    fault: str | None = None


@dataclass(frozen=True)
class NewUnit:
    """A unit that the scan has found."""

    key: bytes
    input: str
    source: bytes
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)
    part: int = WHOLE
    span: tuple[int, int] | None = None
    name: int = 0
    state: int = NEW
    fault: str | None = None


def to_text(path: str) -> str | bytes:
    """A path for the ledger: text, or the bytes of a name that is no UTF-8."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def from_text(value: str | bytes) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else value


class Ledger:
    """The open ledger. Its methods may be called from several threads.

    Raises, when opened:
        Problem: the file is no ledger, is of a newer version, or cannot be written.
    """

    COLUMNS = "id, key, input, source, extra, part, span, tries, deaths, name, worker, fault"

    def __init__(self, path: Path, in_memory: bool = False):
        self.path = path
        self.run = 0
        self._lock = threading.RLock()
        with self._telling("opened"):
            self._db = sqlite3.connect(
                ":memory:" if in_memory else path, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA busy_timeout = 10000")
            self._check_kind()
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._upgrade()

    def _check_kind(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            raise Problem(
                f"{self.path} is no ledger of folder runs. Move it away, or use another OUT."
            )

    def _upgrade(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise Problem(
                f"{self.path} is of version {version}, and this program knows {VERSION} at most. "
                "Use the program that wrote it, or a newer one."
            )
        with self.transaction():
            if version == 0:
                self._script(SCHEMA_1)
                version = 1
                self._db.execute(f"PRAGMA application_id = {APPLICATION}")
            for step in range(version, VERSION):
                self._script(MIGRATIONS[step])
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _script(self, text: str) -> None:
        for statement in filter(str.strip, text.split(";")):
            self._db.execute(statement)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            remedy = "Make room and start again" if is_full(error) else "Check the disk and rights"
            text = f"The ledger {self.path} cannot be {what}: {error}. {remedy}; nothing is lost."
            raise Problem(text) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is kept as a whole, or not at all."""
        with self._lock, self._telling("written"):
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self.transaction():
            self._db.executemany(statement, rows)

    def _read(self, statement: str, *values: Any) -> list[tuple]:
        with self._lock, self._telling("read"):
            return self._db.execute(statement, values).fetchall()

    # Runs

    def begin(self, settings: dict, workflow: str, now: float) -> list[Unit]:
        """Start a run: what an earlier one has left running waits again.

        Returns:
            The units whose results were staged and perhaps not all renamed.
        """
        with self.transaction():
            row = (now, json.dumps(settings), workflow)
            self.run = self._db.execute(
                "INSERT INTO runs (started, settings, workflow) VALUES (?, ?, ?)", row
            ).lastrowid
            self._db.execute("UPDATE units SET state = ? WHERE state = ?", (NEW, HANDED))
        return self.units("state = ?", STAGED)

    def end(self, status: str, now: float) -> None:
        self._write("UPDATE runs SET ended = ?, status = ? WHERE id = ?", [(now, status, self.run)])

    # What was found out once

    def note(self, name: str, value: Any) -> None:
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(name, json.dumps(value))])

    def noted(self, name: str) -> Any:
        """What was noted under this name; None without."""
        rows = self._read("SELECT value FROM meta WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def known_hash(self, path: str, stamp: Stamp) -> bytes | None:
        """The hash of a file that has not changed since it was read."""
        rows = self._read(
            "SELECT size, mtime_ns, ctime_ns, inode, read_ns, hash FROM files WHERE path = ?",
            to_text(path),
        )
        if not rows:
            return None
        *times, read, found = rows[0]
        return found if Stamp(*times) == stamp and stamp.is_settled(read) else None

    def keep_hashes(self, rows: Iterable[tuple[str, Stamp, int, bytes]]) -> None:
        """Keep (path, stamp, when it was read in ns, hash) of files."""
        self._write(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    to_text(path),
                    stamp.size,
                    stamp.mtime_ns,
                    stamp.ctime_ns,
                    stamp.inode,
                    read,
                    found,
                )
                for path, stamp, read, found in rows
            ],
        )

    # Units

    def add(self, found: Sequence[NewUnit]) -> list[int]:
        """Have units in this run; those that the ledger knows keep what became of them.

        Returns:
            The state of each.
        """
        rows = [
            (
                unit.key, to_text(unit.input), unit.source,
                json.dumps(unit.extra) if unit.extra else None,
                unit.part, json.dumps(unit.span) if unit.span else None,
                unit.name, unit.state, self.run, unit.fault,
            )
            for unit in found
        ]  # fmt: skip
        with self.transaction():
            self._db.executemany(
                "INSERT INTO units (key, input, source, extra, part, span, name, state, run,"
                " fault) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (key, input) DO UPDATE SET run = excluded.run",
                rows,
            )
            return [self._state(unit.key, unit.input) for unit in found]

    def _state(self, key: bytes, input: str) -> int:
        query = "SELECT state FROM units WHERE key = ? AND input = ?"
        return self._db.execute(query, (key, to_text(input))).fetchone()[0]

    def units(self, where: str = "1", *values: Any) -> list[Unit]:
        rows = self._read(f"SELECT {self.COLUMNS} FROM units WHERE {where}", *values)  # noqa: S608
        return [_unit(row) for row in rows]

    def hand_out(self, count: int) -> list[Unit]:
        """Up to `count` units of this run that wait; they are then on their way."""
        with self.transaction():
            found = self.units("run = ? AND state = 0 ORDER BY id LIMIT ?", self.run, count)
            self._write(
                "UPDATE units SET state = ?, worker = NULL WHERE id = ?",
                [(HANDED, unit.id) for unit in found],
            )
        return found

    def started(self, unit: Unit, worker: str, now: float) -> None:
        self._write(
            "UPDATE units SET worker = ?, started = ? WHERE id = ?", [(worker, now, unit.id)]
        )

    def staged(
        self, unit: Unit, outputs: list[dict], report: Any, seconds: float, now: float
    ) -> None:
        """The results lie synced under temporary names; `outputs` says which and where they go."""
        row = (STAGED, json.dumps(outputs), json.dumps(report), seconds, now, unit.id)
        self._write(
            "UPDATE units SET state = ?, outputs = ?, report = ?, seconds = ?, ended = ?,"
            " fault = NULL WHERE id = ?",
            [row],
        )

    def done(self, ids: Iterable[int]) -> None:
        self._write("UPDATE units SET state = ? WHERE id = ?", [(DONE, id) for id in ids])

    def again(self, unit: Unit) -> None:
        """A unit goes back, with what it has tried."""
        self._set(unit, NEW, None)

    def handed_again(self, unit: Unit) -> None:
        """As `again`, but the driver has it in hand."""
        self._set(unit, HANDED, None)

    def aside(self, unit: Unit, now: float) -> None:
        self._set(unit, ASIDE, now)

    def _set(self, unit: Unit, state: int, now: float | None) -> None:
        row = (state, unit.tries, unit.deaths, unit.fault, now, unit.id)
        self._write(
            "UPDATE units SET state = ?, tries = ?, deaths = ?, fault = ?, ended = ? WHERE id = ?",
            [row],
        )

    def start_afresh(self, ids: Iterable[int]) -> None:
        """Units wait again as if they had never been tried."""
        self._write(
            "UPDATE units SET state = CASE part WHEN ? THEN ? ELSE ? END, tries = 0, deaths = 0,"
            " fault = NULL, outputs = NULL WHERE id = ?",
            [(CLIP, PARTS, NEW, id) for id in ids],
        )

    def retry_failed(self) -> int:
        """Let those wait again that were set aside, once the scan finds them."""
        rows = self._read("SELECT id FROM units WHERE state = ?", ASIDE)
        self.start_afresh(id for (id,) in rows)
        return len(rows)

    def outputs(self, id: int) -> list[dict]:
        ((text,),) = self._read("SELECT outputs FROM units WHERE id = ?", id)
        return json.loads(text) if text else []

    def state(self, id: int) -> int:
        ((state,),) = self._read("SELECT state FROM units WHERE id = ?", id)
        return state

    def drop(self, unit: Unit) -> None:
        """A unit is no longer part of the run."""
        self._write("UPDATE units SET state = ?, run = 0 WHERE id = ?", [(NEW, unit.id)])

    def find(self, key: bytes, input: str) -> Unit:
        return self.units("key = ? AND input = ?", key, to_text(input))[0]

    def twin(self, unit: Unit) -> Unit | None:
        """A done unit of the same key: another file with the same bytes."""
        found = self.units("key = ? AND state = ? AND id != ? LIMIT 1", unit.key, DONE, unit.id)
        return found[0] if found else None

    def parts(self, input: str) -> list[Unit]:
        """The parts of a clip in this run, in order."""
        return self.units(
            "input = ? AND run = ? AND part >= 0 ORDER BY part", to_text(input), self.run
        )

    def part_states(self, input: str) -> set[int]:
        """The states of the parts of a clip in this run."""
        rows = self._read(
            "SELECT DISTINCT state FROM units WHERE input = ? AND run = ? AND part >= 0",
            to_text(input), self.run,
        )  # fmt: skip
        return {state for (state,) in rows}

    def clip(self, input: str) -> Unit:
        """The clip that is joined from the parts of an input in this run."""
        where = "input = ? AND run = ? AND part = ?"
        return self.units(where, to_text(input), self.run, CLIP)[0]

    def counts(self) -> dict[int, int]:
        """How many units of this run are in each state."""
        rows = self._read(
            "SELECT state, count(*) FROM units WHERE run = ? GROUP BY state", self.run
        )
        return dict(rows)

    # Files in OUT

    def holder(self, path: str) -> tuple[str, int] | None:
        """The input and the unit that a file in OUT is from."""
        rows = self._read("SELECT input, unit FROM claims WHERE path = ?", to_text(path))
        return (from_text(rows[0][0]), rows[0][1]) if rows else None

    def claim(self, path: str, unit: Unit) -> None:
        self._write(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)",
            [(to_text(path), to_text(unit.input), unit.id)],
        )


def _unit(row: tuple) -> Unit:
    id, key, input, source, extra, part, span, tries, deaths, name, worker, fault = row
    return Unit(
        id, key, from_text(input), source, json.loads(extra) if extra else {}, part,
        tuple(json.loads(span)) if span else None, tries, deaths, name, worker, fault,
    )  # fmt: skip


class DriverLock:
    """Held by the one driver of an OUT; it ends with the process at the latest.

    Args:
        is_probe: only see whether another driver holds it.

    Raises, on entering:
        Problem: another driver holds it.
    """

    def __init__(self, folder: Path, is_probe: bool = False):
        self.path = folder / "driver.lock"
        self._is_probe = is_probe

    def __enter__(self) -> DriverLock:
        self._file = self.path.open("a+")
        if not _try_lock(self._file.fileno()):
            self._file.seek(0)
            who = self._file.read().strip() or "another process"
            self._file.close()
            raise Problem(
                f"Another run is at work in {self.path.parent.parent}: {who}. Wait for its end or "
                "stop it; --status tells how far it is."
            )
        if not self._is_probe:
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            self._file.flush()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()


def _try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # past what others read
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
