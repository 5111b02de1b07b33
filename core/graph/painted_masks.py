"""Masks painted on a picture that a node shows: which picture each belongs to.

The editor's mask editor saves a painted picture under a name of its own and puts that name into
the node's `image`. It does not say which picture was painted on, so this is worked out here.
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

    Files of early versions hold the entry itself, which the host has made a text of.

    Returns:
        {"filename", "subfolder", "type"}; None where it names none. Whether there is such a file,
        and where, is for the host to find out.
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
    """The value that names a file: the opposite of `file_entry`."""
    subfolder = entry.get("subfolder")
    path = f"{subfolder}/{entry['filename']}" if subfolder else entry["filename"]
    return f"{path} [{entry['type']}]"


def fingerprint(pixels: torch.Tensor) -> str:
    """A text that is another one for another picture, and the same on every run.

    Args:
        pixels: any shape, 0..1 where it is a picture. 8 bits count: the last ones of a float
            differ between runs on some devices.
    """
    digest = hashlib.blake2b(repr(tuple(pixels.shape)).encode(), digest_size=16)
    for row in picture(pixels):
        levels = (row.detach().float() * 255).round().clamp(-32768, 32767)
        digest.update(levels.to("cpu", torch.int16).contiguous().numpy())
    return digest.hexdigest()


class Place(NamedTuple):
    """Where a picture is shown. The number of a node is not enough: other workflows have it too.

    Attributes:
        workflow: the number that the editor gives a workflow; None where no editor has sent it.
        kind: the class of the node.
        node_id: its number within the workflow.
    """

    workflow: str | None
    kind: str
    node_id: str


class Paintings:
    """Which picture each painting was painted on, as far as that was seen by this server."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._origins: OrderedDict[str, str] = OrderedDict()  # painting -> picture
        self._shown: OrderedDict[Place, deque[str]] = OrderedDict()  # pictures of each

    def shown(self, place: Place, picture: str) -> None:
        """A node shows a picture."""
        pictures = self._shown.setdefault(place, deque(maxlen=16))
        pictures.append(picture)
        self._shown.move_to_end(place)
        if len(self._shown) > self._limit:
            self._shown.popitem(last=False)

    def painted(self, painting: str, picture: str) -> None:
        """A painting belongs to a picture."""
        self._origins[painting] = picture
        self._origins.move_to_end(painting)
        if len(self._origins) > self._limit:
            self._origins.popitem(last=False)

    def belongs(self, place: Place, painting: str, picture: str, same_size: bool) -> bool:
        """Whether a painting is of the picture that a node now has.

        One seen for the first time was painted on a picture that the node has shown: on this one
        if it is among them, else on the last. A node that has shown none (the server was started
        since) is taken at its word where the size agrees.
        """
        if painting not in self._origins:
            shown = self._shown.get(place)
            if shown and picture not in shown:
                self.painted(painting, shown[-1])
            elif shown or same_size:
                self.painted(painting, picture)
        return self._origins.get(painting) == picture


class Picture(NamedTuple):
    """What a node has to show: its fingerprint and its size in pixels."""

    fingerprint: str
    size: Size


class Painting(NamedTuple):
    """What was painted.

    Attributes:
        value: names the file.
        mask: [1,H,W]; None if the file is gone.
        state: of the file, another one once something else is painted under its name.
    """

    value: str
    mask: torch.Tensor | None
    state: str = ""

    @property
    def identity(self) -> str:
        """What tells paintings apart."""
        return f"{self.value} {self.state}"


class KeptMask(NamedTuple):
    """A mask [1,H,W] of the picture's size, and whether it was painted on that very picture."""

    mask: torch.Tensor
    is_own: bool


def keep_mask(
    paintings: Paintings, place: Place, picture: Picture, painting: Painting, restore: str
) -> KeptMask | None:
    """What of a painting holds for the picture that the node has now.

    A mask that holds no longer is told.

    Args:
        restore: for a mask that was painted on another picture, one of `RESTORE`.

    Returns:
        The mask; None if there is none, or nothing is painted.
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
        f"The mask {painting.value!r} is not used, since it was painted on another picture than "
        f"the one that the node has now. Paint it again, or set 'restore_mask' to {remedy}.",
    )
    return None
