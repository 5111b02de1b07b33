"""The stand-in for ComfyUI of dev/fake_comfyui, for tests and figures of folder runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batch.client import Client, free_port

FAKE = Path(__file__).resolve().parent / "fake_comfyui"


def prompt(**detailer: Any) -> dict[str, dict]:
    """A prompt for the stand-in; `detailer` sets inputs of its FakeDetailer."""
    inputs = {"image": ["1", 0], "seconds": 0.0, "mode": "", "seed": 5, "model": "", **detailer}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "2": {"class_type": "FakeDetailer", "inputs": inputs, "_meta": {"title": "Detail"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }


@contextmanager
def stand_in(folder: Path, **environment: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """A stand-in server that runs already: its URL, and its process."""
    port = free_port()
    for name in ("input", "output"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(FAKE / "main.py"), "--port", str(port)]
    command += ["--input-directory", str(folder / "input")]
    command += ["--output-directory", str(folder / "output")]
    process = subprocess.Popen(command, env={**os.environ, **environment})
    client = Client(f"http://127.0.0.1:{port}", 10)
    try:
        while not client.is_up():
            if process.poll() is not None:
                raise RuntimeError(f"the stand-in ended with status {process.returncode}")
            time.sleep(0.05)
        yield client.url, process
    finally:
        process.kill()
        process.wait()


def results(out: Path) -> dict[str, bytes]:
    """{path: bytes} of what is in OUT besides the run's own."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and ".detailers" not in path.parts and "ledger" not in path.name
    }
