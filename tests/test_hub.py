"""Networks of Hugging Face: found here, and fetched only where the user says so, by a commit."""

import json
import os
import sys
import types

import pytest
import torch
from detailers.core.detectors.hub import Fetching, HubName, NotHere, network_folder
from detailers.core.detectors.safe_weights import WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("owner/name", "owner/name", None),
        (" name ", "name", None),
        (f"a/b@{COMMIT}", "a/b", COMMIT),
        ("a/b@main", "a/b", "main"),
    ],
)
def test_names_are_read(text, name, revision):
    assert HubName.parse(text) == HubName(name, revision)


@pytest.mark.parametrize(
    "text",
    ["", "..", "a/..", "../a", "/etc", "a/b/c", "//host/share", "\\\\host\\a", "C:\\a", "a\0", "a@",
     "https://x/y", "x" * 300, "a b", "a\nb", "name@../x"],
)  # fmt: skip
def test_what_is_no_name_is_none(text):
    assert HubName.parse(text) is None


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for huggingface_hub: what is fetched and what was fetched before."""
    calls, cache = [], {}
    module = types.ModuleType("huggingface_hub")

    def snapshot_download(repo_id, revision, allow_patterns):
        calls.append((repo_id, revision, tuple(allow_patterns)))
        folder = tmp_path / "fetched"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        if "pytorch_*.bin" in allow_patterns:
            torch.save({"a": torch.ones(1)}, folder / "pytorch_model.bin")
        return str(folder)

    module.snapshot_download = snapshot_download
    module.try_to_load_from_cache = lambda name, file, revision=None: cache.get((name, revision))
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return types.SimpleNamespace(calls=calls, cache=cache, folder=tmp_path)


def find(hub, text, wanted=True, allowed=True, **more):
    fetching = Fetching(wanted, allowed, hub.folder / "settings.json")
    folders = [hub.folder / "models"]
    return network_folder(HubName.parse(text), folders, fetching, "Put it there.", **more)


def test_nothing_is_fetched_unless_workflow_and_user_want_it_and_it_is_pinned(hub):
    with pytest.raises(NotHere, match=r"'a/b' is not on this machine. Put it there."):
        find(hub, f"a/b@{COMMIT}", wanted=False)
    with pytest.raises(
        NotHere, match=r'a workflow alone may not fetch it.*"downloads": true.*json'
    ):
        find(hub, f"a/b@{COMMIT}", allowed=False)
    for text in ("a/b", "a/b@main", "a/b@0123456", f"a/b@{COMMIT[:-1]}", f"a/b@{COMMIT.upper()}"):
        with pytest.raises(NotHere, match=r"owner/name@commit, with the 40 characters"):
            find(hub, text)
    assert hub.calls == []


def test_what_is_allowed_is_fetched_in_that_version_without_any_code(hub):
    assert find(hub, f"a/b@{COMMIT}") == hub.folder / "fetched"
    assert [call[:2] for call in hub.calls] == [("a/b", COMMIT)] * 2
    wanted = {pattern for call in hub.calls for pattern in call[2]}
    assert wanted == {"*.json", "*.txt", "*.model", "*.safetensors", "pytorch_*.bin"}


def test_what_is_on_this_machine_is_not_fetched(hub):
    folder = hub.folder / "models" / "b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert find(hub, "a/b") == folder
    assert find(hub, "b", wanted=False, allowed=False) == folder
    cached = hub.folder / "cached"
    cached.mkdir()
    (cached / "config.json").write_text("{}")
    hub.cache["c/d", None] = str(cached / "config.json")
    assert find(hub, "c/d", wanted=False) == cached
    (hub.folder / "models" / "config.json").write_text("{}")
    assert find(hub, "e/f", wanted=False, or_itself=True) == hub.folder / "models"
    assert hub.calls == []


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_weights_that_run_code_are_refused_wherever_they_are_named(hub):
    folder = hub.folder / "models" / "b"
    folder.mkdir(parents=True)
    config, index = folder / "config.json", folder / "model.safetensors.index.json"
    for name, table, content in (
        ("pytorch_model.bin", None, {}),
        ("other.bin", config, {"transformers_weights": "other.bin"}),
        ("part.bin", index, {"weight_map": {"a": "part.bin"}}),
        ("model.safetensors", None, {}),
    ):
        config.write_text("{}")
        if table is not None:
            table.write_text(json.dumps(content))
        torch.save({"a": Hostile(hub.folder / "harm")}, folder / name)
        with pytest.raises(WeightsError, match=rf"'{name}'"):
            find(hub, "b")
        (folder / name).unlink()
        index.unlink(missing_ok=True)
    torch.save(
        {"a": Hostile(hub.folder / "harm")}, folder / "training_args.bin"
    )  # nothing reads it
    config.write_text("{}")
    assert find(hub, "b") == folder
    for name in ("../evil.bin", "x.dat", "sub/part.bin"):
        config.write_text(json.dumps({"transformers_weights": name}))
        with pytest.raises(WeightsError, match="no file of weights in the folder"):
            find(hub, "b")
    assert not (hub.folder / "harm").exists()


@pytest.mark.skipif(os.name == "nt", reason="pipes in folders are of Unix")
def test_a_pipe_in_the_folder_is_refused(hub):
    folder = hub.folder / "models" / "b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    os.mkfifo(folder / "preprocessor_config.json")
    with pytest.raises(WeightsError, match="no regular file"):
        find(hub, "b")
