"""Loads the pack under a name of its own, as the host does, so that its relative imports work."""

import importlib.util
import sys
from pathlib import Path

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
