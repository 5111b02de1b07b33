"""Lists and batches: several values over one link, one after another or together."""

from __future__ import annotations

from typing import Any

import torch

from ...core.pixels.batches import image_batch, mask_batch
from ...utils.check import check_image, check_mask
from ..prompts.conditioning import numbered
from ..widgets import Numbered

CATEGORY = "Detailers/List"
_IMAGE_LIST = "The images, one after another."
_IMAGE_BATCH = "All images in one batch."
_MASK_LIST = "The masks, one after another."
_MASK_BATCH = "All masks in one batch."


def checked_images(images: list[Any], name: str) -> list[torch.Tensor]:
    """The images, each [B,H,W,C] 0..1, after a check. `name`: the input in errors."""
    for image in images:
        check_image(image, name)
    return images


def checked_masks(masks: list[Any], name: str) -> list[torch.Tensor]:
    """The masks, each as [B,H,W] 0..1, after a check. `name`: the input in errors."""
    return [check_mask(mask, name) for mask in masks]


class MasksToMaskList:
    DESCRIPTION = "Converts a batch of masks to a list: the nodes after it run once for each mask."
    TAKES_NONE = ("masks",)
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = (_MASK_LIST,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"masks": ("MASK", {"tooltip": "The batch of masks."})}}

    def run(self, masks):
        if masks is None:
            return ([torch.zeros(1, 64, 64)],)
        return (list(check_mask(masks, "masks").split(1)),)


class MaskListToMaskBatch:
    DESCRIPTION = (
        "Makes one batch from a list of masks. The first mask gives the size. Other masks are "
        "cropped around the centre to the same proportions, and resized."
    )
    CATEGORY = CATEGORY
    INPUT_IS_LIST = True
    RETURN_TYPES = ("MASK",)
    OUTPUT_TOOLTIPS = (_MASK_BATCH,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"mask": ("MASK", {"tooltip": _MASK_LIST})}}

    def run(self, mask):
        masks = checked_masks(mask, "mask")
        return (mask_batch(masks) if masks else torch.zeros(1, 64, 64),)


class ImageListToImageBatch:
    DESCRIPTION = (
        "Makes one batch from a list of images. The first image gives the size. Other images "
        "are cropped around the centre to the same proportions, and resized."
    )
    CATEGORY = CATEGORY
    INPUT_IS_LIST = True
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = (_IMAGE_BATCH,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE", {"tooltip": _IMAGE_LIST})}}

    def run(self, images):
        images = checked_images(images, "images")
        return (image_batch(images) if images else torch.zeros(1, 64, 64, 3),)


class ImpactImageBatchToImageList:
    DESCRIPTION = (
        "Converts a batch of images to a list: the nodes after it run once for each image."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = (_IMAGE_LIST,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE", {"tooltip": "The batch of images."})}}

    def run(self, image):
        return (list(image.split(1)),)


class ImpactMakeImageList:
    DESCRIPTION = "Makes a list of any number of images. Each image keeps its own size."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = (_IMAGE_LIST,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        first = {"tooltip": "The first image. When it is connected, the next input appears."}
        return {
            "required": {"image1": ("IMAGE", first)},
            "optional": Numbered("image", "IMAGE", "A further image."),
        }

    def run(self, **images):
        return (numbered(images, "image"),)


class ImpactMakeImageBatch(ImpactMakeImageList):
    DESCRIPTION = (
        "Makes a batch of any number of images. The first image gives the size. Other images "
        "are cropped around the centre to the same proportions, and resized."
    )
    OUTPUT_IS_LIST = (False,)
    OUTPUT_TOOLTIPS = (_IMAGE_BATCH,)

    def run(self, **images):
        return (image_batch(checked_images(numbered(images, "image"), "image1, image2, ...")),)


class ImpactMakeMaskList:
    DESCRIPTION = "Makes a list of any number of masks. Each mask keeps its own size."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MASK",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = (_MASK_LIST,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        first = {"tooltip": "The first mask. When it is connected, the next input appears."}
        return {
            "required": {"mask1": ("MASK", first)},
            "optional": Numbered("mask", "MASK", "A further mask."),
        }

    def run(self, **masks):
        return (numbered(masks, "mask"),)


class ImpactMakeMaskBatch(ImpactMakeMaskList):
    DESCRIPTION = (
        "Makes a batch of any number of masks. The first mask gives the size. Other masks are "
        "cropped around the centre to the same proportions, and resized."
    )
    OUTPUT_IS_LIST = (False,)
    OUTPUT_TOOLTIPS = (_MASK_BATCH,)

    def run(self, **masks):
        return (mask_batch(checked_masks(numbered(masks, "mask"), "mask1, mask2, ...")),)


class ImpactMakeAnyList:
    DESCRIPTION = "Makes a list of any number of values of any type."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = ("The values, one after another.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = "A value. When it is connected, the next input appears."
        return {"optional": Numbered("value", "*", tooltip, listed=1)}

    def run(self, **values):
        return (numbered(values, "value"),)


class ImpactSelectNthItemOfAnyList:
    DESCRIPTION = "Gives one entry of a list."
    CATEGORY = CATEGORY
    INPUT_IS_LIST = True
    RETURN_TYPES = ("*",)
    OUTPUT_TOOLTIPS = ("The entry. If the list is shorter, its last entry.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        index = {
            "default": 0, "min": 0, "max": 2**63 - 1, "step": 1,
            "tooltip": "Number of the entry; 0 is the first.",
        }  # fmt: skip
        return {
            "required": {
                "any_list": ("*", {"tooltip": "The list."}),
                "index": ("INT", index),
            }
        }

    def run(self, any_list, index):
        if not any_list:
            raise ValueError(
                "'any_list' is an empty list, so it has no entry. Check the node that is connected "
                "to it."
            )
        return (any_list[min(index[0], len(any_list) - 1)],)


class ImpactListBridge:
    DESCRIPTION = (
        "Passes a list on when it is complete: the nodes after it start only when the nodes "
        "before it have run for every entry."
    )
    CATEGORY = CATEGORY
    INPUT_IS_LIST = True
    RETURN_TYPES = ("*",)
    RETURN_NAMES = ("list_output",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_TOOLTIPS = ("The same list that is connected to the input.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"list_input": ("*", {"tooltip": "The list."})}}

    def run(self, list_input):
        return (list_input,)


NODES = {
    "MasksToMaskList": (MasksToMaskList, "Mask Batch to Mask List"),
    "MaskListToMaskBatch": (MaskListToMaskBatch, "Mask List to Mask Batch"),
    "ImageListToImageBatch": (ImageListToImageBatch, "Image List to Image Batch"),
    "ImpactImageBatchToImageList": (ImpactImageBatchToImageList, "Image Batch to Image List"),
    "ImpactMakeImageList": (ImpactMakeImageList, "Make Image List"),
    "ImpactMakeImageBatch": (ImpactMakeImageBatch, "Make Image Batch"),
    "ImpactMakeMaskList": (ImpactMakeMaskList, "Make Mask List"),
    "ImpactMakeMaskBatch": (ImpactMakeMaskBatch, "Make Mask Batch"),
    "ImpactMakeAnyList": (ImpactMakeAnyList, "Make List (Any)"),
    "ImpactSelectNthItemOfAnyList": (ImpactSelectNthItemOfAnyList, "Select Nth Item (Any list)"),
    "ImpactListBridge": (ImpactListBridge, "List Bridge"),
}
