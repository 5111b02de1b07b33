"""A short form of `run.py bench soak`: objects that a server holds, interrupts, and two clients."""

import random
import re

import pytest
from detailers.dev.server import ROOT
from detailers.tests.host.graphs import DETAILERS

KINDS = len(DETAILERS) + 8  # of mixed prompts


@pytest.fixture(scope="module")
def soak(bench_module):
    return bench_module("soak")


def test_mixed_prompts_leave_nothing_behind(soak, server):
    """Memory is measured by the bench alone: it takes hundreds of prompts to tell."""
    assert len(soak.MIXED) == KINDS
    long = soak.Soak(server)
    long.run(KINDS)
    first = long.measure(probes=1)
    long.run(KINDS)
    last = long.measure(probes=1)
    assert long.faults == []
    assert first.left == last.left == ()
    assert first.strays == last.strays == 0
    assert (last.models, last.patchers) == (first.models, first.patchers)
    assert last.files <= first.files
    assert first.models > 0


@pytest.mark.parametrize("kind", [*DETAILERS, "FaceDetailer", "FaceDetailerPipe"])
def test_an_interrupt_does_not_change_the_next_run(soak, server, kind):
    found = soak.interrupt(server, kind, 2, random.Random(kind))
    assert (found.asked, found.different) == (2, 0)


def test_two_clients_do_not_meet_while_every_route_is_asked(soak, server):
    assert soak.two_clients(server, 4) == []


def test_the_routes_are_all_that_there_are(soak):
    files = [*(ROOT / "core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py"), ROOT / "__init__.py"]
    said = " ".join(file.read_text(encoding="utf-8") for file in files)
    found = re.findall(r"""routes\.\w+\(\s*f?["']([^"']+)""", said)
    assert sorted(found) == sorted(soak.ROUTES)
