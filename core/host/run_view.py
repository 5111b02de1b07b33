"""Shows a run in ComfyUI's editor: with small pictures in the temporary folder, and messages."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Any

import folder_paths
import torch
import torch.nn.functional as F

from ..files.latent_file import to_bytes
from ..pixels.batches import with_channels
from .messages import running_node, tell_editor, wants

log = logging.getLogger(__name__)

_FOLDER = "detailers"  # in the temporary folder. ComfyUI empties that when it starts.
_QUALITY = 85  # of JPEG
MARK = "detailers_view"  # the editor sets this in the `_meta` of a node of its prompts


def editor_view() -> EditorView | None:
    """The editor that queued the running prompt. None: there is none, or its setting is off."""
    running = running_node()
    return EditorView(running[1]) if running is not None and wants(MARK) else None


class EditorView:
    """The editor, as `core/detail/view.py` wants it."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id

    def picture(self, pixels: torch.Tensor, side: int) -> dict[str, str]:
        """Write pixels [1,h,w,C] 0..1 as a small JPEG for the editor; return where it is."""
        import cv2

        small = shrunk(with_channels(pixels, 3)[..., :3], side)
        folder = Path(folder_paths.get_temp_directory(), _FOLDER)
        name = f"{uuid.uuid4().hex}.jpg"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _, data = cv2.imencode(
                ".jpg", to_bytes(small)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
            )
            (folder / name).write_bytes(data)
        except OSError as error:  # the run goes on, and the editor shows an empty place
            log.warning("a picture for the editor cannot be written: %s", error)
        return {"filename": name, "subfolder": _FOLDER, "type": "temp"}

    def tell(self, **data: Any) -> None:
        """Send data on the run to the editor."""
        tell_editor("view", node=self.node_id, **data)


def shrunk(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """A picture [1,h,w,C] with its longer side reduced to `side` pixels by averaging, as float32.

    OpenCV is many times as fast as PyTorch at this on a CPU. Pixels that are on another device are
    reduced there.
    """
    height, width = pixels.shape[1:3]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels.float()
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if pixels.device.type == "cpu":
        import cv2

        small = cv2.resize(pixels[0].float().numpy(), size, interpolation=cv2.INTER_AREA)
        return torch.from_numpy(small)[None]
    averaged = F.interpolate(pixels.movedim(-1, 1).float(), size=size[::-1], mode="area")
    return averaged.movedim(1, -1)
