"""A ComfyUI of our own, as a child process on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .client import Client, free_port
from .faults import ServerFault
from .settings import Comfy

GUARD = Path(__file__).with_name("guard.py")
MOST_LOG = 3000  # characters of the log in messages
PACK_FILE = "pyproject.toml"


class Child:
    """A ComfyUI process; start it, ask `client`, stop it.

    Its inputs, results and settings are in a folder of its own, so ComfyUI's folder is only read.
    It has the models and custom nodes of ComfyUI's folder, and those that `comfy` adds. A guard
    process ends it when this process is gone, however that ended.

    Args:
        device: number of the GPU to use; None leaves the choice to ComfyUI.
        start: seconds that it may take to answer.
        answer: seconds for each answer.
    """

    def __init__(
        self,
        comfy: Comfy,
        *,
        device: int | None = None,
        start: float = 300.0,
        answer: float = 60.0,
        metadata: bool = True,
    ):
        self.comfy = comfy
        self.device = device
        self.start_limit, self.answer = start, answer
        self.metadata = metadata
        self.folder: Path | None = None
        self.client: Client | None = None
        self._process: subprocess.Popen | None = None

    # Life

    def start(self, is_unwanted=lambda: False) -> None:
        """Start it and wait until it answers.

        Raises:
            ServerFault: it does not come up.
        """
        self.stop()
        self.folder = Path(tempfile.mkdtemp(prefix="detailers-folder-"))
        for name in ("input", "output", "temp", "user"):
            (self.folder / name).mkdir()
        self.client = Client(f"http://127.0.0.1:{free_port()}", self.answer)
        self._log_file = self.folder / "comfyui.log"
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(GUARD), str(self.folder), *self._command()],
                cwd=self.comfy.tree,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=os.name == "posix",  # Ctrl-C is for the driver alone
            )
        deadline = time.monotonic() + self.start_limit
        # Another program may have taken the port in the meantime.
        while not self.client.is_up(argument=str(self.folder / "input")):
            if self._process.poll() is not None:
                raise ServerFault(f"ComfyUI did not start. The end of its log:\n{self.log()}")
            if time.monotonic() > deadline or is_unwanted():
                text = f"ComfyUI gave no answer in {self.start_limit:g} s. {self.log()}"
                self.stop()
                raise ServerFault(text)
            time.sleep(0.1)
        for line in self._whole_log().splitlines():
            if "(IMPORT FAILED): " in line and str(self.folder) in line:
                log = self.log()
                self.stop()
                raise ServerFault(f"ComfyUI could not import a pack of --pack.\n{log}")

    def _command(self) -> list[str]:
        folder, comfy = self.folder, self.comfy
        config = folder / "paths.yaml"
        config.write_text(json.dumps(self._paths()), encoding="utf-8")  # JSON is YAML, too
        options = {
            "--listen": "127.0.0.1",
            "--port": self.client.url.rpartition(":")[2],
            "--input-directory": folder / "input",
            "--output-directory": folder / "output",
            "--temp-directory": folder,  # it adds temp/
            "--user-directory": folder / "user",
            "--extra-model-paths-config": config,
            "--database-url": "sqlite:///:memory:",  # its default is a file inside the tree
            "--max-upload-size": 100_000,  # MB
        }
        if self.device is not None:
            options["--cuda-device"] = self.device
        command = [comfy.python, "-u", "main.py", "--disable-auto-launch"]
        command += [str(part) for option in options.items() for part in option]
        return command + ([] if self.metadata else ["--disable-metadata"]) + list(comfy.args)

    def _paths(self) -> dict[str, dict[str, str]]:
        """Folders of models and nodes besides those in ComfyUI's own."""
        found: dict[str, dict[str, str]] = {}
        packs = [pack for pack in self.comfy.packs if not is_installed(pack, self.comfy.tree)]
        if packs:
            nodes = self.folder / "custom_nodes"
            nodes.mkdir()
            for pack in packs:
                link_folder(pack, nodes / pack_name(pack))
            found["packs"] = {"custom_nodes": str(nodes)}
        if self.comfy.checkpoint:
            checkpoints = self.folder / "checkpoints"
            checkpoints.mkdir()
            link_file(self.comfy.checkpoint, checkpoints / self.comfy.checkpoint.name)
            found["checkpoint"] = {"checkpoints": str(checkpoints)}
        for number, models in enumerate(self.comfy.models):
            found[f"models {number}"] = {
                entry.name: str(entry) for entry in sorted(models.iterdir()) if entry.is_dir()
            }
        return found

    def _environment(self) -> dict[str, str]:
        # A result that is not finite is then told each time, and not only the first.
        warnings = "always::RuntimeWarning"
        return {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": warnings}

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, grace: float = 10.0) -> None:
        """End it, gently at first, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()  # the guard then ends it
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                _kill_group(process)
            _kill_group(process)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    # Its log

    def log(self) -> str:
        """The end of its log."""
        return self._whole_log()[-MOST_LOG:]

    def _whole_log(self) -> str:
        with contextlib.suppress(OSError):
            return self._log_file.read_text(encoding="utf-8", errors="replace")
        return ""

    def mark(self) -> int:
        """The length of its log now, for `said_since`."""
        with contextlib.suppress(OSError):
            return self._log_file.stat().st_size
        return 0

    def said_since(self, mark: int, words: bytes) -> bool:
        """Whether its log has these words after a mark."""
        with contextlib.suppress(OSError), self._log_file.open("rb") as log:
            log.seek(mark)
            return words in log.read()
        return False

    # Its files

    def clear(self, paths: list[Path]) -> None:
        """Remove files of its folders that are of no more use."""
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink()
            with contextlib.suppress(OSError):
                if path.parent.parent in (self.folder / "output", self.folder / "output/detailers"):
                    path.parent.rmdir()


def _kill_group(process: subprocess.Popen) -> None:
    """End a guard and all that it has started, at once."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)


def pack_name(pack: Path) -> str:
    """The name that a pack's folder gets: its own, or that of its project for a clone's root."""
    return f"pack-{pack.name}" if pack.name[:1] in ".0123456789" else pack.name


def is_installed(pack: Path, tree: Path) -> bool:
    """Whether a ComfyUI has a pack in its custom_nodes, linked or copied."""
    nodes = tree / "custom_nodes"
    project = _project(pack)
    for entry in nodes.iterdir() if nodes.is_dir() else ():
        is_same = entry.resolve() == pack.resolve() or (project and _project(entry) == project)
        if is_same and entry.is_dir() and not entry.name.endswith(".disabled"):
            return True
    return False


def _project(pack: Path) -> str | None:
    """The name line of a pack's project, which tells copies of it."""
    with contextlib.suppress(OSError):
        lines = (pack / PACK_FILE).read_text(encoding="utf-8").splitlines()
        return next((line for line in lines if line.startswith("name = ")), None)
    return None


def link_folder(source: Path, link: Path) -> None:
    """Make `link` show the folder `source`, by a copy where links are not allowed."""
    try:
        link.symlink_to(source.resolve(), target_is_directory=True)
    except OSError:
        shutil.copytree(source, link, ignore=shutil.ignore_patterns(".git", "__pycache__"))


def link_file(source: Path, target: Path) -> None:
    """Make `target` show the file `source`; by a copy where no kind of link is allowed."""
    for link in (os.symlink, os.link):
        with contextlib.suppress(OSError):
            return link(source.resolve(), target)
    shutil.copyfile(source, target)
    return None
