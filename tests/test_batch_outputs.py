"""batch/outputs.py and batch/dispatch.py: what is finished is whole, in place, and there once."""

import hashlib
import json
import os
import sqlite3

import pytest
from detailers.batch.dispatch import FINISHED, SERVER, UNIT, Dispatcher, Outcome
from detailers.batch.faults import Problem
from detailers.batch.ledger import ASIDE, DONE, NEW, STAGED, Ledger, NewUnit
from detailers.batch.outputs import Saved, Store
from detailers.batch.settings import Folders
from detailers.dev.stand_in import results


class Run:
    """A driver without workers."""

    def __init__(self, root):
        self.folders = Folders(root / "in", root / "out")
        self.folders.own.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.folders.ledger)
        self.told = []
        self.begin()

    def begin(self):
        staged = self.ledger.begin({}, "", 0.0)
        self.store = Store(self.folders, self.ledger)
        self.store.prepare()
        self.dispatcher = Dispatcher(self.ledger, self.store, tell=self.told.append)
        self.dispatcher.recover(staged)
        self.dispatcher.scheduler.join("w", 2)

    def add(self, *inputs, key=None, name=0):
        units = [
            NewUnit((key or input).encode().ljust(32), input, b"s", name=name) for input in inputs
        ]
        for unit, state in zip(units, self.ledger.add(units), strict=True):
            self.dispatcher.known(unit, state)

    def saved(self, *contents, node="3", suffix=".png", as_bytes=False):
        found = []
        for number, content in enumerate(contents):
            path = self.store.staging / f"{len(os.listdir(self.store.staging))}-{number}"
            if not as_bytes:
                path.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            found.append(
                Saved(node, number, len(contents), suffix, digest, len(content),
                      None if as_bytes else path, content if as_bytes else None)
            )  # fmt: skip
        return tuple(found)

    def take(self):
        return self.dispatcher.take("w")

    def finish(self, unit, *contents, **options):
        saved = self.saved(*contents, **options)
        self.dispatcher.finish("w", unit, Outcome(FINISHED, saved=saved, report={"n": 1}))

    def results(self):
        return results(self.folders.out)

    def states(self):
        rows = self.ledger._read("SELECT input, state FROM units ORDER BY id")
        return dict(rows)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_a_unit_is_done_once_its_result_is_in_place(run):
    run.add("deep/a.png")
    unit = run.take()
    run.finish(unit, b"result")
    assert run.results() == {}
    run.dispatcher.flush()
    assert run.results() == {"deep/a.png": b"result"}
    assert run.states() == {"deep/a.png": STAGED}
    run.dispatcher.settle()
    assert run.states() == {"deep/a.png": DONE}
    (entry,) = run.ledger.outputs(unit.id)
    assert entry["hash"] == hashlib.sha256(b"result").hexdigest()
    assert os.listdir(run.store.staging) == []


def test_results_that_come_as_bytes(run):
    run.add("a.png")
    run.finish(run.take(), b"result", as_bytes=True)
    run.dispatcher.settle()
    assert run.results() == {"a.png": b"result"}


def test_several_results_of_an_input_get_names_of_their_own(run):
    run.add("a.png", "b.png")
    run.finish(run.take(), b"one", b"two")
    saved = run.saved(b"x") + run.saved(b"y", node="5:3", suffix=".webp")
    run.dispatcher.finish("w", run.take(), Outcome(FINISHED, saved=saved))
    run.dispatcher.settle()
    assert run.results() == {
        "a-0001.png": b"one",
        "a-0002.png": b"two",
        "b-3.png": b"x",
        "b-5_3.webp": b"y",
    }


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(1, 12))
def test_killed_at_any_moment_nothing_is_lost_torn_or_done_twice(tmp_path, monkeypatch, moment):
    """The driver ends at its n-th call that changes the ledger or the disk."""
    run = Run(tmp_path)
    run.add("a.png", "b.png")
    calls = iter(range(1, 99))

    def counted(call):
        def count(*args, **options):
            if next(calls) == moment:
                raise Killed
            return call(*args, **options)

        return count

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr("detailers.batch.outputs.sync_folder", counted(lambda folder: None))
        for name in ("staged", "done", "claim", "started"):
            patch.setattr(run.ledger, name, counted(getattr(run.ledger, name)))
        try:
            for content in (b"A", b"B"):
                run.finish(run.take(), content)
                run.dispatcher.flush()
            run.dispatcher.settle()
            was_killed = False
        except Killed:
            was_killed = True
    assert was_killed
    before = run.results()
    assert set(before.values()) <= {b"A", b"B"}
    run.ledger.close()

    run = Run(tmp_path)
    assert before.items() <= run.results().items()
    run.add("a.png", "b.png")
    done_anew = []
    while (unit := run.take()) is not None:
        done_anew.append(unit.input)
        assert unit.input not in before or run.states()[unit.input] != DONE
        run.finish(unit, unit.input[0].upper().encode())
        run.dispatcher.flush()
    run.dispatcher.settle()
    assert run.results() == {"a.png": b"A", "b.png": b"B"}
    assert run.states() == {"a.png": DONE, "b.png": DONE}
    assert not set(done_anew) & set(before)
    leftovers = [path for path in run.folders.own.rglob("*") if path.is_file()]
    assert [path.name for path in leftovers if path.name != "driver.lock"] == []


def test_a_staged_result_that_was_torn_is_made_anew(tmp_path):
    run = Run(tmp_path)
    run.add("a.png")
    run.finish(run.take(), b"result")
    run.dispatcher._write_all()  # staged, and killed before the renaming
    (staged,) = run.store.staging.iterdir()
    staged.write_bytes(b"res")
    run.begin()
    assert run.states() == {"a.png": NEW}
    assert run.results() == {}
    assert not staged.exists()


def test_results_of_other_settings_are_put_by_and_come_back(run):
    run.add("a.png", key="one")
    run.finish(run.take(), b"one")
    run.dispatcher.settle()
    run.begin()
    run.add("a.png", key="two")
    run.finish(run.take(), b"two")
    run.dispatcher.settle()
    assert run.results() == {"a.png": b"two"}
    run.begin()
    run.add("a.png", key="one")
    assert run.take() is None
    assert run.results() == {"a.png": b"one"}
    run.begin()
    run.add("a.png", key="two")
    assert run.take() is None
    assert run.results() == {"a.png": b"two"}


def test_a_file_of_the_users_is_put_by(run):
    (run.folders.out / "a.png").write_bytes(b"the user's")
    run.add("a.png")
    run.finish(run.take(), b"result")
    run.dispatcher.settle()
    assert run.results() == {"a.png": b"result"}
    assert (run.folders.earlier / "0" / "a.png").read_bytes() == b"the user's"


def test_a_result_that_was_removed_is_made_again(run):
    run.add("a.png", "b.png")
    run.finish(run.take(), b"a")
    run.finish(run.take(), b"b")
    run.dispatcher.settle()
    (run.folders.out / "a.png").unlink()
    run.begin()
    run.add("a.png", "b.png")
    assert [run.take().input, run.take()] == ["a.png", None]
    assert run.dispatcher.counts.before == 1


def test_a_result_that_another_input_has_is_not_taken(run):
    run.add("a.png")
    run.finish(run.take(), b"of a.png")
    run.dispatcher.settle()
    run.begin()
    run.add("a.bmp")  # added later; it would give a.png, too
    run.finish(run.take(), b"of a.bmp")
    run.dispatcher.settle()
    assert run.results() == {"a.png": b"of a.png", "a.bmp.png": b"of a.bmp"}


def test_the_same_bytes_under_another_name_are_copied(run):
    run.add("a.png", "b.png", key="same")
    run.finish(run.take(), b"result")
    run.dispatcher.settle()
    assert run.take() is None
    run.dispatcher.settle()
    assert run.results() == {"a.png": b"result", "b.png": b"result"}
    assert run.states() == {"a.png": DONE, "b.png": DONE}


def test_a_fault_is_kept_with_the_unit(run):
    run.add("a.png")
    for number in range(3):
        run.dispatcher.finish("w", run.take(), Outcome(UNIT, f"bad {number}"))
    run.dispatcher.settle()
    (unit,) = run.ledger.units()
    assert (unit.tries, unit.fault) == (3, "bad 2")
    assert run.states() == {"a.png": ASIDE}
    assert [told.kind for told in run.told] == ["again", "again", "failed"]


def test_a_result_that_the_driver_does_not_see_is_no_result(run):
    run.add("a.png")
    saved = run.saved(b"result")
    saved[0].path.unlink()
    run.dispatcher.finish("w", run.take(), Outcome(FINISHED, saved=saved))
    run.dispatcher.settle()
    assert run.told[0].kind == "again"
    assert "does the driver see the workers' storage?" in run.told[0].text


def test_a_server_that_failed_gives_its_unit_back(run):
    run.add("a.png")
    run.dispatcher.finish("w", run.take(), Outcome(SERVER, "died"))
    run.dispatcher.settle()
    assert run.take().deaths == 1


@pytest.mark.parametrize("error", [28, 30, 122], ids=["full", "read-only", "quota"])
def test_a_disk_that_takes_nothing_stops_the_run_and_keeps_what_is_done(run, monkeypatch, error):
    run.add("a.png", "b.png")
    run.finish(run.take(), b"a")
    run.dispatcher.settle()
    run.finish(run.take(), b"b")
    with monkeypatch.context() as patch:

        def full(source, target):
            raise OSError(error, os.strerror(error))

        patch.setattr(os, "replace", full)
        with pytest.raises(Problem, match=r"b\.png cannot be written: .*start again"):
            run.dispatcher.flush()
    assert run.results() == {"a.png": b"a"}
    run.begin()
    assert run.results() == {"a.png": b"a", "b.png": b"b"}


def test_reports_and_outputs_are_in_the_ledger_for_any_sqlite(run):
    run.add("a.png")
    run.finish(run.take(), b"result")
    run.dispatcher.settle()
    with sqlite3.connect(run.folders.ledger) as db:
        query = "SELECT worker, outputs, report, started <= ended FROM units"
        worker, outputs, report, in_order = db.execute(query).fetchone()
    assert (worker, json.loads(report), in_order) == ("w", {"n": 1}, 1)
    assert json.loads(outputs)[0]["path"] == "a.png"
