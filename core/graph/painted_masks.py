"""Masks that are painted on the picture of a node, and the picture to which each mask belongs.

The mask editor saves a painted picture under a new name and writes this name into the node's input
`image`. It does not say on which picture the mask was painted, so this is found out here.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from typing import Any, NamedTuple

import torch

from ...utils.literal import read_literal
from ...utils.notes import note
from ..geometry import Size
from ..pixels.mask import resize_mask
from ..streams import picture

RESTORE = ("never", "always", "if_same_size")
_FOLDERS = ("input", "output", "temp")


def file_entry(value: Any) -> dict[str, str] | None:
    """The file that a value such as "clipspace/a.png [input]" names.

    Workflows of early versions hold the entry itself, which ComfyUI has converted to a text.

    Returns:
        {"filename", "subfolder", "type"}, or None if the value names no file. It is not checked
        whether the file exists.
    """
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = read_literal(value[:2000])
        except ValueError:
            return None
    if isinstance(value, dict):
        keys = ("filename", "subfolder", "type")
        entry = {key: value.get(key) or "" for key in keys}
        return entry if all(isinstance(part, str) for part in entry.values()) else None
    if not isinstance(value, str) or not value or value[0] in "$#":
        return None
    path, folder = value.strip(), "input"
    for name in _FOLDERS:
        if path.endswith(f"[{name}]"):
            path, folder = path[: -len(name) - 2].rstrip(), name
    subfolder, _, filename = path.replace("\\", "/").rpartition("/")
    return {"filename": filename, "subfolder": subfolder, "type": folder}


def file_value(entry: dict[str, str]) -> str:
    """The value that names a file: the reverse of `file_entry`."""
    subfolder = entry.get("subfolder")
    path = f"{subfolder}/{entry['filename']}" if subfolder else entry["filename"]
    return f"{path} [{entry['type']}]"


def fingerprint(pixels: torch.Tensor) -> str:
    """A text that identifies a picture. It is the same in every run.

    Args:
        pixels: [B,H,W,C] 0..1, or a latent [B,C,h,w]. Values are rounded to 1/255, since the last
            bits of floats differ between runs on some devices.
    """
    digest = hashlib.blake2b(repr(tuple(pixels.shape)).encode(), digest_size=16)
    for row in picture(pixels):
        levels = (row.detach().float() * 255).round().clamp(-32768, 32767)
        digest.update(levels.to("cpu", torch.int16).contiguous().numpy())
    return digest.hexdigest()


class Place(NamedTuple):
    """The node that shows a picture. Its id alone is not enough, since other workflows have it too.

    Attributes:
        workflow: the id that the editor gives a workflow. None: no editor has sent it.
        kind: the class id of the node.
        node_id: the id of the node in the workflow.
    """

    workflow: str | None
    kind: str
    node_id: str


class Paintings:
    """Remembers on which picture each painting was painted, as long as the server runs."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._origins: OrderedDict[str, str] = OrderedDict()  # painting -> picture
        self._shown: OrderedDict[Place, deque[str]] = OrderedDict()  # pictures of each

    def shown(self, place: Place, picture: str) -> None:
        """Remember that a node shows a picture."""
        pictures = self._shown.setdefault(place, deque(maxlen=16))
        pictures.append(picture)
        self._shown.move_to_end(place)
        if len(self._shown) > self._limit:
            self._shown.popitem(last=False)

    def painted(self, painting: str, picture: str) -> None:
        """Remember that a painting belongs to a picture."""
        self._origins[painting] = picture
        self._origins.move_to_end(painting)
        if len(self._origins) > self._limit:
            self._origins.popitem(last=False)

    def belongs(self, place: Place, painting: str, picture: str, same_size: bool) -> bool:
        """Whether a painting belongs to the picture that a node has now.

        A new painting was painted on a picture that the node has shown: on this picture, if the
        node has shown it, otherwise on the last one that it has shown. If the node has shown none
        since the server was started, the painting belongs to this picture if the sizes are equal.
        """
        if painting not in self._origins:
            shown = self._shown.get(place)
            if shown and picture not in shown:
                self.painted(painting, shown[-1])
            elif shown or same_size:
                self.painted(painting, picture)
        return self._origins.get(painting) == picture


class Picture(NamedTuple):
    """The picture that a node shows: its fingerprint, and its size in pixels."""

    fingerprint: str
    size: Size


class Painting(NamedTuple):
    """A painted mask.

    Attributes:
        value: the value that names the file.
        mask: [1,H,W] 0..1. None: the file does not exist.
        state: a text that changes when the file changes.
    """

    value: str
    mask: torch.Tensor | None
    state: str = ""

    @property
    def identity(self) -> str:
        """A text that identifies the painting."""
        return f"{self.value} {self.state}"


class KeptMask(NamedTuple):
    """A mask [1,H,W] of the picture's size, and whether it was painted on this very picture."""

    mask: torch.Tensor
    is_own: bool


def keep_mask(
    paintings: Paintings, place: Place, picture: Picture, painting: Painting, restore: str
) -> KeptMask | None:
    """The mask of a painting for the picture that the node has now.

    If the mask belongs to another picture and is not used, the user is told.

    Args:
        restore: one of `RESTORE`: when to use a mask that was painted on another picture.

    Returns:
        The mask, or None if nothing is painted or the mask is not used.
    """
    if painting.mask is None or not painting.mask.any():
        paintings.shown(place, picture.fingerprint)
        return None
    same_size = Size(painting.mask.shape[-1], painting.mask.shape[-2]) == picture.size
    is_own = paintings.belongs(place, painting.identity, picture.fingerprint, same_size)
    paintings.shown(place, picture.fingerprint)
    if is_own or restore == "always" or (restore == "if_same_size" and same_size):
        return KeptMask(resize_mask(painting.mask, picture.size), is_own)
    remedy = "'always' or 'if_same_size'" if same_size else "'always'"
    note(
        "mask",
        f"The mask {painting.value!r} is not used, because it was painted on another picture than "
        f"the one that the node shows now. Paint it again, or set 'restore_mask' to {remedy}.",
    )
    return None
