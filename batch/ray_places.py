"""Workers as actors of a Ray cluster, each with a ComfyUI of its own on its machine's loopback.

Ray places the actors, starts them anew and tells when they end. What is to be done, what goes back
and what is done is decided by the driver and its ledger alone: no task is ever retried by Ray.
Needs the package ray, of the same version on all machines.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .crew import Description
from .dispatch import Task
from .faults import Problem
from .places import Event, Place
from .settings import Comfy, Limits, Settings
from .worker import Job, OwnServer, Worker

HERE = Path(__file__).resolve().parent
PENDING = 120.0  # seconds that a first actor may take to get its GPU


class _Seat:
    """What an actor holds: a ComfyUI, and the worker on it. Runs in the actor's process."""

    def __init__(self, comfy: Comfy, limits: Limits, metadata: bool):
        if not (comfy.tree / "main.py").is_file():
            raise FileNotFoundError(f"this machine has no ComfyUI in {comfy.tree}")
        self._server = OwnServer(comfy, limits, None, metadata)  # Ray says which GPU it sees
        self._worker: Worker | None = None
        self._lock = threading.Lock()

    def describe(self) -> tuple[dict, list[str]]:
        client = self._server.client()
        return client.object_info(), client.model_folders()

    def convert(self, content: dict) -> dict:
        from .convert import converted

        return converted(self._server.client().url, content)

    def begin(self, job: Job) -> None:
        with self._lock:
            if self._worker is None:
                self._worker = Worker(self._server, job)
        self._worker.start()

    def run(self, job: Job, task: Task) -> Any:
        self.begin(job)  # it may have been started anew
        return self._worker.run(task)

    def stop(self) -> None:
        self._server.stop()


class RayPlace:
    """An actor as the driver sees it."""

    def __init__(self, name: str, actor: Any, job: Any, lanes: int, is_dead: Callable):
        self.name, self.lanes = name, lanes
        self.actor = actor
        self._job = job  # a reference, so that the workflow goes to each machine once
        self._is_dead = is_dead
        self._lock = threading.Lock()
        self._is_up = False
        self._is_stopped = False
        self._tell: Callable[[Event], object] = lambda event: None

    def start(self, tell: Callable[[Event], object]) -> None:
        self._tell = tell
        self._begin()

    def _begin(self) -> None:
        self.actor.begin.remote(self._job).future().add_done_callback(self._has_begun)

    def _has_begun(self, future: Any) -> None:
        error = future.exception()
        if error is None:
            with self._lock:
                self._is_up = True
            self._tell(Event("joined", self))
        else:
            self._tell(Event("left", self, text=_cause(error)))

    def submit(self, task: Task) -> None:
        done = self.actor.run.remote(self._job, task).future()
        done.add_done_callback(lambda future: self._has_run(task, future))

    def _has_run(self, task: Task, future: Any) -> None:
        error = future.exception()
        if error is None:
            self._tell(Event("outcome", self, task, future.result()))
            return
        with self._lock:
            was_up, self._is_up = self._is_up, False
        if not was_up:
            return  # the other unit that was at work has told it
        self._tell(Event("left", self, text=_cause(error)))
        if not self._is_stopped and self._is_dead(error):
            self._begin()  # Ray starts the actor anew; it joins again when it is up

    def stop(self) -> None:
        import ray

        self._is_stopped = True
        with suppress(Exception):  # it is gone, or does not answer
            ray.get(self.actor.stop.remote(), timeout=20)
        ray.kill(self.actor, no_restart=True)


def _cause(error: BaseException) -> str:
    """What happened on the other machine, without Ray's frames around it."""
    return str(getattr(error, "cause", None) or error).strip()


class RayCrew:
    """Actors, as many as the cluster has room for, or as were asked for."""

    def __init__(
        self,
        comfy: Comfy,
        settings: Settings,
        workers: int | None,
        cpus: float | None,
        metadata: bool,
    ):
        import ray

        self._ray = ray
        self._settings = settings
        self._workers = workers
        self._resource = ("CPU", cpus) if cpus else ("GPU", 1.0)
        self._made_with = (comfy.on_cpu() if cpus else comfy, settings.limits, metadata)
        options = {"num_cpus": cpus, "num_gpus": 0} if cpus else {"num_cpus": 0, "num_gpus": 1}
        # Units at work side by side, and calls such as stop besides; no task is done twice by Ray.
        self._class = ray.remote(_Seat).options(
            **options, max_restarts=-1, max_task_retries=0, max_concurrency=settings.lanes + 2
        )
        self._actors: dict[str, Any] = {}
        self._job: Any = None

    def _room(self) -> int:
        """How many actors the cluster has room for, those that are there among them."""
        kind, each = self._resource
        room = int(self._ray.cluster_resources().get(kind, 0) / each)
        return min(room, self._workers) if self._workers else room

    def _more(self) -> list[str]:
        """Actors for the room there is now; their names."""
        names = []
        for _ in range(self._room() - len(self._actors)):
            name = f"ray{len(self._actors)}"
            self._actors[name] = self._class.remote(*self._made_with)
            names.append(name)
        return names

    def describe(self) -> Description:
        if not self._more():
            kind, each = self._resource
            raise Problem(
                f"The Ray cluster has no room for a worker that takes {each:g} {kind}. "
                "--cpus-per-worker N takes CPUs instead."
            )
        calls = [actor.describe.remote() for actor in self._actors.values()]
        faults = []
        while calls:
            done, calls = self._ray.wait(calls, timeout=PENDING + self._settings.limits.start)
            if not done:
                raise Problem("No actor of the Ray cluster got ready in time; see `ray status`.")
            try:
                info, folders = self._ray.get(done[0])
                return Description(info, tuple(map(Path, folders)))
            except self._ray.exceptions.RayError as error:
                faults.append(_cause(error))
        raise Problem("No actor of the Ray cluster could start ComfyUI.\n" + "\n".join(faults[:3]))

    def convert(self, content: dict) -> dict:
        faults = []
        for actor in self._actors.values():
            try:
                return self._ray.get(actor.convert.remote(content))
            except self._ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)
                if isinstance(cause, Problem):
                    raise cause from error
                faults.append(_cause(error))
        raise Problem(f"No actor could convert the workflow: {faults[0]}")

    def places(self, job: Job) -> Sequence[Place]:
        self._job = self._ray.put(job)
        return [self._place(name) for name in self._actors]

    def _place(self, name: str) -> RayPlace:
        lanes = self._settings.lanes
        return RayPlace(name, self._actors[name], self._job, lanes, self._is_dead)

    def _is_dead(self, error: BaseException) -> bool:
        """Whether an actor has ended, and not only its server."""
        return isinstance(error, self._ray.exceptions.RayActorError)

    def grow(self, job: Job) -> Sequence[Place]:
        return [self._place(name) for name in self._more()]

    def stop(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor, no_restart=True)
        self._ray.shutdown()


def ship(folder: Path, package: str = __package__) -> Path:
    """Copy this package into a folder, under the name by which it is imported; its top folder."""
    top, *inside = package.split(".")
    place = folder / top
    for name in inside:
        place.mkdir(parents=True)
        (place / "__init__.py").write_text("")
        place /= name
    shutil.copytree(HERE, place, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / top


def ray_crew(
    comfy: Comfy,
    settings: Settings,
    address: str,
    workers: int | None,
    cpus: float | None,
    metadata: bool,
) -> RayCrew:
    """Connect to a cluster, or start Ray on this machine where `address` is "local".

    Raises:
        Problem: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise Problem("--ray needs the package ray: pip install ray") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options["include_dashboard"] = False
    # Other machines get this package with the job; ComfyUI and the packs have to be there.
    shipped = tempfile.TemporaryDirectory(prefix="detailers-ray-")
    options["runtime_env"] = {"py_modules": [str(ship(Path(shipped.name)))]}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Problem(f"--ray: the cluster {address} cannot be reached: {error}") from error
    finally:
        shipped.cleanup()
    return RayCrew(comfy, settings, workers, cpus, metadata)
