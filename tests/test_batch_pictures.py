"""batch/pictures.py: formats and metadata of what comes back."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from detailers.batch.faults import UnitFault
from detailers.batch.pictures import chunks, finish, is_black
from detailers.batch.settings import Making
from PIL import Image, ImageCms, PngImagePlugin

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6" dc="me"/></x:xmpmeta>'
ARTIST, ORIENTATION, MAKE = 0x013B, 0x0112, 0x010F
TEXTS = {"prompt": '{"1": {}}', "workflow": '{"nodes": []}'}


def noise(size=(24, 16)):
    values = np.random.default_rng(1).integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def saved(tmp_path):
    """A picture as ComfyUI saves it."""
    texts = PngImagePlugin.PngInfo()
    for name, text in TEXTS.items():
        texts.add_text(name, text)
    file = tmp_path / "saved.png"
    noise().save(file, pnginfo=texts, compress_level=4)
    return file


@pytest.fixture
def source(tmp_path):
    """A photograph that lies on its side, with all kinds of metadata."""
    exif = Image.Exif()
    exif[ARTIST], exif[ORIENTATION], exif[MAKE] = "Ada", 6, "Camera"
    file = tmp_path / "source.jpg"
    noise().save(file, exif=exif, icc_profile=PROFILE, xmp=XMP, dpi=(300, 300))
    return file


def finished(saved, source, suffix, **making):
    return Image.open(finish(saved, source, suffix, Making(**making)))


def test_a_png_keeps_its_pixels_the_workflow_and_the_inputs_metadata(saved, source):
    found = finished(saved, source, ".png")
    assert found.convert("RGB").tobytes() == noise().tobytes()
    assert {name: found.text[name] for name in TEXTS} == TEXTS
    assert found.info["icc_profile"] == PROFILE
    exif = found.getexif()
    assert (exif[ARTIST], exif[MAKE], exif.get(ORIENTATION, 1)) == ("Ada", "Camera", 1)
    assert b'Orientation="1"' in found.info["xmp"]
    assert found.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_other_formats_keep_them_too(saved, source, suffix):
    found = finished(saved, source, suffix, quality=100)
    assert found.format == {".jpg": "JPEG", ".webp": "WEBP"}[suffix]
    assert np.abs(np.asarray(found.convert("RGB"), int) - np.asarray(noise(), int)).mean() < 12
    exif = found.getexif()
    assert (exif[ARTIST], exif.get(ORIENTATION, 1)) == ("Ada", 1)
    assert found.info["icc_profile"] == PROFILE
    comment = exif.get_ifd(0x8769)[0x9286]
    assert json.loads(comment[8:].decode("utf-16-be")) == TEXTS


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize(
    ("metadata", "with_source", "with_workflow"),
    [
        ("all", True, True),
        ("source", True, False),
        ("workflow", False, True),
        ("none", False, False),
    ],
)
def test_what_is_kept_is_chosen_and_the_profile_stays(
    saved, source, suffix, metadata, with_source, with_workflow
):
    found = finished(saved, source, suffix, metadata=metadata)
    content = Path(found.filename).read_bytes()
    assert (b"Ada" in content) == with_source
    assert (b"xmpmeta" in content) == with_source
    text = b'"nodes"' if suffix == ".png" else '"nodes'.encode("utf-16-be")
    assert (text in content.replace(b"\\", b"") or b"n\0o\0d\0e\0s" in content) == with_workflow
    assert found.info["icc_profile"] == PROFILE


def test_the_same_bytes_come_out_each_time(saved, source):
    content = saved.read_bytes()
    for suffix in (".png", ".jpg", ".webp"):
        found = []
        for _ in range(2):
            saved.write_bytes(content)
            found.append(finish(saved, source, suffix, Making()).read_bytes())
        assert found[0] == found[1]


def test_a_profile_of_other_channels_is_not_put_on(saved, tmp_path):
    source = tmp_path / "grey.png"
    profile = bytearray(PROFILE)
    profile[16:20] = b"GRAY"
    Image.new("L", (4, 4)).save(source, icc_profile=bytes(profile))
    assert "icc_profile" not in finished(saved, source, ".png").info


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0"])
def test_an_input_that_pillow_does_not_read_has_no_metadata(saved, tmp_path, content):
    source = tmp_path / "odd.exr"
    source.write_bytes(content)
    assert finished(saved, source, ".png").text.keys() == TEXTS.keys()


def test_texts_of_a_png_go_on(saved, tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "Ünder the sea")
    texts.add_text("prompt", "of an earlier run")
    source = tmp_path / "a.png"
    noise().save(source, pnginfo=texts)
    found = finished(saved, source, ".png").text
    assert found["Title"] == "Ünder the sea"
    assert found["prompt"] == TEXTS["prompt"]


@pytest.mark.parametrize("cut", [0, 7, 20, 60, -12, -1])
def test_a_torn_png_is_a_failure(saved, source, cut):
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(UnitFault, match=r"torn PNG|no PNG"):
        finish(saved, source, ".png", Making())


def test_a_damaged_png_is_a_failure(saved, source):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    saved.write_bytes(content)
    with pytest.raises(UnitFault, match="damaged PNG"):
        finish(saved, source, ".png", Making())


def test_what_is_no_picture_of_bytes_stays_as_it_is(tmp_path, source):
    for name in ("a.exr", "a.mp4", "a.webm"):
        file = tmp_path / name
        file.write_bytes(b"content")
        assert finish(file, source, ".png", Making()) == file
        assert file.read_bytes() == b"content"


def test_black_is_told_from_dark(tmp_path):
    file = tmp_path / "a.png"
    for picture, expected in (
        (Image.new("RGB", (64, 64)), True),
        (Image.new("RGB", (64, 64), (0, 0, 1)), False),
        (Image.new("RGBA", (64, 64), (0, 0, 0, 255)), True),
        (noise((64, 64)), False),
    ):
        picture.save(file)
        assert is_black(file) is expected


def test_chunks_of_a_png():
    content = io.BytesIO()
    Image.new("RGB", (2, 2)).save(content, "PNG")
    assert [kind for kind, _ in chunks(content.getvalue())] == [b"IHDR", b"IDAT", b"IEND"]
