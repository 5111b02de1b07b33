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
from detailers.core.geometry import Rect, Size
from detailers.core.host.video import opened, shown_file, video_of
from detailers.core.host.video_write import Encoding
from detailers.core.tracks.track import Sighting, Track, Tracks
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.dev.model_pack.sources import BoxDetector
from detailers.nodes import NODE_CLASSES
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
    entry = {"filename": path.name, "subfolder": "", "type": "temp"}
    assert shown_file(path) == {"images": [entry], "animated": (True,)}
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
    for start, duration in PARTS:
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


def tracks_of(first, last, count):
    """One track that wanders to the right, over the frames first..last."""
    seen = []
    for frame in range(first, last + 1):
        box = Rect(10.3 + 0.7 * frame, 14.6, 16, 16)
        seen.append(Sighting(frame, box, Rect(box.x, box.y, 24, 24)))
    return Tracks(Size(*SIZE), count, (Track(0, "A", tuple(seen)),))


def detailed(node_id, clip, **given):
    """What the node gives, and its UI output, for frames 10 to 19."""
    model, text, vae = DetailersTestModel().run("flat8", 0.6)
    red = text.encode_from_tokens_scheduled(text.tokenize("red"))
    kinds = NODE_CLASSES[node_id].INPUT_TYPES()
    values = {
        name: options[0]["default"]
        for name, (kind, *options) in {**kinds["required"], **kinds["optional"]}.items()
        if options and "default" in options[0]
    }
    small = {
        "guide_size": 64.0,
        "max_size": 128.0,
        "steps": 2,
        "cfg": 1.0,
        "denoise": 0.5,
        "noise_mask_feather": 0,
    }
    node = NODE_CLASSES[node_id]()
    result = node.run(**{
        **values, **small, "sampler_name": "euler", "scheduler": "normal", "wildcard": "",
        "tracks": tracks_of(10, 19, COUNT),
        "basic_pipe": (model, text, vae, red, red),
        **clip, **given,
    })  # fmt: skip
    return (result["result"], result["ui"]) if isinstance(result, dict) else (result, {})


def check_the_node_does_what_the_node_for_frames_does():
    video = InputImpl.VideoFromFile(FILE)
    with opened(video) as source:
        frames = source.frames.read(0, COUNT)
    (wanted, _), _ = detailed("VideoDetailer", {"frames": frames})
    (made, report), ui = detailed("VideoDetailerLong", {"video": video}, format="mkv")
    assert ui == {} or "images" not in ui
    assert '"tracks"' in report or report.startswith("{")
    with opened(made) as source:
        found = source.frames.read(0, COUNT)
    touched = [number for number in range(COUNT) if not torch.equal(found[number], frames[number])]
    assert touched == list(range(10, 20))
    # What is new is coded with 8 bits, and with less chroma.
    assert (wanted - frames).abs().max() > 0.1
    assert (found - wanted).square().mean() < 0.1 * (wanted - frames).square().mean()


def check_the_node_shows_its_file():
    (made, _), ui = detailed("VideoDetailerLong", {"video": InputImpl.VideoFromFile(FILE)})
    (entry,) = ui["images"]
    assert made.get_stream_source() == str(FOLDER / "temp" / entry["filename"])
    assert made.get_frame_count() == COUNT


def check_tracks_of_another_clip_leave_no_file():
    before = temporary()
    video = InputImpl.VideoFromFile(FILE).as_trimmed(0, 1.0, strict_duration=False)
    try:
        detailed("VideoDetailerLong", {"video": video})
    except ValueError as error:
        assert "40 frames" in str(error) and "25" in str(error)
    else:
        raise AssertionError("it went on")
    assert temporary() == before


def check_a_file_is_followed_and_detailed_without_its_frames_in_memory():
    video = InputImpl.VideoFromFile(FILE).as_trimmed(0.4, 0.8, strict_duration=False)
    node = NODE_CLASSES["TrackSegments"]()
    kinds = node.INPUT_TYPES()["required"]
    widgets = {name: options[0]["default"] for name, (_, *options) in kinds.items()}
    detector = BoxDetector([[8, 8, 40, 40, "A", 0.9]])
    more = {"cut_threshold": 1.0, "measure_motion": False}  # each frame is of another brightness
    (tracks,) = node.run(**widgets, **more, bbox_detector=detector, video=video)
    assert (tracks.frames, tuple(tracks.size), len(tracks.tracks)) == (20, tuple(SIZE), 1)
    (made, _), _ = detailed("VideoDetailerLong", {"video": video, "tracks": tracks}, format="mkv")
    with opened(video) as old, opened(made) as new:
        before, after = old.frames.read(0, 20), new.frames.read(0, 20)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(before[:, :, 52:], after[:, :, 52:])
