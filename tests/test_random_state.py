"""The global generators of the process are seeded during a run, and restored."""

import random

import numpy as np
import pytest
import torch
from detailers.core.sampling.random_state import seeded_globals


def drawn():
    """A number of each global generator."""
    return torch.rand(()).item(), np.random.rand(), random.random()


@pytest.fixture
def somewhere():
    """The generators at a place of their own; after the test they are where they were."""
    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.manual_seed(99), np.random.seed(98), random.seed(97)
    yield
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])


def test_inside_numbers_depend_on_the_seed_alone(somewhere):
    def inside(seed):
        with seeded_globals(seed):
            return drawn()

    first = inside(5)
    drawn()
    assert inside(5) == first
    assert all(one != other for one, other in zip(inside(6), first, strict=True))


def test_torch_is_seeded_as_by_manual_seed():
    expected = torch.Generator().manual_seed(2**63 + 5)
    with seeded_globals(2**63 + 5):
        assert torch.equal(torch.rand(3), torch.rand(3, generator=expected))


def test_afterwards_all_go_on_from_where_they_were(somewhere):
    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    expected = drawn()
    torch.set_rng_state(state[0]), np.random.set_state(state[1]), random.setstate(state[2])
    with seeded_globals(5):
        drawn()
        with seeded_globals(6):
            drawn()
    assert drawn() == expected


def test_they_do_so_after_an_error_too(somewhere):
    state = torch.get_rng_state()
    with pytest.raises(KeyError), seeded_globals(5):
        drawn()
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", [0, -1, 2**32, 2**64 - 1, 2**64 + 7])
def test_every_seed_is_taken(seed, somewhere):
    with seeded_globals(seed):
        first = drawn()
    with seeded_globals(seed % 2**64):
        assert drawn() == first


class Device:
    """Stands in for torch.cuda or torch.xpu."""

    def __init__(self, states):
        self.states = states

    def is_available(self):
        return bool(self.states)

    def get_rng_state_all(self):
        return list(self.states)

    def set_rng_state_all(self, states):
        self.states[:] = states


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_every_device_in_use_is_put_back(monkeypatch, kind):
    device = Device([1, 2])
    monkeypatch.setattr(torch, kind, device)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: device.set_rng_state_all([seed, seed]))
    with seeded_globals(5):
        assert device.states == [5, 5]
    assert device.states == [1, 2]
