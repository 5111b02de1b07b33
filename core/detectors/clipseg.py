"""CLIPSeg: find the things that a text names.

Source: Lüddecke and Ecker, "Image Segmentation Using Text and Image Prompts" (2022).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..geometry import Size
from ..hook_protocol import Hook
from ..memory import persist
from ..pixels.image import image_name, to_rgb
from ..pixels.mask import dilate, feather, resize_mask
from ..segs.seg import SEGS, from_mask
from .network import Network, normalised

_SIDE = 352  # side in pixels of the network's input
_REACH = 4  # reach of a gaussian in standard deviations


@dataclass(frozen=True)
class CLIPSegOptions:
    """What is looked for, and how its mask is made; lengths in pixels of the network's output."""

    text: str  # "": the text of `setAux`
    blur: float = 7.0  # standard deviation of the gaussian that smooths the output
    threshold: float = 0.4  # 0..1
    dilation: int = 4  # pixels in every direction


class CLIPSegDetector:
    """A BBOX_DETECTOR that finds the things that a text names.

    Args:
        options: see `CLIPSegOptions`.
        load: returns the tokenizer and the network; called when they are first needed.
    """

    def __init__(self, options: CLIPSegOptions, load: Callable[[], tuple[Any, Network]]) -> None:
        self.options = options
        self._load = load
        self._loaded: tuple[Any, Network] | None = None
        self._aux: str | None = None

    def setAux(self, text: str | None) -> None:
        """Set the text to look for, used if the options have none; None removes it."""
        self._aux = text

    def detect(
        self,
        image: torch.Tensor,
        threshold: float,
        dilation: int,
        crop_factor: float,
        drop_size: int = 1,
        detailer_hook: Any = None,
    ) -> SEGS:
        """A segment for each separate shape in the first image of a batch [B,H,W,C] 0..1.

        The masks are filled boxes. See `base.BoxDetector.detect` for the arguments.

        Raises:
            ValueError: there is no text to look for.
        """
        hook = Hook(detailer_hook)
        mask = self.detect_combined(image, threshold, dilation)
        segs = from_mask(
            mask, False, crop_factor, True, drop_size, adjust_region=hook.adjust_region
        )
        return hook.post_detection(segs)

    def detect_combined(self, image: torch.Tensor, threshold: float, dilation: int) -> torch.Tensor:
        """One mask [H,W] of 0 and 1 of everything found in the first image of a batch [B,H,W,C].

        The threshold and dilation of the options are used, not those given here.

        Raises:
            ValueError: there is no text to look for.
        """
        options = self.options
        text = options.text.strip() or (self._aux or "").strip()
        if not text:
            raise ValueError(
                "'text' is empty: CLIPSeg has nothing to look for. Name it in CLIPSeg Detector "
                "Provider."
            )
        rgb, _ = to_rgb(image[:1])
        sure = persist(lambda: self._sure(rgb, text), image_name(rgb), "searched by CLIPSeg")
        if options.blur > 0:
            sure = feather(sure, round(_REACH * options.blur), options.blur)
        mask = dilate((sure > options.threshold).float(), 2 * options.dilation + 1)
        mask = resize_mask(mask, Size(image.shape[2], image.shape[1]))
        return (mask[0] > 0.5).float()

    def _sure(self, image: torch.Tensor, text: str) -> torch.Tensor:
        """The network's score 0..1 for the text, at each place in the image: [1,h,w] on the CPU."""
        if self._loaded is None:
            self._loaded = self._load()
        tokenizer, network = self._loaded
        tokens = tokenizer([text], truncation=True, return_tensors="pt")
        with torch.inference_mode(), network.on_device() as device:
            pixels = image.to(device, torch.float32).movedim(-1, 1)
            pixels = torch.nn.functional.interpolate(
                pixels, (_SIDE, _SIDE), mode="bilinear", antialias=True
            )
            pixels = normalised(pixels)
            tokens = {name: tokens[name].to(device) for name in ("input_ids", "attention_mask")}
            logits = network.module(pixel_values=pixels, **tokens).logits
            sure = logits.view(1, *logits.shape[-2:]).sigmoid().float().cpu()
        return sure.clone()  # a tensor outside inference mode


def load_clipseg(folder: str | Path) -> tuple[Any, torch.nn.Module]:
    """The tokenizer and the network of a CLIPSeg.

    Args:
        folder: holds its files, which `hub` has checked.

    Raises:
        RuntimeError: transformers is missing, or the model cannot be read.
    """
    try:
        from transformers import CLIPSegForImageSegmentation, CLIPTokenizerFast
    except ImportError as error:
        raise RuntimeError(
            "CLIPSeg needs the transformers package, which ComfyUI's Python does not have. Install "
            "it there with: pip install transformers"
        ) from error
    options = {"local_files_only": True}  # so no revision has to be pinned
    try:
        tokenizer = CLIPTokenizerFast.from_pretrained(str(folder), **options)  # nosec B615
        module = CLIPSegForImageSegmentation.from_pretrained(  # nosec B615
            str(folder), weights_only=True, **options
        )
    except Exception as error:  # transformers and its file readers raise many kinds of errors
        raise RuntimeError(
            f"CLIPSeg cannot be loaded from {folder}: {type(error).__name__}: {error}"
        ) from error
    return tokenizer, module.float().train(False).requires_grad_(False)
