"""Odd, huge and damaged pictures and latents are read, or give one clear error."""

import io
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
import torch
from detailers.core.files.latent_file import read_latent
from detailers.core.files.picture_file import expect_picture, opened, read_rgba
from PIL import Image
from safetensors.torch import save_file


def png(width, height, data=b"", *chunks):
    """A PNG that claims these sides."""

    def chunk(kind, content):
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    middle = b"".join(chunk(*own) for own in chunks)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle
            + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b""))  # fmt: skip


def gif(width, height, frame_width, frame_height):
    """A GIF with a frame of another size than its screen."""
    return (b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
            + b"," + struct.pack("<HHHHB", 0, 0, frame_width, frame_height, 0)
            + b"\x02\x02\x44\x01\x00;")  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [png(50000, 50000), png(12000, 12000), png(2**31 - 1, 2**31 - 1), png(0, 5),
     gif(60000, 60000, 1, 1), gif(1, 1, 60000, 60000), b"", b"no picture", png(4, 4, b"\0" * 10),
     png(4, 4)[:40], b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n",
     b"\x89PNG\r\n\x1a\n" + b"\xff" * 40, b"GIF89a" + b"\xff" * 30,
     b"\xff\xd8\xff\xe1" + b"\0" * 20],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_and_damaged_pictures_are_errors_at_once(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    start = time.process_time()
    for source in (content, tmp_path / "a.png"):
        with pytest.raises(ValueError, match=r"^it(s| )"):
            read_rgba(source)
    assert time.process_time() - start < 2


def test_a_picture_of_many_huge_frames_is_refused(tmp_path):
    Image.new("P", (5000, 5000)).save(tmp_path / "a.gif")
    one = (tmp_path / "a.gif").read_bytes()
    start = 13 + (3 << (one[10] & 7) + 1) * bool(one[10] & 128)  # after the table of colours
    (tmp_path / "a.gif").write_bytes(one[:start] + one[start:-1] * 24 + one[-1:])
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 24
    with pytest.raises(
        ValueError, match=r"'image' is 'a.gif', a picture that cannot be used: its "
    ):
        expect_picture(tmp_path / "a.gif", "image", "a.gif")


def test_what_pillow_does_not_know_is_left_to_the_next_reader(tmp_path):
    (tmp_path / "a.new").write_bytes(b"a format of tomorrow")
    expect_picture(tmp_path / "a.new", "image", "a.new")
    (tmp_path / "a.eps").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\n"
    )
    with pytest.raises(ValueError, match="in the format EPS, which is not taken here"):
        expect_picture(tmp_path / "a.eps", "image", "a.eps")


PIXEL = [1, 102 / 255, 0, 1]


@pytest.mark.parametrize(
    ("mode", "colour", "form", "expected"),
    [
        ("RGB", (255, 102, 0), "png", PIXEL),
        ("RGBA", (255, 102, 0, 51), "png", [1, 0.4, 0, 0.2]),
        ("L", 51, "png", [0.2, 0.2, 0.2, 1]),
        ("LA", (51, 51), "png", [0.2, 0.2, 0.2, 0.2]),
        ("1", 1, "png", [1, 1, 1, 1]),
        ("I;16", 13107, "png", [0.2, 0.2, 0.2, 1]),
        ("I", 13107, "tiff", [0.2, 0.2, 0.2, 1]),
        ("F", 0.25, "tiff", [0.25, 0.25, 0.25, 1]),
        ("CMYK", (0, 153, 255, 0), "tiff", PIXEL),
    ],
)
def test_pictures_of_every_kind_are_read(mode, colour, form, expected, tmp_path):
    Image.new(mode, (3, 2), colour).save(tmp_path / "a", form)
    found = read_rgba(tmp_path / "a")
    assert found.shape == (2, 3, 4) and found.dtype == np.float32
    np.testing.assert_allclose(found[1, 2], expected, atol=1e-6)


def test_a_palette_with_a_transparent_colour_is_read():
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    file = io.BytesIO()
    picture.save(file, "png", transparency=1)
    assert read_rgba(file.getvalue()).tolist() == [[[1, 0, 0, 1], [0, 1, 0, 0]]]


def exif(orientation):
    """An EXIF block whose orientation is of a wrong type or value."""
    kind, value = orientation
    entry = struct.pack("<HHI", 0x112, kind, 1) + value[:4].ljust(4, b"\0")
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)


@pytest.mark.parametrize(
    "kind", [(2, b"x"), (5, b"\xff\xff\xff\xff"), (3, b"\xff\xff"), (99, b"a")]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_exif_does_no_harm(kind, tmp_path):
    content = png(2, 1, b"\0" + bytes([255, 102, 0] * 2), (b"eXIf", exif(kind)))
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_allclose(read_rgba(tmp_path / "a.png")[0, 0], PIXEL, atol=1e-6)
    expect_picture(tmp_path / "a.png", "image", "a.png")
    (tmp_path / "a.latent.png").write_bytes(content)
    with pytest.raises(ValueError, match="in which no latent is found"):
        read_latent(tmp_path / "a.latent.png")


def test_the_first_frame_of_an_animation_is_read():
    file = io.BytesIO()
    frames = [Image.new("RGB", (4, 3), (255, 102, 0)), Image.new("RGB", (4, 3))]
    frames[0].save(file, "png", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(read_rgba(file.getvalue())[0, 0], PIXEL, atol=1e-6)
    with opened(file.getvalue()) as picture:
        assert picture.n_frames == 2


# Latents


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({}, "it holds other things"),
        ({"a": torch.ones(1)}, "it holds other things"),
        ({"latent_tensor": torch.ones(4, 4)}, r"its latent has the shape \[4, 4\]"),
        ({"latent_tensor": torch.tensor(1.0)}, r"its latent has the shape \[\]"),
        ({"latent_tensor": torch.ones(0, 4, 8, 8)}, r"its latent has the shape \[0, 4, 8, 8\]"),
        ({"latent_tensor": torch.full((1, 4, 2, 2), float("nan"))}, "values that are not finite"),
        ({"latent_tensor": torch.ones(1, 4, 2, 2, dtype=torch.complex64)}, "type torch.complex64"),
        ({"latent_tensor": torch.ones(1, 4, 2, 2), "noise_mask": torch.ones(0, 2)},
         r"its noise mask has the shape \[0, 2\]"),
    ],
)  # fmt: skip
def test_latents_without_content_are_clear_errors(tensors, reason, tmp_path):
    save_file(tensors, tmp_path / "a.latent")
    with pytest.raises(ValueError, match=f"'latent' is 'a.latent'.*{reason}"):
        read_latent(tmp_path / "a.latent")


def test_a_latent_that_claims_more_than_it_has_is_an_error(tmp_path):
    table = b'{"latent_tensor":{"dtype":"F32","shape":[1,4,90000,90000],"data_offsets":[0,4]}}'
    (tmp_path / "a.latent").write_bytes(struct.pack("<Q", len(table)) + table + bytes(4))
    with pytest.raises(ValueError, match=r"claims the shape \[1, 4, 90000, 90000\]"):
        read_latent(tmp_path / "a.latent")


def test_half_precision_latents_are_read(tmp_path):
    save_file({"latent_tensor": torch.ones(1, 4, 2, 2).half(),
               "latent_format_version_0": torch.tensor([])}, tmp_path / "a.latent")  # fmt: skip
    assert read_latent(tmp_path / "a.latent")["samples"].tolist() == torch.ones(1, 4, 2, 2).tolist()


def test_an_archive_packed_oddly_is_no_latent(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("latent", b"")
    data = Image.Exif()
    data[0x8769] = {0x9286: file.getvalue()}
    Image.new("RGB", (4, 4)).save(tmp_path / "a.latent.png", exif=data)
    with pytest.raises(ValueError, match="packed in an unusual way"):
        read_latent(tmp_path / "a.latent.png")
