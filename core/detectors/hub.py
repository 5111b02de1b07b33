"""Networks of the transformers package: find their files, and check that they are safe to read.

A name is looked up in ComfyUI's folders, then in the cache of Hugging Face. A network is downloaded
only if the user allows it in a file that no workflow can change, and only in a version that is
named by its commit, which cannot change later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...utils.files import is_file, read_file
from ...utils.paths import path_fault
from .safe_weights import WeightsError, expect_plain

_NAME = re.compile(r"(?P<name>[\w-][\w.-]*(?:/[\w-][\w.-]*)?)(?:@(?P<revision>[\w.-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TABLES = ["*.json", "*.txt", "*.model"]
_MOST_OF_TABLE = 32 * 2**20  # bytes
_USUAL = (
    "model.safetensors",
    "pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
_READ = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # weights


@dataclass(frozen=True)
class Fetching:
    """Whether a network may be downloaded.

    Attributes:
        wanted: the workflow asks for it.
        allowed: the user allows it, in the file `settings`.
        settings: the file with the user's settings.
    """

    wanted: bool
    allowed: bool
    settings: Path


class NotHere(RuntimeError):
    """A network is not on this machine, and may not or cannot be downloaded."""


@dataclass(frozen=True)
class HubName:
    """A network's name on Hugging Face, or the name of a folder, and its version."""

    name: str
    revision: str | None  # a commit or a branch; None for any version

    @classmethod
    def parse(cls, text: str) -> HubName | None:
        """Read a text such as owner/name or owner/name@commit; None if it is no such name."""
        found = _NAME.fullmatch(text.strip())
        if found is None or ".." in text or path_fault(found["name"]) is not None:
            return None
        return cls(found["name"], found["revision"])

    @property
    def is_pinned(self) -> bool:
        """Whether the version is a commit, which cannot change."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None


def network_folder(
    wanted: HubName,
    folders: Iterable[str | Path],
    fetching: Fetching,
    remedy: str,
    *,
    or_itself: bool = False,
) -> Path:
    """The folder with a network's files.

    Args:
        folders: ComfyUI's folders, in which it may be as owner/name or name.
        remedy: sentences that say what to do if it is not on this machine.
        or_itself: one of `folders` may itself be the folder with the network's files.

    Raises:
        NotHere: it is not on this machine, and may not or cannot be downloaded.
        WeightsError: a file holds more than weights, or is no regular file.
    """
    folder = _local(wanted.name, folders, or_itself) or _cached(wanted)
    if folder is None:
        if not fetching.wanted:
            raise NotHere(f"{wanted.name!r} is not on this machine. {remedy}")
        folder = _fetched(wanted, fetching, remedy)
    _expect_safe(folder)
    return folder


def _local(name: str, folders: Iterable[str | Path], or_itself: bool) -> Path | None:
    inner = [name, name.split("/")[-1], *([""] if or_itself else [])]
    candidates = (Path(base, own) for base in folders for own in inner)
    return next((folder for folder in candidates if is_file(folder / "config.json")), None)


def _cached(wanted: HubName) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(wanted.name, "config.json", revision=wanted.revision)
    except ValueError:  # Hugging Face does not allow the name
        return None
    return Path(found).parent if isinstance(found, str) else None


def _fetched(wanted: HubName, fetching: Fetching, remedy: str) -> Path:
    if not fetching.allowed:
        raise NotHere(
            f"{wanted.name!r} is not on this machine, and a workflow alone may not fetch it. "
            f'To allow it for all workflows, write {{"downloads": true}} into '
            f"{fetching.settings} and start ComfyUI again. {remedy}"
        )
    if not wanted.is_pinned:
        raise NotHere(
            f"{wanted.name!r} is not on this machine and is fetched only in a version that cannot "
            "change. Name it as owner/name@commit, with the 40 characters of a commit from its "
            f"page on Hugging Face, Files, History. {remedy}"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise NotHere(
            f"{wanted.name!r} cannot be fetched: the package huggingface_hub is missing. {remedy}"
        ) from error

    def fetched(weights: str) -> Path:
        """Download the tables, and the weights of this form, of the named commit."""
        patterns = [*_TABLES, weights]
        return Path(
            snapshot_download(wanted.name, revision=wanted.revision, allow_patterns=patterns)
        )

    try:
        folder = fetched("*.safetensors")
        if not any(folder.glob("*.safetensors")):
            folder = fetched("pytorch_*.bin")
    except Exception as error:  # the package raises many kinds of errors
        raise NotHere(
            f"{wanted.name!r} cannot be fetched from Hugging Face: {type(error).__name__}: "
            f"{str(error)[:200]} {remedy}"
        ) from error
    return folder


def _expect_safe(folder: Path) -> None:
    """Refuse a folder with an irregular file, or with a file of weights that holds other things."""
    for path in sorted(folder.iterdir()):
        if not (path.is_dir() or is_file(path)):
            raise WeightsError(
                f"'{path}' is no regular file. Take it out of the folder, or put the model's file "
                "there."
            )
    usual = [name for name in _USUAL if is_file(folder / name)]
    for name in dict.fromkeys([*usual, *_named_weights(folder)]):
        if "/" in name or "\\" in name or Path(name).suffix.lower() not in _READ:
            raise WeightsError(
                f"'{folder.name}' is refused: it takes weights from {name[:100]!r}, which is no "
                "file of weights in the folder. Get the model again from where it is published."
            )
        if is_file(folder / name):
            expect_plain(folder / name)


def _named_weights(folder: Path) -> Iterator[str]:
    """The files that the network's tables name as its weights."""
    for path in [folder / "config.json", *sorted(folder.glob("*.index.json"))]:
        try:
            content = json.loads(read_file(path, _MOST_OF_TABLE))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(f"'{path}' cannot be read: {str(error)[:200]}") from error
        if not isinstance(content, dict):
            continue
        weights = content.get("weight_map")
        named = list(weights.values()) if isinstance(weights, dict) else []
        named.append(content.get("transformers_weights"))
        yield from dict.fromkeys(str(name) for name in named if name is not None)
