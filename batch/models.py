"""The model files that a prompt names, and their hashes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .files import Stamp, stable_hash
from .ledger import Ledger

ENDS = (
    ".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".onnx", ".gguf", ".pkl",
    ".engine", ".task", ".tflite",
)  # fmt: skip
LORA = re.compile(r"<lora:([^:>]+)")


def names_in(content: Any) -> Iterator[str]:
    """All texts in it that may name a model file, LoRAs inside of prompts among them."""
    if isinstance(content, str):
        if content.lower().endswith(ENDS) and len(content) < 1000 and "\n" not in content:
            yield content
        for name in LORA.findall(content):
            yield from (name, *(name + end for end in ENDS[:3]))
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from names_in(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from names_in(value)


def find(name: str, folders: Iterable[Path]) -> list[Path]:
    """The files that a name may mean: it is relative to one of the folders of models."""
    relative = Path(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts:
        return []
    return [folder / relative for folder in folders if (folder / relative).is_file()]


class ModelHashes:
    """Hashes of model files; a file that has not changed is read once for each ledger.

    Args:
        folders: those that names are relative to, such as ComfyUI/models/checkpoints.
        own: {name: file} of files that lie elsewhere.
    """

    def __init__(
        self, ledger: Ledger, folders: Iterable[Path], own: Mapping[str, Path] | None = None
    ):
        self.ledger = ledger
        self.own = own or {}
        self.folders = sorted({folder.resolve() for folder in folders})
        self._known: dict[str, list[str]] = {}

    def of(self, content: Any) -> dict[str, list[str]]:
        """{name: hashes of the files it may mean} for the model files that texts in it name."""
        names = sorted(set(names_in(content)))
        for name in names:
            if name not in self._known:
                files = [self.own[name]] if name in self.own else find(name, self.folders)
                self._known[name] = [self._hash(file) for file in files]
        return {name: self._known[name] for name in names if self._known[name]}

    def _hash(self, file: Path) -> str:
        file = file.resolve()
        known = self.ledger.known_hash(str(file), Stamp.of(file.stat()))
        if known is None:
            known, stamp, read = stable_hash(file)
            self.ledger.keep_hashes([(str(file), stamp, read, known)])
        return known.hex()
