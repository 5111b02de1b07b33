"""The checks of `inside/` as tests, on every host; the checks of a module share one process."""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

INSIDE = Path(__file__).parent / "inside"
MODULES = sorted(path.stem for path in INSIDE.glob("*.py") if path.stem not in ("__init__", "run"))


def checks_of(module):
    tree = ast.parse((INSIDE / f"{module}.py").read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [name for name in names if name.startswith("check_")]


@pytest.fixture(scope="session")
def troubles(host):
    """troubles(module) -> {check: traceback, "" where it passed}, run once."""
    known = {}

    def troubles(module):
        if module not in known:
            command = [host.python, INSIDE / "run.py", host.tree, module]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=900,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
            lines = [line for line in done.stdout.splitlines() if line.startswith('{"check"')]
            told = [json.loads(line) for line in lines]
            known[module] = {entry["check"]: entry["trouble"] for entry in told}
            known[module]["log"] = done.stderr[-4000:]
        return known[module]

    return troubles


@pytest.mark.parametrize(
    ("module", "check"), [(module, check) for module in MODULES for check in checks_of(module)]
)
def test_inside_the_host(troubles, module, check):
    found = troubles(module)
    assert check in found, found["log"]
    assert not found[check], found[check]
