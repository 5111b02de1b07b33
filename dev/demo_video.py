"""The example workflow that follows faces, on a clip: `python run.py demo --video`.

The clip is one of the miniature world as a poor camera gives it, whose truth is known; detected
boxes are off and missing as a detector's are. The model is the miniature. With a video file the
faces are searched, and --checkpoint names the model.

Writes before, after and truth side by side as a clip that any player shows, and a contact sheet.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .contact_sheet import BACKGROUND, MARGIN, TEXT, Cell, contact_sheet, to_image
from .demo_progress import Progress, timed
from .example_runs import result_of, write_video
from .known_clip import KnownClip, flicker_inside, known_clip, psnr_inside
from .miniature.clips import CLIPS, Clip
from .miniature.detailing import CROP_FACTOR, SETTINGS
from .server import ROOT, Server
from .workflow import Workflow

EXAMPLE = ROOT / "example_workflows" / "11_follow_faces.json"
RATE = 12  # frames a second of a clip of the miniature world
GROWN = 6  # pixels by which the masks are grown around the heads
STRIP = 34  # pixels of the line with the names of the parts
SHOWN = 4  # frames on the contact sheet
TRAINED = """\
The clip is of a world that is drawn from vectors, and the model a miniature that was trained on
that world alone, so the result can be compared with the truth. It was rendered at a quarter of its
size, blurred and given grain. ComfyUI, its samplers and the nodes are the real ones; the boxes are
those of a detector that is off by up to 5% and misses a face in 10% of the frames."""


def prepare(options: argparse.Namespace, base: Path) -> tuple[dict[str, Any], KnownClip | None]:
    """The prompt of the example for a clip, whose file is put into ComfyUI's input folder."""
    prompt = Workflow.read(EXAMPLE).prompt()
    test = known_clip(options.video, options.frames) if options.video in CLIPS else None
    folder = base / "input"
    folder.mkdir(parents=True, exist_ok=True)
    if test is None:
        name = Path(options.video).name
        (folder / name).write_bytes(Path(options.video).read_bytes())
    else:
        name = f"{options.video.replace(' ', '_')}.mp4"
        write_video(folder / name, [to_image(frame) for frame in test.poor], RATE)
    one_node(prompt, "LoadVideo")["inputs"] = {"file": name}
    if options.prompt is not None:
        prompt[_id_of_text(prompt)]["inputs"]["text"] = options.prompt
    if test is not None:
        _use_miniature(prompt, test, bool(options.prompt))
    return prompt, test


def _use_miniature(prompt: dict[str, Any], test: KnownClip, told: bool) -> None:
    """Put the miniature and known boxes in the place of models that would have to be downloaded."""
    model, detector = (one_node(prompt, kind) for kind in ("CheckpointLoaderSimple", DETECTOR))
    model |= {"class_type": "DetailersMiniatureLoader", "inputs": {}}
    track, detailer = one_node(prompt, "TrackSegments"), one_node(prompt, "VideoDetailer")
    boxes = [
        [[*(round(side) for side in one.box), "face", one.confidence] for one in found]
        for found in test.found
    ]
    detector |= {
        "class_type": "DetailersTestFrameDetector",
        "inputs": {"frames": track["inputs"]["frames"], "boxes": json.dumps(boxes)},
    }
    track["inputs"] |= {"crop_factor": CROP_FACTOR, "dilation": GROWN, "order": "left to right"}
    texts = [test.clip.captions[person] for person in order_of(test.clip)]
    detailer["inputs"] |= SETTINGS | {"cfg": 1.0, "feather": 5}
    if not told:
        detailer["inputs"]["wildcard"] = "\n[SEP]\n".join(texts)
    for node in prompt.values():
        if node["class_type"] == "CLIPTextEncode" and not told:
            node["inputs"]["text"] = ""


DETECTOR = "DetailersFaceDetectorProvider"


def order_of(clip: Clip) -> list[int]:
    """The persons from left to right, by the middle of their paths, as tracks are ordered."""
    middles = {}
    for person in clip.persons:
        boxes = [clip.head(person, frame) for frame in range(len(clip))]
        middles[person] = np.median([(box[0] + box[2]) / 2 for box in boxes if box is not None])
    return sorted(middles, key=middles.get)


def _id_of(prompt: dict[str, Any], kind: str) -> str:
    (found,) = [id for id, node in prompt.items() if node["class_type"] == kind]
    return found


def one_node(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    """The only node of a type."""
    return prompt[_id_of(prompt, kind)]


def _id_of_text(prompt: dict[str, Any]) -> str:
    """The id of the node with the positive text."""
    return one_node(prompt, "ToBasicPipe")["inputs"]["positive"][0]


def read_frames(file: Path) -> list[np.ndarray]:
    """The frames of a video file: [H,W,3] float32 each, 0..1."""
    import av

    with av.open(file) as video:
        return [
            frame.to_ndarray(format="rgb24").astype(np.float32) / 255
            for frame in video.decode(video=0)
        ]


def save(parts: dict[str, Sequence[np.ndarray]], output: Path, title: str, rate: int) -> list[str]:
    """Write clips of one size side by side as one, and a contact sheet; the names of the files."""
    frames = [
        _beside([to_image(part[place]) for part in parts.values()], list(parts))
        for place in range(min(len(part) for part in parts.values()))
    ]
    write_video(output / "video.mp4", frames, rate, quality=16)
    places = np.linspace(0, len(frames) - 1, min(SHOWN, len(frames))).round().astype(int)
    rows = [
        [Cell(to_image(part[place]), f"frame {place}, {name}")
         for name, part in parts.items()]
        for place in places
    ]  # fmt: skip
    contact_sheet(title, rows, width=560).save(output / "video_sheet.png")
    return ["video.mp4", "video_sheet.png"]


def _beside(pictures: Sequence[Image.Image], names: Sequence[str]) -> Image.Image:
    """Pictures beside one another with their names above, of even size as codecs want it."""
    width = sum(one.width for one in pictures) + MARGIN * (len(pictures) - 1)
    height = pictures[0].height + STRIP
    sheet = Image.new("RGB", (width + width % 2, height + height % 2), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    left = 0
    for one, name in zip(pictures, names, strict=True):
        sheet.paste(one, (left, STRIP))
        draw.text((left + 8, 6), name, TEXT, ImageFont.load_default(20))
        left += one.width + MARGIN
    return sheet


def detail_clip(
    server: Server, prompt: dict[str, Any], test: KnownClip | None, options: argparse.Namespace
) -> int:
    """Run the prompt, save what it makes, and tell of it; 0 if all went well."""
    with server.watch(Progress(titles(server, prompt))) as watch:
        run = server.run(prompt, timeout=24 * 3600, watch=watch)
    if not run.ok:
        print(f"It failed. {run.error}\n{run.error.traceback if run.error else ''}")
        return 1
    started = time.monotonic()
    saved = result_of(prompt, run.outputs)
    after = read_frames(server.output / saved["subfolder"] / saved["filename"])
    source = server.input / one_node(prompt, "LoadVideo")["inputs"]["file"]
    before = read_frames(source) if test is None else list(test.poor)
    parts = {"before": before, "after": after}
    if test is not None:
        parts["truth"] = list(test.truth)
    names = save(parts, options.output, f"Follow faces: {options.video}", rate_of(source))
    print(timed("Save", started))
    print(f"\n{len(after)} frames of {after[0].shape[1]} x {after[0].shape[0]} pixels")
    for text in run.outputs[_id_of(prompt, "PreviewTracks")].get("text", ()):
        print("\n".join(f"  {line}" for line in text.splitlines()))
    if test is not None:
        print(report(test, np.stack(after)))
    print(f"\nSaved in {options.output}:\n  {'  '.join(names)}")
    return 0


def titles(server: Server, prompt: dict[str, Any]) -> dict[str, str]:
    """The names of the nodes by their ids."""
    known = server.object_info()
    return {id: known[node["class_type"]]["display_name"] for id, node in prompt.items()}


def rate_of(file: Path) -> int:
    """Whole frames a second of a video file, at least 1."""
    import av

    with av.open(file) as video:
        return max(1, round(video.streams.video[0].average_rate or 24))


def report(test: KnownClip, after: np.ndarray) -> str:
    """How near to the truth the heads are, and how much they flicker, before and after."""
    levels = [psnr_inside(test, frames, test.clip.persons) for frames in (test.poor, after)]
    unrest = [flicker_inside(test, frames) for frames in (test.poor, after, test.truth)]
    return (
        f"  PSNR to the truth inside the heads: {levels[0]:.1f} dB before, {levels[1]:.1f} after\n"
        "  Flicker inside the heads, apart from their motion, in 255ths: "
        f"{unrest[0]:.1f} before, {unrest[1]:.1f} after, {unrest[2]:.1f} in the truth"
    )
