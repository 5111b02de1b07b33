"""Files that the pack can read only after a test releases them, as on a disk that hangs."""

import sys
import time
from pathlib import Path

LONGEST = 60  # seconds

_waited = []  # the modules whose files can be held


def waiting_file(path: str | Path) -> Path:
    """The file beside another for as long as which that other one cannot be read."""
    path = Path(path)
    return path.with_name(path.name + ".held")


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
        while waiting_file(path).exists() and time.monotonic() < end:
            time.sleep(0.02)
        return own(status, path)

    return expect_file
