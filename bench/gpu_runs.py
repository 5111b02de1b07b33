"""One process of `bench.gpu`: the host as its `main.py` sets it up, and the rows of one table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .in_host import load_with, unknown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_runs", description=__doc__)
    add = parser.add_argument
    add("--comfyui", type=Path, required=True)
    add("--host", action="append", default=[], help="an option of the host")
    add("--table", required=True)
    add("--network", required=True)
    add("--dtype", required=True)
    add("--steps", type=int, required=True)
    add("--repeats", type=int, required=True)
    add("--kept", type=Path, required=True, help="folder for the picture that others compare with")
    args = parser.parse_args()
    missing = unknown(args.comfyui, args.host)
    if missing:
        print(f"| {' '.join(args.host)} | this ComfyUI has no {', '.join(missing)} |")
        return 0
    load_with(args.comfyui, args.host)
    from .gpu_tables import ROWS, accelerator  # only now, as they import PyTorch

    if accelerator().type == "cpu" and "--cpu" not in args.host:
        print("| there is no GPU; --tiny tries the same on the CPU |")
        return 1
    for cells in ROWS[args.table](args):
        print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
