"""batch/child.py: a ComfyUI as a child process."""

import sys

import pytest
from detailers.batch.child import Child
from detailers.batch.client import Client
from detailers.batch.faults import ServerFault
from detailers.batch.settings import Comfy


def test_a_child_that_prints_much_is_not_held_up_and_its_log_has_it(tmp_path):
    (tmp_path / "main.py").write_text("print('x' * 1_000_000, 'the end')\n")
    child = Child(Comfy(tmp_path, sys.executable), start=20.0, answer=1.0)
    with pytest.raises(ServerFault, match=r"(?s)did not start\..*x the end"):
        child.start()
    child.stop()


MANY_PACKS = """
import sys, time
folder = sys.argv[sys.argv.index("--temp-directory") + 1]
print(f"   0.0 seconds (IMPORT FAILED): {folder}/custom_nodes/broken")
print("   0.1 seconds: another pack\\n" * 200)
time.sleep(60)
"""


def test_a_pack_that_fails_is_told_where_many_others_follow_in_the_log(tmp_path, monkeypatch):
    (tmp_path / "main.py").write_text(MANY_PACKS)
    child = Child(Comfy(tmp_path, sys.executable), start=20.0, answer=1.0)
    monkeypatch.setattr(Client, "is_up", lambda self, argument: child.mark() > 5000)
    with pytest.raises(ServerFault, match="could not import a pack of --pack"):
        child.start()
    assert not child.is_alive()
