"""The workers of a run on this machine: children of its own, or servers that run already."""

from __future__ import annotations

import glob
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .convert import converted
from .faults import Problem, ServerFault
from .places import LocalPlace, Place
from .settings import Comfy, Limits
from .worker import ForeignServer, Job, OwnServer, Worker


@dataclass(frozen=True)
class Description:
    """What the servers know.

    Attributes:
        info: ComfyUI's `object_info`.
        model_folders: folders that names of model files are relative to.
    """

    info: dict[str, dict]
    model_folders: tuple[Path, ...]


class Crew(Protocol):
    """Where a run's workers come from."""

    def describe(self) -> Description:
        """What a server knows, once one is up.

        Raises:
            Problem: none comes up.
        """

    def convert(self, content: dict) -> dict:
        """The prompt of an editor-format workflow."""

    def places(self, job: Job) -> Sequence[Place]: ...

    def grow(self, job: Job) -> Sequence[Place]:
        """Places that have become possible since; called now and then."""

    def stop(self) -> None: ...


class LocalCrew:
    """Workers in threads of this process, one for each server."""

    def __init__(self, servers: dict[str, OwnServer | ForeignServer], lanes: int):
        self.servers = servers
        self.lanes = lanes

    def describe(self) -> Description:
        for server in self.servers.values():  # all come up at once; the first one is asked
            threading.Thread(target=_bring_up, args=[server], daemon=True).start()
        faults = []
        for name, server in self.servers.items():
            try:
                client = server.client()
                folders = tuple(Path(path) for path in client.model_folders())
                return Description(client.object_info(), folders)
            except ServerFault as fault:
                faults.append(f"{name}: {fault}")
        raise Problem("No server is there.\n" + "\n".join(faults))

    def convert(self, content: dict) -> dict:
        for server in self.servers.values():
            try:
                return converted(server.client().url, content)
            except ServerFault:
                continue
        raise Problem("No server is there.")

    def places(self, job: Job) -> Sequence[Place]:
        return [
            LocalPlace(name, lambda server=server: Worker(server, job), self.lanes)
            for name, server in self.servers.items()
        ]

    def grow(self, job: Job) -> Sequence[Place]:
        return ()

    def stop(self) -> None:
        at_once(server.stop for server in self.servers.values())


def _bring_up(server: OwnServer | ForeignServer) -> None:
    try:
        server.client()
    except ServerFault:
        return  # who needs it is told


def at_once(calls: Any) -> None:
    """Run calls side by side, and wait for them."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def own_crew(
    comfy: Comfy, limits: Limits, lanes: int, workers: int | None, metadata: bool
) -> LocalCrew:
    """Children of this process: as many as there are GPUs, unless told otherwise."""
    gpus = count_gpus(comfy.python)
    count = workers or max(gpus, 1)
    servers: dict[str, OwnServer | ForeignServer] = {}
    for number in range(count):
        device = number % gpus if gpus > 1 else None
        name = f"gpu{number}" if gpus > 1 and count == gpus else f"worker{number}"
        servers[name] = OwnServer(comfy if gpus else comfy.on_cpu(), limits, device, metadata)
    return LocalCrew(servers, lanes)


def foreign_crew(urls: Sequence[str], limits: Limits, lanes: int) -> LocalCrew:
    """Servers that run already, named by host and port."""
    return LocalCrew({name_of(url): ForeignServer(url, limits) for url in urls}, lanes)


def name_of(url: str) -> str:
    return url.partition("://")[2].rstrip("/") or url


GPU_DEVICES = ("/dev/nvidia*", "/dev/kfd", "/dev/dri/render*", "/dev/dxg", "/dev/accel*")
COUNT_GPUS = """
import json, torch
kind = getattr(torch, "accelerator", torch.cuda)
print(json.dumps(max(torch.cuda.device_count(), int(kind.is_available()))))
"""


def count_gpus(python: str, run: Callable = subprocess.run) -> int:
    """How many GPUs torch finds under ComfyUI's interpreter; 0 for none."""
    if sys.platform == "linux" and not any(glob.glob(pattern) for pattern in GPU_DEVICES):
        return 0  # importing torch takes seconds
    try:
        done = run([python, "-c", COUNT_GPUS], capture_output=True, text=True, timeout=120)
        return int(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0
