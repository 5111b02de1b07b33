"""Latents in files: ComfyUI's `.latent`, and `.latent.png`, a picture that contains one.

In the picture the latent is in the EXIF comment: a zip archive with one member, `latent`. The
member, like a `.latent` file, is in the safetensors format.
"""

from __future__ import annotations

import io
import string
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ...utils.files import open_file
from ..streams import Latent, streams
from .picture_file import opened, read_rgba
from .tensor_files import FAULTS, expect_honest, read_safetensors

SUFFIXES = (".latent", ".latent.png")
_MEMBER = "latent"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_VERSION = "latent_format_version_0"  # without it, the values are scaled as in early SD 1.5
_EARLY_SCALE = 0.18215
_LETTERS = np.frombuffer(
    (string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/").encode(), np.uint8
)
_SIX_BITS = np.full(256, -1, np.int16)  # the value of each letter by its code; -1 for other letters
_SIX_BITS[_LETTERS] = np.arange(64)


def write_latent_picture(
    path: Path, latent: dict[str, Any], preview: torch.Tensor, texts: dict[str, str]
) -> None:
    """Write a `.latent.png`.

    Args:
        latent: a LATENT; its samples and noise mask are written.
        preview: [1,h,w,3] 0..1, the visible picture.
        texts: texts to write into the file by name, such as the workflow.
    """
    import safetensors.torch
    from PIL import Image, PngImagePlugin

    tensors = {**_named("latent_tensor", latent["samples"]), _VERSION: torch.tensor([])}
    if latent.get("noise_mask") is not None:
        tensors |= _named("noise_mask", latent["noise_mask"])
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(_MEMBER, safetensors.torch.save(tensors))
    exif = Image.Exif()
    exif[_EXIF_IFD] = {_USER_COMMENT: packed.getvalue()}
    metadata = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        metadata.add_text(name, text)
    Image.fromarray(to_bytes(preview)).save(path, format="png", exif=exif, pnginfo=metadata)


def to_bytes(image: torch.Tensor) -> np.ndarray:
    """The first image of [B,h,w,C] 0..1 as [h,w,C] uint8."""
    return image[0].mul(255).round().clamp(0, 255).to("cpu", torch.uint8).numpy()


def _named(name: str, latent: Latent) -> dict[str, torch.Tensor]:
    """The streams of a latent by name: NAME for the picture, NAME.1 and so on for the others."""
    first, *others = streams(latent)
    return {name: first} | {f"{name}.{i}": stream for i, stream in enumerate(others, 1)}


def _streams_of(name: str, tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The streams that `_named` wrote; none if there is nothing of that name."""
    found: list[torch.Tensor] = []
    while (key := f"{name}.{len(found)}" if found else name) in tensors:
        found.append(tensors[key])
    return found


def read_latent(
    path: Path, joined: Callable[[list[torch.Tensor]], Latent] = list
) -> dict[str, Latent]:
    """The LATENT in a file with one of the `SUFFIXES`; samples [N,C,h,w] or [N,C,T,h,w].

    Args:
        joined: makes one latent from several streams.

    Raises:
        ValueError: there is no latent in the file.
    """
    try:
        with _content(path) as file:
            tensors = read_safetensors(file)
        if "latent_tensor" not in tensors:
            raise ValueError("it holds other things")
        samples = [_expect_latent(stream) for stream in _streams_of("latent_tensor", tensors)]
        masks = [_expect_mask(stream) for stream in _streams_of("noise_mask", tensors)]
    except FAULTS as error:
        raise ValueError(
            f"'latent' is {path.name!r}, in which no latent is found ({str(error)[:200]}). Choose a"
            " file that LatentSender or SaveLatent has written."
        ) from error
    if _VERSION not in tensors:
        samples = [stream / _EARLY_SCALE for stream in samples]
    latent = {"samples": samples, "noise_mask": masks}
    return {name: own[0] if len(own) == 1 else joined(own) for name, own in latent.items() if own}


def _expect_latent(stream: torch.Tensor) -> torch.Tensor:
    if stream.is_complex() or not 3 <= stream.ndim <= 5 or not stream.numel():
        raise ValueError(f"its latent has the shape {list(stream.shape)}, type {stream.dtype}")
    if not stream.float().isfinite().all():
        raise ValueError("its latent has values that are not finite")
    return stream.float()


def _expect_mask(stream: torch.Tensor) -> torch.Tensor:
    if stream.is_complex() or not 2 <= stream.ndim <= 5 or not stream.numel():
        raise ValueError(f"its noise mask has the shape {list(stream.shape)}, type {stream.dtype}")
    return stream


def _content(path: Path) -> BinaryIO:
    """The part of a file that is in the format safetensors."""
    return io.BytesIO(_unpacked(path)) if path.name.endswith(".png") else open_file(path)


def _unpacked(path: Path) -> bytes:
    with opened(path) as picture:
        comment = picture.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    if not isinstance(comment, bytes):
        raise ValueError("it is a picture without a latent")
    with zipfile.ZipFile(io.BytesIO(comment)) as archive:
        return archive.read(expect_honest(archive)[_MEMBER])


def picture_in(data: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The picture in a text: a data URL that a browser makes from a canvas, or only its content.

    Returns:
        Image [1,H,W,3], and mask [1,H,W] of the transparent part, both 0..1.

    Raises:
        ValueError: the text holds no picture.
    """
    try:
        pixels = read_rgba(_from_letters(data.partition(",")[2] or data))
    except ValueError as error:
        raise ValueError(
            f"'image_data' holds no picture that can be used: {str(error)[:300]}. Switch "
            "'save_to_workflow' off, or send the picture again."
        ) from error
    pixels = torch.from_numpy(pixels)[None]
    return pixels[..., :3].contiguous(), 1 - pixels[..., 3]


def _from_letters(text: str) -> bytes:
    """The bytes in a text with 6 bits in a letter (RFC 4648, section 4).

    Raises:
        ValueError: it has other letters, or their number is wrong.
    """
    codes = np.frombuffer(text.encode("ascii"), np.uint8)
    if len(codes) % 4:
        raise ValueError(f"{len(codes)} letters are no multiple of 4")
    padding = len(text) - len(text.rstrip("="))
    values = _SIX_BITS[codes[: len(codes) - padding]]
    if padding > 2 or (values < 0).any():
        raise ValueError("a letter is none of the 64")
    groups = np.pad(values, (0, padding)).reshape(-1, 4).astype(np.uint32)
    numbers = groups @ np.uint32([1 << 18, 1 << 12, 1 << 6, 1])
    whole = np.stack([numbers >> 16, numbers >> 8, numbers], axis=1).astype(np.uint8).tobytes()
    return whole[: len(whole) - padding]
