"""Segment plans as text, in YAML, and back.

    order: left to right           # optional: in which the segments are worked on
    rules:
      - select: label face
        text: an old man
        denoise: {64: 0.6, 256: 0.35}
        loras: {freckles: 0.8}
      - select: else
        skip: not a face

A list of rules alone will do, and so will one rule alone. `select` is a text as
`core/detail/selectors.py` reads it, without it a rule is for all; `label` is short for a selector
of that label. The other keys are those of SETTINGS. A key without a value sets nothing.

YAML is only read: tags build nothing, and what an error is about is told with line and column.
"""

from __future__ import annotations

import difflib
import io
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...utils.check import quoted
from ...wildcards.grammar import Lora, parse_prompt
from ..detail.segment_plan import (
    LIMITS,
    LORA_STRENGTHS,
    MOST_RULES,
    ORDERS,
    SETTINGS,
    Curve,
    Overrides,
    Rule,
    SegmentPlan,
)
from ..detail.selectors import ALL, Label, Name, Selector, SelectorError, read_selector, with_label
from . import validate_values
from .report_plan import ReportError, is_report, plan_of_report
from .validate_values import Input

_QUOTES = ("'", '"')
LONGEST_PLAN = 1_000_000  # signs
MOST_DEPTH = 20  # of lists and mappings in one another

# The lists that some settings are chosen from, by the names of the settings.
Choices = Mapping[str, Callable[[], Sequence[str]]]


class PlanError(ValueError):
    """A text is no segment plan; the message says where and why."""


# Values, as they are typed -----------------------------------------------------------------------


def read_setting(name: str, value: Any, choices: Choices) -> dict[str, Any]:
    """What a setting of a rule sets, as fields of Overrides.

    Args:
        name: one of SETTINGS.
        value: as typed: a text, a number or a boolean.
        choices: what ComfyUI has of samplers and schedulers.

    Raises:
        ValueError: it is none that the nodes' widget of that name takes.
    """
    if name in _READERS:
        return _READERS[name](value)
    if name in choices:
        return {name: validate_values.choice(Input(name, {}), choices[name])(value)}
    return {name: _check_of(name)(value)}


def _check_of(name: str) -> Callable[[Any], Any]:
    if name not in LIMITS:
        return validate_values.text(Input(name, {}))
    kind, low, high = LIMITS[name]
    declared = Input(name, {"min": low, "max": high})
    if kind is bool:
        return validate_values.boolean(declared)
    number = validate_values.whole_number if kind is int else validate_values.real_number
    return number(declared)


def _read_seed(value: Any) -> dict[str, Any]:
    """A seed; with a sign, what is added to the one that the segment has otherwise."""
    text = str(value).strip()
    if text[:1] in ("+", "-"):
        return {"seed_offset": _check_of("seed_offset")(text)}
    return {"seed": _check_of("seed")(value)}


def _read_denoise(value: Any) -> dict[str, Any]:
    """A number, or a curve as in "64: 0.6, 256: 0.35"."""
    text = value.strip().removeprefix("{").removesuffix("}") if isinstance(value, str) else ""
    if ":" not in text:
        return {"denoise": _check_of("denoise")(value)}
    return {"denoise": curve_of(pair.split(":", 1) for pair in text.split(",") if pair.strip())}


def curve_of(points: Iterator[Sequence[str]]) -> Curve:
    """A curve of (size in pixels, denoise), as typed.

    Raises:
        ValueError: a point is no pair of numbers within their ranges, or a size comes twice.
    """
    size_of = validate_values.real_number(Input("denoise, a size", {"min": 1, "max": 2**20}))
    read: dict[float, float] = {}
    for point in points:
        if len(point) != 2:
            raise ValueError(
                f"'denoise' has {quoted(point[0].strip())}, which is no 'size: denoise'. Write "
                "pairs, such as 64: 0.6, 256: 0.35."
            )
        size = size_of(point[0].strip().removesuffix("px"))
        if size in read:
            raise ValueError(f"'denoise' has two values for the size {size:g}. Take one out.")
        read[size] = _check_of("denoise")(point[1].strip())
    return Curve(tuple(sorted(read.items())))


def _read_skip(value: Any) -> dict[str, Any]:
    """Yes or no; any other text is yes, and the reason."""
    try:
        return {"skip": _check_of("skip")(value)}
    except ValueError:
        if not isinstance(value, str) or not value.strip():
            raise
    return {"skip": True, "reason": value.strip()}


def _read_loras(value: Any) -> dict[str, Any]:
    """LoRAs, one a line: `name`, `name: 0.8`, `name: 0.8, 0.5` or `<lora:name:0.8>`."""
    loras: list[Lora] = []
    for line in str(value).replace(";", "\n").split("\n") if isinstance(value, str) else [value]:
        if not str(line).strip():
            continue
        if "<lora:" in str(line).casefold():
            break
        name, _, strengths = str(line).strip().partition(":")
        loras.append(lora_of(name, strengths.split(",") if strengths.strip() else []))
    else:
        return {"loras": tuple(loras)}
    prompt = parse_prompt(value)
    if any(prompt.chunks):
        raise ValueError(
            f"'loras' has {quoted(prompt.chunks[0])} besides LoRAs. Write <lora:name:0.8> alone, "
            "or one a line as name: 0.8."
        )
    return {"loras": prompt.loras}


def lora_of(name: str, strengths: Sequence[Any]) -> Lora:
    """A LoRA with its strengths for the model and, if it is another one, for CLIP.

    Raises:
        ValueError: there is no name, or the strengths are not one or two numbers in their range.
    """
    name = _check_of("lora's name")(name).strip()
    low, high = LORA_STRENGTHS
    check = validate_values.real_number(Input(f"loras, {name[:60]}", {"min": low, "max": high}))
    if not name or len(strengths) > 2:
        raise ValueError(
            f"'loras' has {quoted(name)} with {len(strengths)} strengths. Write a name with one "
            "strength, or one for the model and one for CLIP: name: 0.8, 0.5."
        )
    read = [check(strength) for strength in strengths] or [1.0]
    return Lora(name, read[0], read[-1])


_READERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "seed": _read_seed, "denoise": _read_denoise, "skip": _read_skip, "loras": _read_loras,
}  # fmt: skip


def label_selector(label: str) -> Selector:
    """A selector for one label, or several with commas."""
    return read_selector(f"label {label}")


# Reading YAML ------------------------------------------------------------------------------------


def read_plan(text: str, choices: Choices) -> SegmentPlan:
    """The plan that a YAML text holds.

    Args:
        choices: as in `read_setting`.

    Returns:
        For the report of a detailer the plan that repeats its run.

    Raises:
        PlanError: it holds none. It names line and column.
    """
    if is_report(text):
        try:
            return plan_of_report(text)
        except ReportError as error:
            raise PlanError(str(error)) from None
    return _PlanReader(text, choices).read()


class _PlanReader:
    def __init__(self, text: str, choices: Choices) -> None:
        self.text, self.choices = text, choices
        self.lines = text.split("\n")

    def read(self) -> SegmentPlan:
        root = self._composed()
        if root is None or _is_null(root):
            return SegmentPlan()
        if root.id == "sequence":
            return SegmentPlan(self._rules(root))
        if root.id != "mapping":
            raise self._error(root, f"a list of rules is wanted, not {quoted(root.value)}")
        pairs = self._pairs(root)
        if not pairs.keys() & {"rules", "order"}:
            return SegmentPlan((self._rule(root),))
        self._check_keys(pairs, ("order", "rules"))
        rules = _value_of("rules", pairs)
        if rules is not None and rules.id != "sequence":
            raise self._error(rules, "after rules a list is wanted: each rule begins with a dash")
        read = () if rules is None else self._rules(rules)
        return SegmentPlan(read, self._order(_value_of("order", pairs)))

    def _order(self, node: Any) -> str:
        if node is None:
            return ""
        order = " ".join(self._scalar(node).split()).casefold()
        if order not in ORDERS:
            raise self._error(node, f"the order is one of {', '.join(ORDERS)}")
        return order

    def _composed(self) -> Any:
        """The text as YAML's nodes; None for a blank one."""
        import yaml

        if len(self.text) > LONGEST_PLAN:
            raise PlanError(
                f"'plan' has {len(self.text)} signs; the most are {LONGEST_PLAN}. Shorten it."
            )
        # Nodes are composed, not constructed: whatever tags there are, nothing is built of them.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            depth = 0
            for event in yaml.parse(self.text, Loader=loader):
                depth += isinstance(event, yaml.CollectionStartEvent)
                depth -= isinstance(event, yaml.CollectionEndEvent)
                if depth > MOST_DEPTH:
                    raise self._error(event, f"more than {MOST_DEPTH} brackets are in one another")
            return yaml.compose(self.text, Loader=loader)
        except yaml.YAMLError as error:
            raise self._of_yaml(error) from None

    def _of_yaml(self, error: Any) -> PlanError:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        parts = [getattr(error, "context", None), problem]
        told = f"this is no YAML ({', '.join(part for part in parts if part)})"
        if "mapping values are not allowed" in told:
            told += ". Put a text that has a colon in quotes"
        if mark is not None:
            return self._at(mark.line, mark.column, told)
        before = self.text[: getattr(error, "position", 0)]
        return self._at(before.count("\n"), len(before) - before.rfind("\n") - 1, told)

    def _rules(self, node: Any) -> tuple[Rule, ...]:
        if len(node.value) > MOST_RULES:
            raise self._error(node, f"there are {len(node.value)} rules; the most are {MOST_RULES}")
        return tuple(self._rule(entry) for entry in node.value)

    def _rule(self, node: Any) -> Rule:
        if node.id != "mapping":
            raise self._error(
                node, "a rule is wanted, with lines such as 'select: label face' and 'steps: 30'"
            )
        pairs = self._pairs(node)
        self._check_keys(pairs, ("select", "label", *SETTINGS))
        selector = self._selector(pairs)
        overrides: dict[str, Any] = {}
        for name, (_, value) in pairs.items():
            if name in SETTINGS and not _is_null(value):
                overrides |= self._setting(name, value)
        return Rule(selector, Overrides(**overrides))

    def _selector(self, pairs: Mapping[str, tuple[Any, Any]]) -> Selector:
        selector, label = ALL, None
        for key in ("select", "label"):
            node = _value_of(key, pairs)
            if node is None:
                continue
            try:
                if key == "select":
                    selector = read_selector(self._scalar(node))
                else:
                    label = self._labels(node)
            except SelectorError as error:
                offset = error.offset - (len("label ") if key == "label" else 0)
                raise self._within(node, max(0, offset), f"in {key}, {error}") from None
        return selector if label is None else with_label(selector, label)

    def _labels(self, node: Any) -> Selector:
        if node.id == "sequence":
            names = tuple(Name(self._scalar(entry), quoted=True) for entry in node.value)
            if not names:
                raise self._error(node, "a label is wanted")
            return Label(names)
        return label_selector(self._scalar(node))

    def _setting(self, name: str, node: Any) -> dict[str, Any]:
        try:
            if name == "denoise" and node.id == "mapping":
                pairs = self._pairs(node)
                return {
                    "denoise": curve_of(
                        (key, self._scalar(value)) for key, (_, value) in pairs.items()
                    )
                }
            if name == "loras" and node.id == "mapping":
                pairs = self._pairs(node)
                return {
                    "loras": tuple(
                        lora_of(key, self._strengths(value)) for key, (_, value) in pairs.items()
                    )
                }
            if name == "loras" and node.id == "sequence":
                return {"loras": tuple(lora_of(self._scalar(own), []) for own in node.value)}
            return read_setting(name, self._scalar(node), self.choices)
        except PlanError:
            raise
        except ValueError as error:
            raise self._error(node, str(error).rstrip(".")) from None

    def _strengths(self, node: Any) -> list[str]:
        if node.id == "sequence":
            return [self._scalar(entry) for entry in node.value]
        return [] if _is_null(node) else self._scalar(node).split(",")

    def _pairs(self, node: Any) -> dict[str, tuple[Any, Any]]:
        """The keys of a mapping with their nodes and those of their values."""
        pairs: dict[str, tuple[Any, Any]] = {}
        for key, value in node.value:
            name = self._scalar(key)
            if name in pairs:
                first = pairs[name][0].start_mark.line + 1
                raise self._error(key, f"{quoted(name)} stands here and in line {first}")
            pairs[name] = key, value
        return pairs

    def _check_keys(self, pairs: Mapping[str, tuple[Any, Any]], known: Sequence[str]) -> None:
        for name, (key, _) in pairs.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                remedy = f"Is '{near[0]}' meant?" if near else f"There are: {', '.join(known)}"
                raise self._error(key, f"{quoted(name)} is no key here. {remedy}")

    def _scalar(self, node: Any) -> str:
        if node.id != "scalar":
            raise self._error(node, "a text or a number is wanted here, not a list or more keys")
        return node.value

    def _within(self, node: Any, offset: int, problem: str) -> PlanError:
        """An error about a sign of a text."""
        mark = node.start_mark
        if mark.line != node.end_mark.line or node.id != "scalar":
            return self._error(node, problem)
        return self._at(mark.line, mark.column + offset + (node.style in _QUOTES), problem)

    def _error(self, node: Any, problem: str) -> PlanError:
        return self._at(node.start_mark.line, node.start_mark.column, problem)

    def _at(self, line: int, column: int, problem: str) -> PlanError:
        """An error at a line and a column, both from 0."""
        source = self.lines[line].strip() if line < len(self.lines) else ""
        shown = f" The line is: {source:.80}" if source else ""
        remedy = "" if problem.endswith("?") else "."
        return PlanError(f"'plan', line {line + 1}, column {column + 1}: {problem}{remedy}{shown}")


def _value_of(key: str, pairs: Mapping[str, tuple[Any, Any]]) -> Any:
    """The node of a key's value; None where there is no such key, or no value."""
    node = pairs.get(key, (None, None))[1]
    return None if node is None or _is_null(node) else node


def _is_null(node: Any) -> bool:
    return node.id == "scalar" and node.tag == "tag:yaml.org,2002:null"


# Writing YAML ------------------------------------------------------------------------------------


def write_plan(plan: SegmentPlan) -> str:
    """A text that `read_plan` reads as this plan."""
    if not plan.rules and not plan.order:
        return "[]\n"
    out = io.StringIO()
    if plan.order:
        out.write(f"order: {plan.order}\nrules:\n")
    for rule in plan.rules:
        lines = [f"select: {_written(str(rule.selector))}"]
        for name in SETTINGS:
            value = getattr(rule.overrides, name)
            if value != getattr(Overrides, name):
                lines.append(f"{name}: {_written(value)}")
        out.write("".join(f"{'  ' if at else '- '}{line}\n" for at, line in enumerate(lines)))
    return out.getvalue() if plan.rules else out.getvalue().replace("rules:", "rules: []")


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Curve):
        return "{" + ", ".join(f"{_number(s)}: {_number(d)}" for s, d in value.points) + "}"
    if isinstance(value, tuple):
        return _loras_written(value)
    if isinstance(value, str):
        return _text_written(value)
    return _number(value)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(value).removesuffix(".0")


def _loras_written(loras: Sequence[Lora]) -> str:
    if any(lora.lbw is not None for lora in loras):
        return _text_written(" ".join(map(_tag, loras)))
    return (
        "{"
        + ", ".join(f"{_text_written(own.name, True)}: {_strengths(own)}" for own in loras)
        + "}"
    )


def _strengths(lora: Lora) -> str:
    model, clip = _number(lora.model_strength), _number(lora.clip_strength)
    return model if model == clip else f"[{model}, {clip}]"


def _tag(lora: Lora) -> str:
    text = f"<lora:{lora.name}:{_number(lora.model_strength)}:{_number(lora.clip_strength)}"
    for name, value in (("LBW", lora.lbw), ("A", lora.lbw_a), ("B", lora.lbw_b)):
        if value is not None:
            text += f":{name}={value};" if name == "LBW" else f"{name}={_number(value)};"
    return text + ">"


_PLAIN_SIGNS = frozenset(string.ascii_letters + string.digits + " _-.,()<>=*/%")
_PLAIN_IN_LINE = _PLAIN_SIGNS - set(",")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def _text_written(text: str, in_line: bool = False) -> str:
    """A text: plain where YAML reads that as the same, lines as lines, else in quotes.

    Args:
        in_line: it is a part of a list or mapping in brackets.
    """
    lines = text.split("\n")
    if len(lines) > 1 and not in_line and _is_block(lines):
        ends = not lines[-1]
        shown = [f"    {line}" if line else "" for line in (lines[:-1] if ends else lines)]
        return "\n".join(["|" if ends else "|-", *shown])
    signs = _PLAIN_IN_LINE if in_line else _PLAIN_SIGNS
    begins = text[:1] in set(string.ascii_letters) and text == text.strip()
    if begins and signs.issuperset(text) and text.casefold() not in _WORDS:
        return text
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _is_block(lines: Sequence[str]) -> bool:
    """Whether YAML reads these lines of a block as they are."""
    if lines[0] != lines[0].strip() or not lines[0] or not any(lines[-2:]):
        return False
    return all(line.isprintable() and line == line.rstrip() for line in lines)


def _escaped(sign: str) -> str:
    if sign in _ESCAPED:
        return _ESCAPED[sign]
    return sign if sign.isprintable() else f"\\U{ord(sign):08X}"
