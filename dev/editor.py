"""The host's real graph editor in a headless Chromium, for tests.

    with Server(tree, python, packs) as server, Editor(server) as editor:
        editor.load(workflow)
        assert not editor.missing()
        run = editor.queue()

Needs the playwright package and a Chromium or Chrome of the system; playwright's own browser
download is not used.
"""

from __future__ import annotations

import json
import os
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.convert import FLAGS, READY, find_chromium

from .server import PromptRefused, Run, Server

NO_WEB = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # the page must not need it

# Settings without which a new user's first visit opens the tutorial and template dialogs.
NO_GREETING = {"Comfy.TutorialCompleted": True, "Comfy.InstalledVersion": "99.0.0"}

NO_CHROMIUM = (
    "no Chromium found: install one, e.g. `apt-get install chromium` on Debian "
    "or Google Chrome, so that it is on the PATH"
)

# A page that nobody looks at: drawing its frames takes most of its time, so it draws few of them,
# and what turns for as long as something runs turns once.
FEWER_FRAMES = """() => {
    const still = new CSSStyleSheet();
    still.replaceSync("*, ::before, ::after { animation-iteration-count: 1 !important; }");
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, still];

    const pause = 50;  // milliseconds from one frame to the next, at least
    const draw = window.requestAnimationFrame.bind(window);
    let waiting = new Map(), due = new Map(), last = 0, isAsked = false;
    const ask = () => {
        isAsked = true;
        setTimeout(() => draw(onFrame), Math.max(0, last + pause - performance.now()));
    };
    const onFrame = (time) => {
        [due, waiting, isAsked, last] = [waiting, new Map(), false, performance.now()];
        for (const [id, callback] of due) {
            due.delete(id);
            try {
                callback(time);
            } catch (error) {
                reportError(error);
            }
        }
    };
    let count = 0;
    window.requestAnimationFrame = (callback) => {
        waiting.set(++count, callback);
        if (!isAsked) ask();
        return count;
    };
    window.cancelAnimationFrame = (id) => waiting.delete(id) || due.delete(id);
}"""

# The page's own record of runs that have ended, as its extensions hear of them.
RECORD_ENDS = """() => {
    window.endedRuns = new Set();
    for (const end of ["execution_success", "execution_error", "execution_interrupted"]) {
        window.app.api.addEventListener(end, ({detail}) => endedRuns.add(detail.prompt_id));
    }
}"""

SETTLE = """() => new Promise((done) => {
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)));
})"""

CLOSE_OTHERS = """async () => {
    const {workflow} = window.app.extensionManager;
    for (const one of [...workflow.openWorkflows]) {
        if (one !== workflow.activeWorkflow) await workflow.closeWorkflow(one);
    }
}"""

LOAD = """async (workflow) => {
    const quiet = {showMissingNodesDialog: false, showMissingModelsDialog: false,
        silentAssetErrors: true};
    await window.app.loadGraphData(workflow, true, true, null, quiet);
}"""

STATE = """() => {
    const plain = (value) => value === undefined ? null : JSON.parse(JSON.stringify(value));
    const linkInto = LiteGraph.LGraphNode.prototype.getInputLink;  // not that of subgraph nodes
    const nodes = [];
    const visit = (graph, prefix) => {
        const targets = new Map();
        const links = graph.links?.values ? [...graph.links.values()] : Object.values(graph.links);
        for (const {origin_id, origin_slot, target_id, target_slot} of links) {
            const output = `${origin_id} ${origin_slot}`;
            targets.set(output, [...targets.get(output) ?? [], [prefix + target_id, target_slot]]);
        }
        for (const node of graph.nodes ?? graph._nodes) {
            const id = prefix + node.id;
            nodes.push({
                id,
                type: node.type,
                title: node.title ?? node.type,
                known: !!node.subgraph || node.type in window.LiteGraph.registered_node_types,
                widgets: Object.fromEntries(
                    (node.widgets ?? []).map((widget) => [widget.name, plain(widget.value)])),
                inputs: (node.inputs ?? []).map((input, slot) => {
                    const source = linkInto.call(node, slot);
                    return {name: input.name, type: String(input.type),
                        source: source && [prefix + source.origin_id, source.origin_slot]};
                }),
                outputs: (node.outputs ?? []).map((output, slot) => ({
                    name: output.name, type: String(output.type),
                    targets: targets.get(`${node.id} ${slot}`) ?? [],
                })),
            });
            if (node.subgraph) visit(node.subgraph, id + ":");
        }
    };
    visit(window.app.graph, "");
    return nodes;
}"""


@dataclass(frozen=True)
class Slot:
    """An input or output of a node.

    Attributes:
        ends: what it is linked to, as (node id, slot index): the one source of an input, or the
            targets of an output; empty when it is not connected. Inside a subgraph the node
            numbers -10 and -20 are the subgraph's own inputs and outputs.
    """

    name: str
    type: str
    ends: list[tuple[str, int]]


@dataclass(frozen=True)
class Node:
    """A node as the editor holds it.

    Attributes:
        id: its number as text; "5:3" is node 3 inside the subgraph node 5.
        known: whether the host has registered its type.
        widgets: {name: value} as the user sees them.
    """

    id: str
    type: str
    title: str
    known: bool
    widgets: dict[str, Any]
    inputs: list[Slot]
    outputs: list[Slot]


class Editor:
    """The editor page of a running server; a context manager.

    Args:
        server: the ComfyUI to open; not closed by the editor.
        size: viewport (width, height) in pixels.
        timeout: seconds the page may take for any one step.
        browser: that of an open Editor, to share it.

    Attributes:
        browser: the playwright browser.
        page: the playwright page, for everything without a method here.
        console: (kind, text) of every console message; uncaught errors have the kind "pageerror".
    """

    def __init__(
        self,
        server: Server,
        size: tuple[int, int] = (1600, 1000),
        timeout: float = float(os.environ.get("DETAILERS_EDITOR_TIMEOUT", 300)),
        browser: Any = None,
    ):
        self.server = server
        self.size = size
        self.timeout = timeout
        self.browser = browser
        self._playwright: Any = None
        self.console: list[tuple[str, str]] = []

    def __enter__(self) -> Editor:
        self.server.post("/settings", NO_GREETING)
        try:
            if self.browser is None:
                self._launch()
            width, height = self.size
            self.page = self.browser.new_page(viewport={"width": width, "height": height})
            self.page.set_default_timeout(self.timeout * 1000)
            self.page.add_init_script(f"({FEWER_FRAMES})()")
            self.page.on("console", lambda said: self.console.append((said.type, said.text)))
            self.page.on("pageerror", lambda error: self.console.append(("pageerror", str(error))))
            self.open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _launch(self) -> None:
        from playwright.sync_api import sync_playwright

        chromium = find_chromium()
        if chromium is None:
            raise FileNotFoundError(NO_CHROMIUM)
        self._playwright = sync_playwright().start()
        flags = [*FLAGS, NO_WEB]
        self.browser = self._playwright.chromium.launch(executable_path=chromium, args=flags)

    def __exit__(self, *exc_info: object) -> None:
        if self._playwright is not None:
            self._playwright.stop()  # closes the browser too
        elif hasattr(self, "page"):
            self.page.close()

    def open(self) -> None:
        """Open the page, or open it anew, and wait until it knows the host's nodes."""
        self.page.goto(self.server.url, wait_until="domcontentloaded")
        self.page.wait_for_function(READY)
        self.page.evaluate(RECORD_ENDS)
        self.page.wait_for_timeout(500)  # what extensions do by themselves after the start

    def load(self, workflow: dict | str | Path) -> list[Node]:
        """Load a workflow, given as its content or its file, as if it was opened in the menu."""
        if not isinstance(workflow, dict):
            workflow = json.loads(Path(workflow).read_text(encoding="utf-8"))
        self.page.keyboard.press("Escape")  # closes a dialog that an earlier error has left
        self._settle()  # what the key does in a later frame is done to the workflow shown then
        self.page.evaluate(LOAD, workflow)
        self._settle()
        return self.state()

    def close_others(self) -> None:
        """Close all workflows but the one that is shown: each open one makes the page slower."""
        self.page.evaluate(CLOSE_OTHERS)

    def state(self) -> list[Node]:
        """Every node of the graph and, after each subgraph node, those inside it."""
        return [
            Node(
                id=node["id"],
                type=node["type"],
                title=node["title"],
                known=node["known"],
                widgets=node["widgets"],
                inputs=[
                    Slot(slot["name"], slot["type"], [tuple(slot["source"])])
                    if slot["source"]
                    else Slot(slot["name"], slot["type"], [])
                    for slot in node["inputs"]
                ],
                outputs=[
                    Slot(slot["name"], slot["type"], [tuple(end) for end in slot["targets"]])
                    for slot in node["outputs"]
                ],
            )
            for node in self.page.evaluate(STATE)
        ]

    def node(self, id: int | str) -> Node:
        return next(node for node in self.state() if node.id == str(id))

    def missing(self) -> list[str]:
        """The types of the graph's nodes that the host does not have."""
        return sorted({node.type for node in self.state() if not node.known})

    def prompt(self) -> dict[str, dict]:
        """The API-format prompt that the editor would queue."""
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def queue(self, timeout: float = 600) -> Run:
        """Press "Run" and wait for the run's end.

        Raises:
            PromptRefused: the host found the graph not valid.
        """
        with self.page.expect_response(self._is_prompt_post) as caught:
            self.page.evaluate("() => { window.app.queuePrompt(0, 1); }")
        answer = caught.value.json()
        if answer.get("error") or answer["node_errors"]:
            raise PromptRefused(answer.get("error", {}), answer["node_errors"])
        run = self.server.wait(answer["prompt_id"], timeout)
        self.page.wait_for_function("(id) => endedRuns.has(id)", arg=answer["prompt_id"])
        self._settle()
        return run

    def screenshot(self, path: str | Path) -> None:
        """Save what the page shows as a PNG file."""
        self.page.screenshot(path=path)

    def _settle(self) -> None:
        """Wait until the page has done its work after an answer: extension hooks, drawing."""
        self.page.evaluate(SETTLE)

    @staticmethod
    def _is_prompt_post(response: Any) -> bool:
        path = urllib.parse.urlparse(response.url).path
        return response.request.method == "POST" and path == "/api/prompt"
