"""The pack on a GPU: speed and memory of waves, and whether everything works there.

    python -m bench.gpu --comfyui DIR             all tables; about ten minutes on a fast GPU
    python -m bench.gpu --comfyui DIR --tables waves --networks sdxl --dtypes fp16
    python -m bench.gpu --comfyui DIR --tiny      the same with a small network, on any CPU

`waves`: sixteen equal segments are detailed one by one and in waves, with networks of full size,
and the host's own KSampler samples sixteen latents of that size as one batch, which is the limit.
Each network runs in fp16 and bf16, with the host's dynamic loading of weights on and off. Weights
are random, which does not change speed.

`places`: the device and dtype of every tensor on its way, and each part of the pixel code on the
device against the CPU.

`modes`: with each option of the host for devices, memory and precision, a small network details the
same picture; and so where memory runs out, and where the VAE fails in half precision.

Each row runs in a process of its own, with the host as its `main.py` sets it up. The interpreter
must have the host's requirements.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
TABLES = {
    "waves": (
        "network", "weights", "dynamic loading", "way", "segments/s", "segments/s in the sampler",
        "times one by one", "outside encode, sample, decode", "peak MB of PyTorch",
        "peak MB of the device", "largest difference", "result",
    ),
    "places": ("what", "device and dtype, or largest difference from the CPU"),
    "modes": ("options", "result on", "largest difference from none", "told"),
}  # fmt: skip
NETWORKS, DTYPES = ("sd15", "sdxl"), ("fp16", "bf16")
STATIC = "--disable-dynamic-vram"
# The host's options for devices, memory and precision. "" is none.
MODES = (
    "", STATIC, "--gpu-only", "--highvram", "--lowvram", "--novram", "--fp16-vae", "--bf16-vae",
    "--fp32-vae", "--cpu-vae", "--fp16-intermediates", "--fast", "--deterministic",
)  # fmt: skip
LEAST_GAIN = 1.1  # a gain below it is hardly noticed


@dataclass(frozen=True)
class Child:
    """One process: a table, options of the host, and what else it is told."""

    table: str
    host: tuple[str, ...] = ()
    network: str = "tiny"
    dtype: str = "fp16"


def children(tables: Sequence[str], networks: Sequence[str], dtypes: Sequence[str]) -> list[Child]:
    """The processes for some tables, in order."""
    each = {
        "waves": [
            Child("waves", host, network, dtype)
            for network in networks
            for dtype in dtypes
            for host in ((), (STATIC,))
        ],
        "places": [Child("places"), Child("places", ("--gpu-only",))],
        "modes": [Child("modes", tuple(mode.split())) for mode in MODES],
    }
    return [child for table in tables for child in each[table]]


def children_on_cpu(tables: Sequence[str]) -> list[Child]:
    """One process for each table, with a small network on the CPU."""
    return [Child(table, ("--cpu",), "tiny", "fp16") for table in tables]


def verdict(way: float, limit: float) -> str:
    """What a wave is worth, in words.

    Args:
        way: segments a second in waves over those one by one.
        limit: the same for one large batch of the sampler alone.
    """
    if limit < LEAST_GAIN:
        return f"Little to win: one crop keeps the device busy, a batch is only {limit:.2f} times."
    if way < LEAST_GAIN:
        return f"Waves win little, {way:.2f} times, where the sampler alone wins {limit:.2f} times."
    return f"Waves win: {way:.2f} times, of {limit:.2f} times in the sampler alone."


def line(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def rows(child: Child, args: argparse.Namespace, kept: str) -> Iterator[str]:
    """What a process prints, line by line, as it comes.

    Args:
        kept: the folder for the picture with which those of other processes are compared.

    Raises:
        subprocess.CalledProcessError: the process fails.
    """
    command = [
        sys.executable, "-m", "bench.gpu_runs", "--comfyui", str(args.comfyui.resolve()),
        "--table", child.table, "--steps", str(args.steps), "--repeats", str(args.repeats),
        "--network", child.network, "--dtype", child.dtype, "--kept", kept,
        *(f"--host={option}" for option in child.host),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield from (printed.rstrip("\n") for printed in process.stdout)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--comfyui", type=Path, required=True, help="ComfyUI's folder")
    add("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    add("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    add("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    add("--steps", type=int, default=10)
    add("--repeats", type=int, default=2, help="timed runs of each (2)")
    add("--tiny", action="store_true", help="a small network on the CPU")
    args = parser.parse_args()
    wanted = (
        children_on_cpu(args.tables)
        if args.tiny
        else children(args.tables, args.networks, args.dtypes)
    )
    with TemporaryDirectory() as kept:
        return 1 if print_all(wanted, args, kept) else 0


def print_all(wanted: Sequence[Child], args: argparse.Namespace, kept: str) -> int:
    """Print what all these processes give; how many of them failed."""
    failed, head = 0, ""
    for child in wanted:
        if child.table != head:
            head = child.table
            cells = TABLES[head]
            print(f"\n{line(cells)}\n{line(['---'] * len(cells))}", flush=True)
        try:
            for printed in rows(child, args, kept):
                print(printed, flush=True)
        except subprocess.CalledProcessError as error:
            failed += 1
            about = f"{child.network} {child.dtype} {' '.join(child.host)}"
            print(line([about, f"FAILED with exit code {error.returncode}"]), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
