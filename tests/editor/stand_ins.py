"""Small replacements for the models of a shared prompt, so that it runs quickly.

Checkpoints, diffusion models, text encoders and VAEs become the analytic model; detectors, SAMs,
LoRAs and upscalers are loaded from files that are made here; pictures are one that is made here.
Sizes and steps shrink. All other inputs are as the file has them.
"""

import numpy as np
import torch
from detailers.tests import sam_models
from detailers.tests.onnx_files import columns, onnx_file
from PIL import Image

FACE = [32, 30, 24, 28, 0.9, 0.1]  # what every detector finds, in its own 64 x 64 pixels
SIDE = 96  # of pictures
MODELS = {  # loader -> where its outputs are among those of the analytic model
    "CheckpointLoaderSimple": (0, 1, 2),
    "CheckpointLoader": (0, 1, 2),
    "UNETLoader": (0,),
    "CLIPLoader": (1,),
    "DualCLIPLoader": (1,),
    "VAELoader": (2,),
}
MOST = {  # inputs that make a run long
    "width": 128, "height": 128, "steps": 2, "batch_size": 2, "guide_size": 64, "max_size": 96,
    "bbox_size": 64, "min_overlap": 8, "upscale_factor": 1.5, "rescale_factor": 1.5, "cycle": 1,
    "tile_size": 320, "tile_width": 256, "tile_height": 256, "end_at_step": 2, "start_at_step": 1,
}  # fmt: skip


def write_files(base):
    """Make the files in a server's base directory."""
    models = base / "models"
    folders = ("ultralytics/bbox", "ultralytics/segm", "onnx", "sams", "loras", "upscale_models")
    for name in (*folders, "clipseg"):
        (models / name).mkdir(parents=True, exist_ok=True)
    names = [("names", "{0: 'face', 1: 'person'}")]
    for name in ("bbox/face", "bbox/mmdet_anime-face_yolov3"):
        onnx_file(models / f"ultralytics/{name}.onnx", [columns(FACE)], metadata=names)
    shapes = [columns([*FACE, 1.0], masks=1), np.ones((1, 1, 16, 16), np.float32)]
    for name in ("segm/person", "segm/mmdet_dd-person_mask2former"):
        onnx_file(models / f"ultralytics/{name}.onnx", shapes, metadata=names)
    parts = np.float32([[[20, 16, 44, 44]]]), np.float32([[0.9]]), np.float32([[0]])
    onnx_file(models / "onnx/boxes.onnx", parts, (1, "h", "w", 3))
    sam_models.sam().save_pretrained(models / "sams/made")
    (models / "sams/made/model.safetensors").rename(models / "sams/sam.safetensors")
    sam_models.clipseg(models / "clipseg/clipseg-rd64-refined", bias=5.0)
    from safetensors.torch import save_file

    save_file({"nothing.lora_up.weight": torch.zeros(1, 1)}, models / "loras/nothing.safetensors")
    save_file(upscaler(), models / "upscale_models/x2.safetensors")
    pixels = np.random.default_rng(5).integers(0, 255, (SIDE, SIDE, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[30:60, 30:60, 3] = 0  # painted
    Image.fromarray(pixels).save(base / "input" / "picture.png")


def upscaler(scale=2, features=4):
    """Random weights of the smallest network that the host knows as an upscaler."""
    generator = torch.Generator().manual_seed(2)

    def convolution(out, into):
        return torch.randn(out, into, 3, 3, generator=generator) * 0.1

    widths = {0: (features, 3), 2: (features, features), 4: (3 * scale**2, features)}
    weights = {f"body.{place}.weight": convolution(*sides) for place, sides in widths.items()}
    weights |= {f"body.{place}.bias": torch.zeros(sides[0]) for place, sides in widths.items()}
    return weights | {f"body.{place}.weight": torch.full((features,), 0.2) for place in (1, 3)}


def fit(prompt, info):
    """A prompt that runs with the stand-ins, from one that the editor or a file gives."""
    fitted = {
        "stand-in": {
            "class_type": "DetailersTestModel",
            "inputs": {"family": "image8", "prior_std": 0.6},
        }
    }
    for key, node in prompt.items():
        if node["class_type"] in MODELS:
            continue
        choices = choices_of(info.get(node["class_type"], {}))
        inputs = {
            name: stand_in(name, value, choices.get(name), prompt)
            for name, value in node["inputs"].items()
        }
        fitted[key] = {"class_type": node["class_type"], "inputs": inputs}
        if node["class_type"] == "CLIPTextEncodeSDXL":  # the stand-in has one encoder, not two
            text = {"clip": inputs["clip"], "text": inputs["text_g"]}
            fitted[key] = {"class_type": "CLIPTextEncode", "inputs": text}
    return fitted


def stand_in(name, value, choices, prompt):
    if isinstance(value, list):
        source = prompt.get(value[0], {"class_type": ""})["class_type"]
        return ["stand-in", MODELS[source][value[1]]] if source in MODELS else value
    if name in MOST and not isinstance(value, bool | str):
        return min(value, MOST[name])
    if choices and value not in choices:
        kind = str(value).split("/")[0]
        return next(
            (choice for choice in choices if str(choice).startswith(f"{kind}/")), choices[0]
        )
    return value


def choices_of(node):
    """The entries of each input that is a choice, as the host lists them."""
    found = {}
    for group in ("required", "optional"):
        for name, (kind, *options) in node.get("input", {}).get(group, {}).items():
            if isinstance(kind, list):
                found[name] = kind
            elif kind == "COMBO":
                found[name] = options[0].get("options", [])
    return found
