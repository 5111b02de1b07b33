"""Formats and metadata of the pictures that come back. Needs Pillow."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .faults import UnitFault
from .settings import Making

PNG = b"\x89PNG\r\n\x1a\n"
WORKFLOW_TEXTS = {"prompt", "workflow"}  # under which ComfyUI keeps them in a PNG
XMP = "XML:com.adobe.xmp"
ORIENTATION, EXIF_IFD, WIDTH, HEIGHT, COMMENT = 0x0112, 0x8769, 0xA002, 0xA003, 0x9286
MOST_EXIF = 65000  # bytes that fit into a JPEG


@dataclass
class Metadata:
    """What a picture says besides its pixels.

    Attributes:
        profile: ICC profile of RGB pixels.
        exif: TIFF block of the EXIF data, orientation taken out.
        texts: further texts by name.
    """

    profile: bytes = b""
    exif: Any = None
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    texts: dict[str, str] = field(default_factory=dict)


def metadata_of(file: Path) -> Metadata:
    """What an input says besides its pixels; nothing for a file that Pillow does not read."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            profile = picture.info.get("icc_profile") or b""
            xmp = picture.info.get("xmp") or picture.info.get(XMP) or b""
            texts = getattr(picture, "text", {}) if picture.format == "PNG" else {}
            return Metadata(
                profile=profile if profile[16:20] == b"RGB " else b"",
                exif=_upright(picture),
                xmp=_upright_xmp(xmp.encode() if isinstance(xmp, str) else xmp),
                dpi=picture.info.get("dpi"),
                texts={
                    name: str(text)
                    for name, text in texts.items()
                    if name != XMP and name not in WORKFLOW_TEXTS
                },
            )
    except Exception:  # broken metadata of a picture that the host could read
        return Metadata()


def _upright(picture: Any) -> Any:
    """A picture's EXIF data without the orientation, as ComfyUI turns pictures upright."""
    exif = picture.getexif()
    if not exif:
        return None
    exif.pop(ORIENTATION, None)
    exif.get_ifd(EXIF_IFD)  # read now, as the file is closed when it is written
    return exif if len(exif) else None


def _upright_xmp(xmp: bytes) -> bytes:
    return re.sub(rb"(tiff:Orientation(?:=\"|>))[2-8]", rb"\g<1>1", xmp)


# Finishing


def finish(saved: Path, source: Path, suffix: str, making: Making) -> Path:
    """Bring a file that ComfyUI saved into its final form, beside it; the file with the result.

    Args:
        source: the input, whose metadata goes on.
        suffix: the wanted one, such as ".jpg"; what is no picture of 8 or 16 bits stays as it is.

    Raises:
        UnitFault: what ComfyUI saved cannot be read.
    """
    if saved.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        return saved
    kept = metadata_of(source)
    if making.metadata in ("none", "workflow"):
        kept = Metadata(profile=kept.profile)
    target = saved.with_name(f"{saved.stem}.final{suffix.lower()}")
    if suffix.lower() == ".png" and saved.suffix.lower() == ".png":
        target.write_bytes(b"".join(png_with(saved.read_bytes(), kept, making.keeps_workflow)))
    else:
        _encode(saved, target, kept, making.keeps_workflow, making.quality)
    saved.unlink()
    return target


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, data) of each chunk of a PNG.

    Raises:
        UnitFault: it is torn, or no PNG.
    """
    if not content.startswith(PNG):
        raise UnitFault("ComfyUI saved a .png that is no PNG.")
    at = len(PNG)
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(content):
            raise UnitFault("ComfyUI saved a torn PNG.")
        length, kind = struct.unpack_from(">I4s", content, at)
        data = content[at + 8 : at + 8 + length]
        if len(data) < length or at + 12 + length > len(content):
            raise UnitFault("ComfyUI saved a torn PNG.")
        (check,) = struct.unpack_from(">I", content, at + 8 + length)
        if zlib.crc32(kind + data) != check:
            raise UnitFault("ComfyUI saved a damaged PNG.")
        yield kind, data
        at += 12 + length


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(content: bytes, kept: Metadata, with_workflow: bool) -> Iterator[bytes]:
    """A PNG's pixels as they are, with other metadata."""
    yield PNG
    for kind, data in chunks(content):
        if kind == b"IDAT" and kept is not None:
            yield from (chunk(own, data) for own, data in _own_chunks(kept))
            kept = None
        if kind in (b"tEXt", b"iTXt", b"zTXt") and not with_workflow:
            continue
        yield chunk(kind, data)


def _own_chunks(kept: Metadata) -> Iterator[tuple[bytes, bytes]]:
    if kept.profile:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(kept.profile, 9)
    if kept.dpi:
        across, down = (min(round(float(value) / 0.0254), 2**31 - 1) for value in kept.dpi)
        yield b"pHYs", struct.pack(">IIB", across, down, 1)
    if kept.exif is not None and (exif := exif_bytes(kept)):
        yield b"eXIf", exif.removeprefix(b"Exif\0\0")
    if kept.xmp:
        yield b"iTXt", XMP.encode() + b"\0\0\0\0\0" + kept.xmp
    for name, text in sorted(kept.texts.items()):
        with_name = name.encode("latin-1", "replace")[:79]
        yield b"iTXt", with_name + b"\0\0\0\0\0" + text.encode("utf-8", "replace")


def exif_bytes(kept: Metadata) -> bytes:
    try:
        return kept.exif.tobytes()
    except Exception:  # odd tags that can be read and not written
        return b""


def _encode(saved: Path, target: Path, kept: Metadata, with_workflow: bool, quality: int) -> None:
    """Write another format with Pillow."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(saved)
        picture.load()
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UnitFault(f"What ComfyUI saved cannot be read: {error}.") from error
    texts = {name: str(picture.info[name]) for name in WORKFLOW_TEXTS if name in picture.info}
    options: dict[str, Any] = {}
    if kept.profile:
        options["icc_profile"] = kept.profile
    exif = kept.exif if kept.exif is not None else Image.Exif()
    if texts and with_workflow:
        _add_workflow(exif, texts)
    if len(exif) and (content := exif_bytes(Metadata(exif=exif))):
        options["exif"] = content
    if kept.xmp:
        options["xmp"] = kept.xmp
    if target.suffix == ".webp":
        options |= {"format": "WEBP", "quality": quality, "method": 4}
    elif target.suffix == ".png":
        options |= {"format": "PNG", "compress_level": 4}
    else:
        picture = picture.convert("RGB")
        if kept.dpi:
            options["dpi"] = tuple(map(float, kept.dpi))
        options |= {"format": "JPEG", "quality": quality, "subsampling": 0 if quality >= 90 else 2}
    content = io.BytesIO()
    try:
        picture.save(content, **options)
    except (ValueError, OSError) as error:  # e.g. metadata larger than the format takes
        options = {name: options[name] for name in options.keys() - {"exif", "xmp"}}
        content = io.BytesIO()
        try:
            picture.save(content, **options)
        except (ValueError, OSError):
            raise UnitFault(f"The result cannot be written as {target.suffix}: {error}") from error
    target.write_bytes(content.getvalue())


def _add_workflow(exif: Any, texts: dict[str, str]) -> None:
    """ComfyUI's prompt and workflow as the EXIF comment, if there is none and they fit."""
    comment = b"UNICODE\0" + json.dumps(texts, sort_keys=True).encode("utf-16-be")
    inside = exif.get_ifd(EXIF_IFD)
    if COMMENT not in inside and len(comment) < MOST_EXIF:
        inside[COMMENT] = comment
        exif[EXIF_IFD] = inside


# What NaN looks like


def is_black(file: Path) -> bool:
    """Whether every pixel of a PNG is black, as NaN values are saved."""
    from PIL import Image

    content = file.read_bytes()
    try:
        size = sum(len(data) for kind, data in chunks(content) if kind == b"IDAT")
        with Image.open(io.BytesIO(content)) as picture:
            if size > 1000 + picture.width * picture.height // 50:  # black is much smaller
                return False
            return picture.convert("RGB").getextrema() == ((0, 0),) * 3
    except UnitFault:
        raise
    except Exception as error:
        raise UnitFault(f"What ComfyUI saved cannot be read: {error}.") from error


def is_black_picture(file: Path) -> bool:
    """Whether an input is black itself; no for what Pillow does not read."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return picture.convert("RGB").getextrema() == ((0, 0),) * 3
    except Exception:
        return False
