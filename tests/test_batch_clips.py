"""batch/clips.py: clips are cut without loss and joined, in a whole run too."""

import numpy as np
import pytest
from detailers.batch.clips import cut, join, spans
from detailers.batch.faults import Problem, UnitFault
from detailers.dev.stand_in import stand_in
from detailers.tests.folder_runs import Folder

av = pytest.importorskip("av", reason="needs the package av")
RATE = 12


def write(file, frames=30, size=(48, 32), sound=True, codec="mpeg4"):
    """A clip of two shots, the second one from the middle on, and a tone."""
    with av.open(str(file), "w") as made:
        stream = made.add_stream(codec, rate=RATE)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        voice = made.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), 30 if number < frames // 2 else 210, np.uint8)
            picture[:, number % size[0]] = 120
            made.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        made.mux(stream.encode(None))
        if voice:
            count = frames * 8000 // RATE
            wave = np.sin(np.arange(count) / 5).astype(np.float32)[None]
            for first in range(0, count, 1024):
                frame = av.AudioFrame.from_ndarray(wave[:, first : first + 1024], "fltp", "mono")
                frame.sample_rate, frame.pts = 8000, first
                made.mux(voice.encode(frame))
            made.mux(voice.encode(None))


def frames_of(file):
    with av.open(str(file)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def times_of(file):
    with av.open(str(file)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write(file)
    return file


def test_where_a_clip_is_cut(clip):
    assert spans(clip, "12") == [(0, 12), (12, 12), (24, 6)]
    assert spans(clip, "30") == [(0, 30)]
    assert spans(clip, "shots") == [(0, 15), (15, 15)]


def test_a_part_has_the_frames_bit_for_bit(clip, tmp_path):
    whole = frames_of(clip)
    for first, count in ((0, 12), (12, 12), (24, 6), (7, 1)):
        cut(clip, tmp_path / "part.mkv", first, count)
        part = frames_of(tmp_path / "part.mkv")
        assert len(part) == count
        for found, expected in zip(part, whole[first : first + count], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_part_that_the_clip_does_not_have_is_told(clip, tmp_path):
    with pytest.raises(UnitFault, match="has 2 of the frames 28 to 32"):
        cut(clip, tmp_path / "part.mkv", 28, 5)


def test_joined_parts_are_the_whole_with_its_sound(clip, tmp_path):
    parts = []
    for number, count in enumerate((12, 10, 8)):
        parts.append(tmp_path / f"{number}.mp4")
        write(parts[-1], count, sound=False)
    join(parts, tmp_path / "whole.mp4", clip)
    expected = [frame for part in parts for frame in frames_of(part)]
    found = frames_of(tmp_path / "whole.mp4")
    assert len(found) == 30
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert times_of(tmp_path / "whole.mp4") == pytest.approx(
        [n / RATE for n in range(30)], abs=1e-3
    )
    with av.open(str(tmp_path / "whole.mp4")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples == pytest.approx(30 / RATE * 8000, abs=2100)
    join(parts, tmp_path / "mute.mp4", None)
    with av.open(str(tmp_path / "mute.mp4")) as container:
        assert not container.streams.audio


def test_parts_of_unlike_size_are_not_joined(tmp_path):
    write(tmp_path / "a.mp4", 3, sound=False)
    write(tmp_path / "b.mp4", 3, size=(64, 32), sound=False)
    with pytest.raises(UnitFault, match="another size"):
        join([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "c.mp4", None)


@pytest.mark.parametrize("content", [b"", b"no clip at all" * 99])
def test_what_is_no_clip_is_told(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(Problem, match="The clip cannot be read"):
        spans(tmp_path / "a.mp4", "shots")


# In a run


def graph(**detail):
    detail = {"seconds": 0.0, "mode": "", "seed": 1, "model": "", **detail}
    return {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "x"}},
        "2": {"class_type": "FakeDetailer", "inputs": {"image": ["1", 0], **detail}},
        "3": {"class_type": "SaveVideo", "inputs": {
            "video": ["2", 0], "filename_prefix": "x", "format": "auto", "codec": "auto"}},
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    own = Folder(tmp_path)
    monkeypatch.setenv("DETAILERS_STARTED_IN", ".")
    own.write(graph())
    return own


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with stand_in(folder, FAKE_STATE=str(folder)) as (url, _):
        yield url


def test_a_clip_in_parts_is_joined_once_all_are_done(folder, capsys, server):
    (folder.source / "sub").mkdir()
    write(folder.source / "sub" / "clip.mp4")
    status, told = folder.run(capsys, "--split-video", "12", servers=server)
    assert status == 0
    assert sorted(line["part"] for line in told["done"]) == [0, 1, 2]
    assert list(folder.results()) == ["sub/clip.mp4"]
    whole = frames_of(folder.source / "sub" / "clip.mp4")
    found = frames_of(folder.out / "sub" / "clip.mp4")
    assert len(found) == 30
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not [path for path in (folder.out / ".detailers" / "parts").rglob("*") if path.is_file()]
    before = folder.results()
    status, told = folder.run(capsys, "--split-video", "12", servers=server)
    assert (status, told.get("done")) == (0, None)
    (folder.out / "sub" / "clip.mp4").unlink()
    status, told = folder.run(capsys, "--split-video", "12", servers=server)
    assert (status, len(told["done"])) == (0, 3)
    assert folder.results() == before


def test_a_clip_of_which_a_part_fails_is_set_aside(folder, capsys, server):
    write(folder.source / "clip.mp4")
    folder.write(graph(mode="fail"))
    status, told = folder.run(capsys, "--split-video", "shots", servers=server)
    assert (status, folder.results()) == (3, {})
    assert "Of its parts these failed: 1, 2." in told["failed"][-1]["fault"]


def test_whole_clips_pass_through(folder, capsys, server):
    write(folder.source / "clip.mp4")
    write(folder.source / "other.mov")
    assert folder.run(capsys, servers=server)[0] == 0
    assert sorted(folder.results()) == ["clip.mp4", "other.mp4"]
    assert folder.results()["clip.mp4"] == (folder.source / "clip.mp4").read_bytes()
