"""The real graph editor of each ComfyUI version, open on a server with this pack in it."""

import os
import shutil
from pathlib import Path

import pytest
from detailers.dev.demo import PHOTO
from detailers.dev.editor import NO_CHROMIUM, Editor, find_chromium
from detailers.dev.server import Server, configured_hosts, project_packs

HERE = Path(__file__).parent
HOSTS = configured_hosts()
# The editors to test: of each host its own, and the newest one on the host that has it.
EDITORS = {label: (host, []) for label, host in HOSTS.items()}
for host in HOSTS.values():
    if host.newest_frontend:
        EDITORS["newest"] = host, ["--front-end-root", str(host.newest_frontend)]

# The first editor is tested with both ways of drawing nodes, the others with the usual one.
USUAL_RENDERERS = {"oldest": "canvas", "newest": "vue"}


@pytest.hookimpl(tryfirst=True)  # before those that are to be tried once are chosen
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.editor)
            if _is_rare(item):
                item.add_marker(pytest.mark.once)


def _is_rare(item):
    """Whether its way of drawing nodes is the one that few people use in this editor."""
    drawn = {str(value).lower() for value in item.callspec.params.values()} & {"canvas", "vue"}
    usual = USUAL_RENDERERS.get(item.callspec.params["editor"])
    return usual is not None and bool(drawn - {usual})


def cannot_run(reason):
    """Skip, or fail where DETAILERS_REQUIRE_EDITOR asks for the editor tests."""
    if os.environ.get("DETAILERS_REQUIRE_EDITOR"):
        pytest.fail(f"the editor tests must run here: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session", params=EDITORS or ["no host"])
def editor(request):
    """The editor page; `editor.server` is the server behind it."""
    if not EDITORS:
        cannot_run("needs a ComfyUI: `python run.py test` fetches it and runs the tests")
    if find_chromium() is None:
        cannot_run(NO_CHROMIUM)
    host, args = EDITORS[request.param]
    server = Server(host.tree, host.python, project_packs(), args=args)
    server.input.mkdir()
    shutil.copy(PHOTO, server.input)  # for an example; the page asks only once what there is
    with server, Editor(server) as editor:
        yield editor


@pytest.fixture(autouse=True)
def one_workflow(editor, request):
    """What a test has loaded does not make the next ones slower; a second try has a fresh page."""
    if getattr(request.node, "execution_count", 1) > 1:
        editor.open()
    yield
    editor.close_others()
