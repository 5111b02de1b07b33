"""Puts odd values into every input of every node, and counts the outcomes.

Every value goes through the checks of the node's inputs. A value that they accept also runs through
the node, once for values that the checks make equal. After each input the node runs once more as at
first, and has to give the same result.
"""

from __future__ import annotations

import hashlib
import linecache
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import comfy.model_management
import numpy as np
import torch

from ...core.graph.validation import InputChecks, checks_of
from .samples import WORK, Samples, call
from .values import odd_values

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 10.0  # seconds
RESULT, OWN, RAW, SLOW, CHANGED = "right results", "own errors", "raw errors", "slow", "changed"
HEAVY, SAME = "right, but work", "the same as others"


@dataclass
class Outcome:
    """What a trial has found."""

    counts: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, kind: str, fault: str = "") -> None:
        self.counts[kind] += 1
        if fault:
            self.faults.append(fault)

    def __str__(self) -> str:
        total = sum(self.counts.values())
        kinds = (RESULT, OWN, SAME, HEAVY, RAW, SLOW, CHANGED)
        parts = ", ".join(f"{self.counts[kind]} {kind}" for kind in kinds)
        return f"{total} values: {parts}"


@dataclass(frozen=True)
class Case:
    """An odd value that the checks of an input accept."""

    node_id: str
    input: str
    name: str
    value: Any


def is_own(error: BaseException) -> bool:
    """Whether a statement of the pack has raised an error on purpose."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    path = Path(frame.filename)
    if not path.is_relative_to(ROOT) or path.is_relative_to(ROOT / "dev"):
        return False
    line = linecache.getline(frame.filename, frame.lineno).strip()
    return isinstance(error, (ValueError, RuntimeError)) and line.startswith("raise ")


def _let_in(
    checks: InputChecks, node_id: str, name: str, values: dict[str, Any], outcome: Outcome
) -> Iterator[Case]:
    seen = set()
    for label, value in values.items():
        for given, form in _forms(checks, value):
            case = Case(node_id, name, f"{label}{form}", given)
            try:
                with torch.inference_mode():
                    admitted, _ = checks.admit({name: given})
            except Exception as error:
                _count_error(case, error, outcome)
                continue
            key = _key(admitted.get(name, "absent"))
            if key in seen:
                outcome.add(SAME)
            elif _is_heavy(name, admitted.get(name)):
                outcome.add(HEAVY)
            else:
                seen.add(key)
                yield case


def _forms(checks: InputChecks, value: Any) -> list[tuple[Any, str]]:
    """A value as nodes get it: those that take lists get it alone, which is wrong, and in one."""
    return [(value, ""), ([value], " in a list")] if checks.is_list else [(value, "")]


def _is_heavy(name: str, value: Any) -> bool:
    name = name.rstrip("0123456789")
    values = value if isinstance(value, list) else [value]
    return any(
        isinstance(value, (int, float)) and not isinstance(value, bool) and value > WORK[name]
        for value in values
        if name in WORK
    )


def _count_error(case: Case, error: BaseException, outcome: Outcome) -> None:
    if is_own(error):
        outcome.add(OWN)
        return
    frame = traceback.extract_tb(error.__traceback__)[-1]
    own = [entry for entry in traceback.extract_tb(error.__traceback__)
           if Path(entry.filename).is_relative_to(ROOT)]  # fmt: skip
    place = own[-1] if own else frame
    outcome.add(
        RAW,
        f"{case.node_id}.{case.input} = {case.name}: {type(error).__name__}: "
        f"{str(error)[:160]!r} at {Path(place.filename).name}:{place.lineno}",
    )


def run_case(case: Case, samples: Samples, outcome: Outcome) -> None:
    """Run a node with an odd value."""
    inputs = {**samples.inputs(case.node_id), case.input: case.value}
    start = time.monotonic()
    timer = threading.Timer(
        LIMIT, comfy.model_management.interrupt_current_processing, args=(True,)
    )
    timer.start()
    try:
        call(samples.nodes[case.node_id], inputs)
        kind = RESULT
    except comfy.model_management.InterruptProcessingException:
        kind = SLOW
    except Exception as error:
        kind = None
        _count_error(case, error, outcome)
    finally:
        timer.cancel()
        comfy.model_management.interrupt_current_processing(False)
    seconds = time.monotonic() - start
    if seconds > LIMIT:
        outcome.add(SLOW, f"{case.node_id}.{case.input} = {case.name}: took {seconds:.0f} s")
    elif kind == RESULT:
        outcome.add(RESULT)


class Usual:
    """What nodes give with good inputs."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._known: dict[str, str] = {}

    def check(self, node_id: str, outcome: Outcome, after: str = "") -> None:
        """Run a node with good inputs, and compare with the first time."""
        now = self._run(node_id)
        if self._known.setdefault(node_id, now) != now:
            outcome.add(CHANGED, f"{node_id} gives something else after {after}")

    def _run(self, node_id: str) -> str:
        try:
            result = call(self._samples.nodes[node_id], self._samples.inputs(node_id))
        except Exception as error:
            return f"{type(error).__name__}: {error}" if is_own(error) else traceback.format_exc()
        return _key(result)

    def troubles(self) -> dict[str, str]:
        """Nodes that give no result with good inputs, and why."""
        return {node_id: key for node_id, key in self._known.items() if "Error" in key[:400]}


def _key(value: Any) -> str:
    """A text that is the same for equal values of one type."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"{type(value).__name__} {_content(value)}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_key(item)}' for name, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        if any(item is value for item in value):
            return "a ring"
        return f"{type(value).__name__} {[_key(item) for item in value]}"
    if isinstance(value, (str, bool, float, type(None))) or (
        isinstance(value, int) and abs(value) < 2**70
    ):
        return f"{type(value).__name__} {value!r}"
    return f"{type(value).__name__}"


def _content(value: Any) -> str:
    try:
        array = value.detach().float().numpy() if isinstance(value, torch.Tensor) else value
        digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()
        return f"{tuple(value.shape)} {value.dtype} {digest}"
    except (RuntimeError, TypeError, NotImplementedError):
        return f"{value.dtype} {getattr(value, 'layout', '')}"


def try_all(samples: Samples, node_ids: Sequence[str], tell: Any = print) -> Outcome:
    """Run every value that the checks accept through every node."""
    outcome, usual = Outcome(), Usual(samples)
    for node_id in node_ids:
        usual.check(node_id, outcome)
        start, before = time.monotonic(), len(outcome.faults)
        checks, values = checks_of(samples.nodes[node_id]), odd_values(samples)
        for name in checks.names():
            cases = list(_let_in(checks, node_id, name, values, outcome))
            for case in cases:
                run_case(case, samples, outcome)
            if cases:
                usual.check(node_id, outcome, f"odd values in {name}")
        tell(f"{node_id}: {time.monotonic() - start:.1f} s")
        for fault in outcome.faults[before:]:
            tell(f"  {fault}")
    for node_id, trouble in usual.troubles().items():
        tell(f"without a result of good inputs: {node_id}: {trouble[-400:]}")
    return outcome


def try_some(samples: Samples, node_ids: Sequence[str], count: int, seed: int = 0) -> Outcome:
    """Check every value at every node, once for inputs that are declared alike, and run some of
    those that are accepted."""
    outcome, usual = Outcome(), Usual(samples)
    values, known, cases = odd_values(samples), {}, []
    for node_id in node_ids:
        checks = checks_of(samples.nodes[node_id])
        for name in checks.names():
            alike = (*checks.declaration(name), name if name in WORK else "")
            if alike not in known:
                known[alike] = list(_let_in(checks, node_id, name, values, outcome))
            cases += (replace(case, node_id=node_id, input=name) for case in known[alike])
    order = np.random.default_rng(seed).permutation(len(cases))
    for case in (cases[number] for number in sorted(order[:count])):
        usual.check(case.node_id, outcome)
        run_case(case, samples, outcome)
        usual.check(case.node_id, outcome, f"{case.name} in {case.input}")
    return outcome
