"""Files of images and latents that nodes send, receive and show."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.nested_tensor import NestedTensor

from ...utils.paths import expect_path
from ..files.latent_file import SUFFIXES, picture_in, read_latent, write_latent_picture
from ..files.picture_file import expect_picture, read_rgba, unusable
from ..graph.painted_masks import file_entry
from ..pixels.batches import with_channels
from ..streams import Latent
from .call_node import call_node
from .folders import file_of, place_for, save_previews

log = logging.getLogger(__name__)


def input_files(is_wanted: Callable[[str], bool]) -> list[str]:
    """Names of the files in the input folder, without its subfolders, that `is_wanted` accepts."""
    folder = folder_paths.get_input_directory()
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(
        name for name in names if is_wanted(name) and os.path.isfile(os.path.join(folder, name))
    )


def pictures() -> list[str]:
    """Names of the picture files in the input folder."""
    names = input_files(lambda name: True)
    return folder_paths.filter_files_content_types(names, ["image"])


def latents() -> list[str]:
    """Names of the latent files in the input folder."""
    return input_files(lambda name: name.endswith(SUFFIXES))


def file_at(value: Any) -> Path | None:
    """The file of a value such as "a.png [temp]" in ComfyUI's input, output or temp folder."""
    return file_of(file_entry(value))


def file_state(value: Any) -> str:
    """A text that changes when the file changes."""
    path = file_at(value)
    if path is None:
        return ""
    status = path.stat()
    return f"{status.st_mtime_ns} {status.st_size}"


def missing_file(name: str, value: Any) -> str:
    """The error text for a value that names no file."""
    return (
        f"'{name}' is {value!r}, and there is no such file in ComfyUI's input, output or temp "
        "folder. Run the sender that has the same link_id, or choose a file."
    )


def receive_image(value: str, data: str) -> tuple[torch.Tensor, torch.Tensor, list[dict]]:
    """Read an image that was sent.

    Args:
        value: the name of its file.
        data: the image itself, encoded as text. "": the file is read.

    Returns:
        The image [1,H,W,3] 0..1, its mask [1,H,W] 0..1, and the entries to show.

    Raises:
        ValueError: the file does not exist, or is no picture.
    """
    if data:
        image, mask = picture_in(data)
        return image, mask, save_previews(image.split(1), "ImgReceiver")
    path = file_at(value)
    if path is None:
        raise ValueError(missing_file("image", value))
    expect_picture(path, "image", value)
    try:
        image, mask = call_node("LoadImage", image=value)[:2]
    except Exception:  # whatever ComfyUI's readers of pictures raise
        log.info("ComfyUI cannot read %s; it is read by Pillow", path, exc_info=True)
        image, mask = _read_picture(path, value)
    return image, mask, [file_entry(value)]


def _read_picture(path: Path, value: str) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        pixels = torch.from_numpy(read_rgba(path))[None]
    except ValueError as error:
        raise unusable("image", value, error) from error
    return pixels[..., :3].contiguous(), 1 - pixels[..., 3]


def receive_latent(value: str) -> dict[str, Latent]:
    """Read a LATENT that was sent.

    Args:
        value: the name of its file.

    Raises:
        ValueError: the file does not exist, or holds no latent.
    """
    path = file_at(value)
    if path is None:
        raise ValueError(missing_file("latent", value))
    return read_latent(path, NestedTensor)


def send_latent(
    latent: dict[str, Any], prefix: str, preview: torch.Tensor, texts: dict[str, Any]
) -> dict[str, str]:
    """Write a LATENT into the output folder, as a picture that holds the latent.

    Args:
        prefix: of the file's name.
        preview: [1,H,W,3] 0..1, the picture of the file.
        texts: are stored in the file as JSON.

    Returns:
        The entry {"filename", "subfolder", "type"} of the file.

    Raises:
        ValueError: the prefix names no place inside of the output folder.
    """
    expect_path(prefix, "filename_prefix")
    folder = folder_paths.get_output_directory()
    height, width = preview.shape[1:3]
    target, name, counter, subfolder = place_for(prefix, folder, width, height)
    file = f"{name}_{counter:05}_.latent.png"
    texts = {key: json.dumps(value) for key, value in texts.items() if value is not None}
    write_latent_picture(Path(target, file), latent, preview, texts)
    return {"filename": file, "subfolder": subfolder, "type": "output"}


def show_images(images: torch.Tensor, prefix: str) -> list[dict[str, str]]:
    """Write previews of all images [B,H,W,C] of a batch, and return their entries."""
    return save_previews(with_channels(images, 3).split(1), prefix)
