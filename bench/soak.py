"""Many prompts in one server: `python run.py bench soak --help`.

Memory, files and times are measured after ComfyUI's history of prompts is cleared, garbage is
collected and the C library has returned free memory, each time with the result of the same last
prompt in ComfyUI's cache. They may grow by no more than `GROWTH`.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from dev import options
from dev.server import DIRECT, Server, project_packs
from tests.host.graphs import DETAILERS, SAMPLING, SIZING, Graph

GROWTH = 0.02
MARKS = (100, 1000, 5000, 20000)
ROUTES = ("/detailers/upgrade", "/detailers/modes")  # all that the pack adds to the server
BOXES = ([8, 8, 40, 40], [56, 12, 88, 44], [20, 40, 60, 70], [70, 50, 90, 70])
FAILS = "fails on purpose"


# Mixed prompts: each function adds a node and gives the link to what it makes


def detailed(graph: Graph, models: Any, draw: random.Random, kind: str, **changed: Any) -> list:
    """A detailer of any kind, with random settings."""
    is_clip = kind.endswith("AnimateDiff")
    size = draw.randrange(96, 160), draw.randrange(72, 128)
    image = graph.image(*size, batch=draw.randint(1, 3), seed=draw.randrange(1000))
    boxes = BOXES[: draw.randint(1, len(BOXES))]
    if kind == "MaskDetailerPipe":
        segs = graph.mask(*size, *[[*box, "e"] for box in boxes])
    else:
        segs = graph.segs(*size, *[{"bbox": box, "mask": "e"} for box in boxes])
    settings: dict[str, Any] = {
        "seed": draw.randrange(1 << 40), "steps": draw.randint(1, 3),
        "cfg": draw.choice((1.0, 3.0)),
        "denoise": draw.choice((0.3, 0.6, 1.0)), "noise_mask_feather": draw.choice((0, 8)),
        "sampler_name": draw.choice(("euler", "dpmpp_2m", "euler_ancestral")),
    }  # fmt: skip
    if not is_clip:
        settings["cycle"] = draw.randint(1, 2)
    if "wildcard" in DETAILERS[kind]:
        settings["wildcard"] = draw.choice(("", "{red|green}, x", "[ASC]\nred[SEP]blue[SEP]green"))
    return graph.detail(kind, image, segs, models, **settings | changed)[0]


def hooked(graph: Graph, models: Any, draw: random.Random) -> list:
    noise = graph.add(
        "NoiseInjectionDetailerHookProvider", schedule_for_cycle="from_start", source="CPU",
        seed=draw.randrange(1000), start_strength=1.0, end_strength=0.5,
    )[0]  # fmt: skip
    shown = graph.add("PreviewDetailerHookProvider", quality=90)[0]
    both = graph.add("DetailerHookCombine", hook1=noise, hook2=shown)[0]
    return detailed(graph, models, draw, "DetailerForEach", detailer_hook=both)


def patched(graph: Graph, models: Any, draw: random.Random) -> list:
    model = graph.add("RescaleCFG", model=models[0], multiplier=draw.random())[0]
    return detailed(graph, [model, models[1], models[2]], draw, "DetailerForEach", cfg=3.0)


def face(graph: Graph, models: Any, draw: random.Random) -> list:
    image = graph.image(96, 80, seed=draw.randrange(1000))
    boxes = BOXES[: draw.randint(0, 3)]
    settings = {"steps": 2, "seed": draw.randrange(1000)}
    return faces_redrawn(graph, image, boxes, models, "FaceDetailer", **settings)


def faces_redrawn(
    graph: Graph, image: list, boxes: Sequence, models: Any, kind: str, **changed: Any
) -> list:
    """A FaceDetailer of either form that finds these boxes."""
    found = json.dumps([[*box, "face", 0.9] for box in boxes])
    detector = graph.add("DetailersTestDetector", boxes=found)[0]
    given = {**graph.parts(models), "bbox_detector": detector}
    if kind == "FaceDetailerPipe":
        lists = {"Select to add LoRA": "Select the LoRA to add to the text",
                 "Select to add Wildcard": "Select the Wildcard to add to the text"}  # fmt: skip
        pipe = graph.add("ToDetailerPipe", **given, **lists, wildcard="")[0]
        given = {"detailer_pipe": pipe, "refiner_ratio": 0.2}
    settings = {**SIZING, **SAMPLING, "feather": 5, "noise_mask": True, **changed}
    return graph.add(
        kind, image=image, **given, **settings, force_inpaint=True, bbox_threshold=0.5,
        bbox_dilation=4, bbox_crop_factor=1.5, sam_detection_hint="center-1", sam_dilation=0,
        sam_threshold=0.9, sam_bbox_expansion=0, sam_mask_hint_threshold=0.7,
        sam_mask_hint_use_negative="False", drop_size=5, wildcard="", cycle=1,
    )[0]  # fmt: skip


def text(graph: Graph, models: Any, draw: random.Random) -> list:
    texts = {"wildcard_text": "a {red|green|blue} {1-2$$x|y|z}", "populated_text": ""}
    return graph.add(
        "ImpactWildcardProcessor", **texts, mode="populate", seed=draw.randrange(1000)
    )[0]


def bridge(graph: Graph, models: Any, draw: random.Random) -> list:
    return graph.add(
        "PreviewBridge", images=graph.plain(32, 24, draw.randrange(1 << 24)), image=""
    )[0]


def segments(graph: Graph, models: Any, draw: random.Random) -> list:
    mask = graph.mask(96, 80, *[[*box, "e"] for box in BOXES[: draw.randint(1, 4)]])
    segs = graph.add(
        "MaskToSEGS", mask=mask, combined=False, crop_factor=1.0 + draw.random(), bbox_fill=False,
        drop_size=1, contour_fill=True,
    )[0]  # fmt: skip
    image = graph.image(96, 80, seed=draw.randrange(1000))
    graph.add("SEGSPreview", segs=segs, alpha_mode=True, min_alpha=0.2, fallback_image_opt=image)
    return segs


def enlarged(graph: Graph, models: Any, draw: random.Random) -> list:
    upscaler = graph.add(
        "PixelKSampleUpscalerProviderPipe", basic_pipe=graph.pipe(models), scale_method="lanczos",
        use_tiled_vae=False, tile_size=512,
        **SAMPLING | {"steps": 2, "denoise": 0.5, "seed": draw.randrange(1000)},
    )[0]  # fmt: skip
    latent = graph.encode(models, graph.image(32, 24, seed=draw.randrange(1000)))
    return graph.add(
        "IterativeLatentUpscale", samples=latent, upscaler=upscaler, steps=2, upscale_factor=2.0,
        temp_prefix="", step_mode="simple",
    )[0]  # fmt: skip


def failing(graph: Graph, models: Any, draw: random.Random) -> list:
    """A detailer that ends with an error in a hook, after a segment is sampled and decoded."""
    hook = graph.hook(post_decode=FAILS, name=str(draw.random()))[0]
    return detailed(graph, models, draw, "DetailerForEach", detailer_hook=hook)


def _detailer(kind: str) -> Callable[..., list]:
    return lambda *arguments: detailed(*arguments, kind)


MIXED: dict[str, Callable[..., list]] = {kind: _detailer(kind) for kind in DETAILERS} | {
    "hooks": hooked,
    "a patched model": patched,
    "FaceDetailer": face,
    "a text": text,
    "PreviewBridge": bridge,
    "SEGS": segments,
    "upscale": enlarged,
    FAILS: failing,
}


def mixed_prompt(number: int, seed: int) -> tuple[str, Graph]:
    """The prompt with this number; the kinds alternate."""
    kind = list(MIXED)[number % len(MIXED)]
    graph = Graph()
    models = graph.model("flat8")  # the same in all prompts, so that it stays in ComfyUI's cache
    draw = random.Random(f"{seed} {number}")  # noqa: S311 - repeatable, no secret
    graph.add("DetailersTestSink", value=MIXED[kind](graph, models, draw))
    return kind, graph


# What a server holds


@dataclass(frozen=True)
class Figures:
    """The measures after some prompts.

    Attributes:
        megabytes: resident memory, after `history` of it was taken off with ComfyUI's history.
        files: open files and sockets of the process.
        strays: files in the folders for temporary files and results that no prompt has shown.
        left: patches that are left on the model that all prompts used.
        probe: processor seconds of a fixed prompt, the best of some runs.
    """

    prompts: int
    megabytes: float
    history: float
    files: int
    strays: int
    patchers: int
    models: int
    left: tuple[str, ...]
    probe: float


class Soak:
    """Runs mixed prompts in a server and measures what it holds."""

    def __init__(self, server: Server, seed: int = 0):
        self.server, self.seed = server, seed
        self.prompts = 0
        self.faults: list[str] = []  # prompts that did not end as they should
        self._process = psutil.Process(server.pid)
        self._probes = 0
        self._shown = set(self._files())

    def run(self, prompts: int) -> None:
        """Run more prompts."""
        for _ in range(prompts):
            kind, graph = mixed_prompt(self.prompts, self.seed)
            done = self.server.run(graph)
            if done.ok == (kind == FAILS):
                self.faults.append(f"prompt {self.prompts}, {kind}: {done.error or 'it ran'}")
            self._note(done.outputs)
            self.prompts += 1

    def measure(self, probes: int = 5) -> Figures:
        """Take the figures; some prompts are run for it."""
        probe = min(self._probe() for _ in range(probes))
        self._state()
        before = self._megabytes()
        self.server.post("/history", {"clear": True})
        state = self._state()
        self.server.post("/history", {"clear": True})
        now = self._megabytes()
        strays = sum(path not in self._shown for path in self._files())
        return Figures(
            self.prompts, now, before - now, self._open_files(), strays, state["patchers"],
            state["models"], tuple(state["left"]), probe,
        )  # fmt: skip

    def _probe(self) -> float:
        """Processor seconds of a detailer that is new to ComfyUI's cache."""
        self._probes += 1
        graph = Graph()
        models = graph.model("flat8")
        segs = graph.segs(96, 80, *[{"bbox": box, "mask": "e"} for box in BOXES])
        settings = {"seed": self._probes, "steps": 30, "detail_batch": 1}
        image = graph.detail("DetailerForEach", graph.image(96, 80), segs, models, **settings)[0]
        graph.add("DetailersTestSink", value=image)
        start = sum(self._process.cpu_times()[:2])
        self._check(self.server.run(graph))
        return sum(self._process.cpu_times()[:2]) - start

    def _state(self) -> dict[str, Any]:
        graph = Graph()
        node = graph.add("DetailersTestState", model=graph.model("flat8")[0])
        done = self.server.run(graph)
        self._check(done)
        return json.loads(done.outputs[node.key]["text"][0])

    def _check(self, done: Any) -> None:
        if not done.ok:
            raise RuntimeError(f"{done.error or done.messages}")

    def _open_files(self) -> int:
        """The least of some counts: a connection that is closing counts for a moment."""
        count = self._process.num_handles if os.name == "nt" else self._process.num_fds
        counts = []
        for _ in range(10):
            counts.append(count())
            time.sleep(0.05)
        return min(counts)

    def _megabytes(self) -> float:
        return self._process.memory_info().rss / 2**20

    def _files(self) -> Iterator[str]:
        for folder in ("temp", "output"):
            root = self.server.base / folder
            for path in root.rglob("*"):
                if path.is_file():
                    yield f"{folder}/{path.relative_to(root).as_posix()}"

    def _note(self, outputs: dict[str, dict]) -> None:
        """Remember which files a prompt has shown."""
        for shown in outputs.values():
            for image in shown.get("images", ()):
                parts = (image["type"], image["subfolder"], image["filename"])
                self._shown.add("/".join(filter(None, parts)))


def growth(first: Figures, last: Figures) -> list[str]:
    """The measures that have grown between two measurements; times are only reported."""
    grown = []
    if last.megabytes > first.megabytes * (1 + GROWTH):
        grown.append(f"memory: {first.megabytes:.0f} to {last.megabytes:.0f} MB")
    for name in ("files", "strays", "patchers", "models"):
        before, now = getattr(first, name), getattr(last, name)
        if now > before:
            grown.append(f"{name}: {before} to {now}")
    if last.left:
        grown.append(f"left on the model: {', '.join(last.left)}")
    return grown


# Interrupts

FACES = ("FaceDetailer", "FaceDetailerPipe")
INTERRUPTED = (*DETAILERS, *FACES)


@dataclass
class Interrupts:
    """The outcomes of the interrupted prompts of a detailer."""

    asked: int = 0
    came_in_time: int = 0
    different: int = 0


def interrupt(server: Server, kind: str, times: int, draw: random.Random) -> Interrupts:
    """Interrupt a detailer at random moments; each time the same prompt is then run to its end."""
    found = Interrupts()
    expected, seconds = _picture(server, kind, 0)
    for turn in range(1, times + 1):
        graph = _slow(kind, turn)
        prompt_id = server.queue(graph)
        time.sleep(draw.random() * seconds)
        server.interrupt()
        found.asked += 1
        found.came_in_time += server.wait(prompt_id).interrupted
        again, _ = _picture(server, kind, turn)
        found.different += not _same(again, expected)
    return found


def _slow(kind: str, turn: int) -> Graph:
    """A detailer that takes a while; each turn is new to ComfyUI's cache and gives the same."""
    graph = Graph()
    models = graph.model("flat8", delay=0.01 + turn * 1e-6)
    image = graph.image(96, 80, batch=2, seed=7)
    settings = {"denoise": 0.6, "steps": 3, "noise_mask_feather": 6}
    if "feather" in DETAILERS.get(kind, {}):
        settings["feather"] = 3
    if kind in FACES:
        result = faces_redrawn(graph, image, BOXES, models, kind, **settings)
    elif kind == "MaskDetailerPipe":
        mask = graph.mask(96, 80, *[[*box, "e"] for box in BOXES])
        result = graph.detail(kind, image, mask, models, **settings)[0]
    else:
        segs = graph.segs(96, 80, *[{"bbox": box, "mask": "e"} for box in BOXES])
        result = graph.detail(kind, image, segs, models, **settings)[0]
    graph.add("DetailersTestSave", value=result, name=f"soak-{kind}")
    return graph


def _picture(server: Server, kind: str, turn: int) -> tuple[dict[str, np.ndarray], float]:
    done = server.run(_slow(kind, turn))
    if not done.ok:
        raise RuntimeError(f"{kind}: {done.error or done.messages}")
    saved = server.result(f"soak-{kind}")
    return {name: array for name, array in saved.items() if name != "stats"}, done.seconds


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) for name in one
    )


# Two clients, and every route


BODIES = [
    b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null", b"5", b'"text"', b"[]", b"{}",
    b'{"1": null}', b'{"1": {"class_type": [], "inputs": 3}}', b'{"prompt": 5, "modes": {}}',
    b'{"prompt": {"1": null}, "modes": {"1": 4}}', b'{"prompt": {}, "modes": {"1": "x"}}',
    b'{"prompt": {"1": {"class_type": "X", "inputs": {"a": ["9", 0]}}}, "modes": {"9": 4}}',
    b'{"prompt": {"1": {"inputs": {"a": ["2", 0]}}, "2": {"inputs": {}}}, "modes": {"2": 2}}',
    b'{"prompt": {"1": {"class_type": "X", "inputs": {"a": ["1", 0]}}}, "modes": {"1": 4}}',
]  # fmt: skip


def right_bodies(tag: str) -> dict[str, dict]:
    """A valid body for each route, with a unique text in it."""
    prompt = {
        "1": {"class_type": "EmptySegs", "inputs": {}},
        "2": {"class_type": "SEGSPreview", "inputs": {"segs": ["1", 0], "tag": tag}},
    }
    return {"/detailers/upgrade": prompt, "/detailers/modes": {"prompt": prompt, "modes": {"9": 2}}}


def ask(server: Server, route: str, body: bytes, headers: dict | None = None) -> tuple[int, str]:
    """POST a body; the status and the text of the answer."""
    headers = headers or {"Content-Type": "application/json"}
    request = urllib.request.Request(server.url + route, body, headers)  # noqa: S310 - our own server
    try:
        with DIRECT.open(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def ask_all(server: Server, turn: int) -> list[str]:
    """Ask every route with right and wrong bodies; return the wrong answers."""
    wrong = []
    tag = f"route-{turn}"
    for route, body in right_bodies(tag).items():
        status, answer = ask(server, route, json.dumps(body).encode())
        if status != 200 or tag not in answer or "client-" in answer:
            wrong.append(f"{route}, a right body: {status} {answer[:200]}")
    for route in ROUTES:
        for body in BODIES:
            status, answer = ask(server, route, body)
            if status not in (200, 400) or "client-" in answer:
                wrong.append(f"{route}, {body[:80]!r}: {status} {answer[:200]}")
        for kind in ("application/json; charset=klingon", "text/plain", "multipart/form-data"):
            status, answer = ask(server, route, b"\xff{}", {"Content-Type": kind})
            if status != 400:
                wrong.append(f"{route} as {kind}: {status} {answer[:200]}")
    return wrong


def client(server: Server, name: str, colour: str, rounds: int) -> list[str]:
    """Run a client's prompts, one after another; return messages that are not its own.

    Args:
        name: in all of its texts and nowhere else, such as "client-a".
        colour: that its pictures have.
    """
    wrong = []
    with server.watch() as watch:
        for turn in range(rounds):
            graph = Graph()
            models = graph.model("image8", prior_std=0.0)
            drawn = graph.add(
                "ImpactWildcardProcessor", wildcard_text=f"{{{name} one|{name} two}} {turn}",
                populated_text="", mode="populate", seed=turn,
            )[0]  # fmt: skip
            segs = graph.segs(64, 64, {"bbox": [8, 8, 56, 56], "mask": "full"})
            image = graph.detail(
                "DetailerForEach", graph.plain(64, 64, turn), segs, models, positive=colour,
                wildcard=colour, seed=turn, steps=2,
            )[0]  # fmt: skip
            for what, link in (("text", drawn), ("image", image)):
                graph.add("DetailersTestSave", value=link, name=f"{name}-{what}")
            done = server.run(graph, watch=watch)
            if not done.ok:
                wrong.append(f"{name}: {done.error or done.messages}")
                continue
            said = str(server.result(f"{name}-text")["s0"])
            if said not in (f'"{name} one {turn}"', f'"{name} two {turn}"'):
                wrong.append(f"{name} got the text {said}")
            seen = server.result(f"{name}-image")["t0"][0, 32, 32]
            if int(seen.argmax()) != ("red", "green", "blue").index(colour):
                wrong.append(f"{name} got the colour {seen}")
        texts = [event for event in watch.of("detailers-populated") if name in str(event.data)]
        if len(texts) != rounds:
            wrong.append(f"{name} heard of {len(texts)} texts of {rounds}")
        for event in watch.events:
            if "client-" in str(event.data).replace(name, ""):
                wrong.append(f"{name} heard of another: {event}")
    return wrong


def two_clients(server: Server, rounds: int) -> list[str]:
    """Run two clients at once while every route is asked; return the faults, also of the log."""
    seen = len(server.log())
    wrong: list[str] = []

    def work(name: str, colour: str) -> None:
        try:
            wrong.extend(client(server, name, colour, rounds))
        except Exception as error:  # told with the rest
            wrong.append(f"{name}: {error!r}")

    threads = [
        threading.Thread(target=work, args=names)
        for names in (("client-a", "red"), ("client-b", "green"))
    ]
    for thread in threads:
        thread.start()
    turn = 0
    while turn == 0 or any(thread.is_alive() for thread in threads):
        wrong += ask_all(server, turn)
        turn += 1
    for thread in threads:
        thread.join()
    log = server.log()[seen:]
    for sign in ("Traceback", "Error handling request", "Unhandled"):
        if sign in log:
            wrong.append(f"the log: {log[max(0, log.index(sign) - 300) :][:2000]}")
    return wrong


# The command


def row(figures: Figures) -> str:
    """A line of the table."""
    left = ", ".join(figures.left) or "nothing"
    cells = (
        f"{figures.prompts}", f"{figures.megabytes:.0f}", f"{figures.history:.0f}",
        f"{figures.files}", f"{figures.strays}", f"{figures.patchers}", f"{figures.models}", left,
        f"{figures.probe:.3f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEAD = (
    "prompts", "memory MB", "history MB", "open files", "stray files", "patchers", "models",
    "left on the model", "probe s",
)  # fmt: skip


def main() -> int:
    args = options.bench_soak().parse_args()
    faults: list[str] = []
    with Server(args.comfyui, args.python, project_packs()) as server:
        soak, measured = Soak(server, args.seed), []
        print(f"| {' | '.join(HEAD)} |\n|{' ---: |' * len(HEAD)}", flush=True)
        for mark in sorted({*(m for m in MARKS if m < args.prompts), args.prompts}):
            soak.run(mark - soak.prompts)
            measured.append(soak.measure())
            print(row(measured[-1]), flush=True)
        faults += soak.faults
        for last in measured[1:]:
            faults += growth(measured[0], last)
        print(
            "\n| detailer | interrupted | in time | different afterwards |\n| --- |" + " ---: |" * 3
        )
        draw = random.Random(args.seed)  # noqa: S311 - repeatable, no secret
        for kind in INTERRUPTED if args.interrupts else ():
            found = interrupt(server, kind, args.interrupts, draw)
            print(
                f"| {kind} | {found.asked} | {found.came_in_time} | {found.different} |", flush=True
            )
            if found.different:
                faults.append(f"{kind}: {found.different} pictures differ after an interrupt")
        wrong = two_clients(server, args.rounds)
        print(
            f"\nTwice {args.rounds} prompts of two clients beside all routes: {len(wrong)} faults"
        )
        faults += wrong
    print(*(f"FAULT: {fault}" for fault in faults), sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
