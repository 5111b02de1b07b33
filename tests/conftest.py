"""Loads the pack under a name of its own, as the host does, so that its relative imports work.

Each test has a time limit. Only what needs a real server or editor, which answer late on a busy
machine, is tried again where it fails.
"""

import importlib.util
import os
import sys
import zlib
from pathlib import Path

# The tests' tensors are small: threads that share the work mostly wait for one another. It counts
# for the servers that are started, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
TRIES = 3
ROOT = Path(__file__).resolve().parent.parent
PACK = "detailers"


def load_pack() -> None:
    """Import the pack's folder as the package `detailers` without running its node registration."""
    if PACK in sys.modules:
        return
    spec = importlib.util.spec_from_loader(PACK, loader=None, is_package=True)
    module = importlib.util.module_from_spec(spec)
    module.__path__ = [str(ROOT)]
    sys.modules[PACK] = module


load_pack()
pytest_plugins = [f"{PACK}.tests.limits"]


def group_of(item):
    """Which tests stay together where several processes share them; None: each goes anywhere.

    Those of one editor, and those of one of two halves of the modules that use a host: each group
    starts a server of its own.
    """
    params = item.callspec.params if hasattr(item, "callspec") else {}
    if "editor" in params:
        return f"editor {params['editor']}"
    if "host" in params:
        return f"host {params['host']} {zlib.crc32(item.path.stem.encode()) % 2}"
    return None


def pytest_collection_modifyitems(config, items):
    """Say which tests stay together, and which are tried again."""
    again = config.pluginmanager.hasplugin("rerunfailures") and config.option.reruns is None
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if again and folder in ("host", "editor"):
            item.add_marker(pytest.mark.flaky(reruns=TRIES - 1))
        if group := group_of(item):
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def tell(record_property):
    """tell(text): say it at the end of the whole run, passed or not."""
    return lambda text: record_property("told", text)


def pytest_terminal_summary(terminalreporter):
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    told = [
        value
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "told"
    ]
    if told:
        terminalreporter.section("told by the tests")
        for text in told:
            terminalreporter.write_line(text)
