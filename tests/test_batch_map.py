"""The map of folder runs in batch/__init__.py: each module is on it and imports those above it."""

import ast
import re

import pytest
from detailers import batch
from detailers.dev.server import ROOT

ORDER = re.findall(r"^    (\w+)  +\w", batch.__doc__, re.MULTILINE)
FILES = {path.stem: path for path in (ROOT / "batch").glob("*.py") if "__" not in path.stem}
NEEDED = {"PIL", "av", "numpy", "playwright", "ray", "torch"}  # only inside of functions


def test_every_module_is_on_the_map():
    assert sorted(ORDER) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_those_above_it_and_what_must_be_installed_only_when_it_is_used(name):
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            for module in modules:
                assert ORDER.index(module) < ORDER.index(name), module
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
            names = [alias.name for alias in node.names]
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {found.partition(".")[0] for found in names} & NEEDED
