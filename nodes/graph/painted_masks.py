"""Nodes that use the editor: masks painted on previews, and values sent to other nodes."""

from __future__ import annotations

from ...core.graph.painted_masks import RESTORE, file_entry, file_value
from ...core.graph.values import TYPES, read_as, type_name
from ...core.host.editor import bridge, place_of
from ...core.host.files import (
    file_at,
    file_state,
    latents,
    missing_file,
    pictures,
    receive_image,
    receive_latent,
    send_latent,
    show_images,
)
from ...core.host.latent_previews import PREVIEW_METHODS, decoded
from ...core.host.messages import BLOCKED, tell_editor
from ...core.streams import with_mask
from ..widgets import described

CATEGORY = "Detailers/Bridge"
_LINK = {"default": 0, "min": 0, "max": 2**63 - 1, "step": 1}
_METHOD = (
    "How the picture of the latent is made. The TAE methods need their files in models/vae_approx."
)


def _link_id(tooltip: str) -> tuple[str, dict]:
    return described("INT", tooltip, **_LINK)


def _painting() -> tuple[str, dict]:
    return described("STRING", "The painted picture. The mask editor fills this in.", default="")


def _mask_options() -> dict:
    labels = {"default": False, "label_on": "if_empty_mask", "label_off": "never"}
    restore = "Whether a mask that was painted on an earlier picture is kept for another picture."
    return {
        "block": described(
            "BOOLEAN", "Whether the run stops here until a mask is painted.", **labels
        ),
        "restore_mask": (list(RESTORE), {"tooltip": restore}),
    }


class PreviewBridge:
    DESCRIPTION = (
        "Shows images and gives the mask that is painted on them in ComfyUI's mask editor "
        "(Open in MaskEditor in the node's menu)."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "MASK")
    OUTPUT_TOOLTIPS = (
        "The same images that are connected to the input.",
        "The painted mask, at the size of the images. It is empty if nothing is painted.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": described("IMAGE", "The images. The mask is painted on the first one."),
                "image": _painting(),
            },
            "optional": _mask_options(),
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def IS_CHANGED(cls, image="", **_inputs):
        return file_state(image)

    def run(self, images, image, block=False, restore_mask="never", unique_id=None):
        place = place_of("PreviewBridge", unique_id)
        shown, mask = bridge(images, images, image, restore_mask, place)
        blocked = block and not mask.any()
        return {
            "ui": {"images": shown},
            "result": (BLOCKED, BLOCKED) if blocked else (images, mask),
        }


class PreviewBridgeLatent:
    DESCRIPTION = (
        "Shows a latent as a picture and gives the mask that is painted on it in ComfyUI's "
        "mask editor (Open in MaskEditor in the node's menu)."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("LATENT", "MASK")
    OUTPUT_TOOLTIPS = (
        "The latent with the mask as its noise mask.",
        "The painted mask, or the latent's own noise mask if nothing is painted, at the size "
        "of the picture.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "latent": described(
                    "LATENT", "The latent. The mask is painted on its first picture."
                ),
                "image": _painting(),
                "preview_method": (PREVIEW_METHODS, {"tooltip": _METHOD}),
            },
            "optional": {
                "vae_opt": described(
                    "VAE", "Decodes the picture. It is used instead of preview_method."
                ),
                **_mask_options(),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def IS_CHANGED(cls, image="", **_inputs):
        return file_state(image)

    def run(
        self, latent, image, preview_method, vae_opt=None, block=False, restore_mask="never",
        unique_id=None,
    ):  # fmt: skip
        pixels = decoded(latent, preview_method, vae_opt)
        place = place_of("PreviewBridgeLatent", unique_id)
        shown, mask = bridge(
            pixels, latent["samples"], image, restore_mask, place, latent.get("noise_mask")
        )
        is_empty = not mask.any()
        result = (latent if is_empty else with_mask(latent, mask), mask)
        return {
            "ui": {"images": shown},
            "result": (BLOCKED, BLOCKED) if block and is_empty else result,
        }


class ImageSender:
    DESCRIPTION = (
        "Shows images and sends the first one to the Image Receivers in the editor that have "
        "the same link_id. They use it in the next run."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    OUTPUT_TOOLTIPS = ("The same images that are connected to the input.",)
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        prefix = "First part of the file name, in the temporary folder."
        return {
            "required": {
                "images": described("IMAGE", "The images."),
                "filename_prefix": described("STRING", prefix, default="ImgSender"),
                "link_id": _link_id("Receivers with this number get the image."),
            }
        }

    def run(self, images, filename_prefix, link_id):
        shown = show_images(images, filename_prefix)
        tell_editor("send", kind="image", link_id=link_id, value=file_value(shown[0]))
        return {"ui": {"images": shown}, "result": (images,)}


class ImageReceiver:
    DESCRIPTION = "Gives the image that an Image Sender with the same link_id has sent."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "MASK")
    OUTPUT_TOOLTIPS = ("The image.", "The transparent part of the image, as a mask.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        keep = "Save the image itself in the workflow, because its file may be temporary."
        labels = {"default": False, "label_on": "enable", "label_off": "disable"}
        again = "The editor queues the workflow when an image arrives."
        return {
            "required": {
                "image": (pictures(), {"tooltip": "The file. A sender fills this in."}),
                "link_id": _link_id("The link_id of the senders from which it receives."),
                "save_to_workflow": described("BOOLEAN", keep, default=False),
                "image_data": described(
                    "STRING", "The image itself, if it is saved in the workflow.", multiline=False
                ),
                "trigger_always": described("BOOLEAN", again, **labels),
            }
        }

    @staticmethod
    def kept(save_to_workflow, image_data) -> str:
        """The image that is saved in the workflow, as a text; "" if there is none."""
        is_data = isinstance(image_data, str) and image_data.startswith("data:")
        return image_data if save_to_workflow and is_data else ""

    @classmethod
    def VALIDATE_INPUTS(cls, image=None, save_to_workflow=False, image_data=""):
        if image is None:  # it comes over a link, and is checked when the node runs
            return True
        is_there = cls.kept(save_to_workflow, image_data) or file_at(image) is not None
        return True if is_there else missing_file("image", image)

    @classmethod
    def IS_CHANGED(cls, image="", **_inputs):
        return file_state(image)

    def run(self, image, link_id, save_to_workflow, image_data, trigger_always):
        pixels, mask, shown = receive_image(image, self.kept(save_to_workflow, image_data))
        return {"ui": {"images": shown}, "result": (pixels, mask)}


class LatentSender:
    DESCRIPTION = (
        "Saves a latent in a picture file and sends it to the LatentReceivers in the editor "
        "that have the same link_id. They use it in the next run."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ()
    OUTPUT_TOOLTIPS = ()
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        prefix = "First part of the file name, in the output folder."
        return {
            "required": {
                "samples": described("LATENT", "The latent."),
                "filename_prefix": described("STRING", prefix, default="latents/LatentSender"),
                "link_id": _link_id("Receivers with this number get the latent."),
                "preview_method": (PREVIEW_METHODS, {"tooltip": _METHOD}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def run(
        self, samples, filename_prefix, link_id, preview_method, prompt=None, extra_pnginfo=None
    ):
        preview = decoded(samples, preview_method, None)
        texts = {"prompt": prompt, **(extra_pnginfo or {})}
        entry = send_latent(samples, filename_prefix, preview, texts)
        tell_editor("send", kind="latent", link_id=link_id, value=file_value(entry))
        return {"ui": {"images": [entry]}, "result": ()}


class LatentReceiver:
    DESCRIPTION = "Gives the latent that a LatentSender with the same link_id has sent."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The latent.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        labels = {"default": False, "label_on": "enable", "label_off": "disable"}
        again = "The editor queues the workflow when a latent arrives."
        return {
            "required": {
                "latent": (latents(), {"tooltip": "The file. A sender fills this in."}),
                "link_id": _link_id("The link_id of the senders from which it receives."),
                "trigger_always": described("BOOLEAN", again, **labels),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, latent=None):
        is_there = latent is None or file_at(latent) is not None  # None comes over a link
        return True if is_there else missing_file("latent", latent)

    @classmethod
    def IS_CHANGED(cls, latent="", **_inputs):
        return file_state(latent)

    def run(self, latent, link_id, trigger_always):
        result = (receive_latent(latent),)
        entry = file_entry(latent)
        is_picture = entry["filename"].endswith(".png")
        return {"ui": {"images": [entry]}, "result": result} if is_picture else result


class ImpactValueSender:
    DESCRIPTION = (
        "Sends a number, a text or a boolean to the ImpactValueReceivers in the editor that "
        "have the same link_id. They use it in the next run."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    RETURN_NAMES = ("signal",)
    OUTPUT_TOOLTIPS = ("The same signal that is connected to the input.",)
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "value": described("*", "The value."),
                "link_id": _link_id("Receivers with this number get the value."),
            },
            "optional": {"signal_opt": described("*", "Any value. It is passed on.")},
        }

    def run(self, value, link_id, signal_opt=None):
        kind = type_name(value)
        if kind is None:
            raise ValueError(
                f"'value' is a {type(value).__name__}, which cannot be sent. Connect a text, a "
                "number or a boolean."
            )
        tell_editor("send", kind="value", link_id=link_id, value=str(value), typ=kind)
        return (signal_opt,)


class ImpactValueReceiver:
    DESCRIPTION = "Gives the value that an ImpactValueSender with the same link_id has sent."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    OUTPUT_TOOLTIPS = ("The value, of the chosen type.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "typ": (list(TYPES), {"tooltip": "The type. A sender fills this in."}),
                "value": described("STRING", "The value. A sender fills this in.", default=""),
                "link_id": _link_id("The link_id of the senders from which it receives."),
            }
        }

    def run(self, typ, value, link_id):
        return (read_as(typ, value),)


NODES = {
    "PreviewBridge": (PreviewBridge, "Preview Bridge (Image)"),
    "PreviewBridgeLatent": (PreviewBridgeLatent, "Preview Bridge (Latent)"),
    "ImageSender": (ImageSender, "Image Sender"),
    "ImageReceiver": (ImageReceiver, "Image Receiver"),
    "LatentSender": (LatentSender, "LatentSender"),
    "LatentReceiver": (LatentReceiver, "LatentReceiver"),
    "ImpactValueSender": (ImpactValueSender, "ImpactValueSender"),
    "ImpactValueReceiver": (ImpactValueReceiver, "ImpactValueReceiver"),
}
