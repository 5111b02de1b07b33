"""Seed the global random generators of the process for a while, and restore them afterwards.

Samplers and patches of other packs draw from them, and so does ComfyUI's token merging. A sampler
run is repeatable only if the generators have the same state at its beginning.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ...utils.seeds import MAX_SEED

_NUMPY_SEEDS = 2**32


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global generators of torch (on every device), NumPy and Python.

    At the end, also after an error, all of them get back the state that they had before.

    Args:
        seed: wrapped to 64 bits. NumPy gets its lower 32 bits.
    """
    restore = [saved() for saved in _SAVED]
    seed &= MAX_SEED
    try:
        torch.manual_seed(seed)  # the CPU's and every other device's
        np.random.seed(seed % _NUMPY_SEEDS)
        random.seed(seed)
        yield
    finally:
        for put_back in restore:
            put_back()


def _python() -> Callable[[], Any]:
    state = random.getstate()
    return lambda: random.setstate(state)


def _numpy() -> Callable[[], Any]:
    state = np.random.get_state()
    return lambda: np.random.set_state(state)


def _cpu() -> Callable[[], Any]:
    state = torch.get_rng_state()
    return lambda: torch.set_rng_state(state)


def _accelerators() -> Callable[[], Any]:
    """All accelerators of the kinds that are available."""
    saved = []
    for kind in ("cuda", "xpu"):
        devices = getattr(torch, kind, None)
        if devices is not None and devices.is_available():
            saved.append((devices.set_rng_state_all, devices.get_rng_state_all()))
    if torch.backends.mps.is_available():
        saved.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))

    def put_back() -> None:
        for setter, state in saved:
            setter(state)

    return put_back


_SAVED = (_python, _numpy, _cpu, _accelerators)
