"""The pack as the package `detailers`, without a host."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def load_pack() -> None:
    """Make `detailers` importable, without the parts that need ComfyUI."""
    if "detailers" not in sys.modules:
        spec = importlib.util.spec_from_loader("detailers", loader=None, is_package=True)
        module = importlib.util.module_from_spec(spec)
        module.__path__ = [str(ROOT)]
        sys.modules["detailers"] = module
