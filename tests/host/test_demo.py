"""`python run.py demo`: what it prints and writes."""

import os
import re
import subprocess

import numpy as np
import pytest
from detailers.dev.demo import PHOTO, main
from detailers.dev.server import ROOT
from PIL import Image


@pytest.fixture
def demo(server, tmp_path, monkeypatch, capsys):
    """demo(*arguments): what the demo prints, run from `tmp_path` on the shared server."""
    monkeypatch.setenv("DETAILERS_STARTED_IN", str(tmp_path))

    def demo(*arguments):
        place = ["--comfyui", str(server.tree), "--python", server.python]
        status = main([*place, *arguments], running=server)
        said = capsys.readouterr()
        assert status == 0, said.out + said.err
        return said.out

    return demo


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def test_a_face_is_found_redrawn_and_shown(demo, tmp_path):
    Image.open(PHOTO).resize((256, 256)).save(tmp_path / "small.png")
    said = demo("--image", "small.png", "--prompt", "cool", "--output", "out")
    assert "analytic model" in said
    assert "1 face found in 256 x 256" in said
    box = re.search(r"box (\d+) x (\d+) at \((\d+), (\d+)\)", said)
    width, height, x, y = map(int, box.groups())
    assert abs(x + width / 2 - 112) < 6  # the middle of the face
    assert abs(y + height / 2 - 59) < 6
    assert re.search(r"sampled at \d+ x \d+, seed 1", said)
    assert "from the mask: 0" in said

    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {
        "before.png",
        "after.png",
        "mask_overlay.png",
        "face_1_before.png",
        "face_1_after.png",
        "contact_sheet.png",
    }
    change = pixels(out / "after.png") - pixels(out / "before.png")
    face = change[y : y + height, x : x + width].mean((0, 1))
    assert face[2] - face[0] > 10  # bluer
    assert not change[:, :40].any()
    assert not change[128:].any()
    crop = pixels(out / "face_1_after.png") - pixels(out / "face_1_before.png")
    assert np.abs(crop).sum() == np.abs(change).sum()


@pytest.mark.once
def test_faces_of_a_clip_are_followed_and_shown_beside_the_truth(demo, tmp_path):
    import av

    said = demo("--video", "turning", "--frames", "4", "--output", "out")
    assert "4 frames of 768 x 432" in said
    before, after = re.search(r"heads: ([\d.]+) dB before, ([\d.]+) after", said).groups()
    assert float(after) > float(before) + 1
    assert re.search(r"255ths: [\d.]+ before, [\d.]+ after, [\d.]+ in the truth", said)
    with av.open(tmp_path / "out" / "video.mp4") as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [frame.shape for frame in frames] == [(466, 2344, 3)] * 4  # three parts and their names
    parts = [frames[2][40:, left : left + 760].astype(int) for left in (4, 792, 1580)]
    assert np.abs(parts[0] - parts[1]).max() > 60  # the head
    assert np.abs(parts[0][:, :200] - parts[1][:, :200]).mean() < 6  # beside it, but for the codec
    assert (tmp_path / "out" / "video_sheet.png").is_file()


def test_a_picture_without_a_face_stays_and_is_told(demo, tmp_path):
    Image.new("RGB", (96, 64), (90, 120, 150)).save(tmp_path / "wall.png")
    said = demo("--image", "wall.png", "--output", "out")
    assert "No faces found in 96 x 64" in said
    assert not (pixels(tmp_path / "out" / "after.png") - pixels(tmp_path / "wall.png")).any()


@pytest.mark.once  # one more start of ComfyUI
def test_the_command_starts_a_comfyui_of_its_own(host, tmp_path):
    Image.new("RGB", (96, 64), (90, 120, 150)).save(tmp_path / "wall.png")
    command = [host.python, "-m", "dev.demo", "--comfyui", host.tree, "--python", host.python]
    done = subprocess.run(
        [*command, "--image", "wall.png", "--output", "out"],
        cwd=ROOT,
        env={**os.environ, "DETAILERS_STARTED_IN": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Starting ComfyUI\n.*ComfyUI \d+\.\d+", done.stdout)
    assert "No faces found in 96 x 64" in done.stdout
    assert not (pixels(tmp_path / "out" / "after.png") - pixels(tmp_path / "wall.png")).any()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--image", "none.png"], "there is no file"),
        (["--image", "text.png"], "cannot be read as a picture"),
        (["--checkpoint", "none.safetensors"], "there is no file"),
        (["--video", "none.mp4"], "these are walking, turning"),
    ],
)
def test_files_that_are_not_there_are_refused(tmp_path, monkeypatch, capsys, arguments, complaint):
    monkeypatch.setenv("DETAILERS_STARTED_IN", str(tmp_path))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(SystemExit) as ended:
        main(["--comfyui", "no ComfyUI", "--python", "no Python", *arguments])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.once
def test_without_a_picture_it_details_a_scene_whose_truth_is_known(demo, tmp_path):
    said = demo("--scene", "2", "--output", "out")
    assert "analytic model" not in said
    assert "4 faces found in 1024 x 1024" in said
    assert "from the mask: 0" in said
    before, after = re.search(r"masks: ([\d.]+) dB before, ([\d.]+) after", said).groups()
    assert float(after) > float(before)
    out = tmp_path / "out"
    assert pixels(out / "truth.png").shape == pixels(out / "after.png").shape == (1024, 1024, 3)
    assert (out / "face_4_after.png").is_file()
