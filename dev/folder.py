"""`python run.py folder`: folder runs with this pack loaded, and the demo's world to try them on.

With --miniature the inputs are scenes of the miniature world, as a base model would have given
them, and the model is the miniature; IN is filled where it holds no scenes yet. Beside each scene
lie the boxes of its heads and a text for each, as overrides of that file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from batch import cli

from .options import folder as folder_options
from .server import MINIATURE, MODEL_PACK, ROOT
from .workflow import Workflow

EXAMPLE = ROOT / "example_workflows" / "1_face_detailer.json"
DETAILER = "DetailerForEachDebug"
BOXES = "Boxes of the heads"
SAVER = "Result"


def needed(prompt: dict[str, dict], output: str) -> dict[str, dict]:
    """The nodes of a prompt that one of its nodes needs."""
    wanted, found = [output], {}
    while wanted:
        id = wanted.pop()
        if id not in found:
            found[id] = prompt[id]
            links = [value for value in prompt[id]["inputs"].values() if isinstance(value, list)]
            wanted += [link[0] for link in links]
    return {id: found[id] for id in prompt if id in found}


def prompt_of(workflow: Workflow) -> dict[str, dict]:
    """The prompt of a workflow less its previews, its nodes with their titles."""
    prompt = needed(workflow.prompt(), workflow.id(SAVER))
    for node in workflow.content["nodes"]:
        if str(node["id"]) in prompt and node.get("title"):
            prompt[str(node["id"])]["_meta"] = {"title": node["title"]}
    return prompt


def default_prompt() -> dict[str, dict]:
    """What `batch/face_detailer.json` holds: the first example."""
    return prompt_of(Workflow.read(EXAMPLE))


def miniature_prompt() -> dict[str, dict]:
    """The first example with the miniature, each scene's own boxes and texts left out."""
    from .subject import scene

    workflow = Workflow.read(EXAMPLE)
    scene(0, None).set_up(workflow, DETAILER)
    workflow[BOXES, "boxes"] = "[]"
    workflow[DETAILER, "wildcard"] = ""
    return prompt_of(workflow)


def draw_scenes(folder: Path, count: int) -> None:
    """Have so many scenes in a folder, each with its overrides."""
    from .subject import scene

    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        picture, overrides = (folder / f"scene_{seed}.png{end}" for end in ("", ".set.json"))
        if picture.exists() and overrides.exists():
            continue
        drawn = scene(seed, None)
        changes: dict[str, Any] = {
            f"{BOXES}.boxes": json.dumps([[*box, "head", 1.0] for box in drawn.boxes]),
            f"{DETAILER}.wildcard": "\n[SEP]\n".join(drawn.texts),
        }
        overrides.write_text(json.dumps(changes, indent=1), encoding="utf-8")
        drawn.picture.save(picture)


def main(arguments: list[str]) -> int:
    made = folder_options()
    options, _ = made.parse_known_args(arguments)
    if options.status or options.report:
        return cli.main(arguments, made)
    own = [] if options.servers else ["--pack", str(ROOT)]
    with tempfile.TemporaryDirectory(prefix="detailers-workflow-") as folder:
        if options.miniature and options.source:
            here = Path(os.environ.get("DETAILERS_STARTED_IN", "."))
            draw_scenes(here / options.source, options.miniature)
            own += ["--pack", str(MINIATURE), "--pack", str(MODEL_PACK)]
            if not options.workflow:
                file = Path(folder) / "miniature.json"
                file.write_text(json.dumps(miniature_prompt()), encoding="utf-8")
                own += ["--workflow", str(file)]
        return cli.main([*arguments, *own], made)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
