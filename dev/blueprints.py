"""The pack's blueprints and the workflows that show them.

    python -m dev.blueprints --comfyui DIR --python PY

writes `subgraphs/`, which ComfyUI offers among its nodes, and those of `example_workflows/` that
use them, and one more, from the descriptions here and the nodes of a server. The other examples are
edited by hand: their nodes get what they have got since, at its defaults.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .graph_file import Blueprint, Node, blueprint_file, completed, workflow_file
from .server import ROOT, Server, project_packs

IMAGE = {"image": "IMAGE", "model": "MODEL", "clip": "CLIP", "vae": "VAE"}
SAMPLING = {"steps": 20, "cfg": 6.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
NEGATIVE = "blurry, deformed, painting, lowres"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"


def _prompts(positive: str, negative: str = NEGATIVE) -> dict[str, Node]:
    clip = {"clip": "> clip"}
    return {
        "positive": Node("CLIPTextEncode", 1, clip, {"text": positive}, "Prompt"),
        "negative": Node("CLIPTextEncode", 1, clip, {"text": negative}, "Negative prompt"),
    }


def _detailer(image: str, segs: str, **values: object) -> Node:
    links = {"image": image, "segs": segs, "model": "> model", "clip": "> clip", "vae": "> vae",
             "positive": "positive", "negative": "negative"}  # fmt: skip
    return Node("DetailerForEach", 2, links, SAMPLING | {"feather": 20} | values)


def _shown(prompt: str, *more: tuple[str, str, str]) -> tuple[tuple[str, str, str], ...]:
    """The widgets that all blueprints show, with their own after the prompts."""
    return (
        (prompt, "positive", "text"),
        ("Negative prompt", "negative", "text"),
        *more,
        ("Redraw (denoise)", "detailer", "denoise"),
        ("Steps", "detailer", "steps"),
        ("Guidance (CFG)", "detailer", "cfg"),
        ("Seed", "detailer", "seed"),
    )


FACE = Blueprint(
    "Face Detailer",
    "Finds the faces of an image and redraws each at a larger size.",
    {
        "detector": Node("DetailersFaceDetectorProvider", 0),
        "note": Node("MarkdownNote", 0, values={"text": """\
The faces are found without a model file if the package `facenet-pytorch` is in ComfyUI's Python:
`pip install --no-deps facenet-pytorch`. Any other BBOX_DETECTOR can take its place.

- **Redraw (denoise)**: 0.3 to 0.5 keeps the likeness.
- **Draw at (pixels)**: the shorter side of a face while it is drawn; what your model likes best is
  512 for SD 1.5, 768 to 1024 for SDXL and newer ones.
- Faces that are missed: lower **Detector threshold**."""}),
        "find": Node("BboxDetectorSEGS", 1, {"bbox_detector": "detector", "image": "> image"},
                     {"threshold": 0.6, "dilation": 4, "crop_factor": 3.0, "drop_size": 10}),
        **_prompts("detailed face, natural skin, sharp eyes"),
        "detailer": _detailer("> image", "find", denoise=0.5, guide_size=512, max_size=1024),
    },
    IMAGE,
    _shown("Prompt for the faces", ("Draw at (pixels)", "detailer", "guide_size"),
           ("Detector threshold", "find", "threshold")),
    {"image": ("detailer", "IMAGE"), "faces": ("find", "SEGS")},
)  # fmt: skip

HAND = Blueprint(
    "Hand Detailer",
    "Finds the hands of an image with a YOLO file and redraws each at a larger size.",
    {
        "detector": Node("UltralyticsDetectorProvider", 0,
                         values={"model_name": "bbox/hand_yolov8s.pt"}),
        "note": Node("MarkdownNote", 0, values={"text": """\
**To download**: `hand_yolov8s.pt` from
[Bingsu/adetailer](https://huggingface.co/Bingsu/adetailer) into `ComfyUI/models/ultralytics/bbox`,
and `pip install ultralytics` in ComfyUI's Python. An `.onnx` file does without that package.

- Hands need more **Redraw (denoise)** than faces: 0.5 to 0.7.
- **Surroundings** says how much the model sees around a hand, in sizes of the hand. With too little
  it does not know whose hand it is."""}),
        "find": Node("BboxDetectorSEGS", 1, {"bbox_detector": "detector", "image": "> image"},
                     {"threshold": 0.4, "dilation": 12, "crop_factor": 3.0, "drop_size": 10}),
        **_prompts("detailed hand, five fingers, natural skin",
                   "extra fingers, fused fingers, deformed, blurry"),
        "detailer": _detailer("> image", "find", denoise=0.6, guide_size=512, max_size=1024),
    },
    IMAGE,
    _shown("Prompt for the hands", ("Hand model", "detector", "model_name"),
           ("Surroundings", "find", "crop_factor"), ("Detector threshold", "find", "threshold")),
    {"image": ("detailer", "IMAGE"), "hands": ("find", "SEGS")},
)  # fmt: skip

PERSON = Blueprint(
    "Person by Person",
    "Finds the people of an image and redraws each by a text of its own, from left to right.",
    {
        "detector": Node("UltralyticsDetectorProvider", 0,
                         values={"model_name": "segm/person_yolov8m-seg.pt"}),
        "note": Node("MarkdownNote", 0, values={"text": """\
**To download**: `person_yolov8m-seg.pt` from
[Bingsu/adetailer](https://huggingface.co/Bingsu/adetailer) into `ComfyUI/models/ultralytics/segm`,
and `pip install ultralytics` in ComfyUI's Python. An `.onnx` file does without that package.

- `[ASC]` deals the texts from left to right, `[DSC-SIZE]` from large to small.
- `[SEP]` ends the text for one person; after the last comes the first again.
- `[SKIP]` leaves a person as it is.
- `[CONCAT]` at the start adds each text to **Prompt for everyone**."""}),
        "find": Node("SegmDetectorSEGS", 1, {"segm_detector": "detector.1", "image": "> image"},
                     {"threshold": 0.5, "dilation": 8, "crop_factor": 1.5, "drop_size": 32}),
        **_prompts("photo of a person, detailed"),
        "detailer": _detailer("> image", "find", denoise=0.5, guide_size=512, max_size=1024,
                              wildcard="""\
[ASC]
an old man in a grey suit
[SEP]
a young woman in a red dress
[SEP]
[SKIP]"""),
    },
    IMAGE,
    (("A text each, [SEP] between", "detailer", "wildcard"),
     *_shown("Prompt for everyone", ("Person model", "detector", "model_name"),
             ("Detector threshold", "find", "threshold"))),
    {"image": ("detailer", "IMAGE"), "people": ("find", "SEGS")},
)  # fmt: skip

VIDEO = Blueprint(
    "Video Face Detailer",
    "Finds the faces in the frames of a video and redraws all frames of a face together.",
    {
        "detector": Node("DetailersFaceDetectorProvider", 0),
        "note": Node("MarkdownNote", 0, values={"text": """\
The faces are found without a model file if the package `facenet-pytorch` is in ComfyUI's Python:
`pip install --no-deps facenet-pytorch`.

All frames of a face are sampled as one, so the model should know about motion: a video model such
as Wan, or SD 1.5 with a motion model of AnimateDiff. **Redraw (denoise)** of 0.3 to 0.4 keeps the
motion."""}),
        "find": Node("ImpactSimpleDetectorSEGS_for_AD", 1,
                     {"bbox_detector": "detector", "image_frames": "> frames"},
                     {"bbox_threshold": 0.6, "bbox_dilation": 8, "crop_factor": 2.5,
                      "masking_mode": "Combine neighboring frames"}),
        **_prompts("close-up of a face, detailed, steady", "blurry, distorted, flickering"),
        "pipe": Node("ToBasicPipe", 2, {"model": "> model", "clip": "> clip", "vae": "> vae",
                                        "positive": "positive", "negative": "negative"}),
        "detailer": Node("DetailerForEachPipeForAnimateDiff", 2,
                         {"image_frames": "> frames", "segs": "find", "basic_pipe": "pipe"},
                         {**SAMPLING, "sampler_name": "uni_pc", "scheduler": "simple",
                          "guide_size": 384, "max_size": 832, "denoise": 0.35, "feather": 10}),
    },
    {"frames": "IMAGE", "model": "MODEL", "clip": "CLIP", "vae": "VAE"},
    _shown("Prompt for the faces", ("Draw at (pixels)", "detailer", "guide_size"),
           ("Detector threshold", "find", "bbox_threshold")),
    {"frames": ("detailer", "IMAGE"), "faces": ("find", "SEGS")},
)  # fmt: skip

FOLLOW = Blueprint(
    "Follow Faces in Video",
    "Follows each face through a video and redraws it, in a window that moves with it.",
    {
        "detector": Node("DetailersFaceDetectorProvider", 0),
        "note": Node("MarkdownNote", 0, values={"text": """\
The faces are found without a model file if the package `facenet-pytorch` is in ComfyUI's Python:
`pip install --no-deps facenet-pytorch`. Any other BBOX_DETECTOR can take its place.

Each person is one track, with a number from left to right; frames in which the detector misses
somebody are filled in, and a cut ends all tracks. Frames without anybody stay as they are, bit for
bit.

- Any model will do. An image model draws frame by frame: **Redraw (denoise)** of 0.2 to 0.35, and
  **Hold colours** against flicker. Motion and video models draw the frames of a person together.
- **A text each**: `[SEP]` between the texts, in the order of the tracks. Empty: one prompt for all.
- A face that is lost for longer than **Bridge gaps (frames)** begins a new track.
- For clips too long for memory put *Video Detailer (long clips)* in the detailer's place."""}),
        "track": Node("TrackSegments", 1, {"bbox_detector": "detector", "frames": "> frames"},
                      {"threshold": 0.6, "dilation": 4, "crop_factor": 2.5}),
        **_prompts("close-up of a face, detailed", "blurry, distorted"),
        "pipe": Node("ToBasicPipe", 2, {"model": "> model", "clip": "> clip", "vae": "> vae",
                                        "positive": "positive", "negative": "negative"}),
        "detailer": Node("VideoDetailer", 2,
                         {"frames": "> frames", "tracks": "track", "basic_pipe": "pipe"},
                         {**SAMPLING, "guide_size": 512, "max_size": 768, "denoise": 0.3,
                          "feather": 10}),
    },
    {"frames": "IMAGE", "model": "MODEL", "clip": "CLIP", "vae": "VAE"},
    _shown("Prompt for the faces", ("A text each, [SEP] between", "detailer", "wildcard"),
           ("Detector threshold", "track", "threshold"),
           ("Bridge gaps (frames)", "track", "max_gap"),
           ("Hold colours", "detailer", "smoothing")),
    {"frames": ("detailer", "IMAGE"), "tracks": ("track", "SEGS_TRACKS")},
)  # fmt: skip

UPSCALE = Blueprint(
    "Upscale by Tiles",
    "Enlarges an image and redraws it tile by tile, so that any size fits into memory.",
    {
        "enlarge": Node("ImageScaleBy", 0, {"image": "> image"},
                        {"upscale_method": "lanczos", "scale_by": 2.0}),
        "note": Node("MarkdownNote", 0, values={"text": """\
Each tile is drawn with what is around it in sight, so the seams do not show.

- **Redraw (denoise)**: 0.2 to 0.35. With more, each tile becomes a picture of its own.
- **Tile size**: what your model likes best, 512 for SD 1.5, 768 to 1024 for SDXL and newer ones.
- Keep the prompt to what is true everywhere, such as the style and the light."""}),
        "tiles": Node("ImpactMakeTileSEGS", 1, {"images": "enlarge"},
                      {"bbox_size": 512, "crop_factor": 1.5, "min_overlap": 64,
                       "filter_segs_dilation": 0}),
        **_prompts("detailed, sharp, natural light", "blurry, lowres"),
        "detailer": _detailer("enlarge", "tiles", denoise=0.3, guide_size=512, max_size=1536,
                              feather=16),
    },
    IMAGE,
    _shown("Prompt for the whole image", ("Enlarge by", "enlarge", "scale_by"),
           ("Tile size", "tiles", "bbox_size")),
    {"image": ("detailer", "IMAGE"), "tiles": ("tiles", "SEGS")},
)  # fmt: skip

BLUEPRINTS = (FACE, HAND, PERSON, VIDEO, FOLLOW, UPSCALE)

MODEL_NOTE = f"""\
**To download**: a checkpoint into `ComfyUI/models/checkpoints`, such as
[{CHECKPOINT}](https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}).
"""
WAN = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/tree/main/split_files"
VIDEO_NOTE = f"""\
**To download** from [Wan_2.1_ComfyUI_repackaged]({WAN}):

- `wan2.1_t2v_1.3B_fp16.safetensors` into `ComfyUI/models/diffusion_models`
- `umt5_xxl_fp8_e4m3fn_scaled.safetensors` into `ComfyUI/models/text_encoders`
- `wan_2.1_vae.safetensors` into `ComfyUI/models/vae`
"""
FACES_NOTE = """
The faces are found without a model file if `facenet-pytorch` is in ComfyUI's Python:
`pip install --no-deps facenet-pytorch`.
"""
YOLO_NOTE = """
[{file}](https://huggingface.co/Bingsu/adetailer/resolve/main/{file}) into
`ComfyUI/models/ultralytics/{folder}`, and in ComfyUI's Python `pip install ultralytics`.
"""
INSIDE = (
    "\nThe icon in the upper right of the blueprint's node opens it: all inside may be changed."
)


def _image_workflow(blueprint: Blueprint, note: str, prefix: str) -> dict[str, Node]:
    links = {"image": "image", "model": "model", "clip": "model.1", "vae": "model.2"}
    return {
        "note": Node("MarkdownNote", 0, values={"text": MODEL_NOTE + note + INSIDE}),
        "image": Node("LoadImage", 1, values={"image": "example.png"}, upload=True, height=420),
        "model": Node("CheckpointLoaderSimple", 1, values={"ckpt_name": CHECKPOINT}),
        "blueprint": Node(blueprint.name, 2, links),
        "result": Node("SaveImage", 3, {"images": "blueprint"}, {"filename_prefix": prefix},
                       "Result", width=560, height=560),
        "seen": Node("SEGSPreview", 3, {"segs": "blueprint.1", "fallback_image_opt": "image"},
                     title="What was found", width=560, height=420),
    }  # fmt: skip


def _video_workflow() -> dict[str, Node]:
    links = {"frames": "parts", "model": "shift", "clip": "clip", "vae": "vae"}
    return {
        "note": Node("MarkdownNote", 0, values={"text": VIDEO_NOTE + FACES_NOTE + INSIDE}),
        "video": Node("LoadVideo", 1, values={"file": "clip.mp4"}, upload=True, height=420),
        "parts": Node("GetVideoComponents", 1, {"video": "video"}),
        "unet": Node("UNETLoader", 2, values={"unet_name": "wan2.1_t2v_1.3B_fp16.safetensors"}),
        "shift": Node("ModelSamplingSD3", 2, {"model": "unet"}, {"shift": 8.0}),
        "clip": Node("CLIPLoader", 2, values={"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
                                              "type": "wan"}),
        "vae": Node("VAELoader", 2, values={"vae_name": "wan_2.1_vae.safetensors"}),
        "blueprint": Node(VIDEO.name, 3, links),
        "join": Node("CreateVideo", 4, {"images": "blueprint", "audio": "parts.1",
                                        "fps": "parts.2"}),
        "result": Node("SaveVideo", 4, {"video": "join"}, {"filename_prefix": "video/faces"},
                       "Result", width=560, height=560),
    }  # fmt: skip


FOLLOW_NOTE = f"""\
{MODEL_NOTE}{FACES_NOTE}
1. Load a video.
2. *Who is followed* shows the window of each person in each frame, with its number: check it before
   you let the detailer run (mute the blueprint's node with Ctrl-M).
3. The result has the video's sound and frame rate.
"""


def _follow_workflow() -> dict[str, Node]:
    """The faces of a video, each followed in a window of its own."""
    links = {"frames": "parts", "model": "model", "clip": "model.1", "vae": "model.2"}
    return {
        "note": Node("MarkdownNote", 0, values={"text": FOLLOW_NOTE + INSIDE}),
        "video": Node("LoadVideo", 1, values={"file": "clip.mp4"}, upload=True, height=420),
        "parts": Node("GetVideoComponents", 1, {"video": "video"}),
        "model": Node("CheckpointLoaderSimple", 1, values={"ckpt_name": CHECKPOINT}),
        "blueprint": Node(FOLLOW.name, 2, links),
        "seen": Node("PreviewTracks", 3, {"frames": "parts", "tracks": "blueprint.1"},
                     title="Who is followed", width=560, height=420),
        "join": Node("CreateVideo", 3, {"images": "blueprint", "audio": "parts.1",
                                        "fps": "parts.2"}),
        "result": Node("SaveVideo", 3, {"video": "join"}, {"filename_prefix": "video/followed"},
                       "Result", width=560, height=560),
    }  # fmt: skip


GROUP_NOTE = f"""\
{MODEL_NOTE}
A network of face recognition, as an `.onnx` file in `ComfyUI/models/insightface` or
`models/person_embedders`: such as `w600k_r50.onnx` of the pack
[buffalo_l](https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip), which
is free for research alone. *Load CLIP Vision*, linked to `clip_vision` instead, does without.
{FACES_NOTE}
1. Load the picture, and a picture of each person with the face in it.
2. Write their names into *Who is who*, one on each line, in the order of the pictures.
3. Give each a text in *What each is to look like*. Whoever is in the picture and has no name is
   `unknown`, and is left as it is.

*Who is who* shows each face beside the person that it was found to be, with the similarity. Where
names are missing lower its `threshold`, where they are wrong raise it.
"""
GROUP_PLAN = """\
- label: Ada
  text: a young woman with long red hair, smiling
- label: Ben
  text: a man with round glasses and a short beard
- label: Cleo
  text: an old woman with white curls
- label: Dan
  text: a boy with freckles
- label: unknown
  skip: not one of the four
"""


def _group_workflow() -> dict[str, Node]:
    """Four people in a picture, each by name."""
    names = ("Ada", "Ben", "Cleo", "Dan")
    people = {
        f"person{i}": Node("LoadImage", 1, values={"image": "example.png"}, title=name,
                           upload=True, height=420)
        for i, name in enumerate(names, 1)
    }  # fmt: skip
    return {
        "note": Node("MarkdownNote", 0, values={"text": GROUP_NOTE}),
        "image": Node("LoadImage", 0, values={"image": "example.png"}, title="Picture of the four",
                      upload=True, height=420),
        **people,
        "batch": Node("ImpactMakeImageBatch", 2,
                      {f"image{i}": f"person{i}" for i in range(1, len(names) + 1)}),
        "detector": Node("DetailersFaceDetectorProvider", 2),
        "find": Node("BboxDetectorSEGS", 2, {"bbox_detector": "detector", "image": "image"},
                     {"threshold": 0.6, "dilation": 4, "crop_factor": 3.0, "drop_size": 10}),
        "network": Node("PersonEmbedderLoader", 2, values={"model_name": "w600k_r50.onnx"}),
        "who": Node("LabelSEGSByPerson", 3,
                    {"segs": "find", "image": "image", "references": "batch",
                     "embedder": "network", "bbox_detector": "detector"},
                    {"names": "\n".join(names), "threshold": 0.35}, "Who is who", height=760),
        "plan": Node("SegmentPlan", 4, values={"plan": GROUP_PLAN},
                     title="What each is to look like", height=360),
        "model": Node("CheckpointLoaderSimple", 4, values={"ckpt_name": CHECKPOINT}),
        "positive": Node("CLIPTextEncode", 4, {"clip": "model.1"}, {"text": "detailed face"},
                         "Prompt for all"),
        "negative": Node("CLIPTextEncode", 4, {"clip": "model.1"}, {"text": NEGATIVE},
                         "Negative prompt"),
        "detailer": Node("DetailerForEach", 5,
                         {"image": "image", "segs": "who", "model": "model", "clip": "model.1",
                          "vae": "model.2", "positive": "positive", "negative": "negative",
                          "segment_plan": "plan"},
                         SAMPLING | {"feather": 20, "denoise": 0.5, "guide_size": 512,
                                     "max_size": 1024}),
        "result": Node("SaveImage", 6, {"images": "detailer"}, {"filename_prefix": "group"},
                       "Result", width=560, height=560),
    }  # fmt: skip


def _yolo(file: str, folder: str) -> str:
    return YOLO_NOTE.format(file=file, folder=folder)


WORKFLOWS = {
    "5_face_detailer_blueprint": _image_workflow(FACE, FACES_NOTE, "faces"),
    "6_hand_detailer": _image_workflow(HAND, _yolo("hand_yolov8s.pt", "bbox"), "hands"),
    "7_person_by_person": _image_workflow(PERSON, _yolo("person_yolov8m-seg.pt", "segm"), "people"),
    "8_video_face_detailer": _video_workflow(),
    "9_upscale_by_tiles": _image_workflow(UPSCALE, "", "upscaled"),
    "10_group_by_name": _group_workflow(),
    "11_follow_faces": _follow_workflow(),
}


EDITED = ("1_face_detailer", "2_mask_detailer", "3_video_detailer", "4_text_per_segment")


def files(info: dict) -> dict[Path, dict]:
    """All files that are made or completed here, with their content."""
    made = {ROOT / "subgraphs" / f"{one.name}.json": blueprint_file(one, info)
            for one in BLUEPRINTS}  # fmt: skip
    for name, nodes in WORKFLOWS.items():
        content = workflow_file(nodes, BLUEPRINTS, info, name)
        made[ROOT / "example_workflows" / f"{name}.json"] = content
    ours = {kind: told for kind, told in info.items() if told["category"].startswith("Detailers")}
    for file in (ROOT / "example_workflows" / f"{name}.json" for name in EDITED):
        made[file] = completed(json.loads(file.read_text(encoding="utf-8")), ours)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.blueprints", description=__doc__)
    parser.add_argument("--comfyui", metavar="DIR", help="a ComfyUI's folder")
    parser.add_argument("--python", metavar="PY", help="its Python")
    parser.add_argument("--info", metavar="FILE", type=Path, help="/object_info, instead")
    options = parser.parse_args()
    if options.info:
        info = json.loads(options.info.read_text(encoding="utf-8"))
    else:
        with Server(options.comfyui, options.python, project_packs()) as server:
            info = server.object_info()
    for file, content in files(info).items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
