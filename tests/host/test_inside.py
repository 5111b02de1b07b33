"""The checks of `inside/` as tests, on every host; the checks of a module share one process.

The processes of a host are forks of one that has it imported, which takes seconds.
"""

import ast
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

INSIDE = Path(__file__).parent / "inside"
ONCE = {"odd"}  # looks at the pack's own checks of its inputs
MODULES = sorted(path.stem for path in INSIDE.glob("*.py") if path.stem not in ("__init__", "run"))


def checks_of(module):
    tree = ast.parse((INSIDE / f"{module}.py").read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [name for name in names if name.startswith("check_")]


@pytest.fixture(scope="session")
def troubles(host, tmp_path_factory):
    """troubles(module) -> {check: traceback, "" where it passed, "log": text}, run once."""
    log = tmp_path_factory.mktemp("inside") / "log.txt"
    running, known = [], {}

    def troubles(module):
        if module not in known:
            if not running:
                running.append(_started(host, log))
            try:
                known[module] = dict(_told(running[0], module))
            except BaseException:  # also the time limit of a test: what hangs is not asked again
                _end(running.pop())
                raise
            known[module]["log"] = log.read_text(errors="replace")[-4000:]
        return known[module]

    yield troubles
    for runner in running:
        _end(runner)


def _started(host, log):
    with log.open("w") as errors:
        return subprocess.Popen(
            [host.python, INSIDE / "run.py", host.tree],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, start_new_session=True,
        )  # fmt: skip


def _told(runner, module):
    """Run the checks of a module: (check, traceback) of each."""
    print(module, file=runner.stdin, flush=True)
    for line in runner.stdout:
        if line.startswith('{"module"'):
            return
        if line.startswith('{"check"'):
            entry = json.loads(line)
            yield entry["check"], entry["trouble"]


def _end(runner):
    """End the runner, and what it runs if that hangs."""
    if os.name == "posix":
        os.killpg(runner.pid, signal.SIGKILL)
    else:
        runner.kill()
    runner.communicate()


@pytest.mark.parametrize(
    ("module", "check"),
    [
        pytest.param(module, check, marks=[pytest.mark.once] * (module in ONCE))
        for module in MODULES
        for check in checks_of(module)
    ],
)
def test_inside_the_host(troubles, module, check):
    found = troubles(module)
    assert check in found, found["log"]
    assert not found[check], found[check]
