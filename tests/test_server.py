"""dev/server.py, as far as it can be tested without a ComfyUI."""

import json
import struct
import sys

import pytest
from detailers.dev.server import (
    Event,
    PromptRefused,
    Run,
    Server,
    ServerDied,
    configured_hosts,
    link_folder,
    read_event,
)


def test_text_message_is_an_event():
    text = json.dumps({"type": "progress", "data": {"value": 1, "max": 4}})
    assert read_event(text) == Event("progress", {"value": 1, "max": 4})


def test_preview_is_an_event_with_the_image():
    message = struct.pack(">II", 1, 2) + b"picture"
    assert read_event(message) == Event("preview", {}, b"picture")


def test_preview_with_metadata_is_an_event_with_both():
    metadata = json.dumps({"node_id": "7"}).encode()
    message = struct.pack(">II", 4, len(metadata)) + metadata + b"picture"
    assert read_event(message) == Event("preview", {"node_id": "7"}, b"picture")


def test_other_binary_message_is_kept_as_it_is():
    assert read_event(struct.pack(">I", 3) + b"text") == Event("binary 3", {}, b"text")


def test_a_failed_run_tells_node_and_exception():
    data = {
        "node_id": "3",
        "node_type": "DetailerForEach",
        "exception_type": "ValueError",
        "exception_message": "no image\n",
        "traceback": ["line\n"],
    }
    run = Run("id", "error", {}, [("execution_start", {}), ("execution_error", data)])
    assert not run.ok
    assert str(run.error) == "node 3 DetailerForEach: ValueError: no image"


def test_an_interrupted_run_is_no_error():
    run = Run("id", "error", {}, [("execution_interrupted", {})])
    assert (run.ok, run.error, run.interrupted) == (False, None, True)


def test_a_run_tells_its_time_and_what_was_cached():
    messages = [
        ("execution_start", {"timestamp": 1000}),
        ("execution_cached", {"nodes": ["1"], "timestamp": 1001}),
        ("execution_success", {"timestamp": 3500}),
    ]
    run = Run("id", "success", {}, messages)
    assert (run.ok, run.cached, run.seconds) == (True, {"1"}, 2.5)


def test_a_refused_prompt_names_node_and_value():
    found = {"message": "Value not in list", "details": "scheduler: 'x' not in ['normal']"}
    refused = PromptRefused(
        {"message": "Prompt outputs failed validation", "details": ""},
        {"3": {"class_type": "KSampler", "errors": [found]}},
    )
    assert str(refused) == (
        "Prompt outputs failed validation\n"
        "  node 3 KSampler: Value not in list: scheduler: 'x' not in ['normal']"
    )


def write_main(tmp_path, code):
    (tmp_path / "main.py").write_text(code)
    return tmp_path


def test_a_server_that_dies_is_reported_with_its_log(tmp_path):
    tree = write_main(tmp_path, "print('no such device'); raise SystemExit(3)")
    server = Server(tree, sys.executable)
    with pytest.raises(ServerDied, match=r"status 3\nno such device"), server:
        pass
    assert not server.base.exists()


def test_a_server_that_does_not_answer_is_stopped(tmp_path):
    tree = write_main(tmp_path, "import time; time.sleep(600)")
    server = Server(tree, sys.executable, timeout=0.5)
    with pytest.raises(ServerDied, match="no answer"), server:
        pass
    assert server.process.poll() is not None


def test_a_given_base_directory_is_kept(tmp_path):
    tree = write_main(tmp_path, "raise SystemExit(1)")
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    server = Server(tree, sys.executable, {"a name": pack}, base=tmp_path / "base")
    with pytest.raises(ServerDied), server:
        pass
    assert (tmp_path / "base" / "custom_nodes" / "a name" / "__init__.py").is_file()


def test_link_folder_copies_where_links_are_not_allowed(tmp_path, monkeypatch):
    source, link = tmp_path / "source", tmp_path / "link"
    source.mkdir()
    (source / "file").write_text("one")

    def refuse(*args, **kwargs):
        raise OSError("not allowed")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    link_folder(source, link)
    (source / "file").write_text("two")
    link_folder(source, link)
    assert (link / "file").read_text() == "two"
    assert not link.is_symlink()


def test_configured_hosts_are_read_from_the_environment(monkeypatch):
    monkeypatch.delenv("DETAILERS_HOSTS", raising=False)
    assert configured_hosts() == {}
    monkeypatch.setenv("DETAILERS_HOSTS", '{"main": {"tree": "/t", "python": "/p"}}')
    host = configured_hosts()["main"]
    assert (host.label, host.tree.as_posix(), host.python.as_posix()) == ("main", "/t", "/p")
