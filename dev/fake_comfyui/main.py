"""A stand-in for a ComfyUI server, for tests and figures of folder runs: `python main.py --port N`.

It speaks ComfyUI's HTTP (prompts, history, queue, upload, view) and runs one prompt at a time, of
nodes LoadImage, LoadVideo, FakeDetailer, SaveImage and SaveVideo. FakeDetailer turns a picture into
its negative after `seconds`; `mode` makes it fail in one of the ways that a server fails. Modes
that end in "-once" do so once for each input, for which the folder FAKE_STATE keeps marks.

Needs Pillow. ComfyUI's arguments are taken, and most are passed over.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import sys
import threading
import time
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from PIL import Image, PngImagePlugin

INT = {"min": 0, "max": 2**64 - 1}
NODES = {
    "LoadImage": {"image": ([], {"image_upload": True})},
    "LoadVideo": {"file": ([], {"video_upload": True})},
    "FakeDetailer": {
        "image": ("IMAGE", {}),
        "seconds": ("FLOAT", {"default": 0.0}),
        "mode": ("STRING", {"default": ""}),
        "seed": ("INT", INT),
        "model": ("STRING", {"default": ""}),
    },
    "SaveImage": {"images": ("IMAGE", {}), "filename_prefix": ("STRING", {})},
    "SaveVideo": {"video": ("VIDEO", {}), "filename_prefix": ("STRING", {}),
                  "format": (["auto", "mp4"], {}), "codec": (["auto"], {})},
    "PreviewImage": {"images": ("IMAGE", {})},
}  # fmt: skip


class Failure(Exception):
    """What a node raises."""


class Host:
    """The queue, and the thread that runs it."""

    def __init__(self, options: argparse.Namespace):
        self.input = Path(options.input_directory)
        self.output = Path(options.output_directory)
        self.state = Path(os.environ.get("FAKE_STATE", options.output_directory))
        self.slowness = float(os.environ.get("FAKE_SLOWNESS", 1))
        self.history: dict[str, dict] = {}
        self.waiting: list[tuple[str, dict]] = []
        self.running: tuple[str, dict] | None = None
        self.news = threading.Condition()
        self.garbage = False
        self.garbage_file = False  # garbage from the next file on that is fetched
        self.mute = False
        threading.Thread(target=self.work, daemon=True).start()

    def queue(self, prompt_id: str, prompt: dict) -> None:
        with self.news:
            self.waiting.append((prompt_id, prompt))
            self.news.notify_all()

    def work(self) -> None:
        while True:
            with self.news:
                while not self.waiting:
                    self.news.wait()
                self.running = self.waiting.pop(0)
            prompt_id, prompt = self.running
            started = time.time()
            try:
                outputs = {id: self.save(prompt, id) for id in prompt if is_saver(prompt[id])}
                end, status = ["execution_success", {}], "success"
                outputs.update(self.noted(prompt))
            except Exception as error:
                outputs, status = {}, "error"
                end = ["execution_error", {
                    "node_id": "2", "node_type": "FakeDetailer", "traceback": [],
                    "exception_type": type(error).__name__, "exception_message": str(error),
                }]  # fmt: skip
            messages = [["execution_start", {"timestamp": started * 1000}], end]
            end[1]["timestamp"] = time.time() * 1000
            state = {"status_str": status, "completed": status == "success", "messages": messages}
            with self.news:
                self.history[prompt_id] = {"outputs": outputs, "status": state}
                self.running = None

    def noted(self, prompt: dict) -> dict:
        """What the detailer tells."""
        return {
            id: {
                "detailers_notes": [{"kind": "skipped", "text": f"Seed {node['inputs']['seed']}."}]
            }
            for id, node in prompt.items()
            if node["class_type"] == "FakeDetailer" and node["inputs"].get("mode") == "note"
        }

    def save(self, prompt: dict, id: str) -> dict:
        node = prompt[id]
        source = node["inputs"].get("images") or node["inputs"].get("video")
        content, name, count = self.made(prompt, source[0])
        if content is None:
            return {"images": []}
        prefix = Path(str(node["inputs"]["filename_prefix"]))
        folder = self.output / prefix.parent
        folder.mkdir(parents=True, exist_ok=True)
        entries = []
        for _ in range(count):
            number = len(list(folder.iterdir())) + 1
            file = folder / f"{prefix.name}_{number:05}_{Path(name).suffix}"
            file.write_bytes(content)
            entries.append(
                {"filename": file.name, "subfolder": prefix.parent.as_posix(), "type": "output"}
            )
        return {"images": entries}

    def made(self, prompt: dict, id: str) -> tuple[bytes | None, str, int]:
        """What a node gives: content, the name of its kind, and how many of it."""
        node = prompt[id]
        inputs = node["inputs"]
        if node["class_type"] == "LoadVideo":
            return (self.input / inputs["file"]).read_bytes(), "x.mp4", 1
        if node["class_type"] == "LoadImage":
            picture = Image.open(self.input / inputs["image"]).convert("RGB")
            return with_prompt(picture, prompt), "x.png", 1
        content, name, _ = self.made(prompt, inputs["image"][0])
        self.misbehave(inputs.get("mode", ""), str(prompt))
        time.sleep(float(inputs.get("seconds", 0)) * self.slowness)
        if name != "x.png":
            return content, name, 1
        mode = inputs.get("mode", "")
        picture = Image.open(io.BytesIO(content)).point(lambda value: 255 - value)
        if mode == "nan" or (mode == "nan-once" and self.first(mode, str(prompt))):
            print("RuntimeWarning: invalid value encountered in cast", file=sys.stderr, flush=True)
            picture = picture.point(lambda value: 0)
        if mode == "black":
            picture = picture.point(lambda value: 0)
        if mode == "nothing":
            return None, name, 0
        return with_prompt(picture, prompt), name, 2 if mode == "two" else 1

    def misbehave(self, mode: str, what: str) -> None:
        if mode == "fail" or (mode == "fail-once" and self.first(mode, what)):
            raise Failure("this one does not work")
        if mode == "full":
            raise OSError("[Errno 28] No space left on device")
        if mode == "not-finite":
            raise ValueError("Detailer: samples are not finite")
        if mode == "die" or (mode == "die-once" and self.first(mode, what)):
            os._exit(9)
        if mode == "hang" or (mode == "hang-once" and self.first(mode, what)):
            time.sleep(3600)
        if mode == "mute-once" and self.first(mode, what):
            self.mute = True
            time.sleep(3600)
        if mode == "garbage-once" and self.first(mode, what):
            self.garbage = True
        if mode == "garbage-file-once" and self.first(mode, what):
            self.garbage_file = True

    def first(self, mode: str, what: str) -> bool:
        mark = self.state / f"{mode}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"
        if mark.exists():
            return False
        mark.write_text("")
        return True


def is_saver(node: dict) -> bool:
    return node["class_type"] in ("SaveImage", "SaveVideo")


def with_prompt(picture: Image.Image, prompt: dict) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", json.dumps(prompt))
    content = io.BytesIO()
    picture.save(content, "PNG", pnginfo=texts, compress_level=1)
    return content.getvalue()


class Handler(BaseHTTPRequestHandler):
    """ComfyUI's routes."""

    host: Host
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def answer(self, content: object, status: int = 200) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        host, url = self.host, urlsplit(self.path)
        if host.mute:
            time.sleep(3600)
        host.garbage |= host.garbage_file and url.path == "/view"
        if host.garbage:
            self.answer(b"\x00<html>not what you asked for")
        elif url.path == "/system_stats":
            self.answer({"system": {"comfyui_version": "fake", "argv": sys.argv}})
        elif url.path == "/object_info":
            self.answer({name: described(name) for name in NODES})
        elif url.path == "/experiment/models":
            folder = os.environ.get("FAKE_MODELS")
            self.answer([{"name": "checkpoints", "folders": [folder] if folder else []}])
        elif url.path.startswith("/history/"):
            id = url.path.rpartition("/")[2]
            self.answer({id: host.history[id]} if id in host.history else {})
        elif url.path == "/queue":
            with host.news:
                running = [[0, *host.running]] if host.running else []
                waiting = [[0, *entry] for entry in host.waiting]
            self.answer({"queue_running": running, "queue_pending": waiting})
        elif url.path == "/view":
            names = {name: values[0] for name, values in parse_qs(url.query).items()}
            file = host.output / names.get("subfolder", "") / names["filename"]
            self.answer(
                file.read_bytes() if file.is_file() else b"", 200 if file.is_file() else 404
            )
        else:
            self.answer({}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/upload/image":
            self.answer(self.uploaded(body))
            return
        content = json.loads(body)
        if self.path == "/prompt":
            self.prompted(content)
        elif self.path == "/history":
            for id in content["delete"]:
                self.host.history.pop(id, None)
            self.answer(b"")
        elif self.path == "/queue":
            with self.host.news:
                kept = [one for one in self.host.waiting if one[0] not in content["delete"]]
                self.host.waiting[:] = kept
            self.answer(b"")
        else:
            self.answer(b"")

    def uploaded(self, body: bytes) -> dict:
        boundary = re.search("boundary=(.*)", self.headers["Content-Type"])[1].encode()
        for part in body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            name = BytesParser().parsebytes(head.lstrip()).get_filename()
            if name:
                (self.host.input / name).write_bytes(content[:-2])
        return {"name": re.search(rb'filename="(.*?)"', body)[1].decode(), "subfolder": ""}

    def prompted(self, content: dict) -> None:
        prompt = content["prompt"]
        wrong = {
            id: {"class_type": "FakeDetailer", "errors": [
                {"message": "Value not in list", "details": f"model: {node['inputs']['model']}"}]}
            for id, node in prompt.items()
            if node["inputs"].get("model") == "missing"
        }  # fmt: skip
        if wrong:
            error = {"message": "Prompt outputs failed validation", "details": ""}
            self.answer({"error": error, "node_errors": wrong}, 400)
            return
        self.host.queue(content["prompt_id"], prompt)
        self.answer({"prompt_id": content["prompt_id"], "number": 1, "node_errors": {}})


def described(name: str) -> dict:
    inputs = {"required": NODES[name], "optional": {}}
    return {"input": inputs, "output_node": name.startswith(("Save", "Preview"))}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def serve(options: argparse.Namespace) -> Server:
    handler = type("Handler", (Handler,), {"host": Host(options)})
    return Server(("127.0.0.1", options.port), handler)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--input-directory", required=True)
    parser.add_argument("--output-directory", required=True)
    serve(parser.parse_known_args()[0]).serve_forever()


if __name__ == "__main__":
    main()
