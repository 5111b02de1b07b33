"""The first example workflow on a picture, in a real ComfyUI: `python run.py demo`.

With --video it is the one that follows faces, on a clip; see `demo_video.py`.

The picture is a scene of the miniature world as a base model would draw it; its truth is known. The
model is the miniature. With --checkpoint or --image the picture is a photograph.

Writes the picture before and after, the mask, each crop before and after, and a contact sheet.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import demo_video
from . import options as options_of
from .contact_sheet import Cell, contact_sheet, difference, overlay
from .demo_progress import Progress, timed
from .editor import NO_GREETING
from .metrics import psnr
from .miniature.clips import CLIPS
from .server import ROOT, Run, Server, ServerDied, has_accelerator, project_packs
from .subject import PHOTO, Subject, photograph, scene
from .workflow import Workflow

EXAMPLE = ROOT / "example_workflows" / "1_face_detailer.json"
DETAILER = "DetailerForEachDebug"
STAND_IN_CFG = 2.5  # more guidance drives the analytic model's colours out of range
STAND_IN_MODEL = {"family": "image8", "prior_std": 0.6}
STAND_IN = f"""\
No --checkpoint is given, so the built-in analytic model stands in for a diffusion model. All it
knows is that pictures are smooth, and the colour words of the prompt, such as "warm" or "blue". It
gives a face another tint where a trained model would draw it anew (cfg is {STAND_IN_CFG} for it).
The detector, the detailer and ComfyUI are the real ones."""
TRAINED = """\
The picture is of a world that is drawn from vectors, and the model a miniature that was trained on
that world alone, so the result can be compared with the truth. It was rendered at a sixth of its
size, blurred and given grain; each head is drawn anew by the words that describe it. ComfyUI, its
samplers and the detailer are the real ones. --checkpoint takes your model, on a photograph."""
SLOW = "No GPU is found. On the CPU a checkpoint takes minutes, or hours, for a face."

# serving(whether the miniature is needed, a note for when there is no accelerator): a server.
Serving = Callable[..., AbstractContextManager[Server]]


@dataclass(frozen=True)
class Face:
    """A segment, and how it was sampled.

    Attributes:
        mask: [h,w] of the region's size, 0..1.
        size: working size (width, height) in pixels.
    """

    bbox: tuple[int, int, int, int]
    region: tuple[int, int, int, int]
    confidence: float
    mask: np.ndarray
    size: tuple[int, int]
    seed: int

    def __str__(self) -> str:
        return (
            f"box {_size(self.bbox)} at ({self.bbox[0]}, {self.bbox[1]}), confidence "
            f"{self.confidence:.2f}; crop {_size(self.region)}, sampled at {self.size[0]} x "
            f"{self.size[1]}, seed {self.seed}"
        )


def main(arguments: Sequence[str] | None = None, running: Server | None = None) -> int:
    """Run the demo; 0 if all went well.

    Args:
        arguments: in place of those of the command line.
        running: a server with all packs of the project, to be used in place of a new one.
    """
    options = read_options(arguments)
    detail = show_clip if options.video else show_picture
    if running is not None:
        return detail(options, running.base, lambda *_: nullcontext(running))
    with tempfile.TemporaryDirectory(prefix="detailers-demo-", ignore_cleanup_errors=True) as base:
        return detail(options, Path(base), partial(started, options, Path(base)))


@contextmanager
def started(
    options: argparse.Namespace, base: Path, miniature: bool, cpu_note: str = ""
) -> Iterator[Server]:
    """A new server; `cpu_note` is printed where there is no accelerator."""
    cpu = not has_accelerator(options.python)
    if cpu and cpu_note:
        print(cpu_note)
    print("Starting ComfyUI", flush=True)
    begun = time.monotonic()
    packs = project_packs(miniature=miniature)
    args = ["--output-directory", str(options.output)] if options.open else []
    with Server(options.comfyui, options.python, packs, args=args, base=base, cpu=cpu) as server:
        version = server.get("/system_stats")["system"]["comfyui_version"]
        print(timed(f"ComfyUI {version}", begun), flush=True)
        yield server


def show_picture(options: argparse.Namespace, base: Path, serving: Serving) -> int:
    """Detail the faces of a picture, or open the workflow in the editor."""
    workflow = prepare(options, base)
    known = options.subject.truth is not None
    if known:
        print(TRAINED)
    elif not options.checkpoint:
        print(STAND_IN)
    with serving(known, SLOW if options.checkpoint else "") as server:
        if options.open:
            return show_in_editor(server, options.output)
        return detail_picture(server, workflow, options.subject, options.output)


def show_clip(options: argparse.Namespace, base: Path, serving: Serving) -> int:
    """Detail the faces of a clip."""
    prompt, test = demo_video.prepare(options, base)
    if test is None:
        set_model(prompt, options.checkpoint, base)
    print(STAND_IN if test is None and not options.checkpoint else demo_video.TRAINED)
    with serving(test is not None) as server:
        return demo_video.detail_clip(server, prompt, test, options)


def set_model(prompt: dict[str, Any], checkpoint: Path | None, base: Path) -> None:
    """Have the prompt load this checkpoint, or the analytic model if there is none."""
    loader = demo_video.one_node(prompt, "CheckpointLoaderSimple")
    if checkpoint:
        (base / "models" / "checkpoints").mkdir(parents=True)
        link_file(checkpoint, base / "models" / "checkpoints" / checkpoint.name)
        loader["inputs"] = {"ckpt_name": checkpoint.name}
        return
    loader |= {"class_type": "DetailersTestModel", "inputs": STAND_IN_MODEL}
    demo_video.one_node(prompt, "VideoDetailer")["inputs"]["cfg"] = STAND_IN_CFG


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = options_of.demo()
    # Paths are as seen from where run.py was started.
    here = Path(os.environ.get("DETAILERS_STARTED_IN", "."))
    options = parser.parse_args(arguments)
    for name in ("image", "checkpoint"):
        file = getattr(options, name)
        setattr(options, name, file and (here / file).resolve())
        if file and not getattr(options, name).is_file():
            parser.error(f"--{name}: there is no file {getattr(options, name)}")
    options.output = (here / options.output).resolve()
    if options.video:
        check_video(parser, options, here)
    elif not options.image and not options.checkpoint:
        options.subject = scene(options.scene, options.prompt)
    else:
        try:
            options.subject = photograph(options.image or PHOTO, options.prompt)
        except OSError as error:
            parser.error(f"--image: {options.image} cannot be read as a picture: {error}")
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def check_video(parser: argparse.ArgumentParser, options: argparse.Namespace, here: Path) -> None:
    """Make the clip's file absolute if it is none of the miniature world."""
    if options.image or options.open:
        parser.error("--video goes neither with --image nor with --open.")
    if options.video in CLIPS:
        if options.checkpoint:
            parser.error("--checkpoint needs a video file: --video FILE --checkpoint FILE.")
        return
    file = (here / options.video).resolve()
    if not file.is_file():
        parser.error(
            f"--video: there is no file {file}, and no such clip of the miniature world; these are "
            f"{', '.join(CLIPS)}."
        )
    options.video = str(file)


def prepare(options: argparse.Namespace, base: Path) -> Workflow:
    """Make ComfyUI's base directory, and set the workflow to the files in it."""
    workflow = Workflow.read(EXAMPLE)
    subject = options.subject
    (base / "input").mkdir(exist_ok=True)
    subject.picture.save(base / "input" / f"{subject.name}.png")
    workflow["LoadImage", "image"] = f"{subject.name}.png"
    subject.set_up(workflow, DETAILER)
    if options.checkpoint:
        (base / "models" / "checkpoints").mkdir(parents=True)
        link_file(options.checkpoint, base / "models" / "checkpoints" / options.checkpoint.name)
        workflow["CheckpointLoaderSimple", "ckpt_name"] = options.checkpoint.name
    elif subject.truth is None:
        workflow.replace(
            "CheckpointLoaderSimple",
            "DetailersTestModel",
            "Analytic model",
            **STAND_IN_MODEL,
        )
        workflow[DETAILER, "cfg"] = STAND_IN_CFG
    if options.open:  # the editor offers the workflows of packs
        templates = base / "custom_nodes" / "demo" / "example_workflows"
        templates.mkdir(parents=True)
        (templates.parent / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
        workflow.write(templates / EXAMPLE.name)
    return workflow


def link_file(source: Path, target: Path) -> None:
    """Make `target` show the file `source`; by a copy where no kind of link is allowed."""
    for link in (os.symlink, os.link):
        with suppress(OSError):
            return link(source, target)
    shutil.copyfile(source, target)
    return None


def show_in_editor(server: Server, output: Path) -> int:
    server.post("/settings", NO_GREETING)
    url = f"{server.url}/?template={EXAMPLE.stem}&source=demo"
    print(f"The workflow is open at {url}")
    print(f"Press Run there. Saved pictures go to {output}. Ctrl-C here ends it.", flush=True)
    webbrowser.open(url)
    with suppress(KeyboardInterrupt):
        server.process.wait()
    return 0


def detail_picture(server: Server, workflow: Workflow, subject: Subject, output: Path) -> int:
    run = run_workflow(server, workflow)
    if not run.ok:
        print(f"It failed. {run.error}\n{run.error.traceback if run.error else ''}")
        return 1
    started = time.monotonic()
    faces = read_faces(server)
    saved = run.outputs[workflow.id("Result")]["images"][0]
    result = server.view(**saved)  # as it is, since the file carries the workflow
    (output / "after.png").write_bytes(result)
    after = Image.open(io.BytesIO(result)).convert("RGB")
    names = save_pictures(subject, after, faces, workflow, output)
    print(timed("Save", started))
    report(subject, after, faces, workflow)
    print(f"\nSaved in {output}:\n  {'  '.join(['after.png', *names])}")
    return 0


def run_workflow(server: Server, workflow: Workflow) -> Run:
    """Run the workflow, with a record of its segments and of the detailer's work."""
    prompt = workflow.prompt()
    known = server.object_info()
    titles = {
        str(node["id"]): node.get("title") or known[node["type"]]["display_name"]
        for node in workflow.content["nodes"]
        if str(node["id"]) in prompt
    }
    detailer = workflow.id(DETAILER)
    prompt["hook"] = {
        "class_type": "DetailersTestHook",
        "inputs": {"changes": "{}", "omit": "[]", "name": "", "shares_batches": True},
    }
    for name, value in {"segs": prompt[detailer]["inputs"]["segs"], "log": ["hook", 1]}.items():
        prompt[name] = {
            "class_type": "DetailersTestSave",
            "inputs": {"value": value, "name": name, "after": [detailer, 0]},
        }
    prompt[detailer]["inputs"]["detailer_hook"] = ["hook", 0]
    with server.watch(Progress(titles)) as watch:
        return server.run(prompt, timeout=24 * 3600, watch=watch)


def read_faces(server: Server) -> list[Face]:
    """The faces that were found, and how they were sampled, from the record of the run."""
    segs = server.result("segs")
    log = json.loads(str(server.result("log")["s0"]))
    sizes = [(width, height) for kind, *(width, height) in _entries(log, "touch_scaled_size")]
    # Faces are sampled side by side, in any order; their seeds rise from one to the next.
    seeds = sorted(call["seed"] for _, call in _entries(log, "pre_ksample"))
    return [
        Face(
            bbox=tuple(map(int, segs[f"segs0_{i}_bbox"])),
            region=tuple(map(int, segs[f"segs0_{i}_crop"])),
            confidence=float(segs[f"segs0_{i}_confidence"]),
            mask=segs[f"segs0_{i}_mask"],
            size=size,
            seed=seed,
        )
        for i, (size, seed) in enumerate(zip(sizes, seeds, strict=True))
    ]


def _entries(log: list, kind: str) -> list:
    return [entry for entry in log if entry[0] == kind]


def save_pictures(
    subject: Subject, after: Image.Image, faces: list[Face], workflow: Workflow, output: Path
) -> list[str]:
    """Save all pictures but after.png; their names, the contact sheet's first."""
    before, truth = subject.picture, subject.truth
    veiled = overlay(before, united_mask(before, faces), [face.region for face in faces])
    pictures = {"before.png": before, "mask_overlay.png": veiled}
    if truth is not None:
        pictures["truth.png"] = truth
    steps, denoise, cfg = (workflow[DETAILER, name] for name in ("steps", "denoise", "cfg"))
    first = [
        Cell(before, f"before, {before.width} x {before.height}"),
        Cell(veiled, "mask (red) and crop (white)"),
        Cell(after, f"after: {steps} steps, denoise {denoise}, cfg {cfg}"),
    ]
    rows = [[*first, *([] if truth is None else [Cell(truth, "the truth")])]]
    for number, face in enumerate(faces, 1):
        rows.append(face_row(number, face, subject, after))
        for name, cell in zip(("before", "after"), rows[-1][::2], strict=False):
            pictures[f"face_{number}_{name}.png"] = cell.picture
    pictures["contact_sheet.png"] = contact_sheet(subject.title, rows)
    for name, picture in pictures.items():
        picture.save(output / name)
    return sorted(pictures)


def face_row(number: int, face: Face, subject: Subject, after: Image.Image) -> list[Cell]:
    """A face before, where it changed, after and, where that is known, in truth."""
    crops = [image.crop(face.region) for image in (subject.picture, after)]
    found = f"face {number}: {_size(face.bbox)}, confidence {face.confidence:.2f}"
    sampled = f"sampled at {face.size[0]} x {face.size[1]}, seed {face.seed}"
    row = [
        Cell(crops[0], f"{found}\ncrop {_size(face.region)}"),
        Cell(difference(*crops), "where it changed: dark is much, white not at all"),
        Cell(crops[1], f"face {number} after\n{sampled}"),
    ]
    if subject.truth is not None:
        text = f"the truth: {subject.texts[number - 1]}"
        row.append(Cell(subject.truth.crop(face.region), text))
    return row


def united_mask(image: Image.Image, faces: list[Face]) -> np.ndarray:
    """The masks of all faces as one [H,W], 0..1."""
    mask = np.zeros((image.height, image.width), np.float32)
    for face in faces:
        x1, y1, x2, y2 = face.region
        np.maximum(mask[y1:y2, x1:x2], face.mask, out=mask[y1:y2, x1:x2])
    return mask


def report(subject: Subject, after: Image.Image, faces: list[Face], workflow: Workflow) -> None:
    """Print what was found, how it was sampled, and how far the change reaches."""
    before = subject.picture
    count = "1 face" if len(faces) == 1 else f"{len(faces) or 'No'} faces"
    print(f"\n{count} found in {before.width} x {before.height} pixels")
    for number, face in enumerate(faces, 1):
        print(f"  {number}  {face}")
    if not faces:
        print(
            "  The picture is unchanged. The detector looks for upright faces seen from the front."
        )
        return
    from scipy.ndimage import maximum_filter

    changed = (np.asarray(before) != np.asarray(after)).any(-1)
    feather = workflow[DETAILER, "feather"]
    mask = united_mask(before, faces)
    reach = maximum_filter(mask, 2 * feather + 1) > 0
    print(
        f"  {changed.mean():.1%} of the pixels changed; of those farther than the feather, "
        f"{feather} pixels, from the mask: {np.count_nonzero(changed & ~reach)}"
    )
    if subject.truth is not None:
        truth, *pictures = (_values(image) for image in (subject.truth, before, after))
        near = [psnr(picture, truth, mask) for picture in pictures]
        print(f"  PSNR to the truth inside the masks: {near[0]:.1f} dB before, {near[1]:.1f} after")


def _values(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


def _size(box: tuple[int, int, int, int]) -> str:
    return f"{box[2] - box[0]} x {box[3] - box[1]}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerDied as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)
