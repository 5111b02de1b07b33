"""batch/ledger.py: what is to be done, goes on and is done."""

import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from detailers.batch.faults import Problem
from detailers.batch.files import Stamp
from detailers.batch.ledger import (
    APPLICATION,
    ASIDE,
    DONE,
    HANDED,
    NEW,
    SCHEMA_1,
    STAGED,
    DriverLock,
    Ledger,
    NewUnit,
)
from detailers.dev.server import ROOT


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.begin({}, "", 0.0)
    yield ledger
    ledger.close()


def new(number, **changes):
    return NewUnit(bytes([number]) * 32, f"{number}.png", b"s", **changes)


def test_units_are_handed_out_once_in_the_order_in_which_they_came(ledger):
    assert ledger.add([new(2), new(1), new(3)]) == [NEW, NEW, NEW]
    assert [unit.input for unit in ledger.hand_out(2)] == ["2.png", "1.png"]
    assert [unit.input for unit in ledger.hand_out(2)] == ["3.png"]
    assert ledger.hand_out(2) == []
    assert ledger.counts() == {HANDED: 3}


def test_what_a_killed_driver_left_running_waits_again(tmp_path, ledger):
    ledger.add([new(1), new(2), new(3)])
    first, second, third = ledger.hand_out(3)
    ledger.staged(second, [{"path": "2.png"}], {"note": 1}, 1.5, 7.0)
    ledger.staged(third, [], None, 1.0, 8.0)
    ledger.done([third.id])
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert [unit.input for unit in again.begin({}, "", 1.0)] == ["2.png"]
    assert again.add([new(1), new(2), new(3)]) == [NEW, STAGED, DONE]
    assert [unit.input for unit in again.hand_out(9)] == [first.input]
    assert again.outputs(second.id) == [{"path": "2.png"}]


def test_units_of_other_settings_are_not_part_of_a_run(ledger):
    ledger.add([new(1)])
    ledger.begin({"format": "jpg"}, "", 1.0)
    ledger.add([new(2)])
    assert [unit.input for unit in ledger.hand_out(9)] == ["2.png"]


def test_what_was_tried_is_kept(ledger):
    ledger.add([new(1), new(2)])
    first, second = ledger.hand_out(2)
    ledger.again(replace(first, tries=2, deaths=1, fault="odd"))
    ledger.aside(replace(second, tries=3, fault="bad"), 5.0)
    (found,) = ledger.hand_out(9)
    assert (found.tries, found.deaths, found.fault) == (2, 1, "odd")
    assert ledger.counts() == {HANDED: 1, ASIDE: 1}
    assert ledger.retry_failed() == 1
    (found,) = ledger.hand_out(9)
    assert (found.input, found.tries, found.fault) == ("2.png", 0, None)


def test_a_transaction_that_fails_leaves_nothing(ledger):
    with pytest.raises(RuntimeError), ledger.transaction():
        ledger.add([new(1)])
        raise RuntimeError
    assert ledger.counts() == {}


def test_a_hash_is_known_until_the_file_changes(ledger):
    second = 10**9
    stamp = Stamp(5, 100 * second, 100 * second, 7)
    ledger.keep_hashes([("a", stamp, 200 * second, b"h")])
    assert ledger.known_hash("a", stamp) == b"h"
    for change in ("size", "mtime_ns", "ctime_ns", "inode"):
        assert ledger.known_hash("a", replace(stamp, **{change: 6})) is None
    assert ledger.known_hash("b", stamp) is None


def test_a_hash_read_as_the_file_was_written_or_before_by_a_clock_set_back_is_not_trusted(ledger):
    second = 10**9
    stamp = Stamp(5, 100 * second, 100 * second, 7)
    for read in (100 * second, 101 * second, 50 * second):
        ledger.keep_hashes([("a", stamp, read, b"h")])
        assert ledger.known_hash("a", stamp) is None


def test_names_that_are_no_utf8_come_back(ledger):
    name = b"\xff\xfe.png".decode("utf-8", "surrogateescape")
    ledger.add([NewUnit(b"k" * 32, name, b"s")])
    (unit,) = ledger.hand_out(1)
    assert unit.input == name
    ledger.claim(name, unit)
    assert ledger.holder(name) == (name, unit.id)


# Files of other versions


def old_ledger(path, version=1):
    with sqlite3.connect(path) as db:
        db.executescript(SCHEMA_1)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("INSERT INTO runs VALUES (1, 0, NULL, '{}', 'w', NULL)")
        row = (b"\1" * 32, "1.png", b"s", DONE, '[{"path": "1.png"}]')
        insert = "INSERT INTO units (key, input, source, state, run, outputs) VALUES (?,?,?,?,1,?)"
        db.execute(insert, row)
    db.close()


def test_a_ledger_of_version_1_is_brought_up_to_date_with_all_that_it_has(tmp_path):
    path = tmp_path / "ledger.sqlite"
    old_ledger(path)
    ledger = Ledger(path)
    ledger.begin({}, "", 1.0)
    assert ledger.add([new(1)]) == [DONE]
    assert ledger.outputs(1) == [{"path": "1.png"}]
    assert ledger.units()[0].part == -1
    assert ledger.holder("1.png") is None
    ledger.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_newer_ledger_is_left_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    old_ledger(path, version=9)
    with pytest.raises(Problem, match=r"version 9, and this program knows 2 .* newer one"):
        Ledger(path)


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"a picture, perhaps" * 99)
    with pytest.raises(Problem, match="cannot be opened"):
        Ledger(path)
    assert path.read_bytes() == b"a picture, perhaps" * 99
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE own (a)")
    with pytest.raises(Problem, match="no ledger of folder runs"):
        Ledger(other)


def test_a_full_disk_is_told_and_the_ledger_stays_whole(ledger):
    ledger.add([new(1)])
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Problem, match=r"full.*Make room and start again"):
        ledger.add([new(number % 250, fault="x" * 5000) for number in range(2, 99)])
    assert ledger.counts() == {NEW: 1}


# One driver


def test_a_second_driver_is_refused_with_the_name_of_the_first(tmp_path):
    code = (
        "import sys; from batch.ledger import DriverLock; from pathlib import Path\n"
        "with DriverLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    other = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(Problem, match=f"Another run .* process {other.pid} on "):
        DriverLock(tmp_path).__enter__()
    other.kill()  # whatever ends it
    other.wait()
    with DriverLock(tmp_path):
        pass
