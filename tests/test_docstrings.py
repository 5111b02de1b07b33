"""Docstrings of the pack: everything public has one, with the shapes of tensors and the errors."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from detailers.dev.server import ROOT

FOLDERS = ("core", "nodes", "utils", "wildcards")
# What ComfyUI calls on a node class; the tooltips and DESCRIPTION document these.
OF_NODES = {"INPUT_TYPES", "IS_CHANGED", "VALIDATE_INPUTS", "check_lazy_status"}
# Methods that override those of torch and of ComfyUI, which document them.
OF_OTHERS = {"forward", "inner_set_conds", "inner_sample", "predict_noise"}
TENSOR = re.compile(r"\bTensor\b|\bndarray\b")
SHAPE = re.compile(r"\[[^\[\]`]*\]")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Place(NamedTuple):
    """A public class or function of a file."""

    file: str
    node: ast.ClassDef | Function
    owner: ast.ClassDef | None  # the class of a method

    @property
    def name(self) -> str:
        owner = f"{self.owner.name}." if self.owner else ""
        return f"{self.file}:{self.node.lineno} {owner}{self.node.name}"

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def is_function(self) -> bool:
        return not isinstance(self.node, ast.ClassDef)


def places_in(file: str, tree: ast.AST) -> Iterator[Place]:
    """The public classes, functions and methods at the top level of a file."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield Place(file, node, None)
            if isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, Function) and not part.name.startswith("_"):
                        yield Place(file, part, node)


class Pack:
    """The public places of some files, and the methods that classes document for others."""

    def __init__(self, sources: dict[str, str]) -> None:
        trees = {file: ast.parse(source) for file, source in sources.items()}
        self.without_docstring = [f for f, tree in trees.items() if not ast.get_docstring(tree)]
        self.places = [place for file, tree in trees.items() for place in places_in(file, tree)]
        self._bases: dict[str, set[str]] = {}
        self._documented: dict[str, set[str]] = {}
        for tree in trees.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
                    self._bases.setdefault(node.name, set()).update(bases)
                    self._documented.setdefault(node.name, set()).update(
                        part.name
                        for part in node.body
                        if isinstance(part, Function) and ast.get_docstring(part)
                    )

    def inherits(self, place: Place) -> bool:
        """Whether a method overrides one that the pack or another package documents."""
        if place.owner is None:
            return False
        if place.node.name in OF_OTHERS and place.owner.bases:
            return True
        seen, left = set(), [place.owner.name]
        while left:
            for base in self._bases.get(left.pop(), set()) - seen:
                seen.add(base)
                left.append(base)
        # The protocol of the backend is implemented without a base class.
        seen |= {"Backend", "TextBackend"} if "Backend" in place.owner.name else set()
        return any(place.node.name in self._documented.get(name, ()) for name in seen)


def is_node(owner: ast.ClassDef) -> bool:
    """Whether a class is a node of ComfyUI, by its attribute RETURN_TYPES or FUNCTION."""
    names = {
        target.id
        for part in owner.body
        if isinstance(part, ast.Assign)
        for target in part.targets
        if isinstance(target, ast.Name)
    }
    methods = {part.name for part in owner.body if isinstance(part, Function)}
    return bool(names & {"RETURN_TYPES", "FUNCTION", "CATEGORY", "DESCRIPTION"}) or (
        "INPUT_TYPES" in methods
    )


def is_of_a_node(place: Place) -> bool:
    """Whether the editor shows what a node class, or its entry methods, do."""
    if not place.is_function:
        return is_node(place.node)
    return place.owner is not None and is_node(place.owner)


def undocumented(pack: Pack) -> list[str]:
    """Public places without a docstring."""
    return pack.without_docstring + [
        place.name
        for place in pack.places
        if not (place.doc or is_of_a_node(place) or pack.inherits(place))
    ]


def without_shapes(pack: Pack) -> list[str]:
    """Functions that take or give tensors or arrays, and name no shape."""
    return [
        place.name
        for place in pack.places
        if place.is_function
        and place.doc
        and TENSOR.search(" ".join(annotations_of(place.node)))
        and not (SHAPE.search(place.doc) or pack.inherits(place) or is_of_a_node(place))
    ]


def annotations_of(function: Function) -> list[str]:
    arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    found = [argument.annotation for argument in arguments] + [function.returns]
    return [ast.unparse(annotation) for annotation in found if annotation is not None]


def without_errors(pack: Pack) -> list[str]:
    """Functions that raise an error on purpose, and do not say so."""
    return [
        f"{place.name}: {', '.join(sorted(raised))}"
        for place in pack.places
        if place.is_function and not (pack.inherits(place) or is_of_a_node(place))
        for raised in [errors_of(place.node)]
        if raised and "Raises:" not in place.doc and not re.search(r"\b[Rr]aises?\b", place.doc)
    ]


def errors_of(function: Function) -> set[str]:
    """The errors in the raise statements of a function, without those of functions inside."""
    found: set[str] = set()
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop()
        if isinstance(node, Function | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            found.add(ast.unparse(error))
        left += ast.iter_child_nodes(node)
    return found


@pytest.fixture(scope="module")
def pack() -> Pack:
    files = [path for folder in FOLDERS for path in sorted(Path(ROOT, folder).rglob("*.py"))]
    return Pack({path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in files})


def test_everything_public_has_a_docstring(pack):
    assert undocumented(pack) == []


def test_docstrings_name_the_shapes_of_tensors(pack):
    assert without_shapes(pack) == []


def test_docstrings_name_the_errors(pack):
    assert without_errors(pack) == []


def test_what_is_missing_is_found():
    bad = Pack({
        "a.py": '''
def f(image: torch.Tensor) -> int:
    """An image."""
    raise ValueError("no")

class Base:
    """A base."""
    def told(self):
        """Told."""

class C(Base):
    """A class."""
    def told(self): ...
    def untold(self): ...
    def _own(self): ...
'''
    })  # fmt: skip
    assert undocumented(bad) == ["a.py", "a.py:14 C.untold"]
    assert without_shapes(bad) == ["a.py:2 f"]
    assert without_errors(bad) == ["a.py:2 f: ValueError"]
