"""Loads the pack under a name of its own, as the host does, so that its relative imports work."""

import importlib.util
import sys
from pathlib import Path

import pytest

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


def pytest_collection_modifyitems(items):
    """Keep the tests of one ComfyUI together where several processes share the tests."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        label = params.get("host", params.get("editor"))
        if label is not None:
            item.add_marker(pytest.mark.xdist_group(label))


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
