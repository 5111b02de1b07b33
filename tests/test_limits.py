"""The time limits of tests: what hangs fails in time, and what else was started is ended."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from detailers.tests.limits import SERVED, UNIT, limit_of, time_limit

HANGING = """
import subprocess, sys, threading, time
import pytest

@pytest.fixture(scope="session")
def server():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print("started", process.pid)
    try:
        process.wait()  # for an answer that does not come
        yield
    finally:
        process.kill()
        process.wait()
        print("ended", process.returncode)

@pytest.mark.limit(0.5)
def test_with_server(server):
    pass

@pytest.mark.limit(0.5)
def test_sleeping():
    time.sleep(60)

@pytest.mark.limit(0.5)
def test_that_catches_everything():
    while True:
        try:
            threading.Event().wait(60)
        except Exception:
            pass

@pytest.mark.limit(0.5)
def test_quick():
    time.sleep(0.01)

def test_after():
    pass
"""


def test_what_hangs_fails_in_time_and_the_rest_goes_on(tmp_path):
    (tmp_path / "test_hanging.py").write_text(HANGING)
    command = [sys.executable, "-m", "pytest", "-p", "limits", "-rA", "--tb=short", "-q"]
    options = ["--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path)]
    start = time.monotonic()
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert time.monotonic() - start < 40
    assert "2 failed, 2 passed, 1 error" in done.stdout
    for name, line in (
        ("setup of test_with_server", "process.wait()"),
        ("call of test_sleeping", "time.sleep(60)"),
        ("call of test_that_catches_everything", "threading.Event().wait(60)"),
    ):
        assert f"{name} took longer than 0.5 s" in done.stdout
        assert line in done.stdout
    assert "ended -9" in done.stdout


def test_a_thread_without_alarms_is_stopped_as_well():
    raised = []

    def work():
        try:
            with time_limit(0.2, "the work"):
                while True:
                    time.sleep(0.01)
        except pytest.fail.Exception as failed:
            raised.append(str(failed))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert raised == ["the work took longer than 0.2 s"]


def test_what_is_done_in_time_is_not_stopped_later():
    with time_limit(0.1, "the work"):
        pass
    time.sleep(0.2)


def test_every_test_has_a_limit(request):
    assert limit_of(request.node, "call") == UNIT["call"]
    request.node.add_marker(pytest.mark.host)
    assert limit_of(request.node, "setup") == SERVED["setup"]
    request.node.add_marker(pytest.mark.limit(7))
    assert limit_of(request.node, "setup") == 7


def conftest_of(request):
    """The module conftest.py beside this file."""
    plugins = request.config.pluginmanager.get_plugins()
    here = str(Path(__file__).with_name("conftest.py"))
    (conftest,) = (own for own in plugins if getattr(own, "__file__", None) == here)
    return conftest


@pytest.mark.parametrize(("chosen", "tries"), [(None, 2), (0, None)])
def test_only_what_needs_a_server_or_an_editor_is_tried_again(request, chosen, tries):
    conftest = conftest_of(request)

    class Item:
        def __init__(self, name):
            self.path = Path(conftest.__file__).parent / name / "test_x.py"
            self.reruns = None

        def add_marker(self, marker):
            self.reruns = marker.kwargs["reruns"]

    config = SimpleNamespace(
        pluginmanager=SimpleNamespace(hasplugin=lambda name: name == "rerunfailures"),
        option=SimpleNamespace(reruns=chosen, everywhere=True),
    )
    items = [Item("host"), Item("editor"), Item(".")]
    conftest.pytest_collection_modifyitems(config, items)
    assert [item.reruns for item in items] == [tries, tries, None]


@pytest.mark.parametrize(
    ("given", "marks", "is_left_out"),
    [
        ({"host": "newer"}, ["once"], False),
        ({"host": "older"}, ["once"], True),
        ({"host": "older"}, [], False),
        ({"editor": "newer"}, ["once"], False),
        ({"editor": "older"}, ["once"], True),
        ({"number": 1}, ["once"], False),
        ({"host": "no host"}, ["once"], None),
    ],
)
def test_what_is_tried_once_is_tried_on_the_first(request, monkeypatch, given, marks, is_left_out):
    hosts = (
        "{}"
        if is_left_out is None
        else json.dumps({label: {"tree": "t", "python": "p"} for label in ("newer", "older")})
    )
    monkeypatch.setenv("DETAILERS_HOSTS", hosts)
    left = []
    config = SimpleNamespace(
        hook=SimpleNamespace(pytest_deselected=lambda items: left.extend(items)),
        pluginmanager=SimpleNamespace(hasplugin=lambda name: False),
        option=SimpleNamespace(reruns=None, everywhere=False),
    )
    item = SimpleNamespace(
        path=Path(conftest_of(request).__file__).parent / "host" / "test_x.py",
        callspec=SimpleNamespace(params=given),
        get_closest_marker=lambda name: name if name in marks else None,
    )
    items = [item]
    conftest_of(request).pytest_collection_modifyitems(config, items)
    assert (items, left) == (([], [item]) if is_left_out else ([item], []))
    config.option.everywhere, items = True, [item]
    conftest_of(request).pytest_collection_modifyitems(config, items)
    assert items == [item]
