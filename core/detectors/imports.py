"""Import ultralytics and keep it from changing what others rely on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from types import ModuleType

import numpy as np
import torch
from PIL import Image

# ultralytics reads these once, when it is imported: it neither looks for a network nor installs
# packages then. A value that the user has set is left as it is.
_SETTINGS = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}


def import_ultralytics() -> ModuleType:
    """Import the package with its networks; afterwards the rest of the process is as it was before.

    It puts functions of its own in the place of `PIL.Image.open`, `torch.save` and, on
    some systems, OpenCV's reading and writing of files, and sets environment variables, OpenCV's
    number of threads and how arrays are printed. With them in place a broken picture anywhere in
    the host ends in an attempt to install a package. Its layers need none of this.

    Raises:
        ImportError: the package or one that it needs is missing.
    """
    with _kept_as_it_is():
        import ultralytics.nn.tasks

        return ultralytics


@contextmanager
def _kept_as_it_is() -> Iterator[None]:
    import cv2

    functions = [(Image, "open"), (torch, "save"), (torch, "load"),
                 (cv2, "imread"), (cv2, "imwrite"), (cv2, "imshow")]  # fmt: skip
    before = [(owner, name, getattr(owner, name)) for owner, name in functions
              if hasattr(owner, name)]  # fmt: skip
    environment, threads = dict(environ), cv2.getNumThreads()
    printing = np.get_printoptions()
    tensors = dict(vars(torch._tensor_str.PRINT_OPTS))
    environ.update({name: environ.get(name, value) for name, value in _SETTINGS.items()})
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
        environ.clear()
        environ.update(environment)
        cv2.setNumThreads(threads)
        np.set_printoptions(**printing)
        vars(torch._tensor_str.PRINT_OPTS).update(tensors)
