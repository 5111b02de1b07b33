"""Settings of the person whose ComfyUI this is, which no workflow and no request can change.

They are in `settings.json` in ComfyUI's user folder, under `__detailers`. ComfyUI serves and
writes no files in folders whose names begin with two underscores. The user writes the file, such as

    {"compat": false}

It is read once, when it is first needed, so a change takes effect when ComfyUI starts again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..utils.files import read_file

log = logging.getLogger(__name__)

FOLDER = "detailers"  # in ComfyUI's user folder, after the prefix that keeps it private
FILE = "settings.json"
MOST_BYTES = 2**20  # of the file


@dataclass(frozen=True)
class UserSettings:
    """What a user can set. Where the file or an entry is missing, the default is used.

    Attributes:
        compat: other packs may import ComfyUI-Impact-Pack's modules from this pack, and request
            that pack's addresses, where that pack is not installed.
        downloads: a node may fetch the model that a workflow names by a commit.
        clipseg_revision: the commit of CLIPSeg's repository that is fetched, 40 characters.
    """

    compat: bool = True
    downloads: bool = False
    clipseg_revision: str = ""


@lru_cache(maxsize=1)
def read_settings(file: Path) -> UserSettings:
    """The settings in a file. An entry that cannot be used is logged, and its default is used."""
    try:
        text = read_file(file, MOST_BYTES).decode("utf-8")
    except FileNotFoundError:
        return UserSettings()
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read, so the defaults hold: %s", file, error)
        return UserSettings()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        log.warning("%s is no JSON, so the defaults hold: %s", file, error)
        return UserSettings()
    if not isinstance(content, dict):
        log.warning("%s should hold one object in braces, so the defaults hold.", file)
        return UserSettings()
    return _from_entries(content, file)


def _from_entries(entries: Mapping[str, Any], file: Path) -> UserSettings:
    kinds = {field.name: type(field.default) for field in fields(UserSettings)}
    used = {}
    for name, value in entries.items():
        if name not in kinds:
            log.warning("%s: there is no setting %r, only %s.", file, name, ", ".join(kinds))
        elif type(value) is not kinds[name]:
            log.warning(
                "%s: %r should be %s but is %r, so the default holds.",
                file, name, "true or false" if kinds[name] is bool else kinds[name].__name__, value,
            )  # fmt: skip
        else:
            used[name] = value
    return UserSettings(**used)
