"""Pictures for help pages: small graphs as the editor draws them.

    python -m dev.help_pictures --comfyui DIR --python PY

loads each graph below into the real editor and writes `web/docs/images/<name>.webp`. Of the
miniature world it writes what Label SEGS by Person shows of a scene, as `people_sheet.webp`, and
what Preview Tracks shows of a clip, as `tracks.webp`. Some graphs are run first, for what one of
their nodes shows.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from .contact_sheet import to_image
from .editor import Editor
from .example_runs import image
from .graph_file import Node, workflow_file
from .miniature.cast import NAMES, draw_cast, draw_gathering, reference_picture
from .miniature.clips import draw_clip
from .miniature.people import EMBEDDER
from .miniature.world import SIDE, base_picture, enlarge
from .server import ROOT, Server, project_packs

PLACE = ROOT / "web" / "docs" / "images"
WIDTH = 1000  # pixels of a picture at most
MARGIN = 16
NETWORK = "w600k_r50.onnx"  # what people have; it is the miniature's under that name
VUE = "(on) => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
# The corners of all nodes on the page, with their titles, once they fill the view.
BOX = """async () => {
    const canvas = window.app.canvas;
    await window.app.extensionManager.command.execute('Comfy.Canvas.FitView');
    await new Promise((done) => setTimeout(done, 900));
    canvas.deselectAll?.();
    const title = window.LiteGraph.NODE_TITLE_HEIGHT;
    const corners = window.app.graph.nodes.flatMap(({pos, size}) => [
        [pos[0], pos[1] - title], [pos[0] + size[0], pos[1] + size[1]]]);
    const {scale, offset} = canvas.ds;
    const xs = corners.map(([x]) => (x + offset[0]) * scale);
    const ys = corners.map(([, y]) => (y + offset[1]) * scale);
    const {left, top} = canvas.canvas.getBoundingClientRect();
    return [Math.min(...xs) + left, Math.min(...ys) + top,
            Math.max(...xs) + left, Math.max(...ys) + top];
}"""
SHRINK = """() => window.app.graph.nodes.forEach((node) => {
    node.setSize([node.size[0], node.computeSize()[1]]);
})"""

_MODEL = {"model": "model", "clip": "model.1", "vae": "model.2"}
_TEXTS = {"positive": "positive", "negative": "negative"}


def _start(column: int = 1) -> dict[str, Node]:
    """An image, a model and its prompts."""
    clip = {"clip": "model.1"}
    return {
        "image": Node("LoadImage", 0, upload=True),
        "model": Node("CheckpointLoaderSimple", 0),
        "positive": Node("CLIPTextEncode", column, clip, {"text": "detailed face"}),
        "negative": Node("CLIPTextEncode", column, clip, {"text": "blurry"}),
    }


GRAPHS: dict[str, Mapping[str, Node]] = {
    "detailer": {
        "detector": Node("DetailersFaceDetectorProvider", 1),
        "find": Node("BboxDetectorSEGS", 1, {"bbox_detector": "detector", "image": "image"}),
        **_start(),
        "detailer": Node("DetailerForEach", 2, {"image": "image", "segs": "find", **_MODEL,
                                                **_TEXTS}),
        "result": Node("PreviewImage", 3, {"images": "detailer"}),
    },
    "face_detailer": {
        "detector": Node("DetailersFaceDetectorProvider", 1),
        **_start(),
        "detailer": Node("FaceDetailer", 2, {"image": "image", "bbox_detector": "detector",
                                             **_MODEL, **_TEXTS}),
        "result": Node("PreviewImage", 3, {"images": "detailer"}),
    },
    "mask": {
        "segs": Node("MaskToSEGS", 1, {"mask": "image.1"}),
        **_start(),
        "detailer": Node("DetailerForEach", 2, {"image": "image", "segs": "segs", **_MODEL,
                                                **_TEXTS}),
        "result": Node("PreviewImage", 3, {"images": "detailer"}),
    },
    "people": {
        "image": Node("LoadImage", 0, title="Picture of several people", upload=True),
        "ada": Node("LoadImage", 0, title="Ada", upload=True),
        "ben": Node("LoadImage", 0, title="Ben", upload=True),
        "detector": Node("DetailersFaceDetectorProvider", 1),
        "find": Node("BboxDetectorSEGS", 1, {"bbox_detector": "detector", "image": "image"}),
        "both": Node("ImpactMakeImageBatch", 1, {"image1": "ada", "image2": "ben"}),
        "network": Node("PersonEmbedderLoader", 1, values={"model_name": NETWORK}),
        "who": Node("LabelSEGSByPerson", 2,
                    {"segs": "find", "image": "image", "references": "both",
                     "embedder": "network", "bbox_detector": "detector"},
                    {"names": "Ada\nBen"}),
        "plan": Node("SegmentPlan", 2,
                     values={"plan": "- label: Ada\n  text: long red hair\n"
                                     "- label: Ben\n  text: round glasses\n"
                                     "- label: unknown\n  skip: a stranger"}),
        "detailer": Node("DetailerForEach", 3, {"image": "image", "segs": "who",
                                                "segment_plan": "plan"}),
    },
    "options": {
        "paste": Node("DetailersPasteOptions", 0),
        "crop": Node("DetailersCropOptions", 0),
        "detailer": Node("DetailerForEach", 1, {"paste_options": "paste", "crop_options": "crop"}),
    },
    "segment_plan": {
        "first": Node("SegmentRule", 0, values={"label": "face", "denoise": 0.4}),
        "second": Node("SegmentRule", 1, {"rules": "first"},
                       {"label": "face", "select": "left to right", "which": "1",
                        "text": "an old man"}),
        "detailer": Node("DetailerForEach", 2, {"segment_plan": "second"}),
    },
    "tiles": {
        "enlarge": Node("ImageScaleBy", 1, {"image": "image"}, {"scale_by": 2.0}),
        "tiles": Node("ImpactMakeTileSEGS", 1, {"images": "enlarge"}),
        **_start(),
        "detailer": Node("DetailerForEach", 2, {"image": "enlarge", "segs": "tiles", **_MODEL,
                                                **_TEXTS}),
        "result": Node("PreviewImage", 3, {"images": "detailer"}),
    },
    "pipe": {
        **_start(0),
        "pipe": Node("ToBasicPipe", 1, {**_MODEL, **_TEXTS}),
        "segs": Node("MaskToSEGS", 1, {"mask": "image.1"}),
        "detailer": Node("DetailerForEachPipe", 2, {"image": "image", "segs": "segs",
                                                    "basic_pipe": "pipe"}),
        "result": Node("PreviewImage", 3, {"images": "detailer"}),
    },
    "video": {
        "video": Node("LoadVideo", 0, upload=True),
        "frames": Node("GetVideoComponents", 0, {"video": "video"}),
        "detector": Node("DetailersFaceDetectorProvider", 1),
        "find": Node("ImpactSimpleDetectorSEGS_for_AD", 1,
                     {"bbox_detector": "detector", "image_frames": "frames"}),
        "pipe": Node("ToBasicPipe", 1),
        "detailer": Node("DetailerForEachPipeForAnimateDiff", 2,
                         {"image_frames": "frames", "segs": "find", "basic_pipe": "pipe"}),
        "join": Node("CreateVideo", 3, {"images": "detailer", "fps": "frames.2"}),
    },
    "follow": {
        "video": Node("LoadVideo", 0, upload=True),
        "frames": Node("GetVideoComponents", 0, {"video": "video"}),
        "detector": Node("DetailersFaceDetectorProvider", 0),
        "track": Node("TrackSegments", 1, {"frames": "frames", "bbox_detector": "detector"}),
        "pipe": Node("ToBasicPipe", 1),
        "preview": Node("PreviewTracks", 2, {"tracks": "track", "frames": "frames"}),
        "detailer": Node("VideoDetailer", 2,
                         {"frames": "frames", "tracks": "track", "basic_pipe": "pipe"}),
        "join": Node("CreateVideo", 3, {"images": "detailer", "audio": "frames.1",
                                        "fps": "frames.2"}),
    },
}  # fmt: skip

# Graphs that are run on a picture of the examples, and the type of the node that is shown.
RUN: dict[str, tuple[str, str, Mapping[str, Node]]] = {
    "preview_segments": ("4_text_per_segment.jpg", "PreviewSegments", {
        "image": Node("LoadImage", 0, values={"image": "4_text_per_segment.jpg"}, upload=True),
        "detector": Node("DetailersFaceDetectorProvider", 0),
        "find": Node("BboxDetectorSEGS", 0, {"bbox_detector": "detector", "image": "image"},
                     {"labels": "face"}),
        "preview": Node("PreviewSegments", 1, {"image": "image", "segs": "find"},
                        {"seed": 7, "off": "1",
                         "wildcard": "[ASC] an old man, smiling [SEP] a young woman"}),
    }),
}  # fmt: skip
ALONE = """(type) => {
    const graph = window.app.graph;
    for (const node of [...graph.nodes]) if (node.type !== type) graph.remove(node);
}"""


def picture(editor: Editor, name: str, info: dict) -> Image.Image:
    """A graph as the editor draws it; of one that is run, the node that is meant."""
    if name in RUN:
        file, shown, graph = RUN[name]
        shutil.copy(ROOT / "example_workflows" / file, editor.server.base / "input" / file)
        editor.load(workflow_file(graph, (), info, name))
        editor.queue()
        editor.page.evaluate(ALONE, shown)
        editor.page.wait_for_timeout(1000)  # pictures load
    else:
        editor.load(workflow_file(GRAPHS[name], (), info, name))
        editor.page.evaluate(SHRINK)
    left, top, right, bottom = editor.page.evaluate(BOX)
    clip = {"x": left - MARGIN, "y": top - MARGIN,
            "width": right - left + 2 * MARGIN, "height": bottom - top + 2 * MARGIN}  # fmt: skip
    image = Image.open(io.BytesIO(editor.page.screenshot(clip=clip))).convert("RGB")
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    return image


SHEET = "people_sheet"
CAST, PERSONS, SCENE = 11, 4, 701  # seeds and number of who is known


def people_sheet(server: Server) -> Image.Image:
    """Four persons of a cast in a poor picture, and a stranger."""
    cast = draw_cast(CAST, PERSONS)
    found = draw_gathering(SCENE, cast)
    poor = enlarge(base_picture(found.scene.picture(), SCENE), (SIDE, SIDE))
    pictures = [poor, *map(reference_picture, cast)]
    for number, picture in enumerate(pictures):
        image(picture).save(server.input / f"sheet{number}.png")
    boxes = [[*found.scene.box(index), "head", 1.0] for index in range(len(found.who))]
    prompt = {
        f"image{number}": _node("LoadImage", image=f"sheet{number}.png")
        for number in range(len(pictures))
    }
    prompt |= {
        "batch": _node("ImpactMakeImageBatch",
                       **{f"image{number}": [f"image{number}", 0]
                          for number in range(1, len(pictures))}),
        "detector": _node("DetailersTestDetector", boxes=json.dumps(boxes)),
        "find": _node("BboxDetectorSEGS", bbox_detector=["detector", 0], image=["image0", 0],
                      threshold=0.5, dilation=0, crop_factor=2.0, drop_size=1),
        "network": _node("PersonEmbedderLoader", model_name=NETWORK),
        "who": _node("LabelSEGSByPerson", segs=["find", 0], image=["image0", 0],
                     references=["batch", 0], names="\n".join(NAMES[:PERSONS]),
                     threshold=0.5, embedder=["network", 0]),
        "sheet": _node("SaveImage", images=["who", 1], filename_prefix="sheet"),
    }  # fmt: skip
    run = server.run(prompt)
    if not run.ok:
        raise RuntimeError(f"{SHEET}: {run.error}")
    return Image.open(server.output / run.outputs["sheet"]["images"][0]["filename"]).convert("RGB")


TRACKS = "tracks"
CLIP, CLIP_LENGTH, CLIP_SHOWN = "cut", 24, (4, 8, 12, 18)


def tracks_sheet(server: Server) -> Image.Image:
    """Four frames of a clip with a cut, whose heads are followed by their masks."""
    clip = draw_clip(CLIP, CLIP_LENGTH)
    prompt: dict[str, dict] = {}
    for kind in ("frame", "mask"):
        last = None
        for number in range(CLIP_LENGTH):
            heads = sum(clip.mask(person, number) for person in clip.persons)
            pixels = clip.poor(number) if kind == "frame" else heads[..., None].repeat(3, -1)
            to_image(pixels).save(server.input / f"{kind}{number}.png")
            prompt[f"{kind}{number}"] = _node("LoadImage", image=f"{kind}{number}.png")
            own = [f"{kind}{number}", 0]
            if last is not None:
                prompt[f"{kind}s{number}"] = _node("ImageBatch", image1=last, image2=own)
            last = own if last is None else [f"{kind}s{number}", 0]
    frames, masks = ([f"{kind}s{CLIP_LENGTH - 1}", 0] for kind in ("frame", "mask"))
    prompt |= {
        "masks": _node("ImageToMask", image=masks, channel="red"),
        "tracks": _node("TrackSegments", frames=frames, masks=["masks", 0], threshold=0.5,
                        dilation=0, crop_factor=3.0, drop_size=10, labels="all", max_gap=12,
                        min_frames=5, order="left to right", limit=0, position_smoothing=25,
                        size_smoothing=51, min_size=0, max_size=0),
        "preview": _node("PreviewTracks", tracks=["tracks", 0], frames=frames, longest_side=500),
        "sheet": _node("SaveImage", images=["preview", 0], filename_prefix="tracks"),
    }  # fmt: skip
    run = server.run(prompt)
    if not run.ok:
        raise RuntimeError(f"{TRACKS}: {run.error}")
    saved = [entry["filename"] for entry in run.outputs["sheet"]["images"]]
    pictures = [Image.open(server.output / saved[number]).convert("RGB") for number in CLIP_SHOWN]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for place, own in enumerate(pictures):
        sheet.paste(own, (place % 2 * width, place // 2 * height))
    return sheet


def _node(kind: str, **inputs: object) -> dict[str, object]:
    return {"class_type": kind, "inputs": inputs}


# Pictures that nodes make, by their names.
SHEETS: Mapping[str, Callable[[Server], Image.Image]] = {SHEET: people_sheet, TRACKS: tracks_sheet}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.help_pictures", description=__doc__)
    parser.add_argument("--comfyui", metavar="DIR", required=True, help="a ComfyUI's folder")
    parser.add_argument("--python", metavar="PY", required=True, help="its Python")
    parser.add_argument("names", nargs="*", help="only those of these names")
    options = parser.parse_args()
    PLACE.mkdir(exist_ok=True)
    with Server(options.comfyui, options.python, project_packs(miniature=True)) as server:
        place = server.base / "models" / "person_embedders"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(EMBEDDER, place / NETWORK)
        write_pictures(server, options.names or (*GRAPHS, *RUN, *SHEETS))


def write_pictures(server: Server, names: Sequence[str]) -> None:
    with Editor(server, size=(1600, 1400)) as editor:
        editor.page.evaluate(VUE, False)
        for name in names:
            info = server.object_info()
            made = SHEETS[name](server) if name in SHEETS else picture(editor, name, info)
            made.save(PLACE / f"{name}.webp", quality=82)


if __name__ == "__main__":
    main()
