"""Previews on which the user paints a mask, and the painted masks."""

from __future__ import annotations

from pathlib import Path

import folder_paths
import torch

from ...utils.notes import note
from ..files.latent_file import to_bytes
from ..geometry import Size
from ..graph.painted_masks import (
    Painting,
    Paintings,
    Picture,
    Place,
    file_entry,
    file_value,
    fingerprint,
    keep_mask,
)
from ..pixels.batches import with_channels
from ..pixels.mask import resize_mask
from ..streams import picture
from .files import file_state
from .folders import painted_mask, save_previews
from .messages import running_workflow, tell_editor

_paintings = Paintings()
_PREVIEWS = "PreviewBridge"
_PAINTED_FOLDER = "clipspace"  # the mask editor saves its pictures in this folder, too


def bridge(
    shown: torch.Tensor,
    identity: torch.Tensor,
    image: str,
    restore: str,
    place: Place,
    own_mask: torch.Tensor | None = None,
) -> tuple[list[dict], torch.Tensor]:
    """Show pictures on which the user can paint a mask, and return the painted mask.

    If the painting no longer fits the pictures, the node's input `image` is updated in the editor,
    because the mask editor opens the file that it names.

    Args:
        shown: [B,H,W,C] 0..1.
        identity: a tensor that identifies the pictures: the pictures [B,H,W,C] or a latent.
        image: the node's value, which names the painting.
        restore: one of `painted_masks.RESTORE`: what to do with a mask for another picture.
        place: the node that shows the pictures, see `place_of`.
        own_mask: [...,h,w] 0..1. Its first mask is used while nothing is painted.

    Returns:
        The entries to show, and the mask [1,H,W] 0..1. It is all 0 if there is no mask.
    """
    size = Size(shown.shape[2], shown.shape[1])
    seen = Picture(fingerprint(identity), size)
    kept = keep_mask(_paintings, place, seen, _read_painting(image), restore)
    rgb = with_channels(shown, 3)[..., :3]
    rest = save_previews(rgb[1:].split(1), _PREVIEWS) if len(rgb) > 1 else []
    if kept is not None and kept.is_own:
        return [file_entry(image), *rest], kept.mask.to(shown)
    if kept is not None:
        entry = _keep_painting(rgb[:1], kept.mask)
        value = file_value(entry)
        _paintings.painted(Painting(value, None, file_state(value)).identity, seen.fingerprint)
        _put_image(place.node_id, image, value)
        return [entry, *rest], kept.mask.to(shown)
    _put_image(place.node_id, image, "")
    first, mask = rgb[:1], shown.new_zeros(1, size.height, size.width)
    own_mask = None if own_mask is None else picture(own_mask)
    if own_mask is not None and own_mask.any():
        first_mask = own_mask.reshape(-1, *own_mask.shape[-2:])[:1]
        mask = resize_mask(first_mask.to(shown), size)
        first = _painted(first, mask)
    return [*save_previews([first], _PREVIEWS), *rest], mask


def place_of(kind: str, node_id: object) -> Place:
    """The place of the node that runs: its workflow, class and id.

    Args:
        kind: the class id of the node.
        node_id: the id that ComfyUI gives. None: ComfyUI does not run the node.
    """
    return Place(running_workflow(), kind, str(node_id))


def _put_image(node_id: str, was: str, value: str) -> None:
    if value != was and (value or file_entry(was) is not None):
        tell_editor("widget", node=node_id, widget="image", value=value, was=was)


def _read_painting(image: str) -> Painting:
    try:
        return Painting(image, painted_mask(file_entry(image)), file_state(image))
    except (OSError, ValueError) as error:
        note("mask", f"The painted picture {image!r} cannot be read, so there is no mask: {error}")
        return Painting(image, None)


def _painted(rgb: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A picture [1,h,w,3] with its mask as alpha: masked pixels are transparent, as the mask editor
    saves them."""
    return torch.cat([rgb, 1 - mask[..., None].to(rgb)], dim=-1)


def _keep_painting(rgb: torch.Tensor, mask: torch.Tensor) -> dict[str, str]:
    """Write a painted picture into the input folder. The same picture is written only once."""
    from PIL import Image

    painted = _painted(rgb, mask)
    folder = Path(folder_paths.get_input_directory(), _PAINTED_FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"detailers-bridge-{fingerprint(painted)}.png"
    if not (folder / name).exists():
        Image.fromarray(to_bytes(painted)).save(folder / name, compress_level=1)
    return {"filename": name, "subfolder": _PAINTED_FOLDER, "type": "input"}
