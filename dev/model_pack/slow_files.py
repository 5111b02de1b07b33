"""Files that the pack can read only after a test releases them, and a node that waits for one."""

import sys
import time
from pathlib import Path

import comfy.model_management
import folder_paths

from .results import _TakesAnything

HELD = "runs.held"  # in the folder of results: for as long as it is there, runs wait
LONGEST = 60  # seconds

_waited = []  # the modules whose files can be held


def waiting_file(path: str | Path) -> Path:
    """The file beside another for as long as which that other one cannot be read."""
    path = Path(path)
    return path.with_name(path.name + ".held")


def asked_file(path: str | Path) -> Path:
    """The file that appears beside another once somebody waits to read that one."""
    path = Path(path)
    return path.with_name(path.name + ".asked")


class DetailersTestWait:
    """Passes a value on, but not before the file HELD is gone from the folder of results."""

    CATEGORY = "Detailers/tests"
    RETURN_TYPES = ("*",)
    OUTPUT_NODE = True
    FUNCTION = "run"
    VALIDATE_INPUTS = _TakesAnything.VALIDATE_INPUTS

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "number": ("INT", {"default": 0, "max": 2**31})}}

    def run(self, value, number):
        held, end = Path(folder_paths.get_output_directory()) / HELD, time.monotonic() + LONGEST
        while held.exists() and time.monotonic() < end:
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.02)
        return (value,)


class DetailersTestSlowFiles:
    """From now on, whatever the pack opens waits while there is a `waiting_file` beside it."""

    CATEGORY = "Detailers/tests"
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        for module in list(sys.modules.values()):
            own = getattr(module, "_expect_file", None)
            if own and getattr(module, "NoFile", None) and module not in _waited:
                module._expect_file = _after_waiting(own)
                _waited.append(module)
        if not _waited:
            raise RuntimeError("the pack's reader of files was not found")
        return ()


def _after_waiting(own):
    def expect_file(status, path):
        end = time.monotonic() + LONGEST
        if waiting_file(path).exists():
            asked_file(path).touch()
        while waiting_file(path).exists() and time.monotonic() < end:
            time.sleep(0.02)
        return own(status, path)

    return expect_file
