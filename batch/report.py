"""What the ledger has to tell: `--status` and `--report`, also while a run goes on."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .faults import Problem
from .ledger import APPLICATION, ASIDE, DONE, STATES, VERSION, DriverLock, Ledger, from_text
from .progress import duration
from .settings import Folders

RECENT = 600.0  # seconds over which the rate of a run that goes on is taken
MOST_NOTES = 20


def open_to_read(out: Path) -> sqlite3.Connection:
    """The ledger in OUT, for reading.

    Raises:
        Problem: there is none, or none of this program's version.
    """
    path = Folders(out, out).ledger
    if not path.is_file():
        raise Problem(f"{out} has no ledger of a folder run ({path.name}).")
    for more in ("mode=ro", "mode=ro&immutable=1"):  # the second for a disk that takes no writes
        db = sqlite3.connect(f"file:{quote(str(path.resolve()))}?{more}", uri=True)
        try:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            break
        except sqlite3.Error as error:
            db.close()
            fault = error
    else:
        raise Problem(f"{path} cannot be read: {fault}.")
    if application != APPLICATION:
        db.close()
        raise Problem(f"{path} is no ledger of folder runs.")
    if version != VERSION:
        db.close()
        raise Problem(
            f"{path} is of version {version}, and this program reads {VERSION}. A run with this "
            "program brings an older one up to date."
        )
    return db


def status(out: Path, clock: float | None = None) -> dict[str, Any]:
    """How far the last run in OUT is."""
    now = time.time() if clock is None else clock
    with closing(open_to_read(out)) as db:
        run = db.execute("SELECT id, started, ended, status FROM runs ORDER BY id DESC").fetchone()
        if run is None:
            raise Problem(f"No run has begun in {out} yet.")
        id, started, ended, how = run
        counts = dict(
            db.execute("SELECT state, count(*) FROM units WHERE run = ? GROUP BY state", [id])
        )
        since = max(started, (ended or now) - RECENT)
        (recent,) = db.execute(
            "SELECT count(*) FROM units WHERE run = ? AND state = ? AND ended >= ?",
            [id, DONE, since],
        ).fetchone()
        workers = db.execute(
            "SELECT worker, sum(state = 3), sum(state = 4), sum(seconds) FROM units"
            " WHERE run = ? AND worker IS NOT NULL AND started >= ? GROUP BY worker",
            [id, started],
        ).fetchall()
    elapsed = max((ended or now) - since, 1e-6)
    rate = recent / elapsed
    left = sum(counts.get(state, 0) for state in (0, 1, 2))
    return {
        "status": how or ("running" if is_running(out) else "killed"),
        "started": started,
        "ended": ended,
        "units": {name: counts.get(state, 0) for state, name in enumerate(STATES)},
        "left": left,
        "units_per_minute": round(rate * 60, 2),
        "seconds_left": round(left / rate, 1) if rate and not ended else None,
        "workers": {
            worker: {"done": done, "failed": failed, "seconds": round(seconds or 0.0, 3)}
            for worker, done, failed, seconds in workers
        },
    }


def is_running(out: Path) -> bool:
    """Whether a driver holds OUT."""
    folder = Folders(out, out).own
    if not (folder / "driver.lock").exists():
        return False
    try:
        with DriverLock(folder, is_probe=True):
            return False
    except (Problem, OSError):
        return True


def status_lines(out: Path) -> Iterator[str]:
    found = status(out)
    units = {name: count for name, count in found["units"].items() if count}
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["started"]))
    yield f"The run of {began} is {found['status']}."
    yield ", ".join(f"{count} {name}" for name, count in units.items()) or "It has no units yet."
    line = f"{found['units_per_minute']:.1f} units/min"
    if found["seconds_left"] is not None:
        line += f", {duration(found['seconds_left'])} left"
    yield line
    for name, worker in found["workers"].items():
        yield f"  {name}: {worker['done']} done, {worker['failed']} failed"


def failures(ledger: Ledger, most: int) -> Iterator[str]:
    """The units of a run that were set aside, and why."""
    for unit in ledger.units("run = ? AND state = ? ORDER BY id LIMIT ?", ledger.run, ASIDE, most):
        yield f"  {_named(unit.input, unit.part)}: {unit.fault}"


def _named(input: str, part: int) -> str:
    return f"{input}, part {part + 1}" if part >= 0 else input


def records(out: Path) -> Iterator[dict[str, Any]]:
    """Each unit of the last run: state, tries, worker, times, outputs, the detailers' report."""
    with closing(open_to_read(out)) as db:
        (run,) = db.execute("SELECT max(id) FROM runs").fetchone()
        rows = db.execute(
            "SELECT key, input, part, span, state, tries, deaths, worker, started, ended, seconds,"
            " outputs, report, fault FROM units WHERE run = ? ORDER BY id",
            [run],
        )
        for row in rows:
            key, input, part, span, state, *rest = row
            tries, deaths, worker, started, ended, seconds, outputs, told, fault = rest
            yield {
                "input": from_text(input),
                "part": part if part >= 0 else None,
                "span": json.loads(span) if span else None,
                "state": STATES[state],
                "key": key.hex(),
                "tries": tries,
                "servers_died": deaths,
                "worker": worker,
                "started": started,
                "ended": ended,
                "seconds": seconds,
                "outputs": [
                    {name: entry[name] for name in ("path", "hash", "size")}
                    for entry in json.loads(outputs or "[]")
                ],
                "report": json.loads(told) if told else None,
                "fault": fault,
            }


def report_lines(out: Path) -> Iterator[str]:
    """The last run for people: how far it is, what took long, what failed, what was told."""
    yield from status_lines(out)
    seconds, failed, notes, retried = [], [], Counter(), 0
    for unit in records(out):
        if unit["seconds"]:
            seconds.append((unit["seconds"], unit["input"]))
        if unit["state"] == "failed":
            failed.append(f"  {_named(unit['input'], unit['part'] or -1)}: {unit['fault']}")
        elif unit["tries"] or unit["servers_died"]:
            retried += 1
        notes.update(_notes(unit["report"]))
    if seconds:
        ordered = sorted(seconds)
        middle = ordered[len(ordered) // 2][0]
        longest, which = ordered[-1]
        yield f"A unit took {middle:.2f} s in the middle, {longest:.2f} s at most ({which})."
    if retried:
        yield f"{retried} were tried more than once."
    if notes:
        yield "Told by the nodes:"
        yield from (f"  {count} x {text}" for text, count in notes.most_common(MOST_NOTES))
    if failed:
        yield f"Set aside, {len(failed)}:"
        yield from failed


def _notes(told: Any) -> Iterator[str]:
    """The texts of notes in what nodes have reported."""
    for node in told.values() if isinstance(told, dict) else ():
        notes = node.get("detailers_notes") if isinstance(node, dict) else None
        for note in notes if isinstance(notes, list) else ():
            if isinstance(note, dict) and isinstance(note.get("text"), str):
                yield note["text"]
