"""One running ComfyUI per version and session, with this pack and its test models in it.

Tests that need other packs or arguments take `host` and start a `Server` of their own.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from detailers.dev.server import ROOT, Server, configured_hosts, project_packs

HERE = Path(__file__).parent
HOSTS = configured_hosts()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.host)


@pytest.fixture(scope="session", params=HOSTS or ["no host"])
def host(request):
    """The ComfyUI under test: each version in turn."""
    if not HOSTS:
        pytest.skip("needs a ComfyUI: `python run.py test` fetches it and runs the tests")
    return HOSTS[request.param]


@pytest.fixture(scope="session")
def server(host):
    with Server(host.tree, host.python, project_packs(miniature=True)) as server:
        yield server


@pytest.fixture
def run(server):
    """Run a prompt that must succeed; takes what `Server.run` takes."""

    def run(prompt, *args, **options):
        done = server.run(prompt, *args, **options)
        assert done.ok, f"{done.error or done.messages}"
        return done

    return run


@pytest.fixture
def results(run, server):
    """Run a graph and read what it saves: results(graph, name=link, ...) -> {name: arrays}."""

    def results(graph, **links):
        for name, link in links.items():
            graph.add("DetailersTestSave", value=link, name=name)
        run(graph)
        return {name: server.result(name) for name in links}

    return results


@pytest.fixture(scope="session")
def checkpoint(host, server, tmp_path_factory):
    """checkpoint(kind): name of a random checkpoint in the server's models, sd15 or sd3.

    checkpoint("controlnet", "controlnet") is a ControlNet for the first of them. The files are kept
    in the cache folder that DETAILERS_CACHE names.
    """
    cache = os.environ.get("DETAILERS_CACHE")
    folder = Path(cache) if cache else tmp_path_factory.getbasetemp()
    folder.mkdir(parents=True, exist_ok=True)

    def checkpoint(kind, kept_in="checkpoints"):
        models = server.base / "models" / kept_in
        models.mkdir(exist_ok=True)
        file = folder / f"random-{kind}.safetensors"
        if not file.exists():
            script = ROOT / "dev" / "checkpoint.py"
            made = file.with_name(f"{os.getpid()}-{file.name}")  # other processes may make it too
            subprocess.run([host.python, script, kind, host.tree, made], check=True)
            os.replace(made, file)
        if not (models / file.name).exists():
            try:
                os.link(file, models / file.name)
            except OSError:  # the cache is on another disk
                shutil.copyfile(file, models / file.name)
        return file.name

    return checkpoint


@pytest.fixture(scope="session")
def brightening(server):
    """Name of an upscale model that doubles the size, pixel by pixel, and adds 0.1."""
    import torch
    from safetensors.torch import save_file

    weights = {  # of an SRVGGNetCompact without hidden layers: it adds them to the larger picture
        "body.0.weight": torch.zeros(4, 3, 3, 3),
        "body.0.bias": torch.zeros(4),
        "body.1.weight": torch.zeros(4),
        "body.2.weight": torch.zeros(12, 4, 3, 3),
        "body.2.bias": torch.full((12,), 0.1),
    }
    folder = server.base / "models" / "upscale_models"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "brightening.safetensors")
    return "brightening.safetensors"
