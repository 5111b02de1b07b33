"""Where ComfyUI keeps what is its user's."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from .hub import Fetching
from .user_settings import FILE, FOLDER, UserSettings, read_settings


def user_settings() -> UserSettings:
    """The settings of the person whose ComfyUI this is."""
    return read_settings(user_folder() / FILE)


def user_folder() -> Path:
    """This pack's folder for what is the user's; nothing of it can be reached over HTTP."""
    return Path(folder_paths.get_system_user_directory(FOLDER))


def fetching(wanted: bool) -> Fetching:
    """Whether what a workflow wants to be fetched may be."""
    return Fetching(wanted, user_settings().downloads, user_folder() / FILE)
