"""Puts some hundred odd values into every input of every node, in a process of the real host.

Only a right result or an error of the pack's own may come of it, within ten seconds, and the same
node then has to give what it always gives. Printed are what went wrong and the counts; raw errors
are those that the pack did not raise on purpose. Also measures what the door costs a node.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from dev import options

ROOT = Path(__file__).resolve().parent.parent


def load(tree: Path, scratch: Path) -> None:
    """Make the pack the package `detailers`, in a host that writes to a scratch folder."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # a download is right, but is none of this
    spec = importlib.util.spec_from_loader("detailers", loader=None, is_package=True)
    module = importlib.util.module_from_spec(spec)
    module.__path__ = [str(ROOT)]
    sys.modules["detailers"] = module
    importlib.import_module("detailers.dev.miniature.host_import").use_host(tree, cpu=True)
    import folder_paths
    import nodes

    asyncio.run(nodes.init_builtin_extra_nodes())
    folder_paths.set_output_directory(str(scratch / "output"))
    folder_paths.set_temp_directory(str(scratch / "temp"))
    folder_paths.set_input_directory(str(scratch / "input"))
    for name in ("output", "temp", "input"):
        (scratch / name).mkdir(exist_ok=True)
    importlib.import_module("detailers.core.host_detectors").register_folders()


def costs(samples: object, repeats: int = 300) -> str:
    """What the door costs the nodes with good inputs, in microseconds."""
    door_of = importlib.import_module("detailers.core.door").door_of
    found = []
    for node_id, node in samples.nodes.items():
        inputs = samples.inputs(node_id)
        best = float("inf")
        try:
            for _ in range(repeats):
                start = time.perf_counter()
                door_of(node).admit(inputs)
                best = min(best, time.perf_counter() - start)
        except ValueError:  # files that are not here
            continue
        found.append((best * 1e6, node_id))
    found.sort()
    middle, (most, slowest) = found[len(found) // 2][0], found[-1]
    return (
        f"the door costs {middle:.1f} us in the middle of {len(found)} nodes and {most:.1f} us at "
        f"most ({slowest}); aim: below 50 us"
    )


def main() -> int:
    args = options.bench_odd().parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        load(Path(args.comfyui), Path(scratch))
        trial = importlib.import_module("detailers.dev.odd.trial")
        nodes = importlib.import_module("detailers.nodes").NODE_CLASSES
        samples = importlib.import_module("detailers.dev.odd.samples").Samples(nodes)
        print(costs(samples), flush=True)
        ids = [
            node_id for node_id in nodes
            if not args.filter or any(word in node_id for word in args.filter)
        ]  # fmt: skip
        if args.some is None:
            outcome = trial.try_all(samples, ids, lambda line: print(line, flush=True))
        else:
            outcome = trial.try_some(samples, ids, args.some)
            print(*outcome.faults, sep="\n")
    print(outcome)
    return bool(outcome.faults)


if __name__ == "__main__":
    sys.exit(main())
