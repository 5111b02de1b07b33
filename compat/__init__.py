"""ComfyUI-Impact-Pack's Python modules, for packs that import them where that pack is not there.

`import impact.core` and its like then give what stands here: the same names and calls, over this
pack's core. Nothing is in the way of the real modules, which are looked for first.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

PACKAGE = "impact"
_ABSENT = (
    "{name!r} is asked of ComfyUI-Impact-Pack, for which Detailers stands in, but Detailers has no "
    "such {kind}. Install ComfyUI-Impact-Pack for the node or pack that needs it."
)


class StandIn(ModuleType):
    """A module that has the public names of one of this package's."""

    def __init__(self, name: str, sources: Sequence[Any]) -> None:
        super().__init__(name, "Stands in for ComfyUI-Impact-Pack's module; part of Detailers.")
        self.__file__ = __file__
        self.__all__ = sorted({name for source in sources for name in source.__all__})
        self._sources, self._told = sources, set()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for source in self._sources:
            if name in source.__all__:
                return getattr(source, name)
        text = _ABSENT.format(name=f"{self.__name__}.{name}", kind="name")
        if name not in self._told:  # `from ... import` replaces the error's text
            self._told.add(name)
            log.warning("%s", text)
        raise AttributeError(text)

    def __dir__(self) -> list[str]:
        return self.__all__


class Finder:
    """Finds the modules for Python's import."""

    def __init__(self, allowed: Callable[[], bool]) -> None:
        """`allowed` says whether they may be given by now."""
        self.allowed = allowed

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name == PACKAGE:
            return ModuleSpec(name, self, is_package=True) if self.allowed() else None
        if not name.startswith(f"{PACKAGE}.") or not _is_ours(sys.modules.get(PACKAGE)):
            return None
        if name.removeprefix(f"{PACKAGE}.") not in _modules():
            raise ModuleNotFoundError(_ABSENT.format(name=name, kind="module"), name=name)
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if spec.name == PACKAGE:
            return StandIn(PACKAGE, ())
        return StandIn(spec.name, _modules()[spec.name.removeprefix(f"{PACKAGE}.")])

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to do: the names are looked up when they are asked for."""


def _is_ours(module: ModuleType | None) -> bool:
    return isinstance(module, StandIn)


def _modules() -> dict[str, tuple[Any, ...]]:
    """What the modules have their names from, by their names."""
    from . import classes, core, hooks, impact_sampling, utils, wildcards

    with_classes = dict.fromkeys(classes.MODULES, (classes.Classes(),))
    return {
        **with_classes,
        "core": (core, impact_sampling),
        "utils": (utils,),
        "wildcards": (wildcards,),
        "hooks": (hooks,),
        "impact_sampling": (impact_sampling,),
        "special_samplers": (classes.Classes(), impact_sampling),
    }


def stand_in(allowed: Callable[[], bool]) -> Finder:
    """Give the modules to whoever imports them and finds none elsewhere."""
    finder = Finder(allowed)
    sys.meta_path.append(finder)
    return finder


def take_over(finder: Finder, folder: str) -> None:
    """Go before what a pack that could not be imported has left behind of these modules.

    Args:
        folder: the pack's.
    """
    base = Path(folder).resolve()
    left = [
        name
        for name, module in sys.modules.items()
        if (name == PACKAGE or name.startswith(f"{PACKAGE}.")) and _lies_in(module, base)
    ]
    for name in left:
        del sys.modules[name]
    if left or any(_is_below(entry, base) for entry in sys.path):
        sys.meta_path.remove(finder)
        sys.meta_path.insert(0, finder)


def _lies_in(module: ModuleType, base: Path) -> bool:
    files = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(_is_below(file, base) for file in files)


def _is_below(path: Any, base: Path) -> bool:
    try:
        return bool(path) and Path(path).resolve().is_relative_to(base)
    except (OSError, TypeError, ValueError):
        return False
