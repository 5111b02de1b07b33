"""This pack's folder and settings in ComfyUI's folder for the user."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import folder_paths

from ...utils.files import read_file
from ..detectors.hub import Fetching
from ..prompts.lora_blocks import read_presets
from ..user_settings import FILE, FOLDER, UserSettings, read_settings

log = logging.getLogger(__name__)

_PRESETS = "lbw-preset.txt"  # presets of LoRA block weights, in this pack's folder for the user
_MOST = 2**22  # the most bytes of a file of presets


def user_settings() -> UserSettings:
    """The settings that the owner of this ComfyUI has made."""
    return read_settings(user_folder() / FILE)


def user_folder() -> Path:
    """This pack's folder for files of the user. They cannot be reached over HTTP."""
    return Path(folder_paths.get_system_user_directory(FOLDER))


def fetching(wanted: bool) -> Fetching:
    """Whether a workflow that asks for a download may have it."""
    return Fetching(wanted, user_settings().downloads, user_folder() / FILE)


def lora_presets() -> dict[str, str]:
    """The user's presets of block weights for LoRAs, by their names in upper case.

    They are read from the files of packs for block weights, which users edit, and from a file in
    this pack's folder for the user. A file that cannot be read is logged and left out.
    """
    found: dict[str, str] = {}
    for file in _preset_files():
        try:
            found |= read_presets(read_file(file, _MOST).decode("utf-8"))
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read, so its presets are not known: %s", file, error)
    return found


def _preset_files() -> Iterator[Path]:
    """The files. A preset of a later file replaces one of the same name."""
    for base in folder_paths.get_folder_paths("custom_nodes"):
        for name in ("lbw-preset.txt", "lbw-preset.custom.txt"):
            yield from sorted(Path(base).glob(f"*/resources/{name}"))
    if (own := user_folder() / _PRESETS).is_file():
        yield own
