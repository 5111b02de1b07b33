"""A unit on a server, from the file to what was saved."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from . import clips, pictures
from .child import Child
from .client import Client, File, History, Refused, WriteFault, wait_for
from .dispatch import CHANGED, FINISHED, PROBLEM, SERVER, UNIT, Outcome, Task
from .faults import (
    NO_ROOM_WORDS,
    NotFinite,
    Problem,
    ServerFault,
    SourceChanged,
    UnitFault,
    is_full,
)
from .files import sha256, sync_file
from .outputs import Saved, cannot_write, plain
from .settings import Comfy, Limits, Making
from .units import WRITTEN, result_suffix
from .workflow import READS, Workflow

CAST = b"invalid value encountered in cast"  # what NumPy says when NaN becomes a byte
NOT_FINITE = re.compile(r"not finite|\bnan\b", re.IGNORECASE)
NOTES = "detailers_notes"  # in what nodes show


@dataclass(frozen=True)
class Job:
    """What all units of a run have in common for a worker."""

    workflow: Workflow
    making: Making
    limits: Limits


class Server(Protocol):
    """A ComfyUI as a worker has it."""

    def client(self) -> Client:
        """The server, up; started or waited for if it is not.

        Raises:
            ServerFault: it does not come up in time; the worker then leaves.
        """

    def failed(self, client: Client) -> bool:
        """The server behind this client failed; whether that was not known before."""

    def mark(self) -> int: ...

    def said_not_finite(self, mark: int) -> bool | None:
        """Whether NaN became bytes since the mark; None where that cannot be known."""

    def tidy(self, name: str, files: list[File]) -> None:
        """Remove an input and results that are of no more use."""

    def stop(self) -> None: ...


class Gone(ServerFault):
    """A server that does not come back: its worker leaves."""


class OwnServer:
    """A child process, started anew when it fails."""

    def __init__(self, comfy: Comfy, limits: Limits, device: int | None, metadata: bool):
        self._child = Child(
            comfy, device=device, start=limits.start, answer=limits.answer, metadata=metadata
        )
        self._restarts = limits.restarts
        self._lock = threading.Lock()
        self._stopped = False
        self._current: Client | None = None

    def client(self) -> Client:
        with self._lock:
            if self._current is not None and self._child.is_alive():
                return self._current
            fault: ServerFault | None = None
            for _ in range(self._restarts):
                if self._stopped:
                    break
                try:
                    self._child.start(lambda: self._stopped)
                    self._current = self._child.client
                    return self._current
                except ServerFault as found:
                    fault = found
            raise Gone(str(fault or "it was stopped"), False)

    def failed(self, client: Client) -> bool:
        with self._lock:
            if client is not self._current:  # another one was started since
                return False
            self._current = None
            self._child.stop(grace=2.0)
            return True

    def mark(self) -> int:
        return self._child.mark()

    def said_not_finite(self, mark: int) -> bool | None:
        return self._child.said_since(mark, CAST)

    def tidy(self, name: str, files: list[File]) -> None:
        folder = self._child.folder
        if folder is not None:
            saved = [folder / file.type / file.subfolder / file.name for file in files]
            self._child.clear([folder / "input" / name, *saved])

    def stop(self) -> None:
        self._stopped = True
        with self._lock:
            self._current = None
            self._child.stop()


class ForeignServer:
    """A server that runs already; it is waited for when it fails, and left in the end."""

    def __init__(self, url: str, limits: Limits):
        self._client = Client(url, limits.answer)
        self._patience = limits.patience
        self._lock = threading.Lock()
        self._is_up = False
        self._stopped = False

    def client(self) -> Client:
        with self._lock:
            deadline, pause = time.monotonic() + self._patience, 0.2
            while not self._is_up:
                self._is_up = self._client.is_up()
                if not self._is_up:
                    if self._stopped or time.monotonic() > deadline:
                        text = f"{self._client.url} gives no answer of a ComfyUI"
                        raise Gone(f"{text} in {self._patience:g} s", False)
                    time.sleep(pause)
                    pause = min(pause * 2, 15.0, self._patience / 4 + 0.05)
        return self._client

    def failed(self, client: Client) -> bool:
        self._is_up = False
        return True

    def mark(self) -> int:
        return 0

    def said_not_finite(self, mark: int) -> bool | None:
        return None

    def tidy(self, name: str, files: list[File]) -> None:
        """Nothing: ComfyUI has no call that removes files."""

    def stop(self) -> None:
        self._stopped = True


class _Line:
    """The units that stand in a server's queue, the one that it runs first.

    Where a server fails, all of them fail, one after another; those that have failed keep their
    place until another one queues, so that the one in front is known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._units: list[int] = []
        self._failed: set[int] = set()

    def queue(self, unit: int) -> None:
        with self._lock:
            self._units = [one for one in self._units if one not in self._failed]
            self._failed.clear()
            self._units.append(unit)

    def ended(self, unit: int) -> None:
        with self._lock:
            self._units.remove(unit)

    def failed(self, unit: int) -> bool:
        """A unit failed with the server; whether it was the one in front."""
        with self._lock:
            self._failed.add(unit)
            return self._units[:1] == [unit]


class Worker:
    """Runs units on one server; `run` may be called from several threads.

    Args:
        server: its ComfyUI.
    """

    MOST_FAULTS = 10  # of the server in a row, without one unit that got through

    def __init__(self, server: Server, job: Job):
        self.server = server
        self.job = job
        self._not_finite: set[int] = set()  # units that came back as NaN
        self._is_doubted = False  # it was started anew after NaN, and no good picture came since
        self._faults = 0
        self._line = _Line()
        self._stopped = False
        self._session = uuid.uuid4()

    def start(self) -> None:
        """Have the server up.

        Raises:
            Gone: it does not come up.
        """
        self.server.client()

    def stop(self) -> None:
        self._stopped = True
        self.server.stop()

    def run(self, task: Task) -> Outcome:
        """Run a unit; whatever happens is told as its outcome.

        Raises:
            Gone: the server does not come back; the unit has to go back.
        """
        if self._faults >= self.MOST_FAULTS:
            raise Gone(f"the server failed {self._faults} times in a row", False)
        client = self.server.client()
        outcome = self._outcome(client, task)
        if outcome.kind != SERVER:
            self._faults = 0
        self._is_doubted &= outcome.kind != FINISHED
        return outcome

    def _outcome(self, client: Client, task: Task) -> Outcome:
        try:
            return self._run(client, task)
        except NotFinite as fault:
            return self._after_nan(client, task, fault)
        except SourceChanged as change:
            return Outcome(CHANGED, str(change))
        except Refused as refusal:
            if refusal.nodes - {self.job.workflow.source.node}:
                return Outcome(PROBLEM, f"ComfyUI refuses the workflow: {refusal}")
            return Outcome(UNIT, str(refusal))
        except UnitFault as fault:
            if any(words in str(fault).lower() for words in NO_ROOM_WORDS):
                return Outcome(PROBLEM, f"The disk of {client.url} is full: {fault}")
            if NOT_FINITE.search(str(fault)):
                return self._after_nan(client, task, fault)
            return Outcome(UNIT, str(fault))
        except ServerFault as fault:
            self._faults += self.server.failed(client)
            return Outcome(SERVER, str(fault), running=fault.running)
        except Problem as problem:
            return Outcome(PROBLEM, str(problem))
        except WriteFault as fault:
            return self._cannot_write(task, fault.error)
        except OSError as error:
            if is_full(error):
                return self._cannot_write(task, error)
            return Outcome(UNIT, f"{type(error).__name__}: {error}")
        except Exception:  # a fault of this program: it must not end the run
            return Outcome(UNIT, traceback.format_exc(limit=-3))

    def _cannot_write(self, task: Task, error: OSError) -> Outcome:
        place = task.staging or Path(tempfile.gettempdir())
        return Outcome(PROBLEM, str(cannot_write(place, error)))

    def _after_nan(self, client: Client, task: Task, fault: UnitFault) -> Outcome:
        """Have the server started anew, as what it holds may be damaged; not where that was of no
        use a moment ago."""
        is_new = task.unit.id not in self._not_finite
        self._not_finite.add(task.unit.id)
        if is_new and not self._is_doubted:
            self._is_doubted = True
            self.server.failed(client)
            return Outcome(SERVER, f"{fault} The server is started anew.", running=False)
        return Outcome(UNIT, str(fault))

    # From the file to what was saved

    def _run(self, client: Client, task: Task) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="detailers-unit-") as temporary:
            own = Path(temporary)
            source = self._input(task, own)
            name = f"detailers-{task.unit.key.hex()[:20]}{source.suffix.lower()}"
            with source.open("rb") as file:
                size = source.stat().st_size
                body = _Same(file, task.unit) if task.unit.span is None else file
                name = client.upload(body, size, name)
            mark = self.server.mark()
            history = self._ran(client, task, name)
            if not history.files:
                raise UnitFault("the workflow ran and saved nothing")
            said = self.server.said_not_finite(mark)
            if said is None and task.unit.id not in self._not_finite:
                said = not pictures.is_black_picture(source)  # then black is doubted, once
            try:
                saved = tuple(self._saved(client, task, history, source, own, bool(said)))
            except UnitFault as fault:
                if client.is_up():
                    raise
                text = f"{client.url} does not answer as a ComfyUI any more: {fault}"
                raise ServerFault(text, running=False) from fault
            self.server.tidy(name, list(history.files))
            return Outcome(
                FINISHED, saved=saved, report=report_of(history), seconds=history.seconds
            )

    def _input(self, task: Task, own: Path) -> Path:
        """The file that the server gets."""
        file = task.file
        if task.content is not None:
            file = own / f"input{task.file.suffix}"
            file.write_bytes(task.content)
        if task.unit.span is None:
            return file
        if sha256(file) != task.unit.source:
            raise SourceChanged("the clip is not what it was when the run began")
        part = own / "part.mkv"
        clips.cut(file, part, *task.unit.span)
        return part

    def _ran(self, client: Client, task: Task, name: str) -> History:
        """Run the prompt on the server."""
        unit, job = task.unit, self.job
        prompt = job.workflow.prompt_for(name, unit.key, unit.source, unit.extra)
        wanted = str(uuid.uuid5(self._session, f"{unit.id} {unit.tries} {unit.deaths}"))
        self._line.queue(unit.id)
        try:
            prompt_id = client.queue(prompt, job.workflow.extra, wanted)
            history = wait_for(client, prompt_id, job.limits.unit, lambda: self._stopped)
        except ServerFault as fault:
            was_run = self._line.failed(unit.id) and not self._stopped
            if not isinstance(self.server, OwnServer):
                with suppress(ServerFault, UnitFault):
                    client.cancel(wanted)
            raise ServerFault(str(fault), fault.running or was_run) from fault
        except BaseException:
            self._line.ended(unit.id)
            raise
        self._line.ended(unit.id)
        with suppress(ServerFault):
            client.forget(prompt_id)
        return history

    def _saved(
        self, client: Client, task: Task, history: History, source: Path, own: Path, doubt: bool
    ) -> Iterator[Saved]:
        """Fetch and finish what the prompt saved.

        Args:
            doubt: black pictures may be NaN, which ComfyUI saves as black.
        """
        of = Counter(file.node for file in history.files)
        counts: Counter[str] = Counter()
        for file in history.files:
            number = counts[file.node]
            counts[file.node] += 1
            suffix = Path(file.name).suffix.lower()
            folder = task.staging or own
            tried = f"{task.unit.id}-{task.unit.tries}-{task.unit.deaths}"
            stem = f"{tried}-{plain(file.node)}-{number}"
            fetched = folder / f"{stem}{suffix}"
            fetched.parent.mkdir(parents=True, exist_ok=True)
            found, size = client.fetch(file, fetched, self.job.limits.unit)
            if doubt and suffix == ".png" and pictures.is_black(fetched):
                raise NotFinite("the picture came back without one finite value (all black).")
            final = self._finished(fetched, source, suffix, task)
            if final != fetched:
                found, size = sha256(final).hex(), final.stat().st_size
            kept = self._kept_suffix(task, final.suffix)
            saved = Saved(file.node, number, of[file.node], kept, found, size)
            if task.staging is None:
                yield replace(saved, content=final.read_bytes())
            else:
                sync_file(final)
                yield replace(saved, path=final)

    def _finished(self, fetched: Path, source: Path, suffix: str, task: Task) -> Path:
        making = self.job.making
        wanted = suffix
        if suffix == ".png" and not self.job.workflow.is_video:
            wanted = result_suffix(task.unit.input, making, False).lower()
            wanted = ".png" if wanted == ".mp4" else wanted
        elif suffix == ".png" and making.format in ("jpg", "webp"):
            wanted = f".{making.format}"
        return pictures.finish(fetched, source, wanted, making)

    def _kept_suffix(self, task: Task, suffix: str) -> str:
        """A suffix as the input has it, such as .JPEG."""
        given = Path(task.unit.input).suffix
        is_same = self.job.making.format == "same" and (
            WRITTEN.get(given.lower(), given.lower()) == WRITTEN.get(suffix, suffix)
        )
        return given if is_same else suffix


class _Same:
    """A file that is read to its end once; then its bytes must be those of the unit."""

    def __init__(self, file: BinaryIO, unit: Any):
        self._file, self._unit = file, unit
        self._hasher = hashlib.sha256()

    def read(self, count: int) -> bytes:
        found = self._file.read(count)
        self._hasher.update(found)
        if not found and self._hasher.digest() != self._unit.source:
            raise SourceChanged("the file is not what it was when it was hashed")
        return found


def report_of(history: History) -> dict[str, Any]:
    """What the detailers had to tell, by node."""
    found: dict[str, dict[str, Any]] = {}
    for node, shown in history.outputs.items():
        if shown.get(NOTES):
            found.setdefault(node, {})[NOTES] = shown[NOTES]
        if node.startswith(READS):
            with suppress(ValueError, TypeError, IndexError, KeyError):
                report = json.loads("".join(shown["text"]))
                found.setdefault(node.removeprefix(READS), {})["report"] = report
    return found
