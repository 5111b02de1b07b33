"""batch/child.py: a ComfyUI as a child process."""

import sys

import pytest
from detailers.batch.child import Child
from detailers.batch.faults import ServerFault
from detailers.batch.settings import Comfy


def test_a_child_that_prints_much_is_not_held_up_and_its_log_has_it(tmp_path):
    (tmp_path / "main.py").write_text("print('x' * 1_000_000, 'the end')\n")
    child = Child(Comfy(tmp_path, sys.executable), start=20.0, answer=1.0)
    with pytest.raises(ServerFault, match=r"(?s)did not start\..*x the end"):
        child.start()
    child.stop()
