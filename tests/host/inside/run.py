"""Runs the checks of a module in a ComfyUI's Python: run.py TREE MODULE.

Prints one line of JSON for each check: its name, and the traceback if it failed.
"""

import importlib
import importlib.util
import json
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def load_pack() -> None:
    """Make the project's folder the package `detailers`, without registering its nodes."""
    spec = importlib.util.spec_from_loader("detailers", loader=None, is_package=True)
    module = importlib.util.module_from_spec(spec)
    module.__path__ = [str(ROOT)]
    sys.modules["detailers"] = module


def main(tree: str, name: str) -> None:
    load_pack()
    use_host = importlib.import_module("detailers.dev.miniature.host_import").use_host
    use_host(Path(tree), cpu=True)
    module = importlib.import_module(f"detailers.tests.host.inside.{name}")
    for check in [key for key in vars(module) if key.startswith("check_")]:
        trouble = ""
        try:
            getattr(module, check)()
        except Exception:
            trouble = traceback.format_exc()
        print("\n" + json.dumps({"check": check, "trouble": trouble}), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, which has no modules to offer
    main(*sys.argv[1:])
