"""Counts of the calls of this pack's models, over the server's life."""

import threading
from collections import Counter
from pathlib import Path

_counts = Counter()
_lock = threading.Lock()


def count(**amounts: int) -> None:
    """Add to the named counters, e.g. count(model_calls=1, model_rows=2)."""
    with _lock:
        _counts.update(amounts)


def stats() -> dict[str, int]:
    """The counters so far and the process's peak memory.

    Keys: model_calls, model_rows, encode_calls, encode_rows, decode_calls, decode_rows,
    text_encodes, peak_rss_mb.
    """
    with _lock:
        return {name: _counts[name] for name in _NAMES} | {"peak_rss_mb": peak_rss_mb()}


_NAMES = (
    "model_calls",
    "model_rows",
    "encode_calls",
    "encode_rows",
    "decode_calls",
    "decode_rows",
    "text_encodes",
)


def peak_rss_mb() -> int:
    """Most resident memory this process has had, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would also count the parent's memory, from before the exec
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) // 1024
    import resource
    import sys

    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
