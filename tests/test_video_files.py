"""Video files that are read and written frame by frame, with PyAV as ComfyUI's Python has it."""

import io
import json
import os
import subprocess
import sys
from fractions import Fraction
from math import log10
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from detailers.core.clips import Change, composed
from detailers.core.geometry import Box, Size
from detailers.core.host.video_read import FileFrames, Trim, never
from detailers.core.host.video_sound import FileSound, HeldSound
from detailers.core.host.video_write import Encoding, FileSink, Still, format_for
from detailers.tests.video_files import COUNT, SIZE, UNEVEN, clip, number_of, picture
from detailers.utils.notes import collected_notes


@pytest.fixture
def opened():
    """opened(file, trim) -> FileFrames, closed at the end."""
    known = []

    def opened(file, trim=None):
        known.append(FileFrames(file, trim or Trim()))
        return known[-1]

    yield opened
    for one in known:
        one.close()


def copied(source, path, format="auto", crf=16, change=None, slices=7):
    """Write the frames of a source to path.*, and return the path."""
    form = format_for(source, Encoding(format))
    path = path.with_suffix(f".{form.ending}")
    again = source.again()
    with FileSink(path, again, FileSound(source.file, never, "video"), form, crf) as sink:
        for start in range(0, source.count, slices):
            frames = source.read(start, min(source.count, start + slices))
            sink.write(frames if change is None else change(frames))
    again.close()
    return path


def stamps_of(path):
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return [float(frame.pts * stream.time_base) for frame in file.decode(stream)]


def packets_of(path, kind="audio", place=0):
    with av.open(str(path)) as file:
        stream = getattr(file.streams, kind)[place]
        return [bytes(packet) for packet in file.demux(stream) if packet.size]


def psnr(a, b):
    return 10 * log10(1 / max(1e-12, float((a - b).square().mean())))


# Reading

FILES = {
    "b_frames.mp4": {},
    "open_groups.mp4": {"options": {"g": "12", "bf": "3", "x264-params": "open-gop=1"}},
    "one_group.mp4": {"options": {"g": "500", "bf": "3"}},
    "b_frames.mkv": {},
    "b_frames.ts": {},
    "raw.h264": {},
    "b_frames.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2", "qmin": "1", "qmax": "1"}},
    "no_count.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "g": "12"}},
    "intra.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "deep.mp4": {"pixels": "yuv420p10le"},
    "lossless.mkv": {"codec": "ffv1", "pixels": "bgr0"},
    "moving.gif": {"codec": "gif", "pixels": "rgb8", "options": {"loop": "0"}, "count": 20},
}


@pytest.mark.parametrize("name", FILES)
def test_every_frame_has_its_number_in_whatever_order_it_is_read(tmp_path, opened, name):
    count = FILES[name].get("count", COUNT)
    source = opened(clip(tmp_path / name, **FILES[name]))
    assert (source.count, source.size) == (count, SIZE)
    whole = source.read(0, count)
    assert whole.shape == (count, 48, 64, source.channels)
    if "gif" not in name:  # whose few colours are too coarse for that
        assert [number_of(frame) for frame in whole] == list(range(count))
    for start, stop in [(17, 20), (3, 5), (count - 1, count), (12, 13), (11, 14), (0, 2)]:
        assert torch.equal(source.read(start, stop), whole[start:stop])


def test_frames_of_uneven_rate_keep_their_time(tmp_path, opened):
    source = opened(clip(tmp_path / "a.mp4", count=10, stamps=UNEVEN))
    assert source.count == 10
    assert [round(one * 1000 * source.time_base) for one in source.stamps] == UNEVEN
    made = copied(source, tmp_path / "made")
    assert [round(time * 1000) for time in stamps_of(made)] == UNEVEN
    again = opened(made)
    assert [round(one * 1000 * again.time_base) for one in again.durations] == [
        round(one * 1000 * source.time_base) for one in source.durations
    ]
    whole = again.read(0, 10)
    assert [number_of(frame) for frame in whole] == list(range(10))


@pytest.mark.parametrize(
    ("trim", "numbers"),
    [
        (Trim(0.4, 0.4), range(10, 20)),
        (Trim(0.41, 0.2), range(11, 16)),
        (Trim(1.0), range(25, 40)),
        (Trim(0, 0.2), range(5)),
    ],
)
def test_a_trimmed_file_has_the_frames_of_its_part(tmp_path, opened, trim, numbers):
    source = opened(clip(tmp_path / "a.mp4", sound=[("aac", 1.6)]), trim)
    assert [number_of(frame) for frame in source.read(0, source.count)] == list(numbers)
    made = opened(copied(source, tmp_path / "made"))
    assert [number_of(frame) for frame in made.read(0, made.count)] == list(numbers)
    with av.open(str(made.file)) as file:
        heard = sum(frame.samples for frame in file.decode(audio=0)) / 48000
    assert abs(heard - len(numbers) / 25) < 0.08


def test_a_trimmed_file_without_frames_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no frame"):
        FileFrames(clip(tmp_path / "a.mp4"), Trim(100))


def test_a_file_in_memory_is_read_without_moving_its_position(tmp_path, opened):
    data = io.BytesIO(clip(tmp_path / "a.mp4").read_bytes())
    data.seek(7)
    source = opened(data)
    made = opened(copied(source, tmp_path / "made"))
    assert data.tell() == 7
    assert made.count == COUNT


def test_frames_at_the_end_that_cannot_be_decoded_are_left_out(tmp_path, opened):
    path = damaged(tmp_path, COUNT - 2, COUNT - 1)
    with collected_notes() as notes:
        source = opened(path)
    assert source.count == COUNT - 2
    assert "left out: 2" in notes[0].text
    whole = source.read(0, source.count)
    assert [number_of(frame) for frame in whole] == list(range(source.count))


def damaged(folder, *numbers):
    """A file in which these frames cannot be decoded."""
    path = clip(folder / "a.mkv", codec="mjpeg", pixels="yuvj420p", options={"qmax": "2"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    for number in numbers:
        place = data.index(packets[number])
        data[place : place + len(packets[number])] = bytes(len(packets[number]))
    path.write_bytes(data)
    return path


def test_a_file_that_was_cut_off_has_the_frames_that_are_left(tmp_path, opened):
    path = clip(tmp_path / "a.ts")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    source = opened(path)
    assert 10 < source.count < COUNT
    whole = source.read(0, source.count)
    assert [number_of(frame) for frame in whole[:-1]] == list(range(source.count - 1))


def test_a_damaged_frame_looks_like_the_one_before_it(tmp_path, opened):
    path = damaged(tmp_path, 30)
    with collected_notes() as notes:
        source = opened(path)
        numbers = [number_of(frame) for frame in source.read(0, source.count)]
        source.tell_faults()
    assert len(numbers) == COUNT
    assert numbers[:30] + numbers[31:] == [*range(30), *range(31, COUNT)]
    assert numbers[30] == 29
    assert "frame 30" in notes[0].text


def test_what_is_no_video_is_an_error_that_says_so(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(ValueError, match="does not exist"):
        FileFrames(path)
    path.write_bytes(b"no video at all" * 100)
    with pytest.raises(ValueError, match="cannot be read as a video"):
        FileFrames(path)
    with av.open(str(tmp_path / "b.m4a"), "w", format="mp4") as file:
        voice = file.add_stream("aac", rate=48000, layout="mono")
        silence = np.zeros((1, 4800), np.float32)
        heard = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        heard.sample_rate = 48000
        file.mux(voice.encode(heard))
        file.mux(voice.encode(None))
    with pytest.raises(ValueError, match="no moving picture"):
        FileFrames(tmp_path / "b.m4a")


def test_a_playlist_opens_no_address(tmp_path):
    path = tmp_path / "a.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(ValueError, match="'video'"):
        FileFrames(path)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_file_is_read_and_written_upright(tmp_path, opened, turn):
    plain = clip(tmp_path / "plain.mp4")
    path = tmp_path / "turned.mp4"
    with av.open(str(plain)) as given, av.open(str(path), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        stream.set_display_rotation(turn)
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                made.mux(packet)
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    source = opened(path)
    assert tuple(source.size) == (upright.shape[1], upright.shape[0])
    first = torch.from_numpy(upright.copy()).float() / 255
    assert psnr(source.read(0, 1)[0], first) > 30  # ComfyUI's reader spreads chroma otherwise
    again = opened(copied(source, tmp_path / "made", crf=1))
    assert again.size == source.size
    assert psnr(again.read(0, COUNT), source.read(0, COUNT)) > 48


# Writing


@pytest.mark.parametrize(
    ("pixels", "codec", "tags"),
    [
        ("yuv420p", "libx264", {"colorspace": 1, "color_primaries": 1, "color_trc": 1}),
        ("yuv420p", "libx264", {}),
        ("yuv420p", "libx264", {"colorspace": 6, "color_primaries": 6, "color_range": 2}),
        ("yuv420p10le", "libx264", {"colorspace": 9, "color_primaries": 9, "color_trc": 16}),
        ("yuv422p", "libx264", {"color_range": 2}),
        ("yuv444p", "ffv1", {"colorspace": 1}),
    ],
)
def test_colours_depth_and_tags_are_kept(tmp_path, opened, pixels, codec, tags):
    source = opened(clip(tmp_path / "a.mkv", codec=codec, pixels=pixels, tags=tags, count=8))
    made = opened(copied(source, tmp_path / "made", "mp4"))
    assert made.first.format == pixels
    assert (made.colours.matrix, made.colours.primaries, made.colours.transfer) == (
        tags.get("colorspace", 2), tags.get("color_primaries", 2), tags.get("color_trc", 2),
    )  # fmt: skip
    assert made.colours.full == (tags.get("color_range") == 2)
    assert made.rate == 25
    assert made.container.metadata["title"] == "a title"
    assert psnr(made.read(0, 8), source.read(0, 8)) > 40


def test_each_matrix_gives_the_colours_that_were_drawn(tmp_path, opened):
    """The file is encoded with the matrix and range of its tags, by FFmpeg."""
    colour = torch.tensor([200, 40, 90]) / 255
    for matrix, word in ((1, "ITU709"), (6, "ITU601"), (2, "ITU601")):
        for full in (False, True):
            path = tmp_path / f"{matrix}{full}.mkv"
            with av.open(str(path), "w") as file:
                stream = file.add_stream("ffv1", rate=25)
                stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv444p"
                stream.codec_context.colorspace = matrix
                stream.codec_context.color_range = 2 if full else 1
                flat = np.full((16, 16, 3), (200, 40, 90), np.uint8)
                frame = av.VideoFrame.from_ndarray(flat, format="rgb24").reformat(
                    format="yuv444p", dst_colorspace=word, src_color_range="JPEG",
                    dst_color_range="JPEG" if full else "MPEG",
                )  # fmt: skip
                frame.colorspace, frame.color_range = matrix, 2 if full else 1
                file.mux(stream.encode(frame))
                file.mux(stream.encode(None))
            found = opened(path).read(0, 1)[0, 8, 8]
            assert (found - colour).abs().max() < 0.01, (matrix, full, found * 255)


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [
        ("libx264", "yuv420p"), ("libx264", "yuv422p10le"), ("ffv1", "yuv444p12le"),
        ("ffv1", "bgr0"), ("ffv1", "gbrp10le"), ("ffv1", "yuva444p10le"),
        ("prores_ks", "yuva444p10le"),
        ("ffv1", "gray"), ("ffv1", "yuv411p"), ("ffv1", "bgra"),
    ],
)  # fmt: skip
def test_untouched_frames_of_a_lossless_file_are_the_same_bits(tmp_path, opened, codec, pixels):
    source = opened(clip(tmp_path / "a.mkv", codec=codec, pixels=pixels, count=6, options={}))
    made = opened(copied(source, tmp_path / "made", "mkv"))
    assert torch.equal(made.read(0, 6), source.read(0, 6))
    for number in range(6):
        pairs = zip(made.coded(number).planes, source.coded(number).planes, strict=True)
        if made.first.layout == source.first.layout:
            assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("crf", "aim"), [(1, 55), (16, 42), (30, 30)])
def test_a_round_trip_loses_as_little_as_its_quality_says(tmp_path, opened, crf, aim):
    source = opened(clip(tmp_path / "a.mp4", count=12))
    made = opened(copied(source, tmp_path / "made", crf=crf))
    found = psnr(made.read(0, 12), source.read(0, 12))
    assert found > aim
    print(f"crf {crf}: {found:.1f} dB")


def test_a_change_is_written_and_nothing_else_changes(tmp_path, opened):
    source = opened(clip(tmp_path / "a.mp4", count=12))

    def change(frames):
        frames = frames.clone()
        frames[:, 16:32, 16:48] = torch.tensor([0.1, 0.8, 0.3])
        return frames

    made = opened(copied(source, tmp_path / "made", "mkv", change=change))
    old, new = source.read(0, 12), made.read(0, 12)
    far = torch.ones(48, 64, dtype=torch.bool)
    far[14:34, 14:50] = False  # a sample of chroma further
    assert torch.equal(new[:, far], old[:, far])
    assert (new[:, 20:28, 20:44] - torch.tensor([0.1, 0.8, 0.3])).abs().max() < 0.01


@pytest.mark.parametrize(
    ("name", "given", "format", "codec", "pixels"),
    [
        ("a.mp4", {}, "auto", "h264", "yuv420p"),
        ("a.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}}, "auto", "vp9", "yuv420p"),
        ("a.mov", {"codec": "prores_ks", "pixels": "yuva444p10le"}, "auto", "prores",
         "yuva444p12le"),
        ("a.mov", {"codec": "prores_ks", "pixels": "yuv422p10le"}, "auto", "h264", "yuv422p10le"),
        ("a.mp4", {"pixels": "yuv420p10le"}, "webm", "vp9", "yuv420p"),
        ("a.gif", {"codec": "gif", "pixels": "rgb8", "options": {"loop": "0"}}, "auto", "h264",
         "yuv420p"),
        ("a.mkv", {"codec": "ffv1", "pixels": "gray"}, "auto", "h264", "yuv420p"),
        ("a.mp4", {}, "mov", "prores", "yuv422p10le"),
    ],
)  # fmt: skip
def test_the_kind_of_file_goes_by_the_input(tmp_path, opened, name, given, format, codec, pixels):
    source = opened(clip(tmp_path / name, count=5, **given))
    made = opened(copied(source, tmp_path / "made", format))
    assert (made.codec, made.first.format) == (codec, pixels)
    assert made.count == 5
    # The few colours of GIF are dots, and 4:2:0 blurs them.
    aim = 18 if "gif" in name else 33
    assert psnr(made.read(0, 5)[..., :3], source.read(0, 5)[..., :3]) > aim


def veil(number, size):
    frame = np.zeros((size.height, size.width, 4), np.uint8)
    frame[..., :3] = picture(number, size)
    frame[..., 3] = 255
    frame[30:, :, 3] = 60
    return frame


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("a.webm", {"codec": "libvpx-vp9", "pixels": "yuva420p",
                    "options": {"cpu-used": "8", "auto-alt-ref": "0"}}),
        ("a.mov", {"codec": "prores_ks", "pixels": "yuva444p10le", "options": {"profile": "4444"}}),
    ],
)  # fmt: skip
def test_alpha_is_read_and_kept(tmp_path, opened, name, given):
    source = opened(clip(tmp_path / name, count=6, draw=veil, **given))
    assert source.channels == 4
    frames = source.read(0, 6)
    assert (frames[:, 36:, :, 3] - 60 / 255).abs().max() < 0.02
    made = opened(copied(source, tmp_path / "made"))
    assert made.channels == 4
    assert (made.read(0, 6)[..., 3] - frames[..., 3]).abs().max() < 0.05


def test_alpha_that_the_format_cannot_hold_is_told(tmp_path, opened):
    given = {"codec": "prores_ks", "pixels": "yuva444p10le"}
    source = opened(clip(tmp_path / "a.mov", count=3, draw=veil, **given))
    with collected_notes() as notes:
        made = opened(copied(source, tmp_path / "made", "mp4"))
    assert made.channels == 3
    assert "Alpha" in notes[0].text


@pytest.mark.parametrize(("format", "pixels"), [("mp4", "yuv444p"), ("webm", "yuv420p")])
def test_odd_sizes_stay(tmp_path, opened, format, pixels):
    odd = Size(61, 45)
    path = clip(tmp_path / "a.mkv", codec="ffv1", count=4, size=odd)
    source = opened(path)
    with collected_notes() as notes:
        made = opened(copied(source, tmp_path / "made", format))
    assert (made.size, made.first.format) == (odd, pixels)
    assert psnr(made.read(0, 4), source.read(0, 4)) > 38
    assert ["odd (61x45)" in note.text for note in notes] == ([True] if format == "mp4" else [])


# Sound


def test_sound_is_copied_packet_by_packet(tmp_path, opened):
    source = opened(clip(tmp_path / "a.mp4", sound=[("aac", 1.6), ("aac", 1.0)]))
    made = copied(source, tmp_path / "made")
    for place in (0, 1):
        assert packets_of(made, place=place) == packets_of(source.file, place=place)
    with av.open(str(made)) as file:
        order = [packet.stream.type for packet in file.demux() if packet.size]
    assert "audio" in order[: len(order) // 3]  # beside the frames, and not behind them


def test_sound_that_the_format_cannot_hold_is_encoded_again(tmp_path, opened):
    source = opened(clip(tmp_path / "a.mp4", sound=[("aac", 1.6)]))
    with collected_notes() as notes:
        made = copied(source, tmp_path / "made", "webm")
    assert any("encoded again as opus" in note.text for note in notes)
    with av.open(str(made)) as file:
        assert file.streams.audio[0].codec_context.name in ("opus", "libopus")
        samples = [frame.to_ndarray() for frame in file.decode(audio=0)]
    wave = np.concatenate(samples, axis=1)[0]
    assert abs(wave.shape[-1] / 48000 - 1.6) < 0.05
    spectrum = np.abs(np.fft.rfft(wave[4800:52800]))
    assert abs(int(spectrum.argmax()) - 220) <= 1  # hertz, of one second


@pytest.mark.parametrize(
    ("name", "codec", "format", "heard"),
    [
        ("a.ts", "aac", "mp4", "aac"), ("a.mkv", "libopus", "mp4", "opus"),
        ("a.mkv", "flac", "webm", "opus"), ("a.mkv", "pcm_s16le", "mp4", "aac"),
        ("a.mkv", "pcm_s16le", "mov", "pcm_s16le"), ("a.mkv", "pcm_s16le", "mkv", "pcm_s16le"),
    ],
)  # fmt: skip
def test_usual_kinds_of_sound_come_through(tmp_path, opened, name, codec, format, heard):
    source = opened(clip(tmp_path / name, count=10, sound=[(codec, 0.4)]))
    begins = float(source.stamps[0] * source.time_base - source.container.start_time * 1e-6)
    made = opened(copied(source, tmp_path / "made", format))
    with av.open(str(made.file)) as file:
        stream = file.streams.audio[0]
        assert stream.codec_context.codec.canonical_name == heard
        length = sum(frame.samples for frame in file.decode(audio=0)) / 48000
    assert abs(length - 0.4) < 0.06
    assert made.count == 10
    assert abs(float(made.stamps[0] * made.time_base) - begins) < 0.002


@pytest.mark.parametrize("sound", [[], [("aac", 0.4)], [("aac", 3.0)]])
def test_missing_short_and_long_sound_is_kept(tmp_path, opened, sound):
    source = opened(clip(tmp_path / "a.mp4", sound=sound))
    made = copied(source, tmp_path / "made")
    with av.open(str(made)) as file:
        assert len(file.streams.audio) == len(sound)
    if sound:
        assert packets_of(made) == packets_of(source.file)


def test_subtitles_are_left_out_and_told(tmp_path, opened):
    plain = clip(tmp_path / "plain.mp4", sound=[("aac", 1.6)])
    words, path = tmp_path / "words.srt", tmp_path / "a.mkv"
    words.write_text("1\n00:00:00,100 --> 00:00:01,000\nhello\n")
    with av.open(str(plain)) as seen, av.open(str(words)) as read, av.open(str(path), "w") as made:
        pairs = [(one, made.add_stream_from_template(one)) for one in seen.streams]
        pairs += [(one, made.add_stream_from_template(one)) for one in read.streams]
        for given, stream in pairs[:1] + pairs[2:]:
            for packet in given.container.demux(given):
                if packet.dts is not None:
                    packet.stream = stream
                    made.mux(packet)
    source = opened(path)
    with collected_notes() as notes:
        made = copied(source, tmp_path / "made")
    assert [note.text for note in notes] == ["Subtitles of 'video' are left out."]
    with av.open(str(made)) as file:
        assert [stream.type for stream in file.streams][:1] == ["video"]
        assert not file.streams.subtitles


def test_frames_in_memory_get_their_sound_and_rate(tmp_path, opened):
    frames = torch.stack([torch.from_numpy(picture(number)) for number in range(30)]) / 255
    wave = torch.sin(torch.arange(44100 * 3) * 2 * torch.pi * 330 / 44100).expand(1, 2, -1)
    still = Still(30, SIZE, 3, Fraction(30000, 1001))
    path = tmp_path / "made.mp4"
    sound = HeldSound({"waveform": wave, "sample_rate": 44100})
    with FileSink(path, still, sound, format_for(still, Encoding()), 10) as sink:
        sink.write(frames[:11])
        sink.write(frames[11:])
    made = opened(path)
    assert (made.count, made.rate) == (30, Fraction(30000, 1001))
    assert made.colours.matrix == 6
    assert psnr(made.read(0, 30), frames) > 36
    with av.open(str(path)) as file:
        heard = sum(frame.samples for frame in file.decode(audio=0)) / 44100
    assert abs(heard - 1.001) < 0.05  # as long as the frames, as ComfyUI's own nodes do


# Faults


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("error", [Stopped, ValueError])
def test_no_file_is_left_when_writing_is_stopped(tmp_path, opened, error):
    source = opened(clip(tmp_path / "a.mp4", sound=[("aac", 1.6)]))
    path = tmp_path / "made.mp4"

    def stop(frames):
        if number_of(frames[0]) >= 14:
            raise error
        return frames

    with pytest.raises(error):
        copied(source, path, change=stop)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_a_clip_that_was_not_written_to_its_end_is_no_result(tmp_path, opened):
    source = opened(clip(tmp_path / "a.mp4"))
    form = format_for(source, Encoding())
    path = tmp_path / "made.mp4"
    with (
        pytest.raises(ValueError, match="3 of the 40 frames"),
        FileSink(path, source, HeldSound(None), form, 16) as sink,
    ):
        sink.write(source.read(0, 3))
    assert not path.exists()


def test_a_full_disk_is_told_and_no_file_is_left(tmp_path, opened, monkeypatch):
    source = opened(clip(tmp_path / "a.mp4"))
    path = tmp_path / "made.mp4"

    def full(*_):
        raise av.error.FFmpegError(28, "No space left on device")

    monkeypatch.setattr(FileSink, "_mux", full)
    form = format_for(source, Encoding())
    with (
        pytest.raises(ValueError, match=r"No space left.*Check whether there is enough"),
        FileSink(path, source, HeldSound(None), form, 16) as sink,
    ):
        sink.write(source.read(0, 1))
    assert not path.exists()


def test_no_file_is_overwritten(tmp_path, opened):
    source = opened(clip(tmp_path / "a.mp4"))
    path = tmp_path / "made.mp4"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        FileSink(path, source, HeldSound(None), format_for(source, Encoding()), 16)
    assert path.read_text() == "mine"


# Frames that stay as they are coded


def planes_of(path, number):
    file = FileFrames(path)
    try:
        return file.coded(number).planes
    finally:
        file.close()


@pytest.mark.parametrize("format", ["mkv", "mov"])  # the layout of the file, and another one
def test_a_frame_that_goes_through_as_it_is_coded_is_written_as_its_pixels_are(
    tmp_path, opened, format
):
    source = opened(clip(tmp_path / "a.mp4"))
    box = Box(13, 7, 31, 22)
    change = Change(box, source.frame(2).part(box) * 0.5)

    def changed(frames):
        if number_of(frames[0]) == 2:
            frames[:, box.y1 : box.y2, box.x1 : box.x2] = change.pixels
        return frames

    wanted = copied(source, tmp_path / "pixels", format, change=changed, slices=1)
    form = format_for(source, Encoding(format))
    path = (tmp_path / "coded").with_suffix(f".{form.ending}")
    again = source.again()
    with FileSink(path, again, FileSound(source.file, never, "video"), form, 16) as sink:
        for number in range(source.count):
            sink.take(source.frame(number), change if number == 2 else None)
    assert again._at == -1  # nothing was decoded a second time
    again.close()
    for number in (0, 2, 3, COUNT - 1):
        assert all(map(torch.equal, planes_of(path, number), planes_of(wanted, number)))
    if format == "mkv":
        assert all(map(torch.equal, planes_of(path, 3), source.coded(3).planes))
        assert not torch.equal(planes_of(path, 2)[0], source.coded(2).planes[0])


def test_a_frame_of_a_file_is_held_as_it_is_coded(tmp_path, opened):
    source = opened(clip(tmp_path / "a.mp4"))
    frame = source.frame(5)
    assert (frame.size, frame.channels) == (SIZE, 3)
    assert sum(plane.untyped_storage().nbytes() for plane in frame.coded.planes) == 64 * 48 * 3 / 2
    assert torch.equal(composed(frame), source.read(5, 6))
    assert torch.equal(frame.part(Box(3, 5, 20, 31)), source.read(5, 6)[:, 5:31, 3:20])


def test_a_sink_writes_frames_of_another_clip_too(tmp_path, opened):
    source = opened(clip(tmp_path / "a.mp4", count=3))
    other = opened(clip(tmp_path / "b.mp4", count=5))
    form, again = format_for(source, Encoding("mkv")), source.again()
    path = tmp_path / "made.mkv"
    with FileSink(path, again, HeldSound(None), form, 16) as sink:
        for number in (2, 3, 4):
            sink.take(other.frame(number), None)
    again.close()
    assert [number_of(frame) for frame in opened(path).read(0, 3)] == [2, 3, 4]


# Memory


def test_memory_does_not_grow_with_the_length_of_a_clip(tmp_path):
    """Both run in one process, one after another, so the second figure counts the first, too."""
    script = Path(__file__).with_name("video_memory.py")
    command = [sys.executable, str(script), str(tmp_path), "64", "256"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    shorter, longer = json.loads(done.stdout.splitlines()[-1])
    frames = (256 - 64) * 320 * 240 * 3 * 4 / 2**20  # 169 MB
    assert longer - shorter < 0.6 * frames
