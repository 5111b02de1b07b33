"""Only regular files are opened; everything else is an error at once."""

import os
import sys
import threading

import pytest
from detailers.core.detectors.onnx import onnx_detector
from detailers.core.detectors.safe_weights import (
    WeightsError,
    expect_plain,
    read_tensors,
    read_yolo,
)
from detailers.utils.files import NoFile, is_file, open_file, read_file
from detailers.wildcards.library import Library

posix = pytest.mark.skipif(os.name == "nt", reason="pipes and devices in folders are of Unix")


def test_a_file_and_a_link_to_one_are_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\r\n\x00")
    (tmp_path / "b").symlink_to(path)
    assert read_file(path, 3) == read_file(tmp_path / "b", 3) == b"\r\n\x00"
    with open_file(path) as file:
        assert file.read() == b"\r\n\x00"
    assert is_file(path) and is_file(tmp_path / "b")


def test_a_file_that_is_too_large_is_an_error_before_it_is_read(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(NoFile, match=r"it has 1099511627776 bytes, more than the 10 allowed"):
        read_file(tmp_path / "a", 10)


@posix
def test_pipes_devices_and_folders_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path / "link", "a pipe"),
        ("/dev/zero", "a device"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(NoFile, match=f"it is {kind}, not a file"):
            open_file(path)
        assert not is_file(path)
    assert not is_file("a\0b") and not is_file("x" * 5000) and not is_file(tmp_path / "none")


def within(seconds, work):
    """What a function gives or raises; fails where it waits longer."""
    result = []

    def run():
        try:
            result.append(work())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert result, f"{work} still waits"
    return result[0]


@posix
@pytest.mark.parametrize("engine", ["onnxruntime", "OpenCV"])
@pytest.mark.parametrize("target", ["pipe", "/dev/zero"])
def test_no_reader_waits_for_a_pipe_or_reads_a_device(engine, target, tmp_path, monkeypatch):
    if engine == "OpenCV":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    os.mkfifo(tmp_path / "pipe")
    for name in ("a.pt", "a.safetensors", "a.onnx", "a.txt", "b.yaml"):
        (tmp_path / name).symlink_to(tmp_path / target)
    for read in (read_tensors, read_yolo, expect_plain):
        for name in ("a.pt", "a.safetensors"):
            error = within(10, lambda read=read, name=name: read(tmp_path / name))
            assert isinstance(error, WeightsError) and f"'{name}'" in str(error)
    error = within(10, lambda: onnx_detector(tmp_path / "a.onnx"))
    assert isinstance(error, WeightsError) and "'a.onnx'" in str(error)
    library = Library([tmp_path])
    assert list(within(10, lambda: library.options("a"))) == []
    assert "a" in within(10, library.names)
