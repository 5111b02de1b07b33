"""ComfyUI's VIDEO: read and written frame by frame."""

import os
import tempfile
from fractions import Fraction
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import InputImpl, Types
from detailers.core.clips import HeldFrames
from detailers.core.host.video import entry_of, opened, video_of
from detailers.core.host.video_write import Encoding
from detailers.tests.video_files import COUNT, SIZE, clip, number_of, picture

FOLDER = Path(tempfile.mkdtemp(prefix="detailers-video-"))
folder_paths.set_temp_directory(str(FOLDER / "temp"))
FILE = str(clip(FOLDER / "a.mp4", sound=[("aac", 1.6)]))

# Seconds: the start, and the duration.
PARTS = ((0.4, 0.4), (0.41, 0.2), (-0.4, 0.0), (-0.4, 0.2), (1.0, 0.0), (0, 0.2))


def carried(video, encoding=Encoding(), change=None):  # noqa: B008
    with opened(video) as source:
        frames = source.frames
        with source.writing(encoding) as (sink, path):
            for start in range(0, frames.count, 7):
                part = frames.read(start, min(frames.count, start + 7))
                sink.write(part if change is None else change(part))
    return path


def temporary():
    folder = FOLDER / "temp"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def numbers(images):
    return [number_of(frame) for frame in images]


def check_a_file_becomes_a_file_in_the_temporary_folder():
    path = carried(InputImpl.VideoFromFile(FILE))
    assert path.parent == FOLDER / "temp"
    assert entry_of(path) == {"filename": path.name, "subfolder": "", "type": "temp"}
    parts = video_of(path).get_components()
    assert numbers(parts.images) == list(range(COUNT))
    assert parts.frame_rate == 25
    heard = InputImpl.VideoFromFile(FILE).get_components().audio
    assert torch.equal(parts.audio["waveform"], heard["waveform"])


def check_the_frames_are_those_of_the_host():
    """Numbers, size and colours of ComfyUI's own reader, for a file without marks of colours."""
    video = InputImpl.VideoFromFile(FILE)
    images = video.get_components().images
    with opened(video) as source:
        frames = source.frames.read(0, source.frames.count)
    assert frames.shape == images.shape
    inner = (frames - images)[:, 16:44, 4:60]
    assert inner.abs().max() < 0.02, inner.abs().max()


def check_the_part_to_which_a_video_was_trimmed():
    for start, duration in (
        (0.4, 0.4),
        (0.41, 0.2),
        (-0.4, 0.0),
        (-0.4, 0.2),
        (1.0, 0.0),
        (0, 0.2),
    ):
        video = InputImpl.VideoFromFile(FILE).as_trimmed(start, duration, strict_duration=False)
        wanted = numbers(video.get_components().images)
        with opened(video) as source:
            found = numbers(source.frames.read(0, source.frames.count))
        assert found == wanted, (start, duration, found, wanted)
        again = video_of(carried(video))
        assert numbers(again.get_components().images) == wanted
        trimmed_again = again.as_trimmed(0, 0.12, strict_duration=False)
        with opened(trimmed_again) as source:
            assert numbers(source.frames.read(0, source.frames.count)) == wanted[:3]


def check_a_video_in_memory():
    images = torch.stack([torch.from_numpy(picture(number)) for number in range(12)]) / 255
    wave = torch.zeros(1, 2, 44100)
    for audio in (None, {"waveform": wave, "sample_rate": 44100}):
        parts = Types.VideoComponents(images=images, audio=audio, frame_rate=Fraction(24))
        video = InputImpl.VideoFromComponents(parts)
        with opened(video) as source:
            assert isinstance(source.frames, HeldFrames)
            assert source.frames.read(0, 12) is not None
            assert torch.equal(source.frames.read(2, 5), images[2:5])
            assert source.rate == 24
        made = video_of(carried(video)).get_components()
        assert numbers(made.images) == list(range(12))
        assert made.frame_rate == 24
        assert (made.audio is None) == (audio is None)
        assert (made.images - images).abs()[:, 16:44, 4:60].max() < 0.03


def check_a_video_in_memory_with_alpha_keeps_it():
    images = torch.rand(3, SIZE.height, SIZE.width, 4, generator=torch.Generator().manual_seed(0))
    images[..., 3] = 0.25
    parts = Types.VideoComponents(images=images, frame_rate=Fraction(24))
    path = carried(InputImpl.VideoFromComponents(parts))
    assert path.suffix == ".webm"
    with opened(video_of(path)) as source:
        assert (source.frames.read(0, 3)[..., 3] - 0.25).abs().max() < 0.02


def check_the_host_can_save_the_result():
    for name in ("mp4", "webm"):
        video = video_of(carried(InputImpl.VideoFromFile(FILE), Encoding(name)))
        saved = FOLDER / f"saved_{name}.mp4"
        video.save_to(str(saved))
        assert numbers(InputImpl.VideoFromFile(str(saved)).get_components().images) == list(
            range(COUNT)
        )


def check_an_interrupt_leaves_no_file():
    before = temporary()

    def stop(frames):
        comfy.model_management.interrupt_current_processing()
        return frames

    try:
        carried(InputImpl.VideoFromFile(FILE), change=stop)
    except comfy.model_management.InterruptProcessingException:
        pass
    else:
        raise AssertionError("it went on")
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert temporary() == before


def check_what_is_no_video():
    for value in (None, 3, torch.zeros(1, 8, 8, 3), InputImpl.VideoFromFile(FILE + ".gone")):
        try:
            with opened(value, "video"):
                pass
        except ValueError as error:
            assert "'video'" in str(error)
        else:
            raise AssertionError(value)


def check_no_two_results_share_a_name():
    video = InputImpl.VideoFromFile(FILE)
    paths = {carried(video) for _ in range(3)}
    assert len(paths) == 3
    assert all(os.path.getsize(path) > 0 for path in paths)
