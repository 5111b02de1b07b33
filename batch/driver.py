"""A run from start to end: the one process that owns the ledger."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from . import clips, report
from . import workflow as workflows
from .crew import Crew, Description, at_once
from .dispatch import CHANGED, Dispatcher, Outcome, Task, Told
from .faults import Problem
from .files import write_durably
from .joining import Joiner
from .ledger import DriverLock, Ledger, NewUnit, Unit
from .models import ModelHashes
from .outputs import Store, cannot_write
from .places import Event, Place
from .progress import Progress, duration
from .settings import Settings
from .units import Rules, Scan
from .worker import Job
from .workflow import Workflow

OK, SET_ASIDE, INTERRUPTED = 0, 3, 130
MOST_SCANNED = 32  # batches that the scan may be ahead of the loop, so that memory stays flat
GROW_EVERY = 10.0  # seconds between two looks for workers that could join


@dataclass(frozen=True)
class Wanted:
    """What workflow is to be run, as the command line says.

    Attributes:
        file: of the workflow.
        input_node: id, title or class of the node that takes the input.
        overrides: texts NODE.INPUT=VALUE.
        checkpoint: file of a checkpoint that is not in a folder of models.
        is_default: the file is the one that comes with folder runs.
    """

    file: Path
    input_node: str | None = None
    overrides: tuple[str, ...] = ()
    checkpoint: Path | None = None
    is_default: bool = False


@dataclass(frozen=True)
class Scanned:
    """The scan tells: units and their states, or its end."""

    units: Sequence[NewUnit] = ()
    states: Sequence[int] = ()
    is_end: bool = False
    fault: BaseException | None = None
    has_room: bool = False  # it holds one of the few places for what the loop has yet to see


@dataclass(frozen=True)
class Joined:
    clip: Unit
    outcome: Outcome


class Driver:
    """Runs a workflow over a folder.

    Args:
        crew: where the workers come from.
        as_json, stream: how and where progress is told.
    """

    def __init__(
        self,
        settings: Settings,
        wanted: Wanted,
        crew: Crew,
        as_json: bool = False,
        stream: TextIO | None = None,
    ):
        self.settings, self.wanted, self.crew = settings, wanted, crew
        self.as_json, self.stream = as_json, stream or sys.stdout
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._places: dict[str, Place] = {}
        self._coming: dict[str, Place] = {}
        self._interrupts = 0
        self._rescanned: set[str] = set()
        self._why_left: list[str] = []
        self._is_scanned = False
        self._room = threading.Semaphore(MOST_SCANNED)
        self._has_ended = False

    # The run

    def run(self) -> int:
        """Do all that is to be done; the exit status.

        Raises:
            Problem: the run cannot begin, or cannot go on.
        """
        prepare_out(self.settings)
        with ExitStack() as stack:
            stack.enter_context(DriverLock(self.settings.folders.own))
            stack.enter_context(self._interruptible())
            stack.enter_context(redirect_stdout(sys.stderr))  # Ray prints what it thinks of faults
            stack.callback(self.crew.stop)
            self.ledger = Ledger(self.settings.folders.ledger)
            stack.callback(self.ledger.close)
            description = self.crew.describe()
            workflow = self._workflow(description)
            self._begin(workflow, description)
            return self._go()

    def _workflow(self, description: Description) -> Workflow:
        content = workflows.read(self.wanted.file)
        editor = None
        if workflows.is_editor_format(content):
            editor, content = content, self._converted(content)
        prompt = workflows.as_prompt(content, self.wanted.file.name)
        if self.wanted.is_default:
            prompt = workflows.with_own_nodes(prompt, description.info)
        making = self.settings.making
        return workflows.prepare(
            prompt, description.info, making, self.wanted.input_node, self.wanted.overrides, editor
        )

    def _converted(self, content: dict) -> dict:
        """The prompt of an editor-format workflow; made once for each ledger."""
        name = f"prompt of {workflows.digest(content)}"
        known = self.ledger.noted(name)
        if known is None:
            known = self.crew.convert(content)
            self.ledger.note(name, known)
        return known

    def _begin(self, workflow: Workflow, description: Description) -> None:
        settings, wanted = self.settings, self.wanted
        self.job = Job(workflow, settings.making, settings.limits)
        staged = self.ledger.begin(settings.making.in_key(), workflow.digest(), time.time())
        self.store = Store(settings.folders, self.ledger)
        self.store.prepare()
        self.dispatcher = Dispatcher(self.ledger, self.store, settings.limits, self._told)
        self.dispatcher.recover(staged)
        if settings.retry:
            self.ledger.retry_failed()
        own = {wanted.checkpoint.name: wanted.checkpoint} if wanted.checkpoint else {}
        models = ModelHashes(self.ledger, description.model_folders, own)
        rules = Rules(workflow, settings.making, models, clips.spans)
        folders = settings.folders
        self.scan = Scan(folders.source, folders.out, rules, self.ledger)
        self.joiner = Joiner(
            self.ledger, self.store, folders.source, workflow.keeps_sound,
            lambda clip, outcome: self._events.put(Joined(clip, outcome)),
        )  # fmt: skip
        self.progress = Progress(
            self.dispatcher.scheduler, self.dispatcher.counts, self.as_json, self.stream
        )

    def _go(self) -> int:
        started = time.monotonic()
        threading.Thread(target=self._scan, daemon=True).start()
        for place in self.crew.places(self.job):
            self._await(place)
        status = "stopped by a fault"
        try:
            self._loop()
            is_whole = not self._interrupts
            status = "finished" if is_whole else "interrupted"
        except KeyboardInterrupt:
            status = "interrupted"
        finally:
            self._has_ended = True
            self._stop_all()
            with suppress(Problem):  # the first one is told
                self.dispatcher.settle()
                self.ledger.end(status, time.time())
                self.store.tidy()
            self.progress.end()
        return self._summary(status, time.monotonic() - started)

    def _scan(self) -> None:
        try:
            self.scan.run(self._tell_scanned, lambda: self._interrupts > 0 or self._has_ended)
            self._events.put(Scanned(is_end=True))
        except BaseException as error:  # handed on to the loop
            self._events.put(Scanned(is_end=True, fault=error))

    def _tell_scanned(self, units: Sequence[NewUnit], states: Sequence[int]) -> None:
        while not self._room.acquire(timeout=0.5):
            if self._has_ended:
                return
        self._events.put(Scanned(units, states, has_room=True))

    def _await(self, place: Place) -> None:
        self._coming[place.name] = place
        place.start(self._events.put)

    # The loop

    def _loop(self) -> None:
        grown = time.monotonic()
        while not self._is_over():
            for event in self._drain():
                self._handle(event)
            self.dispatcher.flush()
            self.joiner.step()
            self._hand_out()
            self.progress.tick()
            if time.monotonic() - grown > GROW_EVERY:
                grown = time.monotonic()
                for place in self.crew.grow(self.job):
                    self._await(place)
        self.dispatcher.settle()
        self.joiner.step()
        self.progress.tick(force=True)

    def _drain(self, most: int = 1000) -> Iterator[Any]:
        """What has happened; waits a little if nothing has."""
        with suppress(queue.Empty):
            yield self._events.get(timeout=0.2)
            for _ in range(most):
                yield self._events.get_nowait()

    def _is_over(self) -> bool:
        if self._interrupts > 1:
            raise KeyboardInterrupt
        scheduler = self.dispatcher.scheduler
        if self._interrupts:
            scheduler.stopped = True
            return not scheduler.in_work
        has_work = scheduler.waiting > 0 or scheduler.in_work or self.joiner.is_busy
        if self._is_scanned and not has_work:
            return True
        if not self._places and not self._coming and (has_work or self._is_scanned):
            why = "\n".join(self._why_left[-3:])
            raise Problem(f"No worker is left, and {self.progress.left} units are to do.\n{why}")
        return False

    def _handle(self, event: Any) -> None:
        if isinstance(event, Scanned):
            self._scanned(event)
        elif isinstance(event, Joined):
            self.joiner.ended(event.clip)
            self.dispatcher.joined(event.clip, event.outcome)
        else:
            self._placed(event)

    def _scanned(self, event: Scanned) -> None:
        if event.has_room:
            self._room.release()
        for unit, state in zip(event.units, event.states, strict=True):
            self.dispatcher.known(unit, state)
            if unit.part >= 0:
                self.joiner.part_ended(unit.input)  # it may have ended in an earlier run
        if event.fault is not None:
            if isinstance(event.fault, Problem):
                raise event.fault
            raise Problem(f"{self.settings.folders.source} cannot be read: {event.fault!r}")
        if event.is_end:
            self._is_scanned = self.progress.is_scanned = True
            found = self.scan.found
            for why, count in sorted(found.left_alone.items()):
                self.progress.say(f"left alone: {count} {why}")
            if not found.files and not self._interrupts:
                kind = "clips" if self.job.workflow.is_video else "pictures"
                self.progress.say(f"{self.settings.folders.source} holds no {kind}.")

    def _placed(self, event: Event) -> None:
        name = event.place.name
        if event.kind == "joined":
            place = self._coming.pop(name, event.place)
            self._places[name] = place
            self.dispatcher.scheduler.join(name, place.lanes)
        elif event.kind == "left":
            self._coming.pop(name, None)
            self._places.pop(name, None)
            self.dispatcher.leave(name)
            self._why_left.append(f"{name}: {event.text}")
            if not self._interrupts:
                self.progress.say(f"{name} is left: {event.text}", worker=name)
        elif name in self._places:
            self.dispatcher.finish(name, event.task.unit, event.outcome)

    def _told(self, told: Told) -> None:
        self.progress.told(told)
        if told.unit.part >= 0 and told.kind in ("done", "failed"):
            self.joiner.part_ended(told.unit.input)
        if told.kind == CHANGED:
            self._changed(told.unit)

    def _changed(self, unit: Unit) -> None:
        """A file is another than at the scan: take it as it is now."""
        if unit.part >= 0 and unit.input in self._rescanned:
            return
        self._rescanned.add(unit.input)
        with suppress(OSError):  # it is gone
            units, states = self.scan.again(unit.input)
            self._events.put(Scanned(units, states))

    def _hand_out(self) -> None:
        """Give each worker what it should have: all a first unit, before any gets a second."""
        for depth in range(self.settings.lanes):
            for name, place in self._places.items():
                worker = self.dispatcher.scheduler.workers[name]
                if len(worker.units) == depth and depth < place.lanes:
                    unit = self.dispatcher.take(name)
                    if unit is not None:
                        place.submit(self._task(unit))

    def _task(self, unit: Unit) -> Task:
        file = self.settings.folders.source / unit.input
        if not self.settings.copy:
            return Task(unit, file, self.store.staging)
        try:
            content = file.read_bytes()
        except OSError:
            content = b""  # the worker finds that it is another
        return Task(unit, file, None, content)

    # The end

    def _stop_all(self) -> None:
        at_once(place.stop for place in [*self._places.values(), *self._coming.values()])

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C, or being asked to terminate: once to finish what is at work, twice to stop."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def interrupt(number: int, frame: Any) -> None:
            self._interrupts += 1
            if self._interrupts == 1 and hasattr(self, "progress"):
                at_work = self.dispatcher.scheduler.in_work
                self.progress.say(f"Finishing {at_work} at work; once more stops at once.")
            elif self._interrupts > 1 or not hasattr(self, "progress"):
                raise KeyboardInterrupt

        try:
            for number in before:
                signal.signal(number, interrupt)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _summary(self, status: str, seconds: float) -> int:
        figures = self.progress.figures()
        figures |= {"status": status, "seconds": round(seconds, 3)}
        text = (
            f"{status}: {figures['done']} done ({figures['done_before']} before), "
            f"{figures['failed']} failed, {figures['left']} left, in {duration(seconds)}"
        )
        self.progress.say(text, event="summary", **figures)
        if figures["failed"] and not self.as_json:
            for line in report.failures(self.ledger, most=10):
                self.progress.say(line)
            out = self.settings.folders.out
            self.progress.say(f"All of them: --report {out}; --retry tries them again.")
        if status == "interrupted":
            return INTERRUPTED
        return SET_ASIDE if figures["failed"] else OK


def prepare_out(settings: Settings) -> None:
    """Have OUT there and see that it can be written.

    Raises:
        Problem: IN is no folder, IN and OUT are one, or OUT cannot be written.
    """
    folders = settings.folders
    source, out = folders.source.resolve(), folders.out.resolve()
    if not source.is_dir():
        raise Problem(f"IN: there is no folder {source}.")
    if source == out:
        raise Problem("IN and OUT are the same folder. Results need one of their own.")
    if out in source.parents:
        raise Problem(f"IN lies in OUT, {out}. Results need a folder of their own.")
    probe = folders.own / f"probe-{os.getpid()}"
    try:
        folders.own.mkdir(parents=True, exist_ok=True)
        write_durably(probe, b"can be written")
        probe.unlink()
    except OSError as error:
        raise cannot_write(folders.out, error) from error
