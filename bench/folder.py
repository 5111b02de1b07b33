"""Folder runs: what is lost when all is killed, what they cost, how they scale.

`python run.py bench folder --help` names the cases. Servers are the stand-in of dev/fake_comfyui,
whose "model" sleeps; only `kills` and `overhead` with --real run ComfyUI with the miniature.
"""

from __future__ import annotations

import heapq
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from PIL import Image

from batch.dispatch import FINISHED, UNIT, Dispatcher, Outcome
from batch.ledger import Ledger, NewUnit
from batch.outputs import Store
from batch.settings import Folders, Limits
from dev import options
from dev.stand_in import FAKE, prompt, results, stand_in

ROOT = Path(__file__).resolve().parent.parent
FLUSH_EVERY = 64  # results that come together, as they do from many workers


@dataclass(frozen=True)
class Host:
    """What the runs use: the stand-in, or ComfyUI with the miniature."""

    comfyui: str
    python: str
    real: bool

    def arguments(self, source: Path, out: Path, seconds: float, *more: str) -> list[str]:
        """The command of a run whose units take so many seconds in the stand-in."""
        if self.real:
            steps = ["--set", "DetailerForEachDebug.steps=2"]
            command = [self.python, "-m", "dev.folder", "--comfyui", self.comfyui]
            command += ["--python", self.python, "--miniature", "1", *steps]
        else:
            workflow = source.parent / "workflow.json"
            workflow.write_text(json.dumps(prompt(seconds=seconds)))
            command = [sys.executable, "-m", "batch", "--workflow", str(workflow)]
            command += ["--comfyui", str(FAKE)] if "--servers" not in more else []
        return [*command, str(source), str(out), "--json", *more]

    def fill(self, source: Path, count: int, side: int = 48) -> None:
        """Have so many inputs, each another."""
        if self.real:
            from dev.folder import draw_scenes

            draw_scenes(source, count)
            return
        source.mkdir(parents=True)
        for number in range(count):
            content = random.Random(number).randbytes(side * side * 3)  # noqa: S311
            Image.frombytes("RGB", (side, side), content).save(source / f"p{number:05}.png")


def run(command: list[str]) -> dict:
    """Run to the end; the summary."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        raise RuntimeError(f"a run ended with status {done.returncode}: {lines[-1:]}")
    return next(line for line in lines if line["event"] == "summary")


def records(out: Path) -> list[dict]:
    command = [sys.executable, "-m", "batch", "--report", str(out), "--json"]
    text = subprocess.check_output(command, cwd=ROOT, text=True)
    return [json.loads(line) for line in text.splitlines()]


# Kills


def kills(host: Host, folder: Path, units: int, count: int, seed: int) -> dict:
    """Kill driver, guards and servers at random moments, and compare with an undisturbed run."""
    host.fill(folder / "in", units)
    workers = ["--workers", "2"]
    began = time.monotonic()
    run(host.arguments(folder / "in", folder / "calm", 0.1, *workers))
    calm = time.monotonic() - began
    expected = results(folder / "calm")
    draw = random.Random(seed)  # noqa: S311
    command = host.arguments(folder / "in", folder / "killed", 0.1, *workers)
    killed = {"driver": 0, "guard": 0, "server": 0}
    driver = start(command)
    pause = 1.2  # seconds; a start takes about one
    servers: set[int] = set()
    while sum(killed.values()) < count:
        time.sleep(draw.uniform(0.2, 1.8) * pause)
        if driver.poll() is not None:  # it was done before all kills were: the rest falls away
            break
        kind = draw.choice(list(killed))
        found = below(driver.pid)
        servers.update(found["server"])
        victims = {"driver": [driver.pid], **found}[kind]
        if victims:
            os.kill(draw.choice(victims), signal.SIGKILL)
            killed[kind] += 1
        if kind == "driver" or driver.poll() is not None:
            driver.wait()
            driver = start(command)
    driver.wait()
    summary = run(command)
    found = results(folder / "killed")
    units_now = records(folder / "killed")
    return {
        "pictures": units,
        **{f"{kind}s killed": number for kind, number in killed.items()},
        "lost": len(expected.keys() - found.keys()),
        "failed": summary["failed"],
        "twice": len(found.keys() - expected.keys()),
        "torn": sum(is_torn(content) for content in found.values()),
        "other bytes": sum(found[name] != expected[name] for name in expected.keys() & found),
        "servers left behind": sum(map(psutil.pid_exists, servers)),
        "tried again": sum(unit["servers_died"] > 0 for unit in units_now),
        "seconds undisturbed": round(calm, 1),
    }


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def below(pid: int) -> dict[str, list[int]]:
    """The guards and the servers of a driver."""
    try:
        guards = psutil.Process(pid).children()
        servers = [child.pid for guard in guards for child in guard.children()]
        return {"guard": [guard.pid for guard in guards], "server": servers}
    except psutil.Error:
        return {"guard": [], "server": []}


def is_torn(content: bytes) -> bool:
    try:
        Image.open(io.BytesIO(content)).load()
    except (OSError, SyntaxError):
        return True
    return False


# Cost and shares


def overhead(host: Host, folder: Path, units: int) -> dict:
    """Wall time from the first unit's start to the last one's end, against the prompts' own."""
    host.fill(folder / "in", units, side=512)
    run(host.arguments(folder / "in", folder / "out", 0.5, "--workers", "1"))
    done = records(folder / "out")[1:]  # the first one loads the models
    wall = max(unit["ended"] for unit in done) - min(unit["ended"] for unit in done)
    alone = sum(unit["seconds"] for unit in sorted(done, key=lambda unit: unit["ended"])[1:])
    return {
        "pictures": units,
        "prompts alone s": round(alone, 2),
        "run s": round(wall, 2),
        "overhead": f"{wall / alone - 1:.1%}",
    }


@contextmanager
def stand_ins(folder: Path, slownesses: list[float]) -> Iterator[str]:
    """Servers that run already: their URLs, for --servers."""
    with ExitStack() as stack:
        urls = []
        for number, slowness in enumerate(slownesses):
            server = stand_in(folder / f"server{number}", FAKE_SLOWNESS=str(slowness))
            urls.append(stack.enter_context(server)[0])
        yield ",".join(urls)


def span(out: Path) -> tuple[float, dict[str, int]]:
    """Seconds from the first start to the last end, and units by worker."""
    done = records(out)
    by_worker: dict[str, int] = {}
    for unit in done:
        by_worker[unit["worker"]] = by_worker.get(unit["worker"], 0) + 1
    seconds = max(unit["ended"] for unit in done) - min(unit["started"] for unit in done)
    return seconds, by_worker


def unlike(host: Host, folder: Path, units: int) -> dict:
    """Workers of speeds 1, 1, 2 and 4."""
    host.fill(folder / "in", units)
    with stand_ins(folder, [1.0, 1.0, 0.5, 0.25]) as urls:
        run(host.arguments(folder / "in", folder / "out", 1.0, "--servers", urls))
    seconds, by_worker = span(folder / "out")
    ideal = units / 8
    return {
        "units": units,
        "ideal s": round(ideal, 2),
        "run s": round(seconds, 2),
        "of ideal": round(ideal / seconds, 3),
        "units by worker": " ".join(map(str, sorted(by_worker.values()))),
    }


def ray(host: Host, folder: Path, units: int) -> dict:
    """Four actors of a Ray on this machine, each with a model that sleeps a second."""
    host.fill(folder / "in", units)
    more = ["--ray", "--cpus-per-worker", "0.25", "--workers", "4"]
    run(host.arguments(folder / "in", folder / "out", 1.0, *more))
    seconds, by_worker = span(folder / "out")
    done = records(folder / "out")
    first = {name: min(u["ended"] for u in done if u["worker"] == name) for name in by_worker}
    all_up, last = max(first.values()), max(unit["ended"] for unit in done)
    busy = sum(unit["seconds"] for unit in done if unit["ended"] > all_up)
    return {
        "units": units,
        "ideal s": units / 4,
        "run s": round(seconds, 2),
        "efficiency": round(units / 4 / seconds, 3),
        "once all were up": round(busy / 4 / (last - all_up), 3),
        "units by worker": " ".join(map(str, sorted(by_worker.values()))),
    }


# Scheduler and ledger alone


def resident() -> float:
    """Resident memory of this process, MB."""
    return psutil.Process().memory_info().rss / 2**20


def dispatcher_in(folder: Path, in_memory: bool = False, clock: Callable = time.time) -> Dispatcher:
    folders = Folders(folder / "in", folder / "out")
    folders.own.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folders.ledger, in_memory)
    ledger.begin({}, "", clock())
    store = Store(folders, ledger)
    store.prepare()
    return Dispatcher(ledger, store, Limits(), clock=clock)


def added(dispatcher: Dispatcher, units: int, batch: int = 1000) -> None:
    """Bring units into the ledger, as a scan does."""
    for first in range(0, units, batch):
        found = [
            NewUnit(key := number.to_bytes(32, "big"), f"folder/{number:08}.png", key)
            for number in range(first, min(first + batch, units))
        ]
        dispatcher.ledger.add(found)
        dispatcher.counts.waiting += len(found)


def ledger(folder: Path, units: int) -> dict:
    """All that the driver does for a unit but for the files: on disk, synced."""
    dispatcher = dispatcher_in(folder)
    began = time.monotonic()
    added(dispatcher, units)
    scanned = time.monotonic()
    names = [f"w{number}" for number in range(16)]
    for name in names:
        dispatcher.scheduler.join(name, 2)
    done, memory = 0, []
    at_work = []
    while True:
        for name in names:
            while (unit := dispatcher.take(name)) is not None:
                at_work.append((name, unit))
        if not at_work:
            break
        for name, unit in at_work:
            dispatcher.finish(name, unit, Outcome(FINISHED, report={}, seconds=1.0))
            done += 1
            if done % max(units // 10, 1) == 0:
                memory.append(resident())
        at_work.clear()
        dispatcher.flush()
    dispatcher.settle()
    seconds = time.monotonic() - scanned
    return {
        "units": units,
        "scanned units/s": round(units / (scanned - began)),
        "units/s": round(done / seconds),
        "MB after a tenth": round(memory[0], 1),
        "MB at the end": round(memory[-1], 1),
    }


def simulated(folder: Path, units: int, seed: int, workers: int = 1000) -> dict:
    """Workers of random speeds on a simulated clock; 1% of the tries fail."""
    draw = random.Random(seed)  # noqa: S311
    now = 0.0
    dispatcher = dispatcher_in(folder, clock=lambda: now)
    dispatcher.ledger._db.execute("PRAGMA synchronous = OFF")  # the disk is not what is looked at
    began = time.monotonic()
    added(dispatcher, units, batch=10_000)
    speeds = {f"w{number}": draw.uniform(0.5, 4.0) for number in range(workers)}
    ends: list[tuple[float, int, str]] = []
    queued: dict[str, list] = {name: [] for name in speeds}
    running: dict[str, object] = {}
    order = 0

    def give(name: str) -> None:
        nonlocal order
        while (unit := dispatcher.take(name)) is not None:
            queued[name].append(unit)
        if name not in running and queued[name]:
            running[name] = queued[name].pop(0)
            order += 1
            heapq.heappush(ends, (now + draw.uniform(5, 15) / speeds[name], order, name))

    for name in speeds:
        dispatcher.scheduler.join(name, 2)
    for name in speeds:
        give(name)
    since, memory = 0, [resident()]
    while ends:
        now, _, name = heapq.heappop(ends)
        fails = draw.random() < 0.01
        outcome = Outcome(UNIT, "bad") if fails else Outcome(FINISHED, report={}, seconds=1.0)
        dispatcher.finish(name, running.pop(name), outcome)
        since += 1
        if since % FLUSH_EVERY == 0:
            dispatcher.flush()
        if since % max(units // 20, 1) == 0:
            memory.append(resident())
            progress(f"{since} of {units}, {time.monotonic() - began:.0f} s, {memory[-1]:.0f} MB")
        give(name)
        if not dispatcher.counts.waiting:  # at the end others may want what came back
            for other in speeds:
                if other not in running:
                    give(other)
    dispatcher.settle()
    ideal = units / sum(speed / 10 for speed in speeds.values())
    return {
        "workers": workers,
        "units": units,
        "done": dispatcher.counts.done,
        "set aside": dispatcher.counts.failed,
        "simulated hours": round(now / 3600, 2),
        "of ideal": round(ideal / now, 4),
        "driver s": round(time.monotonic() - began),
        "units/s": round(units / (time.monotonic() - began)),
        "MB at the start": round(memory[1], 1),
        "MB at the end": round(memory[-1], 1),
    }


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(title: str, row: dict) -> None:
    print(f"\n### {title}\n\n| {' | '.join(row)} |\n|{' ---: |' * len(row)}")
    print(f"| {' | '.join(map(str, row.values()))} |", flush=True)


NAMES = ("kills", "overhead", "unlike", "ledger", "ray", "simulated")


def main() -> None:
    chosen = options.bench_folder().parse_args()
    names = chosen.names or [name for name in NAMES if name != "simulated"]
    if unknown := sorted(set(names) - set(NAMES)):
        sys.exit(f"bench folder: there is no {', '.join(unknown)}. Choose from {', '.join(NAMES)}.")
    host = Host(chosen.comfyui, chosen.python, chosen.real)
    units = chosen.units
    cases: dict[str, Callable[[Path], dict]] = {
        "kills": lambda at: kills(host, at, units or 1000, chosen.kills, chosen.seed),
        "overhead": lambda at: overhead(host, at, units or 100),
        "unlike": lambda at: unlike(host, at, units or 240),
        "ledger": lambda at: ledger(at, units or 100_000),
        "ray": lambda at: ray(host, at, units or 400),
        "simulated": lambda at: simulated(at, units or 10_000_000, chosen.seed),
    }
    os.environ["DETAILERS_STARTED_IN"] = "."
    for name in names:
        if name == "ray" and not chosen.names and not has_ray():
            print("\n### ray\n\nNot measured: the package ray is not installed.")
            continue
        with tempfile.TemporaryDirectory(prefix="detailers-bench-") as at:
            table(name, cases[name](Path(at)))


def has_ray() -> bool:
    import importlib.util

    return importlib.util.find_spec("ray") is not None


if __name__ == "__main__":
    main()
