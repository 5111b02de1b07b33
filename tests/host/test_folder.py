"""Folder runs with the real host: bytes, kills, formats, clips, and the editor's conversion."""

import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from detailers.batch import cli
from detailers.batch.convert import converted, find_chromium
from detailers.batch.faults import Problem
from detailers.dev.folder import draw_scenes, miniature_prompt
from detailers.dev.server import MINIATURE, MODEL_PACK, ROOT
from detailers.dev.workflow import Workflow
from detailers.tests.folder_runs import Folder, events
from PIL import Image

EXAMPLE = ROOT / "example_workflows" / "1_face_detailer.json"
QUICK = ("DetailerForEachDebug.steps=1", "DetailerForEachDebug.guide_size=96")
ORIENTATION = 0x0112


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DETAILERS_STARTED_IN", ".")
    return Folder(tmp_path)


def start(host, folder, *more):
    """A run of the miniature's workflow with a ComfyUI of its own."""
    packs = [part for pack in (ROOT, MINIATURE, MODEL_PACK) for part in ("--pack", str(pack))]
    command = [host.python, "-m", "batch", str(folder.source), str(folder.out), "--json"]
    command += ["--workflow", str(folder.workflow), "--comfyui", host.tree, "--python", host.python]
    command += ["--workers", "1", *packs, *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def first_done(driver):
    return next(line for line in driver.stdout if json.loads(line)["event"] == "done")


@pytest.mark.once  # two more starts of ComfyUI
def test_killed_and_resumed_it_gives_the_bytes_of_an_undisturbed_run(host, server, folder, capsys):
    draw_scenes(folder.source, 3)
    folder.write(miniature_prompt())
    quick = [part for text in QUICK for part in ("--set", text)]
    status, told = folder.run(capsys, *quick, servers=server.url)
    assert status == 0, told
    expected = folder.results()
    assert sorted(expected) == ["scene_0.png", "scene_1.png", "scene_2.png"]
    report = folder.records(capsys)[0]["report"]
    detailed = next(node["report"] for node in report.values() if "report" in node)
    assert len(detailed["segments"]) >= 1

    folder.out = folder.out.with_name("killed")
    driver = start(host, folder, *quick)
    first_done(driver)
    guard = int(subprocess.check_output(["pgrep", "-P", str(driver.pid)], text=True).split()[0])
    comfyui = int(subprocess.check_output(["pgrep", "-P", str(guard)], text=True).split()[0])
    os.kill(comfyui, signal.SIGKILL)
    first_done(driver)
    driver.kill()
    driver.communicate()
    before = folder.results()
    assert 1 <= len(before) <= 3
    status, told = folder.run(capsys, *quick, servers=server.url)
    assert status == 0, told
    assert folder.results() == expected
    assert not {line["input"] for line in told.get("done", ())} & set(before)


def passing(**saver):
    """A prompt that saves what it loads."""
    inputs = {"images": ["1", 0], "filename_prefix": "x", **saver}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x"}},
        "2": {"class_type": "SaveImage", "inputs": inputs},
    }


def ramp():
    values = np.linspace(0, 255, 48 * 32 * 3).reshape(32, 48, 3)
    return Image.fromarray(values.astype(np.uint8))


def test_a_photograph_on_its_side_comes_back_upright_with_its_metadata(folder, capsys, server):
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x013B] = 6, "Ada"
    ramp().save(folder.source / "a.jpg", exif=exif, quality=100, subsampling=0)
    ramp().save(folder.source / "b.webp", lossless=True)
    folder.write(passing())
    assert folder.run(capsys, "--quality", "100", servers=server.url)[0] == 0
    found = Image.open(folder.out / "a.jpg")
    assert (found.format, found.size) == ("JPEG", (32, 48))
    assert (found.getexif()[0x013B], found.getexif().get(ORIENTATION, 1)) == ("Ada", 1)
    expected = np.asarray(ramp().transpose(Image.Transpose.ROTATE_270), int)
    assert np.abs(np.asarray(found, int) - expected).mean() < 3
    assert Image.open(folder.out / "b.webp").format == "WEBP"


def test_exr_is_float_and_linear_or_refused(folder, capsys, server):
    av = pytest.importorskip("av")
    ramp().save(folder.source / "a.png")
    folder.write(passing())
    status, told = folder.run(capsys, "--format", "exr", servers=server.url)
    if "SaveImageAdvanced" not in server.object_info():
        assert status == 1
        assert "no node that writes EXR" in told["problem"][0]["text"]
        return
    assert status == 0
    with av.open(str(folder.out / "a.exr")) as container:
        planes = next(container.decode(video=0)).to_ndarray(format="gbrpf32le")
    values = np.asarray(ramp(), np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(planes, linear, atol=1e-5)


def test_a_clip_in_parts_is_as_long_as_it_was(folder, capsys, server):
    av = pytest.importorskip("av")
    file = folder.source / "clip.mp4"
    with av.open(str(file), "w") as made:
        stream = made.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):
            picture = np.full((48, 64, 3), 20 * number, np.uint8)
            made.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        made.mux(stream.encode(None))
    folder.write({
        "1": {"class_type": "LoadVideo", "inputs": {"file": "x"}},
        "2": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}},
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "audio": ["2", 1],
                                                      "fps": ["2", 2]}},
        "4": {"class_type": "SaveVideo", "inputs": {"video": ["3", 0], "filename_prefix": "x",
                                                    "format": "auto", "codec": "auto"}},
    })  # fmt: skip
    status, told = folder.run(capsys, "--split-video", "5", servers=server.url)
    assert status == 0, told
    with av.open(str(folder.out / "clip.mp4")) as container:
        levels = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    assert levels == pytest.approx([20 * number for number in range(12)], abs=6)


@pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium")
def test_the_editor_makes_the_prompt_of_an_editor_file(host, server):
    pytest.importorskip("playwright")
    content = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    found = converted(server.url, content)
    expected = Workflow.read(EXAMPLE).prompt()
    assert {id: node["class_type"] for id, node in found.items()} == {
        id: node["class_type"] for id, node in expected.items()
    }
    for id, node in expected.items():
        inputs = {name: value for name, value in node["inputs"].items() if name != "upload"}
        assert inputs.items() <= found[id]["inputs"].items()
    if host.label != "main":  # one browser more is enough
        return
    content["nodes"][0]["type"] = "FromAnotherPack"
    with pytest.raises(Problem, match="does not know these nodes of the workflow: FromAnotherPack"):
        converted(server.url, content)


def test_without_chromium_the_way_out_is_told(folder, capsys, server, monkeypatch):
    ramp().save(folder.source / "a.png")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    arguments = folder.arguments(servers=server.url)
    arguments[arguments.index("--workflow") + 1] = str(EXAMPLE)
    assert cli.main(arguments) == 1
    text = events(capsys.readouterr().out)["problem"][0]["text"]
    assert "Chromium" in text
    assert "File > Export (API)" in text


def test_a_checkpoint_that_is_missing_ends_the_run_at_once(folder, capsys, server):
    ramp().save(folder.source / "a.png")
    arguments = [str(folder.source), str(folder.out), "--servers", server.url, "--json"]
    started = time.monotonic()
    assert cli.main([*arguments, "--checkpoint", "missing.safetensors"]) == 1
    text = events(capsys.readouterr().out)["problem"][0]["text"]
    assert "refuses the workflow" in text
    assert "missing.safetensors" in text
    assert time.monotonic() - started < 60
