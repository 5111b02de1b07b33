"""batch/ray_places.py: actors of a Ray on this machine, with the stand-in for ComfyUI."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from detailers.batch import cli
from detailers.dev.stand_in import prompt
from detailers.tests.folder_runs import Folder

try:
    import ray
except ImportError:
    ray = None
needs_ray = pytest.mark.skipif(ray is None, reason="needs the package ray: pip install .[ray]")
ACTORS = ("--ray", "--cpus-per-worker", "0.5", "--workers", "2")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    own = Folder(tmp_path)
    monkeypatch.setenv("FAKE_STATE", str(own.state))
    monkeypatch.setenv("DETAILERS_STARTED_IN", ".")
    own.add(*(f"{number}.png" for number in range(10)))
    return own


def undisturbed(folder, capsys):
    out, folder.out = folder.out, folder.out.with_name("undisturbed")
    assert folder.run(capsys)[0] == 0
    expected = folder.results()
    folder.out = out
    return expected


@needs_ray
@pytest.mark.parametrize("copy", [[], ["--copy"]], ids=["shared storage", "copy"])
def test_actors_give_the_bytes_of_children(folder, capsys, copy):
    expected = undisturbed(folder, capsys)
    status, told = folder.run(capsys, *ACTORS, *copy)
    assert status == 0
    assert folder.results() == expected
    assert set(told["summary"][0]["workers"]) <= {"ray0", "ray1"}


def actors():
    """Processes of actors on this machine."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                if file.read().startswith(b"ray::_Seat"):
                    found.append(int(entry))
        except OSError:
            continue
    return found


@needs_ray
def test_an_actor_that_is_killed_comes_back_and_its_units_too(folder, capsys):
    expected = undisturbed(folder, capsys)
    folder.write(prompt(seconds=0.4))
    killed, ended = [], []

    def kill():
        while len(folder.results()) < 2:
            if ended:
                return
            time.sleep(0.05)
        os.kill(actors()[0], signal.SIGKILL)
        killed.append(True)

    thread = threading.Thread(target=kill)
    thread.start()
    status, told = folder.run(capsys, *ACTORS)
    ended.append(True)
    thread.join()
    assert (status, killed) == (0, [True])
    assert any("is left" in line["text"] for line in told["told"])
    found = folder.results()
    assert found.keys() == expected.keys()
    assert {unit["tries"] for unit in folder.records(capsys)} == {0}
    folder.out = folder.out.with_name("calm")
    assert folder.run(capsys)[0] == 0
    assert folder.results() == found


@needs_ray
def test_a_cluster_without_room_is_told(folder, capsys):
    status, told = folder.run(capsys, "--ray", "--cpus-per-worker", "4096")
    assert status == 1
    assert "no room for a worker that takes 4096 CPU" in told["problem"][0]["text"]


@pytest.mark.skipif(ray is not None, reason="Ray is installed")
def test_without_ray_that_is_told(folder, capsys):
    status, told = folder.run(capsys, "--ray")
    assert status == 1
    assert told["problem"][0]["text"] == "--ray needs the package ray: pip install ray"


# The protocol, without Ray: futures that a test fulfils


class Future:
    def __init__(self):
        self._calls, self._state = [], None

    def add_done_callback(self, call):
        self._calls.append(call)

    def exception(self):
        return self._state[1]

    def result(self):
        return self._state[0]

    def end(self, result=None, error=None):
        self._state = result, error
        for call in self._calls:
            call(self)


class Actor:
    """Methods whose `remote` gives a call with a future."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def remote(*arguments):
            future = Future()
            self.calls.append((name, arguments, future))
            return type("Reference", (), {"future": lambda self: future})()

        return type("Method", (), {"remote": staticmethod(remote)})()


class Died(Exception):
    pass


@pytest.fixture
def seat():
    from detailers.batch.ray_places import RayPlace

    events, actor = [], Actor()
    place = RayPlace("ray0", actor, "job", 2, lambda error: isinstance(error, Died))
    place.start(events.append)
    return place, actor, events


def kinds(events):
    return [event.kind for event in events]


def test_a_place_joins_runs_and_tells(seat):
    place, actor, events = seat
    assert events == []
    actor.calls[0][2].end()
    place.submit("task")
    name, arguments, future = actor.calls[1]
    assert (name, arguments) == ("run", ("job", "task"))
    future.end("outcome")
    assert kinds(events) == ["joined", "outcome"]
    assert (events[1].task, events[1].outcome) == ("task", "outcome")


def test_an_actor_that_dies_leaves_once_and_joins_again(seat):
    place, actor, events = seat
    actor.calls[0][2].end()
    place.submit("one")
    place.submit("two")
    actor.calls[1][2].end(error=Died("killed"))
    actor.calls[2][2].end(error=Died("killed"))
    assert kinds(events) == ["joined", "left"]
    assert [name for name, *_ in actor.calls] == ["begin", "run", "run", "begin"]
    actor.calls[3][2].end()
    assert kinds(events) == ["joined", "left", "joined"]


def test_an_actor_whose_server_does_not_come_back_leaves_for_good(seat):
    place, actor, events = seat
    actor.calls[0][2].end()
    place.submit("one")
    actor.calls[1][2].end(error=RuntimeError("no server"))
    assert kinds(events) == ["joined", "left"]
    assert [name for name, *_ in actor.calls] == ["begin", "run"]
    assert events[1].text == "no server"


def test_an_actor_that_does_not_get_ready_is_told(seat):
    _, actor, events = seat
    actor.calls[0][2].end(error=RuntimeError("no ComfyUI here"))
    assert kinds(events) == ["left"]


@pytest.mark.parametrize("package", ["batch", "detailers_batch", "detailers.batch"])
def test_the_package_goes_along_under_the_name_by_which_it_is_imported(tmp_path, package):
    from detailers.batch.ray_places import ship

    code = f"import {package}.cli as own; print(own.__name__, own.DEFAULT_WORKFLOW.is_file())"
    top = ship(tmp_path, package)
    assert top.parent == tmp_path
    text = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    assert text == f"{package}.cli True\n"


def test_the_command_says_what_ray_needs():
    text = cli.parser().format_help()
    for option in ("--ray [ADDRESS]", "--cpus-per-worker N", "--copy"):
        assert option in text
