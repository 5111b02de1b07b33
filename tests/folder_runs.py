"""Folder runs for tests: a folder of small pictures, and what becomes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from detailers.batch import cli
from detailers.dev.server import ROOT
from detailers.dev.stand_in import FAKE, prompt, results
from PIL import Image

INFO = {
    "LoadImage": {"input": {"required": {"image": [[], {"image_upload": True}]}}},
    "LoadVideo": {"input": {"required": {"file": ["COMBO", {"video_upload": True}]}}},
    "Detail": {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "steps": ["INT", {"min": 1, "max": 100}],
                "cfg": ["FLOAT", {}],
                "seed": ["INT", {"min": 0, "max": 2**64 - 1}],
                "on": ["BOOLEAN", {}],
                "text": ["STRING", {}],
                "name": [["a", "b"], {}],
            }
        }
    },
    "SaveImage": {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING"]}},
        "output_node": True,
    },
    "SaveVideo": {
        "input": {"required": {"video": ["VIDEO"], "filename_prefix": ["STRING"]}},
        "output_node": True,
    },
    "PreviewImage": {"input": {"required": {"images": ["IMAGE"]}}, "output_node": True},
}


def picture(seed, size=(16, 12)):
    return Image.frombytes(
        "RGB", size, bytes((seed * 37 + i * 11) % 251 for i in range(size[0] * size[1] * 3))
    )


class Folder:
    """IN, OUT and a workflow in a temporary folder."""

    def __init__(self, root):
        self.source, self.out, self.workflow = root / "in", root / "out", root / "workflow.json"
        self.state = root / "state"
        self.state.mkdir()
        self.source.mkdir()
        self.write(prompt())

    def write(self, content):
        self.workflow.write_text(json.dumps(content))

    def add(self, *names, first=0):
        for seed, name in enumerate(names, first):
            (self.source / name).parent.mkdir(parents=True, exist_ok=True)
            picture(seed).save(self.source / name)

    def overrides(self, name, **changes):
        content = {f"Detail.{input}": value for input, value in changes.items()}
        (self.source / f"{name}.set.json").write_text(json.dumps(content))

    def arguments(self, *more, servers=None):
        place = ["--servers", servers] if servers else ["--comfyui", str(FAKE), "--workers", "1"]
        return [str(self.source), str(self.out), "--workflow", str(self.workflow), *place,
                "--json", *more]  # fmt: skip

    def environment(self):
        return {**os.environ, "FAKE_STATE": str(self.state), "DETAILERS_STARTED_IN": "."}

    def run(self, capsys, *more, servers=None):
        """Run in this process: (exit status, {event: [its lines]})."""
        capsys.readouterr()
        status = cli.main(self.arguments(*more, servers=servers))
        return status, events(capsys.readouterr().out)

    def start(self, *more, servers=None):
        """Run in a process of its own."""
        command = [sys.executable, "-m", "batch", *self.arguments(*more, servers=servers)]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment(), stdout=subprocess.PIPE, text=True
        )

    def results(self):
        """{path: bytes} of what is in OUT besides the run's own."""
        return results(self.out)

    def records(self, capsys):
        capsys.readouterr()
        assert cli.main(["--report", str(self.out), "--json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def events(text):
    found = {}
    for line in text.splitlines():
        content = json.loads(line)
        found.setdefault(content["event"], []).append(content)
    return found


def pixels(content, folder):
    file = Path(folder) / "pixels.png"
    file.write_bytes(content)
    return Image.open(file).convert("RGB").tobytes()
