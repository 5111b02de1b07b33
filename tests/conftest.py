"""Loads the pack under its own name, as the host does, so that its relative imports work.

Each test has a time limit. Only tests with a real server or editor are repeated if they fail,
because these answer late on a busy machine.
"""

import importlib
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


def pytest_addoption(parser):
    parser.addoption(
        "--everywhere",
        action="store_true",
        help="try on every ComfyUI and editor, too, what is usually tried on the first alone",
    )


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "once: tried on the first ComfyUI or editor alone, as what it looks at is the pack's own",
    )


def group_of(nodeid):
    """The group of a test, whose tests run in one process; its own id: any process.

    The tests of one editor are a group, and so are two halves of the modules that use a host: each
    group starts its own server.
    """
    path, _, name = nodeid.partition("::")
    _, _, parameters = name.partition("[")
    folder, module = Path(path).parts[-2:]
    first = parameters.split("-")[0].rstrip("]")
    if folder == "editor" and first:
        return f"editor {first}"
    if folder == "host" and first:
        return f"host {first} {zlib.crc32(module.encode()) % 2}"
    return nodeid


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist nobody calls it
def pytest_xdist_make_scheduler(config, log):
    """With several processes, tests of a group stay together."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return ByGroup(config, log)


def pytest_collection_modifyitems(config, items):
    """Leave out what is tried once, and set which tests are repeated."""
    if not config.option.everywhere:
        leave_out(config, items, [item for item in items if is_tried_elsewhere(item)])
    again = config.pluginmanager.hasplugin("rerunfailures") and config.option.reruns is None
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if again and folder in ("host", "editor"):
            item.add_marker(pytest.mark.flaky(reruns=TRIES - 1))


def leave_out(config, items, some):
    """Take some items out of those that are to run."""
    if some:
        config.hook.pytest_deselected(items=some)
        left = set(map(id, some))
        items[:] = [item for item in items if id(item) not in left]


def is_tried_elsewhere(item):
    """Whether it is tried once, and this is not the first ComfyUI or editor."""
    if item.get_closest_marker("once") is None or not hasattr(item, "callspec"):
        return False
    from detailers.dev.server import configured_hosts

    first = next(iter(configured_hosts()), None)
    given = [item.callspec.params.get(name, first) for name in ("host", "editor")]
    return first is not None and given != [first, first]


@pytest.fixture(scope="module")
def bench_module():
    """bench_module(name): a module of bench/, whose folder is no part of the pack."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield lambda name: importlib.import_module(f"bench.{name}")


@pytest.fixture
def tell(record_property):
    """tell(text): print a text at the end of the whole run, whether tests passed or not."""
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
