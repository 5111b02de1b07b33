"""CLIPSeg: finds what a text names.

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

_SIDE = 352  # pixels that the network was trained at
_REACH = 4  # deviations after which a gaussian has faded


@dataclass(frozen=True)
class CLIPSegOptions:
    """What is looked for and how its mask is made; lengths in pixels of the network's answer."""

    text: str  # "": what `setAux` says
    blur: float = 7.0  # deviation of the gaussian that smooths the answer
    threshold: float = 0.4  # 0..1
    dilation: int = 4  # reach in every direction


class CLIPSegDetector:
    """A BBOX_DETECTOR that looks for what a text names.

    Args:
        options: see there.
        load: gives the tokenizer and the network, when they are first needed.
    """

    def __init__(self, options: CLIPSegOptions, load: Callable[[], tuple[Any, Network]]) -> None:
        self.options = options
        self._load = load
        self._loaded: tuple[Any, Network] | None = None
        self._aux: str | None = None

    def setAux(self, text: str | None) -> None:
        """What to look for where the options name nothing; None forgets it."""
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
        """Segments of every separate shape of what is found, each a filled box."""
        hook = Hook(detailer_hook)
        mask = self.detect_combined(image, threshold, dilation)
        segs = from_mask(
            mask, False, crop_factor, True, drop_size, adjust_region=hook.adjust_region
        )
        return hook.post_detection(segs)

    def detect_combined(self, image: torch.Tensor, threshold: float, dilation: int) -> torch.Tensor:
        """One mask [H,W] of 0 and 1 of everything found in the first image of a batch.

        The options' threshold and dilation count, not those given here.
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
        """How sure the network is of the text, everywhere in the image: [1,h,w] on the CPU."""
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
        return sure.clone()  # no longer of inference mode


def load_clipseg(folder: str | Path) -> tuple[Any, torch.nn.Module]:
    """The tokenizer and the network of a CLIPSeg.

    Args:
        folder: with its files, which were looked at before, see `hub`.

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
    options = {"local_files_only": True}  # so there is nothing to pin
    try:
        tokenizer = CLIPTokenizerFast.from_pretrained(str(folder), **options)  # nosec B615
        module = CLIPSegForImageSegmentation.from_pretrained(  # nosec B615
            str(folder), weights_only=True, **options
        )
    except Exception as error:  # whatever transformers and the readers of files raise
        raise RuntimeError(
            f"CLIPSeg cannot be loaded from {folder}: {type(error).__name__}: {error}"
        ) from error
    return tokenizer, module.float().train(False).requires_grad_(False)
