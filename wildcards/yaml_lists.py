"""Wildcard lists in YAML, read with the meaning that their authors intend.

Options have braces, brackets, colons, quotes and stars, which are syntax in YAML. In a text file
such a line is correct, so people write it in YAML too:

    hair:
      - {long|short} hair
      - "x", more
      - (red:1.2), style: anime

If YAML would read something else than a text, or refuse the file, the line is taken as a text.
Correct YAML keeps its meaning: quotes around a whole option, block texts (`|`, `>`), lists in
brackets, mappings with indented keys, anchors that an alias in the file refers to, comments.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

TOO_DEEP = "nested too deeply"
MAX_DEPTH = 64  # nesting of mappings and lists; far above real files
MAX_RETRIES = 50  # lines of one file that are left out before the rest is left out
MAX_READ = 128 * 2**20  # characters that are parsed for one file, all retries together

_ITEM = re.compile(r"(?P<indent> *)-(?:[ \t]+|$)(?P<text>.*)")
# The key of a mapping: in quotes, or plain up to a colon that a blank or the line's end follows.
_KEY = re.compile(
    r"""(?P<indent>[ ]*)
        (?:"(?:[^"\\]|\\.)*"[ ]{0,9}|'(?:[^']|'')*'[ ]{0,9}
          |[^\s#\-?"'\[\]{}&*!|>%@`,][^#]*?|-[^\s#][^#]*?):
        (?:[ \t]+|$)(?P<text>.*)""",
    re.VERBOSE,
)
_BLOCK_TEXT = re.compile(r"[|>](?:[0-9][+-]?|[+-][0-9]?)?[ \t]*(?:(?<=[ \t])#.*)?$")
_QUOTED = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')[ \t]*(?:(?<=[ \t])#.*)?$""")
_REFERENCE = re.compile(r"([&*])([^\s,\[\]{}]{1,100})(?=[\s,\[\]{}]|$)")
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#")
_NOT_PLAIN = re.compile(r"""[-?:,\[\]{}#&*!|>'"%@`]|.*:(?:[ \t]|$)""")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass
class YamlLists:
    """The content of a YAML file.

    Attributes:
        lists: (keys from the outermost to the list's own, options) in the order of the file; a list
            at the top has no keys. Equal aliases share one list object.
        faults: one text for each part that was left out, with the reason and the line.
    """

    lists: list[tuple[tuple[str, ...], list[str]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_yaml_lists(text: str) -> YamlLists:
    """Read the lists of a YAML text.

    Args:
        text: the file's content.

    Raises:
        ImportError: PyYAML is not installed.
    """
    import yaml

    result = YamlLists()
    lines = _without_control_characters(text, result.faults).split("\n")
    lines = _as_meant(lines)
    parsed = 0
    for _ in range(MAX_RETRIES + 1):
        tree = _Tree()
        whole = "\n".join(lines)
        parsed += len(whole)
        try:
            tree.build(yaml, whole)
        except yaml.YAMLError as error:
            line = _line_of(error, lines)
            reason = getattr(error, "problem", None) or getattr(error, "reason", None) or error
            if line is None or parsed > MAX_READ:
                result.faults.append(f"the rest from line {_told_line(error)} on, {reason}")
                break
            result.faults.append(f"line {line + 1} is no valid YAML, {reason}")
            lines[line] = ""
        else:
            break
    else:
        result.faults.append("the rest, as too many lines are no valid YAML")
    tree.collect(result)
    return result


# The intended text ----------------------------------------------------------------------------


def _without_control_characters(text: str, faults: list[str]) -> str:
    """The text with Unix line ends and without the characters that YAML does not allow."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first = _CONTROL.search(text)
    if first is None:
        return text
    line = text.count("\n", 0, first.start()) + 1
    faults.append(f"control characters, the first of them in line {line}")
    return _CONTROL.sub("", text)


def _as_meant(lines: list[str]) -> list[str]:
    """The lines, with quotes around texts that YAML would not read as texts.

    The number of lines is kept, so that errors name the line in the user's file.
    """
    return _Lines(lines).quoted()


class _Lines:
    """The lines of a YAML file, which get quotes where they need them."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = [_spaces_for_tabs(line) for line in lines]
        marks: dict[str, set[str]] = {"&": set(), "*": set()}
        for line in self.lines:
            for sign, name in _REFERENCE.findall(line):
                marks[sign].add(name)
        self._names = marks["&"] & marks["*"]  # anchors that are referred to
        self._open = [0]  # indentations of the entries that contain the current line

    def quoted(self) -> list[str]:
        """The lines with quotes."""
        position = 0
        aligned: int | None = None  # indentation of the previous option, if that is a complete text
        while position < len(self.lines):
            line = self.lines[position]
            if _is_idle(line):
                position += 1
                continue
            item = _ITEM.match(line)
            match = item or _KEY.match(line)
            if match is None:
                position, aligned = position + 1, None
                continue
            indent = len(match["indent"])
            if item and aligned is not None and self._strays(indent, aligned):
                self.lines[position] = " " * aligned + line.lstrip()
                match, indent = _ITEM.match(self.lines[position]), aligned
            self._enter(indent)
            position, finished = self._entry(position, match, indent, is_option=bool(item))
            aligned = indent if item and finished else None
        return self.lines

    def _enter(self, indent: int) -> None:
        while self._open and self._open[-1] > indent:
            self._open.pop()
        if not self._open or self._open[-1] < indent:
            self._open.append(indent)

    def _strays(self, indent: int, aligned: int) -> bool:
        """Whether an option is neither aligned with the one before it nor part of an outer list."""
        if indent >= aligned:
            return indent > aligned
        return indent not in self._open[-MAX_DEPTH:]

    def _entry(
        self, position: int, match: re.Match[str], indent: int, is_option: bool
    ) -> tuple[int, bool]:
        """Put quotes around the text of an option or of a key, if it needs them.

        Returns:
            The position after the entry, and whether it is a complete text.
        """
        text = match["text"].strip()
        if not text or text.startswith("#"):
            return position + 1, False
        if _BLOCK_TEXT.match(text):
            return self._end_of_block(position, indent), True
        if text.startswith("!!") or self._is_reference(text, is_option):
            return position + 1, False
        if _QUOTED.match(text):
            return position + 1, True
        end = self._end_of_text(position, indent)
        if (
            text[0] in "\"'"
            and end > position + 1
            and _QUOTED.match(self._joined(position, text, end))
        ):
            return end, True
        if text[0] in "[{" and not is_option:
            end, text, is_closed = self._flow(position, text, indent)
            if not is_closed:
                return position + 1, False  # YAML refuses it, with an error
            entries = _entries_as_texts(text, self._names)
            if entries is not None:
                in_brackets = f"[{', '.join(map(_in_quotes, entries))}]"
                self._replace(position, end, match, in_brackets)
                return end, False
            if _is_proper_flow(text, self._names):
                return end, False
            end = max(end, self._end_of_text(position, indent))
            text = self._joined(position, match["text"].strip(), end)
        elif is_option and self._begins_mapping(position, text, indent, end):
            return position + 1, False
        else:
            text = self._joined(position, text, end)
        text = _without_comment(text)
        if _NOT_PLAIN.match(text):
            self._replace(position, end, match, _in_quotes(text))
        return end, True

    def _begins_mapping(self, position: int, text: str, indent: int, end: int) -> bool:
        """Whether an option is the first key of a mapping, by the lines below it."""
        if _without_comment(text).endswith(":"):
            below = position + 1
            while below < len(self.lines) and _is_idle(self.lines[below]):
                below += 1
            return below < len(self.lines) and _indent(self.lines[below]) > indent
        return any(_KEY.match(line) for line in self.lines[position + 1 : end])

    def _joined(self, position: int, text: str, end: int) -> str:
        """The text of an entry with its continuation lines, folded as YAML does."""
        if end == position + 1:
            return text
        more = (_without_comment(line).strip() for line in self.lines[position + 1 : end])
        return " ".join([_without_comment(text), *filter(None, more)])

    def _replace(self, position: int, end: int, match: re.Match[str], text: str) -> None:
        head = self.lines[position][: match.start("text")]
        self.lines[position:end] = [head + text, *[""] * (end - position - 1)]

    def _is_reference(self, text: str, is_option: bool) -> bool:
        """Whether it begins with an alias or anchor; options may begin with the same characters."""
        reference = _REFERENCE.match(text)
        if reference is None:
            return False
        return reference[2] in self._names or (reference[1] == "&" and not is_option)

    def _end_of_block(self, position: int, indent: int) -> int:
        """The position after a block text, whose lines are indented more than its head."""
        end = position + 1
        while end < len(self.lines):
            line = self.lines[end]
            if line.strip() and _indent(line) <= indent:
                break
            end += 1
        return end

    def _end_of_text(self, position: int, indent: int) -> int:
        """The position after the lines that continue the text of an entry."""
        end = ahead = position + 1
        while ahead < len(self.lines):
            line = self.lines[ahead]
            if line.strip():
                if _indent(line) <= indent or _ITEM.match(line) or _is_idle(line):
                    break
                end = ahead + 1
            ahead += 1
        return end

    def _flow(self, position: int, text: str, indent: int) -> tuple[int, str, bool]:
        """The position after a value in brackets, the value, and whether it is closed."""
        depth, quote = _brackets(text, 0, "")
        end, parts = position + 1, [_without_comment(text)]
        while depth > 0 and end < len(self.lines):
            line = self.lines[end]
            if line.strip() and _indent(line) <= indent and line.strip()[0] not in "]}":
                break
            depth, quote = _brackets(line, depth, quote)
            parts.append(_without_comment(line).strip())
            end += 1
        return end, " ".join(filter(None, parts)), depth <= 0


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_idle(line: str) -> bool:
    """Whether a line is blank or a comment."""
    start = line.lstrip()
    return not start or start.startswith("#")


def _spaces_for_tabs(line: str) -> str:
    """The line with spaces instead of tabs in its indentation, because YAML refuses tabs."""
    stripped = line.lstrip(" \t")
    indent = line[: len(line) - len(stripped)]
    return indent.expandtabs(2) + stripped.rstrip() if "\t" in indent else line


def _without_comment(text: str) -> str:
    """A line without the comment at its end, which begins with a blank and `#`."""
    comment = _COMMENT.search(text)
    return text[: comment.start()].rstrip() if comment else text


def _in_quotes(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _brackets(line: str, depth: int, quote: str) -> tuple[int, str]:
    """The number of brackets that are open after a line, and the quote that is open.

    Quotes count only at the start of an entry, and comments do not count.
    """
    before = " "  # the character before; and below the last one that is no blank
    last = ","
    for sign in line:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and last in "[,{:":
            quote = sign
        elif sign == "#" and before in " \t":
            break
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        before = sign
        if not sign.isspace():
            last = sign
    return depth, quote


def _entries_as_texts(text: str, names: set[str]) -> list[str] | None:
    """The entries of a list in brackets as texts, if YAML would not read all of them as texts.

    None if it is no list in brackets, or if YAML reads all entries as texts.
    """
    if not (text.startswith("[") and text.endswith("]")) or _is_proper_flow(text, names):
        return None
    entries, depth, quote, start = [], 0, "", 1
    for position in range(1, len(text) - 1):
        sign = text[position]
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and not text[start:position].strip():
            quote = sign
        elif sign in "[{(":
            depth += 1
        elif sign in "]})":
            depth -= 1
            if depth < 0:
                return None  # the first bracket is closed here: [face] and [hands]
        elif sign == "," and depth == 0:
            entries.append(text[start:position].strip())
            start = position + 1
    entries.append(text[start:-1].strip())
    return [_unquoted(entry) for entry in entries if entry]


def _unquoted(text: str) -> str:
    """A text without its quotes."""
    if len(text) < 2 or not _QUOTED.match(text):
        return text
    tree = _parsed(text)
    return str(tree) if isinstance(tree, _Text) else text


def _is_proper_flow(text: str, names: set[str]) -> bool:
    """Whether YAML reads a list of texts, or a mapping of keys with values, such as {warm: [red]}.

    Args:
        names: the anchors that aliases may refer to.
    """
    tree = _parsed(text, names)
    if isinstance(tree, _List):
        return all(isinstance(entry, _Text) for entry in tree)
    return isinstance(tree, _Mapping) and _has_values(tree)


def _has_values(tree: Any) -> bool:
    if isinstance(tree, _Text):
        return bool(tree)
    if isinstance(tree, _Mapping):
        return all(len(pair) == 2 and _has_values(pair[1]) for pair in tree)
    return all(map(_has_values, tree))


def _parsed(text: str, names: Iterable[str] = ()) -> Any:
    """The value that YAML reads from a text, with a text for each alias; None if it refuses."""
    import yaml

    tree = _Tree(dict.fromkeys(names, _Text("alias")))
    try:
        tree.build(yaml, text)
    except yaml.YAMLError:
        return None
    return tree.roots[0] if tree.roots else None


# From YAML to lists ----------------------------------------------------------------------------


class _Tree:
    """The documents of a file as texts, lists and pairs, built without recursion.

    Nodes that were built before an error are kept.
    """

    def __init__(self, anchors: dict[str, Any] | None = None) -> None:
        self.roots: list[Any] = []
        self._open: list[Any] = []  # lists, and mappings as lists of pairs
        self._anchors: dict[str, Any] = anchors or {}

    def build(self, yaml: Any, text: str) -> None:
        """Add the documents of a text.

        Raises:
            yaml.YAMLError: the text is no valid YAML, or is nested too deeply.
        """
        # A base loader builds only texts, lists and mappings, even if a file has tags.
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.ScalarEvent):
                self._add(_Text(event.value), event)
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                if len(self._open) >= MAX_DEPTH:
                    raise yaml.MarkedYAMLError(problem=TOO_DEEP, problem_mark=event.start_mark)
                is_list = isinstance(event, yaml.SequenceStartEvent)
                node = _List() if is_list else _Mapping()
                node.line = event.start_mark.line + 1
                self._add(node, event)
                self._open.append(node)
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                self._open.pop()
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self._anchors:
                    raise yaml.MarkedYAMLError(
                        problem=f"the alias *{event.anchor} has no anchor",
                        problem_mark=event.start_mark,
                    )
                self._put(self._anchors[event.anchor])

    def _add(self, node: Any, event: Any) -> None:
        if event.anchor:
            self._anchors[event.anchor] = node
        self._put(node)

    def _put(self, node: Any) -> None:
        if not self._open:
            self.roots.append(node)
            return
        parent = self._open[-1]
        if isinstance(parent, _List):
            parent.append(node)
        elif parent and len(parent[-1]) == 1:
            parent[-1].append(node)
        else:
            parent.append([node])

    def collect(self, result: YamlLists) -> None:
        """Add the lists of all documents to `result`, and entries that are no texts as faults."""
        options: dict[int, list[str]] = {}
        walked: set[int] = set()
        repeats = 0
        stack: list[tuple[tuple[str, ...], Any]] = [((), root) for root in reversed(self.roots)]
        while stack:
            keys, node = stack.pop()
            if isinstance(node, _Mapping):
                if id(node) in walked:  # aliases of aliases could expand to any size
                    repeats += 1
                    continue
                walked.add(id(node))
                pairs = [pair for pair in node if len(pair) == 2 and isinstance(pair[0], _Text)]
                stack += [((*keys, str(key)), child) for key, child in reversed(pairs)]
                continue
            if id(node) not in options:
                options[id(node)] = _options(node, keys, result.faults)
            if keys or options[id(node)]:
                result.lists.append((keys, options[id(node)]))
            if isinstance(node, _List):
                stack += [(keys, child) for child in reversed(node) if isinstance(child, _Mapping)]
        if repeats:
            result.faults.append(
                f"{repeats} repeats of mappings by alias; repeat the lists in them instead"
            )


class _Text(str):
    __slots__ = ()


class _List(list):
    line = 0


class _Mapping(list):
    line = 0


def _options(node: Any, keys: tuple[str, ...], faults: list[str]) -> list[str]:
    if isinstance(node, str):
        return text_options(node)
    texts = [str(entry).strip() for entry in node if isinstance(entry, _Text)]
    for entry in node:
        if isinstance(entry, _List):
            faults.append(f"line {entry.line} is a list within a list")
    return [text for text in texts if text]


def text_options(text: str) -> list[str]:
    """The options in a text, one in each line, without blank lines and comments (`#`)."""
    lines = (line.strip() for line in io.StringIO(text, newline=None))
    return [line for line in lines if line and not line.startswith("#")]


def _told_line(error: Any) -> int:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return mark.line + 1 if mark else 1


def _line_of(error: Any, lines: Sequence[str]) -> int | None:
    """The line, counted from 0, to leave out after an error of the YAML reader; None: stop."""
    if getattr(error, "problem", None) == TOO_DEEP:
        return None
    context, problem = getattr(error, "context_mark", None), getattr(error, "problem_mark", None)
    doing = str(getattr(error, "context", None) or "")
    # For a quote or bracket that is never closed, YAML reports the end of the file.
    mark = context if context and ("scanning" in doing or "flow" in doing) else problem or context
    line = min(mark.line, len(lines) - 1) if mark else -1
    while line >= 0 and not lines[line].strip():
        line -= 1
    return line if line >= 0 else None
