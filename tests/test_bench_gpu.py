"""What the bench of the GPU prints, and that it leaves PyTorch to the host."""

import argparse
import subprocess
import sys

import pytest
from detailers.dev.server import ROOT


@pytest.fixture(scope="module")
def gpu(bench_module):
    return bench_module("gpu")


def test_every_network_runs_in_both_precisions_with_and_without_dynamic_loading(gpu):
    wanted = gpu.children(["waves"], gpu.NETWORKS, gpu.DTYPES)
    found = [(child.network, child.dtype, child.host) for child in wanted]
    assert len(set(found)) == len(found) == 8
    assert {host for _, _, host in found} == {(), ("--disable-dynamic-vram",)}
    assert {child.table for child in gpu.children(list(gpu.TABLES), ["sd15"], ["fp16"])} == {
        "waves", "places", "modes",
    }  # fmt: skip


def test_the_picture_without_options_comes_first(gpu):
    """The others are compared with it."""
    hosts = [child.host for child in gpu.children(["modes"], [], [])]
    assert hosts[0] == ()
    assert {("--gpu-only",), ("--lowvram",), ("--novram",), ("--highvram",)} < set(hosts)


@pytest.mark.parametrize(
    ("way", "limit", "said"),
    [
        (1.8, 2.0, "Waves win: 1.80 times, of 2.00"),
        (1.05, 1.5, "Waves win little, 1.05 times, where the sampler alone wins 1.50"),
        (1.04, 1.05, "Little to win"),
        (0.9, 1.02, "Little to win"),
    ],
)
def test_it_says_what_waves_are_worth(gpu, way, limit, said):
    assert gpu.verdict(way, limit).startswith(said)


def test_a_process_that_fails_is_told_and_the_others_run(gpu, monkeypatch, capsys):
    def rows(child, args, kept):
        if child.host:
            raise subprocess.CalledProcessError(3, "bench")
        yield f"| {child.dtype} |"

    monkeypatch.setattr(gpu, "rows", rows)
    wanted = gpu.children(["waves"], ["sd15"], gpu.DTYPES)
    assert gpu.print_all(wanted, argparse.Namespace(), "") == 2
    printed = capsys.readouterr().out
    assert "| fp16 |" in printed and "| bf16 |" in printed
    assert printed.count("FAILED with exit code 3") == 2
    assert printed.count("times one by one") == 1


def test_the_host_imports_pytorch_and_not_the_bench():
    """What pages the host's weights has to be there before PyTorch."""
    code = "import bench.gpu, bench.gpu_runs, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_options_that_a_host_does_not_have(bench_module, tmp_path):
    unknown = bench_module("in_host").unknown
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "cli_args.py").write_text('add("--lowvram")', encoding="utf-8")
    assert unknown(tmp_path, ["--lowvram", "--low", "--gpu-only"]) == ["--low", "--gpu-only"]
