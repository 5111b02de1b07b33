"""Processes of the benches that have the host in them."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from detailers.dev.options import bench_quality


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_process_has_one_thread(bench_module, monkeypatch, threads):
    in_host, used = bench_module("in_host"), []
    monkeypatch.setattr(in_host, "use_host", lambda *args: used.append(args))
    monkeypatch.setattr(in_host, "load_pack", lambda: torch.get_num_threads())
    monkeypatch.setitem(sys.modules, "nodes", ModuleType("nodes"))
    torch.set_num_threads(2)
    assert in_host.load(Path("tree"), cpu=True) == 1
    assert used == [(Path("tree"), True)]


@pytest.mark.parametrize(("cores", "gpu", "jobs"), [(2, False, 2), (64, False, 4), (64, True, 1)])
def test_processes_by_the_machine_are_as_the_help_tells(
    bench_module, monkeypatch, cores, gpu, jobs
):
    quality = bench_module("quality")
    monkeypatch.setattr(quality.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(quality.torch.cuda, "is_available", lambda: gpu)
    assert quality._jobs() == jobs
    told = " ".join(bench_quality().format_help().split())
    assert "each in a process with one thread (default: one for each core, at most 4;" in told
