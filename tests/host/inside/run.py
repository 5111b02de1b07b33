"""Runs checks in a ComfyUI's Python: run.py TREE MODULE, or run.py TREE, which reads the modules.

Prints one line of JSON for each check: its name, and the traceback if it failed. Without a MODULE
it reads names of modules, one a line, and after the checks of each it prints a line with its name.
Each module has a process of its own, which begins with the host imported where the system can fork.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# What nearly all modules import, and what takes the most time: the host and the way into it.
COMMON = ("nodes", "detailers.core.host.backend", "detailers.dev.model_pack.model")


def load_pack() -> None:
    """Make the project's folder the package `detailers`, without registering its nodes."""
    spec = importlib.util.spec_from_loader("detailers", loader=None, is_package=True)
    module = importlib.util.module_from_spec(spec)
    module.__path__ = [str(ROOT)]
    sys.modules["detailers"] = module


def run_checks(name: str) -> None:
    module = importlib.import_module(f"detailers.tests.host.inside.{name}")
    for check in [key for key in vars(module) if key.startswith("check_")]:
        trouble = ""
        try:
            getattr(module, check)()
        except Exception:
            trouble = traceback.format_exc()
        print("\n" + json.dumps({"check": check, "trouble": trouble}), flush=True)


def main(tree: str, name: str = "") -> None:
    load_pack()
    use_host = importlib.import_module("detailers.dev.miniature.host_import").use_host
    use_host(Path(tree), cpu=True)
    if name:
        run_checks(name)
        return
    for common in COMMON:
        importlib.import_module(common)
    for line in sys.stdin:
        name = line.strip()
        if not hasattr(os, "fork"):
            subprocess.run([sys.executable, __file__, tree, name])
        elif os.fork():
            os.wait()
        else:
            run_checks(name)
            return
        print("\n" + json.dumps({"module": name}), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, which has no modules to offer
    main(*sys.argv[1:])
