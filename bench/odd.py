"""Odd values in every input of every node, in a process of the real host; see `dev/odd`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from dev import options

ROOT = Path(__file__).resolve().parent.parent


def load(tree: Path) -> None:
    """Make the pack the package `detailers`, in a host that computes on the CPU."""
    spec = importlib.util.spec_from_loader("detailers", loader=None, is_package=True)
    module = importlib.util.module_from_spec(spec)
    module.__path__ = [str(ROOT)]
    sys.modules["detailers"] = module
    importlib.import_module("detailers.dev.miniature.host_import").use_host(tree, cpu=True)


def main() -> int:
    args = options.bench_odd().parse_args()
    load(Path(args.comfyui))
    host = importlib.import_module("detailers.dev.odd.host")
    trial = importlib.import_module("detailers.dev.odd.trial")
    with host.samples() as good:
        print(host.costs(good), flush=True)
        ids = [
            node_id for node_id in good.nodes
            if not args.filter or any(word in node_id for word in args.filter)
        ]  # fmt: skip
        if args.some is None:
            outcome = trial.try_all(good, ids, lambda line: print(line, flush=True))
        else:
            outcome = trial.try_some(good, ids, args.some)
            print(*outcome.faults, sep="\n")
    print(outcome)
    return bool(outcome.faults)


if __name__ == "__main__":
    sys.exit(main())
