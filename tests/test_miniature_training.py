"""The parts of the miniature's training that need no host."""

import os
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detailers.dev.miniature.codec import CHANNELS, RATIO, Codec
from detailers.dev.miniature.muon import Muon, make_optimizers, orthogonal
from detailers.dev.miniature.noise import (
    BEGINS,
    MASKED,
    POOR,
    SPANS,
    as_in_a_detailer,
    draw_times,
    left_to_go,
    signal_share,
    spread,
)
from detailers.dev.miniature.precision import autocast, quick_type
from detailers.dev.miniature.session import Plan, Session
from detailers.dev.miniature.weights import load_codec, load_weights, save_weights

ROOT = Path(__file__).resolve().parent.parent


def test_rows_lie_on_the_way_of_a_sampler():
    """As far from the truth as a sampler is that began somewhere in BEGINS."""
    signal, random = signal_share(), np.random.default_rng(0)
    noise = spread(signal)
    for time, least, most in (
        (20, noise[20] / noise[BEGINS[1]], noise[20] / noise[BEGINS[0]]),
        (400, noise[400] / noise[BEGINS[1]], 1.0),
    ):
        ways = left_to_go(torch.full((400,), time), signal, random)
        on_it = ways[ways > 0]
        assert 0.5 < len(on_it) / 400 < 0.7
        assert least <= on_it.min() < least + 0.05
        assert most - 0.05 < on_it.max() <= most
    beyond = left_to_go(torch.full((400,), BEGINS[1] + 1), signal, random)
    assert not beyond.any()


def test_timesteps_are_those_of_the_spans_in_turn():
    times = draw_times(np.random.default_rng(0), 4000)
    for place, (first, end) in enumerate(SPANS):
        own = times[place :: len(SPANS)]
        assert first <= own.min() < first + 5
        assert end - 5 <= own.max() < end
        assert own.double().mean() == pytest.approx((first + end) / 2, abs=20)


@pytest.mark.parametrize(
    ("device", "instructions", "wanted"),
    [
        ("cpu", {"avx2": True, "avx512_bf16": False}, torch.float32),
        ("cpu", {}, torch.float32),  # of another make
        ("cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("cuda", {"avx512_bf16": False}, torch.bfloat16),
    ],
)
def test_training_computes_in_what_the_device_has_instructions_for(
    device, instructions, wanted, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert quick_type(torch.device(device)) == wanted


def test_layers_compute_in_the_quick_type_and_weights_stay(monkeypatch):
    layer = torch.nn.Linear(4, 4)
    for has in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx512_bf16": has})
        with autocast(torch.device("cpu")):
            assert layer(torch.ones(1, 4)).dtype == (torch.bfloat16 if has else torch.float32)
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (16, 16)])
def test_orthogonal_makes_singular_values_about_one(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_goes_down_a_slope():
    target = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    weight = torch.nn.Parameter(torch.zeros(8, 12))
    optimizer = Muon([weight], lr=0.05, weight_decay=0.0)
    losses = []
    for _ in range(150):
        loss = (weight - target).square().mean()
        losses.append(loss.item())
        weight.grad = None
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.02 * losses[0]


def test_rows_of_a_detailer_have_their_surroundings_again_and_paint_the_rest():
    count = 2000
    mask = torch.zeros(count, 1, 2, 2)
    mask[..., 0, 0], mask[..., 0, 1] = 1, 0.5
    way = torch.full((count, 1, 1, 1), 0.2)
    painted, left = as_in_a_detailer(mask, way, np.random.default_rng(0))
    whole = (painted == 1).all((1, 2, 3))
    assert float(whole.float().mean()) == pytest.approx(1 - MASKED, abs=0.03)
    assert (left[whole] == 0.2).all()
    assert torch.equal(painted[~whole], mask[~whole])
    assert torch.allclose(left[~whole][..., 0, 0], torch.tensor(0.2))
    around = left[~whole][..., 1, 1]
    assert set(around.flatten().tolist()) == {0.0, 1.0}
    assert float(around.mean()) == pytest.approx(POOR, abs=0.03)
    assert torch.allclose(left[~whole][..., 0, 1], (around + 0.2) / 2)


def test_every_parameter_has_one_optimizer():
    codec = Codec()
    groups = [o.param_groups[0]["params"] for o in make_optimizers(codec, 1e-3)]
    ids = [id(value) for group in groups for value in group]
    assert sorted(ids) == sorted(id(value) for value in codec.parameters())
    assert all(value.ndim > 1 for value in groups[1])


def test_the_codec_is_eight_times_smaller_and_local():
    codec = Codec().eval()
    pixels = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        latent = codec.encode(pixels)
        assert latent.shape == (1, CHANNELS, 64 // RATIO, 96 // RATIO)
        assert codec.decode(latent).shape == pixels.shape


def test_weights_come_back_as_floats(tmp_path):
    save_weights(tmp_path / "w.safetensors", {"a": torch.tensor([0.5, 2.0])})
    (name, value), *rest = load_weights(tmp_path / "w.safetensors").items()
    assert (name, value.tolist(), value.dtype, rest) == ("a", [0.5, 2.0], torch.float32, [])
    with pytest.raises(FileNotFoundError, match=r"python -m dev\.miniature\.train"):
        load_weights(tmp_path / "none.safetensors")


def test_the_committed_weights_fit_and_are_small():
    from detailers.dev.miniature import weights

    load_codec()
    files = (weights.CODEC, weights.UNET, weights.TEXT)
    assert sum(file.stat().st_size for file in files) <= 12e6


def test_a_session_goes_on_where_the_last_one_ended(tmp_path, monkeypatch):
    from detailers.dev.miniature import session as module

    monkeypatch.setattr(module, "LOG", tmp_path / "log")
    steps = []
    for resume in (False, True):
        plan = Plan(minutes=0.002, rate=1e-2, device="cpu", folder=tmp_path, resume=resume)
        session = Session("unet", plan)
        network = torch.nn.Linear(4, 4)
        session.start(network)
        steps.append(session.step)
        for _ in session.steps():
            loss = network(torch.ones(2, 4)).square().mean()
            session.learn(loss)
            session.note(loss=loss)
    assert steps[0] == 0 < steps[1] < session.step
    assert not session.goes_on
    saved = torch.load(tmp_path / "unet.pt", weights_only=True)
    assert saved["step"] == session.step
    assert "unet: 0.00 million weights, from step" in (tmp_path / "log").read_text()


def test_the_average_of_a_run_that_goes_on_soon_forgets_what_it_began_with(tmp_path, monkeypatch):
    from detailers.dev.miniature import session as module

    monkeypatch.setattr(module, "LOG", tmp_path / "log")
    session = Session("unet", Plan(5, 0.0, "cpu", tmp_path, False))
    network = torch.nn.Linear(1, 1)
    session.start(network)
    session.average["bias"].fill_(10.0)
    session.step = 5000
    with torch.no_grad():
        network.bias.fill_(1.0)
    for _ in islice(session.steps(), 40):
        session.learn(network(torch.ones(1, 1)).sum())
    assert float(session.average["bias"]) == pytest.approx(1.0, abs=1e-3)


TOGETHER = """
import sys
from itertools import islice
from pathlib import Path
import torch
from dev.miniature import session as module
from dev.miniature.session import Plan, Session
from dev.miniature.team import Team

folder, team = Path(sys.argv[1]), Team.of_environment()
module.LOG = folder / "log"
torch.manual_seed(0)
network = torch.nn.Linear(4, 4)
session = Session("unet", Plan(5, 1e-2, "cpu", folder / str(team.part), False), team)
session.start(network)
for _ in islice(session.steps(), 4):
    session.learn(network(torch.full((2, 4), team.part + 1.0)).square().mean())
session.save()
torch.save(
    {"weights": network.state_dict(), "step": session.step, "seed": session.seed},
    folder / f"{team.part}.pt",
)
"""


def test_processes_that_train_together_keep_the_same_weights(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if sys.platform == "linux":  # needs no name of this machine then
        place["GLOO_SOCKET_IFNAME"] = "lo"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(tmp_path)],
            cwd=ROOT, env={**os.environ, **place, "RANK": str(part)},
        )
        for part in range(2)
    ]  # fmt: skip
    assert [process.wait(100) for process in running] == [0, 0]
    one, other = (torch.load(tmp_path / f"{part}.pt", weights_only=True) for part in range(2))
    assert one["step"] == other["step"] == 3
    for name, value in one["weights"].items():
        assert torch.equal(value, other["weights"][name])
    assert (one["seed"], other["seed"]) == (6, 7)
    assert (tmp_path / "0" / "unet.pt").exists()
    assert not (tmp_path / "1" / "unet.pt").exists()
    assert (tmp_path / "log").read_text().count("million weights") == 1
