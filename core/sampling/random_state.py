"""The random generators that the whole process shares, seeded for a while and put back.

Samplers and patches of other packs draw from them, as does the host's token merging. A run of the
sampler is repeatable only if they begin at the same place each time.
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

    On leaving, also by an error, all of them go on from where they were before.

    Args:
        seed: wrapped to 64 bits; NumPy takes its lower 32.
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
    """All devices of the kinds that are in use; those that are not have drawn nothing yet."""
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
