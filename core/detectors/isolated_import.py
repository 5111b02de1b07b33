"""Import ultralytics, and undo its changes to what other code relies on."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from os import environ
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

_lock = (
    threading.RLock()
)  # two imports at once would each see the other's changes as the former state

# ultralytics reads these once, when it is imported. With them it uses no network and installs no
# packages. A value that the user has set is kept.
_SETTINGS = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
# Variables that it sets. Only these are restored, one by one, because other threads use the rest.
_VARIABLES = ("OMP_NUM_THREADS", "NUMEXPR_MAX_THREADS", "TF_CPP_MIN_LOG_LEVEL",
              "TORCH_CPP_LOG_LEVEL", "KINETO_LOG_LEVEL", *_SETTINGS)  # fmt: skip
_FUNCTIONS = ((Image, "open"), (torch, "save"), (torch, "load"))
_FUNCTIONS_OF_OPENCV = ("imread", "imwrite", "imshow")


def import_ultralytics() -> ModuleType:
    """Import the package with its networks, and undo what it changes for others.

    It replaces `PIL.Image.open`, `torch.save` and, on some systems, OpenCV's functions for files
    with its own. It also sets environment variables, OpenCV's number of threads, how arrays are
    printed, and which warnings are shown. With its functions, a broken picture anywhere in the host
    ends in an attempt to install a package. Its layers need none of this.

    Other threads run at the same time. So each thing is restored separately, and only if it is
    still as the package has left it. Nothing that the package does not change is written.

    Raises:
        ImportError: the package, or one that it needs, is missing.
    """
    is_there = "ultralytics.nn.tasks" in sys.modules
    with _lock, nullcontext() if is_there else _kept_as_it_is():
        import ultralytics.nn.tasks

        return ultralytics


@contextmanager
def _kept_as_it_is() -> Iterator[None]:
    import cv2

    functions = [*_FUNCTIONS, *((cv2, name) for name in _FUNCTIONS_OF_OPENCV)]
    before = [(owner, name, getattr(owner, name, None)) for owner, name in functions]
    variables = {name: environ.get(name) for name in _VARIABLES}
    printing, tensors = np.get_printoptions(), dict(vars(torch._tensor_str.PRINT_OPTS))
    threads, shown = cv2.getNumThreads(), list(warnings.filters)
    for name, value in _SETTINGS.items():
        environ.setdefault(name, value)
    try:
        yield
    finally:
        for owner, name, function in before:
            made_in = getattr(getattr(owner, name, None), "__module__", None) or ""
            if function is not None and made_in.startswith("ultralytics."):
                setattr(owner, name, function)
        for name, value in variables.items():
            if value is None:
                environ.pop(name, None)
            elif environ.get(name) != value:
                environ[name] = value
        if cv2.getNumThreads() != threads:
            cv2.setNumThreads(threads)
        for entry in [entry for entry in warnings.filters if entry not in shown]:
            with suppress(ValueError):
                warnings.filters.remove(entry)
        np.set_printoptions(**_changed(printing, np.get_printoptions()))
        options = vars(torch._tensor_str.PRINT_OPTS)
        options.update(_changed(tensors, options))


def _changed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The former values of those entries that have changed."""
    return {name: value for name, value in before.items() if now.get(name) != value}
