"""Editor-format workflows, made into prompts by the host's own editor in headless Chromium.

What the editor saves is its view of a graph: values lie in widgets without names, subgraphs are
folded, nodes may be muted or bypassed, and extensions of packs change what is sent. Only the editor
with these extensions knows the prompt, so it is asked, and nothing is guessed. Needs the package
playwright and a Chromium or Chrome of the system.
"""

from __future__ import annotations

import shutil
from typing import Any

from .faults import Problem

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
BY_HAND = (
    "Or open it in ComfyUI's editor, choose File > Export (API), and give that file to --workflow."
)
READY = """() => window.app?.graph && window.app.extensionManager
    && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50"""
CONVERT = """async (workflow) => {
    const quiet = {showMissingNodesDialog: false, showMissingModelsDialog: false,
        silentAssetErrors: true};
    await window.app.loadGraphData(workflow, true, true, null, quiet);
    const known = window.LiteGraph.registered_node_types;
    const missing = new Set();
    const visit = (graph) => {
        for (const node of graph.nodes ?? graph._nodes) {
            if (!node.subgraph && !(node.type in known)) missing.add(node.type);
            if (node.subgraph) visit(node.subgraph);
        }
    };
    visit(window.app.graph);
    await new Promise((done) => setTimeout(done, 200));  // what extensions do after loading
    return {missing: [...missing], prompt: (await window.app.graphToPrompt()).output};
}"""


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome of the system."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def converted(url: str, content: dict, timeout: float = 120.0) -> dict[str, dict]:
    """The prompt that the editor at `url` makes of a workflow.

    Args:
        timeout: seconds for any one step of the page.

    Raises:
        Problem: there is no Chromium, the editor does not open, or it does not know a node.
    """
    browser = find_chromium()
    if browser is None:
        raise Problem(
            "The workflow is in the editor's format, and only ComfyUI's editor can make a prompt "
            "of it; that needs a Chromium or Chrome on the PATH, such as from `apt-get install "
            f"chromium`. {BY_HAND}"
        )
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise Problem(
            "The workflow is in the editor's format; to have ComfyUI's editor make a prompt of it, "
            f"install the package playwright: pip install playwright. {BY_HAND}"
        ) from error
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
            found = _ask(chromium, url, content, timeout)
    except Error as error:
        text = str(error).strip().splitlines()[0]
        raise Problem(
            f"ComfyUI's editor at {url} did not open the workflow: {text}. {BY_HAND}"
        ) from error
    if found["missing"]:
        raise Problem(
            f"ComfyUI does not know these nodes of the workflow: {', '.join(found['missing'])}. "
            "Install the packs that they are from, or name their folders with --pack."
        )
    if not found["prompt"]:
        raise Problem("--workflow: the workflow holds nothing that runs.")
    return found["prompt"]


def _ask(chromium: Any, url: str, content: dict, timeout: float) -> dict:
    page = chromium.new_page()
    page.set_default_timeout(timeout * 1000)
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_function(READY)
    page.wait_for_timeout(500)  # what extensions do by themselves after the start
    page.keyboard.press("Escape")  # closes what greets a new user
    return page.evaluate(CONVERT, content)
