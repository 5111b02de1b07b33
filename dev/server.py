"""A real ComfyUI server for tests, demo and bench: start it, queue prompts, read the results.

    with Server(tree, python, packs=[ROOT]) as server:
        run = server.run({"1": {"class_type": "EmptyImage", "inputs": {...}}, ...})
        assert run.ok, run.error

The server listens on a free loopback port and keeps its models, inputs, outputs and custom nodes
in a base directory of its own, so nothing is written into the ComfyUI tree. Needs batch/, the
standard library and numpy; `Watch` also needs aiohttp, which every ComfyUI environment has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from batch import child
from batch.client import free_port

ROOT = Path(__file__).resolve().parent.parent
MODEL_PACK = ROOT / "dev" / "model_pack"
MINIATURE = ROOT / "dev" / "miniature"

# Seconds between two questions whether a prompt has ended. Each takes some of the time of the
# processor that runs it, so the pauses grow.
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.05

Prompt = Mapping[str, Mapping[str, Any]]


class ServerDied(RuntimeError):
    """The server's process ended, or did not start; the message has the end of its log."""


class PromptRefused(ValueError):
    """The host's validation refused a prompt, wholly or in part.

    Attributes:
        error: the host's summary, {} when some outputs were valid (those still run).
        node_errors: {node id: {"class_type": ..., "errors": [...]}}, as the host sent it.
    """

    def __init__(self, error: dict, node_errors: dict):
        lines = [error.get("message", "some outputs are not valid"), error.get("details", "")]
        for node_id, node in node_errors.items():
            for found in node["errors"]:
                what = f"{found['message']}: {found['details']}"
                lines.append(f"  node {node_id} {node['class_type']}: {what}")
        super().__init__("\n".join(filter(None, lines)))
        self.error = error
        self.node_errors = node_errors


@dataclass(frozen=True)
class RunError:
    """The error that stopped a run: the node, and the exception that it raised."""

    node_id: str
    node_type: str
    exception_type: str
    message: str
    traceback: str = field(repr=False)

    def __str__(self) -> str:
        return f"node {self.node_id} {self.node_type}: {self.exception_type}: {self.message}"


@dataclass(frozen=True)
class Run:
    """A prompt that has ended.

    Attributes:
        outputs: {node id: what its output node showed}, as in the host's history.
        messages: the host's status messages in order, (event name, data).
    """

    prompt_id: str
    status: str
    outputs: dict[str, dict]
    messages: list[tuple[str, dict]]

    @property
    def ok(self) -> bool:
        return self.status == "success"

    @property
    def error(self) -> RunError | None:
        data = self._message("execution_error")
        if data is None:
            return None
        return RunError(
            data["node_id"],
            data["node_type"],
            data["exception_type"],
            data["exception_message"].strip(),
            "".join(data["traceback"]),
        )

    @property
    def interrupted(self) -> bool:
        return self._message("execution_interrupted") is not None

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes whose result came from the host's cache."""
        data = self._message("execution_cached")
        return set(data["nodes"]) if data else set()

    @property
    def seconds(self) -> float:
        """Time from start to end on the server's clock."""
        return (self.messages[-1][1]["timestamp"] - self.messages[0][1]["timestamp"]) / 1000

    def _message(self, name: str) -> dict | None:
        return next((data for kind, data in self.messages if kind == name), None)


@dataclass(frozen=True)
class Event:
    """One websocket message: "progress_state", "progress", "executing", …, or "preview".

    A preview carries the encoded `image`; its `data` holds what the host told about it, such as
    node_id and prompt_id.
    """

    type: str
    data: dict
    image: bytes | None = field(default=None, repr=False)


class Watch:
    """Collects what the server sends over its websocket while prompts run.

    with server.watch() as watch:
        server.run(prompt, watch=watch, extra_data={"preview_method": "latent2rgb"})
    watch.of("progress_state")

    `on_event` is called with each event as it arrives, in the thread that listens.
    """

    FINAL = ("execution_success", "execution_error", "execution_interrupted")

    def __init__(self, url: str, on_event: Callable[[Event], object] = lambda event: None):
        self.client_id = uuid.uuid4().hex
        self.events: list[Event] = []
        self._on_event = on_event
        self._url = f"{url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        self._news = threading.Condition()
        self._broken: str | None = None
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        self.wait_for(lambda event: event.type == "feature_flags", timeout=30)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(RuntimeError):  # its loop has ended with the connection
            self._stop()
        self._thread.join()

    def of(self, kind: str) -> list[Event]:
        """The events of one type so far."""
        return [event for event in self.events if event.type == kind]

    def wait_for(self, condition: Callable[[Event], bool], timeout: float = 60) -> Event:
        """The first event, past or coming, that meets the condition; TimeoutError without one."""
        deadline = time.monotonic() + timeout
        seen = 0
        with self._news:
            while True:
                for event in self.events[seen:]:
                    if condition(event):
                        return event
                seen = len(self.events)
                if self._broken:
                    raise ConnectionError(f"no longer connected to the server: {self._broken}")
                if not self._news.wait(timeout=deadline - time.monotonic()):
                    raise TimeoutError(f"no such event in {timeout} s; last: {self.events[-3:]}")

    def progress_of(self, node: str) -> list[dict[str, Any]]:
        """The states of a node's progress bar so far: "value", "max", "state"."""
        nodes = [event.data["nodes"] for event in self.of("progress_state")]
        return [own[node] for own in nodes if node in own]

    def wait_for_progress(self, node: str, least: float) -> Event:
        """The first event that says so much of a node's progress, or more."""
        return self.wait_for(
            lambda event: (
                event.type == "progress_state"
                and event.data["nodes"].get(node, {}).get("value", 0) >= least
            )
        )

    def wait_for_end(self, prompt_id: str, timeout: float = 60) -> Event:
        """The event that ends a prompt; all its earlier events have arrived then."""
        return self.wait_for(
            lambda event: event.type in self.FINAL and event.data["prompt_id"] == prompt_id,
            timeout,
        )

    def _run(self) -> None:
        why = "it closed the connection"
        try:
            asyncio.run(self._listen())
        except asyncio.CancelledError:
            why = "the watch has ended"
        except Exception as error:  # handed on to who waits for events
            why = repr(error)
        with self._news:
            self._broken = why
            self._news.notify_all()

    async def _listen(self) -> None:
        import aiohttp

        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
        hello = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._url, max_msg_size=0) as websocket,
        ):
            await websocket.send_json(hello)  # the host answers with its own flags
            async for message in websocket:
                event = read_event(message.data)
                self._on_event(event)
                with self._news:
                    self.events.append(event)
                    self._news.notify_all()


def read_event(message: str | bytes) -> Event:
    """The event in a websocket message: JSON text, or one of the host's binary kinds."""
    if isinstance(message, str):
        content = json.loads(message)
        return Event(content["type"], content["data"])
    (kind,) = struct.unpack_from(">I", message)
    if kind == 1:  # preview: image format, image
        return Event("preview", {}, message[8:])
    if kind == 4:  # preview with metadata: length of the metadata, metadata, image
        (length,) = struct.unpack_from(">I", message, 4)
        return Event("preview", json.loads(message[8 : 8 + length]), message[8 + length :])
    return Event(f"binary {kind}", {}, message[4:])


class Server:
    """A ComfyUI server process; a context manager.

    Args:
        tree: ComfyUI's folder, the one with main.py.
        python: the interpreter that has ComfyUI's requirements.
        packs: custom-node folders to load; a mapping gives the folder names they get.
        args: further arguments of ComfyUI's main.py.
        base: base directory to use and keep; a temporary one otherwise.
        port: port to listen on; 0 finds a free one.
        cpu: run on the CPU even where an accelerator is present.
        timeout: seconds the server may take to answer after its start.

    Raises, on entering:
        ServerDied: it ended or did not answer, or one of `packs` could not be imported.
    """

    def __init__(
        self,
        tree: str | Path,
        python: str | Path = sys.executable,
        packs: Iterable[str | Path] | Mapping[str, str | Path] = (),
        *,
        args: Iterable[str] = (),
        base: str | Path | None = None,
        port: int = 0,
        cpu: bool = True,
        timeout: float = 300,
    ):
        if not isinstance(packs, Mapping):
            packs = {Path(pack).name: pack for pack in packs}
        self.tree = Path(tree).resolve()
        self.python = str(python)
        self.packs = {name: Path(pack).resolve() for name, pack in packs.items()}
        self.args = [*(["--cpu"] if cpu else []), *args]
        self.temporary = base is None
        self.base = Path(tempfile.mkdtemp(prefix="comfyui-") if base is None else base).resolve()
        self.port = port or free_port()
        self.timeout = timeout
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.base / "server.log"

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Server:
        try:
            self._lay_out_base()
            self._start()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, gently at first; remove a temporary base directory."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.temporary:
            shutil.rmtree(self.base, ignore_errors=True)

    def log(self, last: int | None = None) -> str:
        """The server's log, or its `last` characters."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return text if last is None else text[-last:]

    # Requests

    def get(self, path: str) -> Any:
        """The JSON answer to a GET of `path`, such as "/queue"."""
        return json.loads(self._request(path))

    def post(self, path: str, content: Any) -> Any:
        """The JSON answer to a POST of JSON `content`; None where the answer is empty."""
        body = json.dumps(content).encode()
        answer = self._request(path, body, {"Content-Type": "application/json"})
        return json.loads(answer) if answer else None

    def object_info(self, node: str | None = None) -> dict:
        """What the host tells of one node type, or {type: that} of all."""
        if node is None:
            return self.get("/object_info")
        return self.get(f"/object_info/{urllib.parse.quote(node, safe='')}")[node]

    def view(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """The content of an image file, named as in a run's outputs: view(**entry)."""
        query = {"filename": filename, "subfolder": subfolder, "type": type}
        return self._request(f"/view?{urllib.parse.urlencode(query)}")

    def upload_image(self, path: str | Path) -> str:
        """Upload an image file into the input folder; the name for a LoadImage node."""
        path = Path(path)
        boundary = uuid.uuid4().hex
        mime = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        body = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="image"; filename="{path.name}"\r\n'
            f"Content-Type: {mime}\r\n\r\n"
        ).encode()
        body += path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return json.loads(self._request("/upload/image", body, headers))["name"]

    # Prompts

    def queue(
        self, prompt: Prompt, *, watch: Watch | None = None, extra_data: dict | None = None
    ) -> str:
        """Queue an API-format prompt.

        Args:
            watch: gets the events of the run.
            extra_data: as the editor sends it, e.g. {"preview_method": "latent2rgb"}.

        Returns:
            The prompt's id, for `wait`.

        Raises:
            PromptRefused: the host found an input or output of it not valid.
        """
        content: dict[str, Any] = {"prompt": prompt, "extra_data": extra_data or {}}
        if watch is not None:
            content["client_id"] = watch.client_id
        try:
            answer = self.post("/prompt", content)
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            answer = json.loads(error.read())
            raise PromptRefused(answer["error"], answer["node_errors"]) from None
        if answer["node_errors"]:
            raise PromptRefused({}, answer["node_errors"])
        return answer["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 600) -> Run:
        """Wait until a queued prompt has ended, well or not.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds.
            ServerDied: the server has.
        """
        deadline = time.monotonic() + timeout
        pause = FIRST_PAUSE
        while time.monotonic() < deadline:
            self._check_alive()
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                entry = history[prompt_id]
                status = entry["status"]
                messages = [(kind, data) for kind, data in status["messages"]]
                return Run(prompt_id, status["status_str"], entry["outputs"], messages)
            time.sleep(pause)
            pause = min(pause * 1.1, LONGEST_PAUSE)
        raise TimeoutError(f"the prompt has not ended after {timeout} s\n{self.log(3000)}")

    def run(
        self,
        prompt: Prompt,
        timeout: float = 600,
        *,
        watch: Watch | None = None,
        extra_data: dict | None = None,
    ) -> Run:
        """Queue a prompt and wait for its end; see `queue` and `wait`."""
        prompt_id = self.queue(prompt, watch=watch, extra_data=extra_data)
        run = self.wait(prompt_id, timeout)
        if watch is not None:
            watch.wait_for_end(prompt_id)
        return run

    def watch(self, on_event: Callable[[Event], object] = lambda event: None) -> Watch:
        """A listener to the server's events; use it in a `with` block."""
        return Watch(self.url, on_event)

    def interrupt(self) -> None:
        """Ask the running prompt to stop."""
        self.post("/interrupt", {})

    def result(self, name: str) -> dict[str, np.ndarray]:
        """The arrays that a DetailersTestSave node saved under `name`."""
        with np.load(self.output / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    # Process

    def _lay_out_base(self) -> None:
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        for name, pack in self.packs.items():
            link_folder(pack, self.base / "custom_nodes" / name)

    def _start(self) -> None:
        options = {
            "--listen": "127.0.0.1",
            "--port": self.port,
            "--base-directory": self.base,
            "--database-url": "sqlite:///:memory:",  # its default is a file inside the tree
        }
        command = [self.python, "main.py", "--disable-auto-launch", *self.args]
        command += [str(part) for option in options.items() for part in option]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.tree,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            self._check_alive()
            with contextlib.suppress(OSError):
                self.get("/system_stats")
                break
            time.sleep(0.1)
        else:
            raise ServerDied(f"ComfyUI gave no answer in {self.timeout} s\n{self.log(3000)}")
        log = self.log()
        for name in self.packs:
            if f"(IMPORT FAILED): {self.base / 'custom_nodes' / name}\n" in log:
                raise ServerDied(f"ComfyUI could not import the pack {name}\n{log[-6000:]}")

    def _check_alive(self) -> None:
        if self.process.poll() is not None:
            code = self.process.returncode
            raise ServerDied(f"ComfyUI ended with status {code}\n{self.log(3000)}")

    def _request(self, path: str, body: bytes | None = None, headers: dict | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, headers or {})
        with DIRECT.open(request, timeout=60) as answer:
            return answer.read()


# Loopback requests must not go through a proxy that the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def link_folder(source: Path, link: Path) -> None:
    """Make `link` show the folder `source` in place of what is there."""
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    child.link_folder(source, link)


def has_accelerator(python: str | Path) -> bool:
    """Whether torch under this interpreter finds a GPU or a similar device."""
    test = "import sys, torch; sys.exit(not torch.accelerator.is_available())"
    return subprocess.run([str(python), "-c", test], stderr=subprocess.DEVNULL).returncode == 0


@dataclass(frozen=True)
class Host:
    """A ComfyUI that the tests run on.

    Attributes:
        newest_frontend: folder of a newer editor than its own, to be tested too.
    """

    label: str
    tree: Path
    python: Path
    newest_frontend: Path | None = None


def configured_hosts() -> dict[str, Host]:
    """The hosts that `run.py test` names in DETAILERS_HOSTS, by label; {} without it."""
    hosts = json.loads(os.environ.get("DETAILERS_HOSTS", "{}"))
    return {
        label: Host(label, **{name: Path(path) for name, path in host.items()})
        for label, host in hosts.items()
    }


def project_packs(miniature: bool = False) -> dict[str, Path]:
    """This pack and the analytic models' pack, with the folder names they get.

    Args:
        miniature: also the pack of the trained miniature.
    """
    packs = {"comfyui-detailers": ROOT, "detailers-models": MODEL_PACK}
    return packs | ({"detailers-miniature": MINIATURE} if miniature else {})
