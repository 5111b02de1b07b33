"""Nodes that make inputs: pictures, masks, SEGS, and a detector that finds given boxes."""

import json
from typing import NamedTuple

import numpy as np
import scipy.ndimage
import torch


class SEG(NamedTuple):
    """A segment as another pack would define it."""

    cropped_image: np.ndarray | None
    cropped_mask: np.ndarray | torch.Tensor
    confidence: float
    crop_region: tuple[int, int, int, int]
    bbox: tuple[int, int, int, int]
    label: str
    control_net_wrapper: object = None


SIZE = {"default": 512, "min": 0, "max": 16384, "tooltip": "In pixels."}


class DetailersTestImage:
    DESCRIPTION = (
        "A picture made from a seed: gradients, stripes and noise, far more than 256 levels."
    )
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "width": ("INT", SIZE),
                "height": ("INT", SIZE),
                "batch": ("INT", {"default": 1, "min": 0, "max": 4096, "tooltip": "Images."}),
                "seed": (
                    "INT",
                    {"default": 0, "min": 0, "max": 2**32, "tooltip": "Image i has seed + i."},
                ),
                "channels": ("INT", {"default": 3, "min": 1, "max": 4, "tooltip": "1, 3 or 4."}),
            }
        }

    def run(self, width, height, batch, seed, channels):
        images = torch.empty(batch, height, width, channels)
        for i in range(batch):  # one after another, for a video as large as memory
            images[i] = _picture(width, height, seed + i)[..., :channels]
        return (images,)


def _picture(width: int, height: int, seed: int) -> torch.Tensor:
    """A seeded picture [H,W,4], 0..1; the alpha channel is a ramp from 0.25 to 1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    generator = torch.Generator().manual_seed(seed)
    stripes = 0.1 * torch.sin(40 * (x + 0.5 * y) + seed)
    noise = 0.05 * torch.randn(height, width, generator=generator)
    colours = torch.stack([x, y, 1 - x], -1) * 0.6 + 0.2
    colours = (colours + (stripes + noise)[..., None]).clamp(0, 1)
    return torch.cat([colours, (0.25 + 0.75 * x)[..., None]], -1)


class DetailersTestCast:
    DESCRIPTION = "An image, a mask or a latent's samples in another precision."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("*",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        kinds = ["float16", "bfloat16", "float32"]
        return {
            "required": {
                "value": ("*", {"tooltip": "What to bring to it."}),
                "dtype": (kinds, {"tooltip": "The precision."}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, value, dtype):
        kind = getattr(torch, dtype)
        if isinstance(value, dict):
            return ({**value, "samples": value["samples"].to(kind)},)
        return (value.to(kind),)


class DetailersTestMask:
    DESCRIPTION = "A mask of rectangles and ellipses."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "width": ("INT", SIZE),
                "height": ("INT", SIZE),
                "shapes": (
                    "STRING",
                    {
                        "default": "[]",
                        "tooltip": 'JSON list of [x1, y1, x2, y2, "r" or "e"]; a sixth entry is'
                        " the shape's value, 1 if left out.",
                    },
                ),
                "per_item": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "A mask for each shape instead of one of all."},
                ),
            }
        }

    def run(self, width, height, shapes, per_item):
        shapes = json.loads(shapes)
        masks = torch.zeros(max(len(shapes), 1) if per_item else 1, height, width)
        for i, (x1, y1, x2, y2, kind, *value) in enumerate(shapes):
            shape = _shape(x2 - x1, y2 - y1, kind) * (value or [1.0])[0]
            region = masks[i if per_item else 0, y1:y2, x1:x2]
            torch.maximum(region, shape, out=region)
        return (masks,)


def _shape(width: int, height: int, kind: str) -> torch.Tensor:
    """A rectangle "r" or ellipse "e" that fills [height,width] exactly."""
    if kind == "r":
        return torch.ones(height, width)
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    return (y[:, None] ** 2 + x**2 <= 1).float()


class DetailersTestSegs:
    DESCRIPTION = "SEGS written out, as another pack would hand them over."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("SEGS",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "width": ("INT", SIZE),
                "height": ("INT", SIZE),
                "segs": (
                    "STRING",
                    {
                        "default": "[]",
                        "tooltip": 'JSON list of {"bbox": [x1, y1, x2, y2], "crop": [...], "label":'
                        ' text, "confidence": number, "mask": "e", "r", "full", "empty" or'
                        ' "pixel", "frames": [the mask\'s value in each], "tensor": true for a'
                        ' tensor as mask, "bytes": true for a picture of bytes}; all but bbox may'
                        " be left out. A confidence that is a list becomes an array or tensor.",
                    },
                ),
            },
            "optional": {
                "image": ("IMAGE", {"tooltip": "Gives each SEG its cropped_image."}),
            },
        }

    def run(self, width, height, segs, image=None):
        return (((height, width), [_seg(entry, image) for entry in json.loads(segs)]),)


def _seg(entry: dict, image: torch.Tensor | None) -> SEG:
    bbox = tuple(entry["bbox"])
    crop = tuple(entry.get("crop", bbox))
    mask = _crop_mask(bbox, crop, entry.get("mask", "e"))
    if "frames" in entry:
        mask = np.stack([mask * value for value in entry["frames"]])
    if entry.get("tensor"):
        mask = torch.from_numpy(mask)
    return SEG(
        cropped_image=None if image is None else _crop_image(image, crop, entry.get("bytes")),
        cropped_mask=mask,
        confidence=_confidence(entry.get("confidence", 1.0), entry.get("tensor")),
        crop_region=crop,
        bbox=bbox,
        label=entry.get("label", "A"),
    )


def _crop_image(image: torch.Tensor, crop, in_bytes: bool | None) -> np.ndarray:
    x1, y1, x2, y2 = crop
    pixels = image[:, y1:y2, x1:x2].numpy()
    return (pixels * 255).round().astype(np.uint8) if in_bytes else pixels


def _confidence(value, as_tensor: bool | None):
    if not isinstance(value, list):
        return value
    return torch.tensor(value) if as_tensor else np.array(value)


def _crop_mask(bbox, crop, kind: str) -> np.ndarray:
    """Mask of the crop's size: the box's rectangle, ellipse or middle pixel, or full, or empty."""
    x1, y1, x2, y2 = crop
    mask = np.full((y2 - y1, x2 - x1), float(kind == "full"), dtype=np.float32)
    left, top = bbox[0] - x1, bbox[1] - y1
    width, height = bbox[2] - bbox[0], bbox[3] - bbox[1]
    if kind == "pixel":
        mask[top + height // 2, left + width // 2] = 1
    elif kind in ("r", "e"):
        mask[top : top + height, left : left + width] = _shape(width, height, kind).numpy()
    return mask


class BoxDetector:
    """A BBOX_DETECTOR that finds the boxes it was made with in every image.

    A box is [x1, y1, x2, y2, label, confidence]. The mask is the box.
    """

    def __init__(self, boxes: list):
        self.boxes = boxes

    def setAux(self, text):
        pass

    def detect(self, image, threshold, dilation, crop_factor, drop_size=1, detailer_hook=None):
        height, width = image.shape[1:3]
        segs = []
        for *box, label, confidence in self.boxes:
            box = _grown(box, dilation, width, height)
            if confidence < threshold or min(box[2] - box[0], box[3] - box[1]) <= drop_size:
                continue
            crop = _crop_region(box, crop_factor, width, height)
            if hasattr(detailer_hook, "post_crop_region"):
                crop = detailer_hook.post_crop_region(width, height, box, crop)
            mask = _crop_mask(box, crop, "r")
            segs.append(SEG(None, mask, confidence, tuple(crop), tuple(box), label))
        found = ((height, width), segs)
        if hasattr(detailer_hook, "post_detection"):
            found = detailer_hook.post_detection(found)
        return found

    def detect_combined(self, image, threshold, dilation):
        height, width = image.shape[1:3]
        mask = torch.zeros(1, height, width)
        for *box, _, confidence in self.boxes:
            if confidence >= threshold:
                x1, y1, x2, y2 = _grown(box, dilation, width, height)
                mask[0, y1:y2, x1:x2] = 1
        return mask


class FrameDetector:
    """A BBOX_DETECTOR with boxes of its own for each frame of a clip, by which it knows a frame.

    Boxes are as those of `BoxDetector`. In a picture that is no frame of the clip it finds nothing.
    """

    def __init__(self, frames: torch.Tensor, boxes: list):
        self.looks = frames[:, ::8, ::8].clone()
        self.boxes = boxes

    def setAux(self, text):
        pass

    def _in(self, image: torch.Tensor) -> BoxDetector:
        same = (self.looks == image[:1, ::8, ::8]).flatten(1).all(1).nonzero()
        return BoxDetector(self.boxes[int(same[0])] if len(same) else [])

    def detect(self, image, *settings, **more):
        return self._in(image).detect(image, *settings, **more)

    def detect_combined(self, image, threshold, dilation):
        return self._in(image).detect_combined(image, threshold, dilation)


class BrightDetector(BoxDetector):
    """A BBOX_DETECTOR that finds what is bright, in one image at a time, as those of other packs
    do."""

    def __init__(self, least: float):
        self.least = least

    def detect(self, image, threshold, *args, **options):
        return self._told(image).detect(image, threshold, *args, **options)

    def detect_combined(self, image, threshold, dilation):
        return self._told(image).detect_combined(image, threshold, dilation)

    def _told(self, image) -> BoxDetector:
        if len(image) != 1:
            raise ValueError(f"this detector takes one image, not {len(image)}")
        numbers, _ = scipy.ndimage.label(image[0, ..., :3].mean(dim=-1).numpy() >= self.least)
        return BoxDetector(
            [
                [int(x.start), int(y.start), int(x.stop), int(y.stop), "bright", 1.0]
                for y, x in scipy.ndimage.find_objects(numbers)
            ]
        )


def _grown(box, by: int, width: int, height: int) -> list[int]:
    x1, y1, x2, y2 = box
    return [max(x1 - by, 0), max(y1 - by, 0), min(x2 + by, width), min(y2 + by, height)]


def _crop_region(box, factor: float, width: int, height: int) -> list[int]:
    """The box scaled about its centre, then moved into the image."""
    region = []
    for low, high, limit in ((box[0], box[2], width), (box[1], box[3], height)):
        size = min(int((high - low) * factor), limit)
        start = min(max((low + high - size) // 2, 0), limit - size)
        region.append((start, start + size))
    (x1, x2), (y1, y2) = region
    return [x1, y1, x2, y2]


class DetailersTestDetector:
    DESCRIPTION = "A detector that finds the boxes written here, in every image."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("BBOX_DETECTOR",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        boxes = {
            "default": "[]",
            "tooltip": "JSON list of [x1, y1, x2, y2, label, confidence].",
        }
        return {"required": {"boxes": ("STRING", boxes)}}

    def run(self, boxes):
        return (BoxDetector(json.loads(boxes)),)


class DetailersTestFrameDetector:
    DESCRIPTION = "A detector that finds other boxes in each frame of a clip, one frame at a time."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("BBOX_DETECTOR",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        boxes = {
            "default": "[]",
            "tooltip": "JSON: for each frame a list of [x1, y1, x2, y2, label, confidence].",
        }
        frames = {"tooltip": "The frames by which it knows where it is."}
        return {"required": {"frames": ("IMAGE", frames), "boxes": ("STRING", boxes)}}

    def run(self, frames, boxes):
        return (FrameDetector(frames, json.loads(boxes)),)


class DetailersTestBrightDetector:
    DESCRIPTION = "A detector that finds every separate bright thing; it takes one image at a time."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("BBOX_DETECTOR", "SEGM_DETECTOR")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        least = {
            "default": 0.97, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "How bright a thing is at least, 0 to 1.",
        }  # fmt: skip
        return {"required": {"least": ("FLOAT", least)}}

    def run(self, least):
        detector = BrightDetector(least)
        return (detector, detector)
