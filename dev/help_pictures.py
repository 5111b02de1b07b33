"""Pictures for help pages: small graphs as the editor draws them.

    python -m dev.help_pictures --comfyui DIR --python PY

loads each graph below into the real editor and writes `web/docs/images/<name>.webp`.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping

from PIL import Image

from .editor import Editor
from .graph_file import Node, workflow_file
from .server import ROOT, Server, project_packs

PLACE = ROOT / "web" / "docs" / "images"
WIDTH = 1000  # pixels of a picture at most
MARGIN = 16
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
}  # fmt: skip


def picture(editor: Editor, name: str, info: dict) -> Image.Image:
    """A graph as the editor draws it."""
    editor.load(workflow_file(GRAPHS[name], (), info, name))
    editor.page.evaluate(SHRINK)
    left, top, right, bottom = editor.page.evaluate(BOX)
    clip = {"x": left - MARGIN, "y": top - MARGIN,
            "width": right - left + 2 * MARGIN, "height": bottom - top + 2 * MARGIN}  # fmt: skip
    image = Image.open(io.BytesIO(editor.page.screenshot(clip=clip))).convert("RGB")
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.help_pictures", description=__doc__)
    parser.add_argument("--comfyui", metavar="DIR", required=True, help="a ComfyUI's folder")
    parser.add_argument("--python", metavar="PY", required=True, help="its Python")
    parser.add_argument("names", nargs="*", help="only those of these names")
    options = parser.parse_args()
    PLACE.mkdir(exist_ok=True)
    with (
        Server(options.comfyui, options.python, project_packs()) as server,
        Editor(server, size=(1600, 1400)) as editor,
    ):
        editor.page.evaluate(VUE, False)
        for name in options.names or GRAPHS:
            picture(editor, name, server.object_info()).save(PLACE / f"{name}.webp", quality=82)


if __name__ == "__main__":
    main()
