"""The results of the older pack, as recorded outside of this project."""

import json
import os
import subprocess

import pytest
from detailers.dev.server import ROOT

FOLDER = ROOT.parent / "shared" / "parity"

# Runs in an interpreter of its own: the folder's modules have names like `host` and `graphs`. Its
# servers are told to keep their database out of ComfyUI's tree.
SCRIPT = """
import functools, json, sys
folder, tree, python, pack = sys.argv[1:]
sys.path.insert(0, folder)
import numpy, parity
options = ["--database-url", "sqlite:///:memory:"]
parity.Host = functools.partial(parity.Host, extra=options)
recorded = dict(numpy.load(folder + "/recording.npz"))
names = {key.split("|")[0] for key in recorded}
rows = parity.compare(recorded, parity.record(tree, python, pack, names))
print(json.dumps([[name, verdict, str(detail)] for name, verdict, detail in rows]))
"""


def test_every_recorded_case_agrees(host):
    if not FOLDER.is_dir():
        pytest.skip(
            f"needs the recordings in {FOLDER.parent.name}/{FOLDER.name} beside the project"
        )
    done = subprocess.run(
        [host.python, "-c", SCRIPT, FOLDER, host.tree, host.python, ROOT],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout.splitlines()[-1])
    assert len(rows) > 30
    assert [row for row in rows if row[1] != "ok"] == []
