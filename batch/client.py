"""HTTP to one ComfyUI. Every call has a time limit, and answers are checked before they are used.

Needs the standard library alone.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .faults import Problem, ServerFault, UnitFault, is_full

CHUNK = 1 << 18
MOST_JSON = 256 << 20  # bytes of an answer that is read into memory
CONNECT = 10.0
LONGEST_PAUSE = 0.25  # seconds between two looks at a prompt that runs


class Refused(UnitFault):
    """The host's validation refused a prompt.

    Attributes:
        nodes: the ids of the nodes that it names.
    """

    def __init__(self, text: str, nodes: set[str]):
        super().__init__(text)
        self.nodes = nodes


@dataclass(frozen=True)
class File:
    """A file that a server has saved, as its history names it."""

    node: str
    name: str
    subfolder: str
    type: str

    def query(self) -> str:
        names = {"filename": self.name, "subfolder": self.subfolder, "type": self.type}
        return urllib.parse.urlencode(names)


@dataclass(frozen=True)
class History:
    """A prompt that has ended well.

    Attributes:
        files: what its nodes have saved into the output folder.
        outputs: {node: what it showed}, as the server has it.
        seconds: from start to end, on the server's clock.
    """

    files: tuple[File, ...]
    outputs: dict[str, dict]
    seconds: float


class Client:
    """One ComfyUI server.

    Args:
        url: such as http://127.0.0.1:8188; a path before ComfyUI's own is kept.
        answer: seconds for one answer.
    """

    def __init__(self, url: str, answer: float = 60.0):
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise Problem(f"--servers: {url!r} is no address such as http://host:8188.")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._host, self._port = parts.hostname, port
        self._class = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._path = parts.path.rstrip("/")
        self.answer = answer

    # Requests

    @contextmanager
    def _request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._class(self._host, self._port, timeout=min(CONNECT, self.answer))
        try:
            connection.connect()
            connection.sock.settimeout(self.answer)
            connection.request(method, self._path + path, body, dict(headers or {}))
            yield connection.getresponse()
        except TimeoutError as error:
            raise ServerFault(
                f"{self.url} gave no answer to {path} in {self.answer:g} s"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if is_full(error):
                raise
            raise ServerFault(f"{self.url} cannot be reached: {error!r}") from error
        finally:
            connection.close()

    def _read(self, answer: http.client.HTTPResponse, path: str) -> bytes:
        """The body, within the time limit as a whole and up to a size."""
        deadline, content = time.monotonic() + self.answer, bytearray()
        while chunk := answer.read1(CHUNK):
            content += chunk
            if len(content) > MOST_JSON or time.monotonic() > deadline:
                raise ServerFault(f"{self.url} does not end its answer to {path}")
        if answer.length:
            raise ServerFault(f"{self.url} broke off its answer to {path}")
        return bytes(content)

    def _json(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        with self._request(method, path, body, headers) as answer:
            status, text = answer.status, self._read(answer, path)
        if not text and status == 200:
            return status, None
        try:
            return status, json.loads(text)
        except ValueError as error:
            start = text[:80].decode("utf-8", "replace")
            what = f"{self.url} answered {path} with status {status} and no JSON: {start!r}"
            raise ServerFault(what) from error

    def get(self, path: str) -> Any:
        """The JSON answer to a GET.

        Raises:
            ServerFault: there is none.
        """
        status, content = self._json("GET", path)
        if status != 200:
            raise ServerFault(f"{self.url} answered {path} with status {status}")
        return content

    def get_dict(self, path: str) -> dict:
        content = self.get(path)
        if not isinstance(content, dict):
            raise ServerFault(f"{self.url} answered {path} with a {type(content).__name__}")
        return content

    # What a server is

    def is_up(self, argument: str | None = None) -> bool:
        """Whether it answers as a ComfyUI does.

        Args:
            argument: it has to be one that was started with this argument.
        """
        try:
            system = self.get_dict("/system_stats").get("system")
        except ServerFault:
            return False
        if not isinstance(system, dict):
            return False
        return argument is None or argument in (system.get("argv") or [argument])

    def object_info(self) -> dict[str, dict]:
        info = self.get_dict("/object_info")
        if not all(isinstance(node, dict) and "input" in node for node in info.values()):
            raise ServerFault(f"{self.url} does not describe its nodes as a ComfyUI does")
        return info

    def model_folders(self) -> list[str]:
        """The folders that names of model files are relative to; [] where it does not tell."""
        try:
            answer = self.get("/experiment/models")
            return [path for kind in answer for path in kind["folders"] if isinstance(path, str)]
        except (ServerFault, TypeError, KeyError):
            return []

    # A unit

    def upload(self, file: BinaryIO, size: int, name: str) -> str:
        """Put an input onto the server; the name by which a loader finds it."""
        boundary = f"detailers-{hashlib.sha256(name.encode()).hexdigest()[:24]}"
        field = 'Content-Disposition: form-data; name="'
        head = (
            f'--{boundary}\r\n{field}overwrite"\r\n\r\ntrue\r\n'
            f'--{boundary}\r\n{field}image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + size + len(tail)),
        }
        body = _body(head, file, tail)
        with self._request("POST", "/upload/image", body, headers) as answer:
            status, text = answer.status, self._read(answer, "/upload/image")
        if status == 413:
            raise UnitFault(
                f"{self.url} takes no file of {size} bytes: start it with --max-upload-size"
            )
        try:
            content = json.loads(text)
            found, folder = content["name"], content.get("subfolder", "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{self.url} answered an upload with status {status}: {text[:80]!r}"
            raise ServerFault(what) from error
        if not isinstance(found, str) or not isinstance(folder, str):
            raise ServerFault(f"{self.url} answered an upload with {content!r}")
        return f"{folder}/{found}" if folder else found

    def queue(self, prompt: dict, extra: dict, prompt_id: str) -> str:
        """Queue a prompt; its id.

        Raises:
            Refused: it is not valid.
        """
        content = {"prompt": prompt, "extra_data": extra, "prompt_id": prompt_id}
        status, answer = self._json("POST", "/prompt", content)
        if not isinstance(answer, dict):
            raise ServerFault(f"{self.url} answered a prompt with status {status}: {answer!r}")
        errors = answer.get("node_errors")
        if errors or status == 400:
            raise Refused(_refusal(answer), set(errors) if isinstance(errors, dict) else set())
        if status != 200 or not isinstance(answer.get("prompt_id"), str):
            raise ServerFault(f"{self.url} answered a prompt with status {status}: {answer!r:.200}")
        return answer["prompt_id"]

    def look(self, prompt_id: str) -> History | None:
        """What became of a prompt; None while it waits or runs.

        Raises:
            UnitFault: it failed.
            ServerFault: the answer is none of a ComfyUI's.
        """
        content = self.get_dict(f"/history/{prompt_id}")
        if prompt_id not in content:
            return None
        return read_history(self.url, content[prompt_id])

    def standing(self, prompt_id: str) -> str:
        """Where the server has a prompt that has not ended: "running", "waiting" or ""."""
        queue = self.get_dict("/queue")
        for name, where in (("queue_running", "running"), ("queue_pending", "waiting")):
            entries = queue.get(name)
            if not isinstance(entries, list):
                raise ServerFault(f"{self.url} answered /queue with {queue!r:.200}")
            for entry in entries:
                if isinstance(entry, list) and len(entry) > 1 and entry[1] == prompt_id:
                    return where
        return ""

    def fetch(self, file: File, target: Path, longest: float) -> tuple[str, int]:
        """Load a saved file into `target`; the SHA-256 and the size.

        Raises:
            ServerFault: it does not come whole.
            OSError: it cannot be written.
        """
        path, deadline = f"/view?{file.query()}", time.monotonic() + longest
        hasher, size = hashlib.sha256(), 0
        with target.open("wb") as written, self._request("GET", path) as answer:
            if answer.status != 200:
                raise ServerFault(f"{self.url} answered {path} with status {answer.status}")
            length = answer.length
            while chunk := answer.read1(CHUNK):
                if time.monotonic() > deadline:
                    raise ServerFault(f"{self.url} takes too long for {path}")
                hasher.update(chunk)
                size += len(chunk)
                try:
                    written.write(chunk)
                    written.flush()
                except OSError as error:
                    raise WriteFault(error) from error
            if length is not None and size != length:
                raise ServerFault(f"{self.url} broke off {path} after {size} of {length} bytes")
            if not size:
                raise ServerFault(f"{self.url} sent nothing for {path}")
        return hasher.hexdigest(), size

    def forget(self, prompt_id: str) -> None:
        """Have the server drop a prompt from its history."""
        self._json("POST", "/history", {"delete": [prompt_id]})

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the server's queue, and stop it if it runs."""
        self._json("POST", "/queue", {"delete": [prompt_id]})
        if self.standing(prompt_id) == "running":
            self._json("POST", "/interrupt", {"prompt_id": prompt_id})


class WriteFault(Exception):
    """A result that came from a server cannot be written here."""

    def __init__(self, error: OSError):
        super().__init__(str(error))
        self.error = error


def _body(head: bytes, file: BinaryIO, tail: bytes) -> Iterator[bytes]:
    yield head
    while chunk := file.read(CHUNK):
        yield chunk
    yield tail


def _refusal(answer: dict) -> str:
    """What the host's validation says, in a line."""
    error = answer.get("error")
    texts = [error.get("message", ""), error.get("details", "")] if isinstance(error, dict) else []
    nodes = answer.get("node_errors")
    for id, node in nodes.items() if isinstance(nodes, dict) else ():
        for found in node.get("errors", []) if isinstance(node, dict) else ():
            if isinstance(found, dict):
                what = f"{found.get('message', '')}: {found.get('details', '')}"
                texts.append(f"node {id} {node.get('class_type', '')}: {what}")
    return "; ".join(text for text in map(str, texts) if text) or "the prompt is not valid"


def read_history(url: str, entry: Any) -> History:
    """A server's history of a prompt that has ended.

    Raises:
        UnitFault: it failed.
        ServerFault: it is nothing that a ComfyUI says.
    """
    try:
        status = entry["status"]
        messages = [(kind, data) for kind, data in status["messages"]]
        outputs = entry["outputs"]
        failed = next((data for kind, data in messages if kind == "execution_error"), None)
        if failed is not None:
            kind = str(failed["exception_type"])
            text = str(failed["exception_message"]).strip()
            raise UnitFault(f"node {failed['node_id']} {failed['node_type']}: {kind}: {text}")
        if status["status_str"] != "success":
            raise UnitFault("it was interrupted")
        stamps = [data["timestamp"] for _, data in messages if "timestamp" in data]
        seconds = (stamps[-1] - stamps[0]) / 1000 if stamps else 0.0
        files = tuple(
            File(str(node), found["filename"], found.get("subfolder", ""), found["type"])
            for node, shown in outputs.items()
            for entries in shown.values()
            if isinstance(entries, list)
            for found in entries
            if isinstance(found, dict) and found.get("type") == "output" and "filename" in found
        )
        if not all(isinstance(name, str) for file in files for name in (file.name, file.subfolder)):
            raise TypeError("names that are no texts")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ServerFault(f"{url} tells a history that is none: {entry!r:.200}") from error
    return History(files, outputs, max(seconds, 0.0))


def wait_for(client: Client, prompt_id: str, limit: float, stopped: Any = lambda: False) -> History:
    """Wait until a prompt has ended.

    Args:
        limit: seconds that it may be run; what it waits in the queue does not count.
        stopped: whether to give up.

    Raises:
        UnitFault: it failed.
        ServerFault: the server failed, forgot the prompt, or runs it for too long.
    """
    started = time.monotonic()
    running_since: float | None = None
    looked = started
    while True:
        try:
            history = client.look(prompt_id)
        except ServerFault as fault:
            raise ServerFault(str(fault), running_since is not None) from fault
        if history is not None:
            return history
        now = time.monotonic()
        if stopped():
            raise ServerFault("the run was stopped", False)
        if now - looked > 1.0 or running_since is None:
            looked = now
            standing = client.standing(prompt_id)
            if standing == "running" and running_since is None:
                running_since = now
            if not standing and client.look(prompt_id) is None:
                raise ServerFault(f"{client.url} has lost the prompt", running_since is not None)
        if running_since is not None and now - running_since > limit:
            raise ServerFault(f"{client.url} has not finished in {limit:g} s")
        time.sleep(min(max((now - started) / 20, 0.005), LONGEST_PAUSE))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
