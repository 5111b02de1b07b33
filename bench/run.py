"""Compares the pack with only the necessary work for the same crops, in the real host.

Each case runs in fresh servers in turn: the least possible work ("floor"), the pack one segment at
a time, and the pack in waves. It prints the best times and their ratios, each server's peak memory,
and how often the model was called. Times are the servers' processor time, which hardly depends on
other work of the machine. Time and memory are measured after the inputs are made: the peak is that
of the resident memory from then on, and "more" is its difference to the memory at that time. A clip
is always sampled as one, so there waves make no difference.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from dev import options
from dev.server import Server

from .cases import CASES, Case, graph, inputs_alone
from .faces import measure_faces
from .imports import measure_import
from .plan import measure_levels

ROOT = Path(__file__).resolve().parent.parent
PACKS = {"comfyui-detailers": ROOT, "detailers-models": ROOT / "dev" / "model_pack"}
KINDS = ("floor", "alone", "waves")
HEAD = (  # s: seconds of processor time
    "case", "floor s", "one by one s", "waves s", "one by one / floor", "waves / one by one",
    "calls one by one", "calls waves", "floor MB", "one by one MB", "waves MB", "waves / floor MB",
    "floor more", "one by one more", "waves more",
)  # fmt: skip


@dataclass
class Measured:
    """Time, memory and calls of one kind of work."""

    seconds: float = float("inf")  # processor time of the best run
    megabytes: float = 0.0  # the server's peak from after the inputs are made
    before: float = 0.0  # what it held then
    calls: int = 0  # of the model, in a run

    @property
    def more(self) -> float:
        return self.megabytes - self.before


def measure(case: Case, tree: Path, python: str, repeats: int) -> dict[str, Measured]:
    """Measure a case with each kind of work, best of `repeats`."""
    kinds = [kind for kind in KINDS if not (case.video and kind == "waves")]
    measured = {kind: Measured() for kind in kinds}
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(Server(tree, python, PACKS)) for kind in kinds}
        before = dict.fromkeys(kinds, 0)
        for kind, server in servers.items():
            made = server.run(inputs_alone(case), timeout=900)
            if not made.ok:
                raise RuntimeError(f"{case.name}, its inputs: {made.error}")
            measured[kind].before = resident(server.pid, "VmRSS")
            forget_the_peak(server.pid)
        for turn in range(repeats + 1):
            for kind, server in servers.items():
                process = psutil.Process(server.pid)
                start = _processor_time(process)
                run = server.run(graph(case, kind, seed=turn), timeout=900)
                if not run.ok:
                    raise RuntimeError(f"{case.name}, {kind}: {run.error}")
                stats = json.loads(run.outputs["sink"]["text"][0])
                own = measured[kind]
                if turn:  # the first one warms up
                    own.seconds = min(own.seconds, _processor_time(process) - start)
                own.megabytes = resident(server.pid, "VmHWM")
                own.calls, before[kind] = stats["model_calls"] - before[kind], stats["model_calls"]
    return measured


def _processor_time(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def resident(pid: int | str, field: str) -> float:
    """Resident memory of a process ("self" is this one) in MB: VmRSS now, VmHWM at most."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def forget_the_peak(pid: int | str) -> None:
    """From now on VmHWM counts from what the process holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def row(case: Case, measured: dict[str, Measured]) -> str:
    """A line of the table."""
    floor, alone = measured["floor"], measured["alone"]
    waves = measured.get("waves", alone)
    cells = [
        case.name, f"{floor.seconds:.3f}", f"{alone.seconds:.3f}", f"{waves.seconds:.3f}",
        f"{alone.seconds / floor.seconds:.2f}", f"{waves.seconds / alone.seconds:.2f}",
        f"{alone.calls}", f"{waves.calls}", f"{floor.megabytes:.0f}", f"{alone.megabytes:.0f}",
        f"{waves.megabytes:.0f}", f"{waves.megabytes / floor.megabytes:.2f}",
        f"{floor.more:.0f}", f"{alone.more:.0f}", f"{waves.more:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> int:
    args = options.bench().parse_args()
    args.comfyui = Path(args.comfyui)
    cases = [c for c in CASES if not args.filter or any(word in c.name for word in args.filter)]
    if not args.filter or "import" in args.filter:
        print(measure_import(args.comfyui, args.python), flush=True)
    if not args.filter or "levels" in args.filter:
        print(measure_levels(), flush=True)
    if not args.filter or "photographs" in args.filter:
        print(*measure_faces(args.repeats), sep="\n", flush=True)
    print(f"| {' | '.join(HEAD)} |\n| --- |{' ---: |' * (len(HEAD) - 1)}")
    for case in cases:
        print(row(case, measure(case, args.comfyui, args.python, args.repeats)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
