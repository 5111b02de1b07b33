"""Texts from a client can name no file outside the host's folders, and run nothing."""

import json
import os
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from detailers.dev.server import PromptRefused
from detailers.tests.host.graphs import Graph
from PIL import Image

SECRET = (12, 34, 56, 0)


@pytest.fixture(scope="module")
def secret(server, tmp_path_factory):
    """Ways to a picture beside the host's folders, as values of a file input."""
    picture = Image.new("RGBA", (6, 4), SECRET)
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    picture.save(outside)
    picture.save(server.base / "secret.png")
    os.symlink(outside, server.input / "link.png")
    os.symlink(outside.parent, server.input / "folder")
    os.symlink("circle.png", server.input / "circle.png")
    return [
        str(outside), f"{outside} [input]", f"/../{outside}",
        "../secret.png", "../secret.png [input]", "../secret.png [temp]",
        "..\\secret.png [output]", "a/../../secret.png",
        "link.png [input]", "folder/secret.png", "circle.png", "secret.png [models]",
        "secret.png [..]", "x\0.png", "x" * 5000, "", ".", "..", "[input]", "/ [input]",
        "file:///etc/passwd", "{'filename': '../secret.png', 'type': 'input'}",
        "{'filename': 'secret.png', 'subfolder': '..', 'type': 'temp'}",
        "{'filename': 'secret.png', 'type': 'models'}", "__import__('os').getcwd()",
        "//host/share/secret.png", "\\\\host\\share\\secret.png", "\\\\?\\C:\\secret.png [temp]",
    ]  # fmt: skip


def bridge(graph, value):
    node = {"images": graph.image(6, 4), "image": value}
    return graph.add("PreviewBridge", **node)


def receiver(graph, value, data=""):
    rest = {"link_id": 0, "save_to_workflow": bool(data), "trigger_always": False}
    return graph.add("ImageReceiver", image=value, image_data=data, **rest)


def latent_receiver(graph, value):
    return graph.add("LatentReceiver", latent=value, link_id=0, trigger_always=False)


def test_a_bridge_opens_nothing_outside(secret, server, run):
    for value in secret:
        graph = Graph()
        node = bridge(graph, value)
        graph.add("DetailersTestSave", value=node[1], name="mask")
        (shown,) = run(graph).outputs[node.key]["images"]
        assert server.result("mask")["t0"].sum() == 0, value
        assert shown["filename"].startswith("PreviewBridge"), value


@pytest.mark.parametrize("make", [receiver, latent_receiver])
def test_a_receiver_opens_nothing_outside(secret, server, make):
    for value in secret:
        graph = Graph()
        graph.add("DetailersTestSink", value=make(graph, value)[0])
        with pytest.raises(PromptRefused, match="there is no such file"):
            server.run(graph)


def test_the_ways_would_lead_to_the_picture(secret, server, results):
    """The check of the checks: the same picture inside is opened."""
    Image.new("RGBA", (6, 4), SECRET).save(server.input / "open.png")
    graph = Graph()
    out = results(graph, mask=bridge(graph, "open.png")[1], image=receiver(graph, "open.png")[0])
    assert out["mask"]["t0"].all()
    np.testing.assert_allclose(out["image"]["t0"][0, 0, 0] * 255, SECRET[:3], atol=1e-3)


@pytest.mark.parametrize("prefix", ["../../up/a", "/tmp/up/a", "a/../../../up/a", "//host/up/a",
                                    "\\\\host\\up\\a", "up\0a", "up/" * 2000 + "a"])  # fmt: skip
def test_a_sender_writes_nothing_outside(server, prefix):
    before = {path for path in server.base.rglob("*") if "up" in path.parts}
    graph = Graph()
    graph.add("ImageSender", images=graph.image(4, 4), filename_prefix=prefix, link_id=0)
    assert not server.run(graph).ok
    graph = Graph()
    sends = {"filename_prefix": prefix, "link_id": 0, "preview_method": "Latent2RGB-SD15"}
    graph.add("LatentSender", samples=graph.empty_latent(32, 32), **sends)
    assert not server.run(graph).ok
    assert {path for path in server.base.rglob("*") if "up" in path.parts} == before


def test_a_file_of_another_kind_runs_nothing(server):
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(server.base / "evil"),))

    for name in ("evil.latent", "evil.latent.png", "evil.png"):
        (server.input / name).write_bytes(pickle.dumps(Evil()))
        graph = Graph()
        make = receiver if name == "evil.png" else latent_receiver
        graph.add("DetailersTestSink", value=make(graph, name)[0])
        assert not server.run(graph).ok
    assert not (server.base / "evil").exists()


def test_huge_pictures_and_odd_latents_are_clear_errors(server, results):
    from detailers.tests.test_picture_file import png

    (server.input / "bomb.png").write_bytes(png(50000, 50000))
    (server.input / "cut.png").write_bytes(png(40, 40)[:60])
    (server.input / "none.latent").write_bytes(b"\x02" + bytes(7) + b"{}")
    Image.new("I;16", (6, 4), 13107).save(server.input / "deep.png")
    os.mkfifo(server.input / "pipe.latent")
    for make, name, words in (
        (receiver, "bomb.png", "'image' is 'bomb.png', a picture that cannot be used"),
        (receiver, "cut.png", "'image' is 'cut.png', a picture that cannot be used"),
        (latent_receiver, "none.latent", "in which no latent is found (it holds other things)"),
    ):
        graph = Graph()
        graph.add("DetailersTestSink", value=make(graph, name)[0])
        assert words in server.run(graph).error.message
    graph = Graph()
    graph.add("DetailersTestSink", value=latent_receiver(graph, "pipe.latent")[0])
    with pytest.raises(PromptRefused, match="there is no such file"):
        server.run(graph)
    graph = Graph()
    out = results(graph, bomb=bridge(graph, "bomb.png")[1], deep=bridge(graph, "deep.png")[1])
    assert not out["bomb"]["t0"].any() and not out["deep"]["t0"].any()


def test_a_text_that_is_no_picture_is_refused(server):
    for data in ("data:image/png;base64," + "A" * 2_000_000, "data:text/html,<b>", "data:"):
        graph = Graph()
        graph.add("DetailersTestSink", value=receiver(graph, "gone.png", data)[0])
        assert "'image_data' holds no picture" in server.run(graph).error.message


def test_our_routes_take_no_huge_or_broken_bodies(server):
    huge = {"1": {"class_type": "X" * (120 * 1024 * 1024), "inputs": {}}}
    with pytest.raises((urllib.error.HTTPError, OSError)):
        server.post("/detailers/upgrade", huge)
    for body in ([], "text", None, 5, {"1": None}, {"1": {"class_type": []}}, {"1": {"inputs": 3}}):
        assert server.post("/detailers/upgrade", body)["changed"] == []
    assert server.get("/system_stats")  # it still answers


JSON = {"Content-Type": "application/json"}
NO_JSON = [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"prompt": nul}']


def status_of(server, path, body, headers=JSON):
    """The status of an answer, and what it says."""
    request = urllib.request.Request(server.url + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("path", ["/prompt", "/api/prompt", "/detailers/upgrade"])
def test_what_is_no_json_is_refused(server, path):
    for body in NO_JSON:
        code, text = status_of(server, path, body)
        assert (code, "The body is no JSON" in text) == (400, True), body
    unknown = {"Content-Type": "application/json; charset=klingon"}
    assert status_of(server, path, b"{}", unknown)[0] == 400


def test_a_body_that_is_no_prompt_is_refused(server):
    strange = [
        [], None, 5, "x", {"prompt": []}, {"prompt": 5}, {"prompt": {"1": None}},
        {"prompt": {"1": {"class_type": ["X"], "inputs": {}}}},
        {"prompt": {"1": {"class_type": "X", "inputs": 7}}},
        {"prompt": {}, "extra_data": 7}, {"prompt": {}, "client_id": ["x"]}, {},
    ]  # fmt: skip
    for body in strange:
        code, text = status_of(server, "/prompt", json.dumps(body).encode())
        assert code == 400, body
        assert json.loads(text)["error"]["message"], body
    assert server.get("/queue") == {"queue_running": [], "queue_pending": []}


class HeldFile:
    """A wildcard file that whoever reads it waits for, until it is let go."""

    def __init__(self, server, name, content):
        graph = Graph()
        graph.add("DetailersTestSlowFiles")
        server.run(graph)
        self.path = server.base / "models" / "wildcards" / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.waiting = self.path.with_name(name + ".held")  # see the test pack's slow files
        self.asked = self.path.with_name(name + ".asked")
        self.waiting.touch()
        self.path.write_bytes(content)

    def wait_until_asked(self):
        end = time.monotonic() + 30
        while not self.asked.exists():
            assert time.monotonic() < end, "nobody reads the file"
            time.sleep(0.02)

    def let_go(self):
        self.waiting.unlink(missing_ok=True)

    def remove(self):
        self.let_go()
        self.asked.unlink(missing_ok=True)
        self.path.unlink()


@pytest.mark.parametrize(
    ("what", "name", "content"),
    [
        ("/prompt", "slowly.txt", b"red"),
        ("/prompt", "slowly.yaml", b"slowly: [red]"),
        ("/detailers/upgrade", "slowly.yaml", b"slowly: [red]"),
        ("/object_info", "slowly.yaml", b"slowly: [red]"),
    ],
)
def test_the_server_answers_others_while_a_wildcard_file_is_read(server, what, name, content):
    graph = Graph()
    texts = {"wildcard_text": "a __slowly__ dog", "populated_text": "", "mode": "populate"}
    node = graph.add("ImpactWildcardProcessor", **texts, seed=3)
    graph.add("DetailersTestSave", value=node[0], name="slowly")
    old = Graph()  # its links may have been made in another order: the upgrade asks for types
    source = old.add("FaceDetailer")
    old.add("ImpactWildcardProcessor", wildcard_text=source[1])
    requests = {
        "/prompt": lambda: server.run(graph),
        "/detailers/upgrade": lambda: server.post(what, old),
        "/object_info": lambda: server.object_info("ImpactWildcardProcessor"),
    }
    file = HeldFile(server, name, content)
    with ThreadPoolExecutor() as pool:
        request = pool.submit(requests[what])
        try:
            file.wait_until_asked()
            time.sleep(0.2)
            assert not request.done()  # it waits for the file
            with urllib.request.urlopen(server.url + "/queue", timeout=20) as answer:
                assert answer.status == 200
            assert not request.done()
            file.let_go()
            result = request.result(60)
        finally:
            file.remove()
    if what == "/prompt":
        assert str(server.result("slowly")["s0"]) == '"a red dog"'
    elif what == "/object_info":
        choices = result["input"]["required"]["Select to add Wildcard"][0]
        assert "__slowly__" in choices


def test_broken_prompts_do_no_harm(server):
    nodes = ["ImpactSwitch", "ImpactInversedSwitch", "ImpactRemoteInt", "ImpactControlBridge"]
    for inputs in ({}, None, [], {"select": [], "sel_mode": True, "node_id": {}, "cond": None}):
        prompt = {str(i): {"class_type": name, "inputs": inputs} for i, name in enumerate(nodes)}
        body = {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": {"nodes": 5}}}}
        with pytest.raises(urllib.error.HTTPError):
            server.post("/prompt", body)
    assert json.dumps(server.get("/queue")) == '{"queue_running": [], "queue_pending": []}'
