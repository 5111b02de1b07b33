"""Files and folders of ComfyUI and of this pack."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import folder_paths
import nodes as host_nodes
import torch

from ...utils.check import quoted
from ...utils.files import is_file
from ...utils.paths import expect_path, path_fault
from ...wildcards.library import Library
from ..files.latent_file import to_bytes
from ..files.picture_file import read_rgba
from ..graph.node_ids import OlderPack

PACK_ROOT = Path(__file__).resolve().parents[2]


def find_file(kind: str, name: str) -> str | None:
    """The path of a model file by the name that a user writes, or None if there is no such file.

    The name may lack extension or folder, and may be in upper or lower case.
    """
    files = folder_paths.get_filename_list(kind)
    wanted = name.strip().replace("\\", "/").lower()
    forms: Sequence[Callable[[str], str]] = (
        lambda file: file,
        lambda file: os.path.splitext(file)[0],
        lambda file: os.path.basename(file),
        lambda file: os.path.splitext(os.path.basename(file))[0],
    )
    for form in forms:
        for file in files:
            if form(file.replace("\\", "/").lower()) == wanted:
                return folder_paths.get_full_path(kind, file)
    return None


def file_names(kind: str) -> list[str]:
    """The files of a model folder, as ComfyUI's widgets list them."""
    return folder_paths.get_filename_list(kind)


@lru_cache(maxsize=1)
def _library(folders: tuple[str, ...]) -> Library:
    return Library(folders, samples=Library([PACK_ROOT / "wildcards" / "samples"]))


def wildcard_library() -> Library:
    """The user's wildcard lists in ComfyUI's model folders `wildcards`, and this pack's samples."""
    default = os.path.join(folder_paths.models_dir, "wildcards")
    known = folder_paths.folder_names_and_paths.get("wildcards")
    folders = [default, *(known[0] if known else [])]
    return _library(tuple(dict.fromkeys(folders)))


_PEER_FOLDER = re.compile(r"comfyui[-_ ]impact[-_ ]pack", re.IGNORECASE)


def older_pack(ours: Collection[type]) -> OlderPack | None:
    """ComfyUI-Impact-Pack, if it is installed; otherwise None.

    Args:
        ours: this pack's classes. They are needed since this pack's own folder may have any name.
    """
    folder = _peer_folder()
    if folder is None:
        return None
    module = f"custom_nodes.{os.path.basename(folder)}"
    loaded = any(
        getattr(node, "RELATIVE_PYTHON_MODULE", None) == module and node not in ours
        for node in host_nodes.NODE_CLASS_MAPPINGS.values()
    )
    return OlderPack(folder, loaded)


def _peer_folder() -> str | None:
    for base in folder_paths.get_folder_paths("custom_nodes"):
        if not os.path.isdir(base):
            continue
        for entry in sorted(os.listdir(base)):
            path = os.path.join(base, entry)
            if (
                _PEER_FOLDER.match(entry)
                and not entry.endswith(".disabled")
                and os.path.isdir(path)
                and Path(path).resolve() != PACK_ROOT
            ):
                return path
    return None


def place_for(prefix: str, folder: str, width: int, height: int) -> tuple[str, str, int, str]:
    """Where ComfyUI saves the next file of a prefix: folder, name, number and subfolder.

    Raises:
        ValueError: the place is outside of `folder`.
    """
    try:
        return folder_paths.get_save_image_path(prefix, folder, width, height)[:4]
    except Exception as error:  # ComfyUI raises no narrower one
        raise ValueError(
            f"'filename_prefix' is {quoted(prefix)}, which is not a place inside ComfyUI's folder "
            "for such files. Write a name, or a folder and a name such as faces/face."
        ) from error


def save_animation(
    images: Sequence[torch.Tensor], prefix: str, rate: float = 12.0
) -> list[dict[str, str]]:
    """Write images as one animation into the temporary folder, so that a node can show it.

    Args:
        images: each [1,h,w,3] 0..1, of one size; at least one.
        prefix: of the name of the file.
        rate: images per second.

    Returns:
        The entry that a node returns under `ui`/`images`, together with `animated`.

    Raises:
        ValueError: the prefix is no place inside of the temporary folder.
    """
    from PIL import Image

    expect_path(prefix, "filename_prefix")
    path, entry = _next_temporary(prefix, images[0], ".webp")
    pictures = [Image.fromarray(to_bytes(image)) for image in images]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:],
        duration=round(1000 / rate), loop=0, quality=80, method=2,
    )  # fmt: skip
    return [entry]


def save_previews(images: Sequence[torch.Tensor], prefix: str) -> list[dict[str, str]]:
    """Write images into the temporary folder, so that a node can show them.

    Args:
        images: each [1,h,w,C] 0..1; C is 1, 3 or 4.
        prefix: of the names of the files.

    Returns:
        The entries that a node returns under `ui`/`images`.

    Raises:
        ValueError: the prefix is no place inside of the temporary folder.
    """
    from PIL import Image

    expect_path(prefix, "filename_prefix")
    entries = []
    for image in images:
        path, entry = _next_temporary(prefix, image, ".png")
        pixels = to_bytes(image)
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        Image.fromarray(pixels).save(path, compress_level=1)
        entries.append(entry)
    return entries


def _next_temporary(prefix: str, image: torch.Tensor, ending: str) -> tuple[str, dict[str, str]]:
    """Path of the next file of a prefix in the temporary folder, and the entry that shows it."""
    height, width = image.shape[1:3]
    temporary = folder_paths.get_temp_directory()
    folder, name, counter, subfolder = place_for(prefix, temporary, width, height)
    file = f"{name}_{counter:05}_{ending}"
    return os.path.join(folder, file), {"filename": file, "subfolder": subfolder, "type": "temp"}


def painted_mask(entry: Any) -> torch.Tensor | None:
    """The mask that was painted on a saved picture. It is stored in the picture's alpha.

    Args:
        entry: {"filename", "subfolder", "type"}, an entry as nodes show pictures.

    Returns:
        [1,H,W] 0..1; None if there is no such file in the folder that the entry's type names.
    """
    path = file_of(entry)
    return None if path is None else 1 - torch.from_numpy(read_rgba(path)[..., 3])[None]


def file_of(entry: Any) -> Path | None:
    """The file that an entry {"filename", "subfolder", "type"} names.

    Anybody who sends a prompt can write such an entry. So the result is None if links or `..` lead
    out of the folder of that type.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
        return None
    folder = folder_paths.get_directory_by_type(entry.get("type") or "input")
    if folder is None:
        return None
    try:
        parts = [str(entry.get("subfolder") or ""), entry["filename"]]
        if any(path_fault(part) is not None for part in parts):
            return None
        base = Path(folder).resolve()
        path = base.joinpath(*parts).resolve()
        return path if path.is_relative_to(base) and is_file(path) else None
    except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte, links in a circle
        return None
