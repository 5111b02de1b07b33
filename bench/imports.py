"""The time to import the pack, without the modules that the host has imported already."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_PROGRAM = """
import importlib.util, sys, time
sys.path.insert(0, sys.argv[1])
root = sys.argv[2]
import comfy.options
comfy.options.enable_args_parsing(False)
import comfy.cli_args
comfy.cli_args.args.cpu = True
import nodes, latent_preview, server
spec = importlib.util.spec_from_file_location(
    "detailers_import", root + "/__init__.py", submodule_search_locations=[root])
module = importlib.util.module_from_spec(spec)
sys.modules["detailers_import"] = module
start = time.perf_counter()
spec.loader.exec_module(module)
print("SECONDS", time.perf_counter() - start, len(module.NODE_CLASS_MAPPINGS))
"""


def measure_import(tree: Path, python: str, repeats: int = 3) -> str:
    """A line with the best of some imports, each in a fresh process that has loaded the host."""
    times, count = [], 0
    for _ in range(repeats):
        done = subprocess.run(
            [python, "-c", _PROGRAM, str(tree), str(ROOT)],
            capture_output=True, text=True, cwd=tree, check=False,
        )  # fmt: skip
        line = next((x for x in done.stdout.splitlines() if x.startswith("SECONDS")), None)
        if line is None:
            raise RuntimeError(f"the pack could not be imported:\n{done.stderr[-2000:]}")
        _, seconds, nodes = line.split()
        times.append(float(seconds))
        count = int(nodes)
    return f"import of the pack ({count} nodes): {min(times):.3f} s (aim: below 0.3 s)"
