"""batch/client.py: a server that answers garbage, half or never does no harm."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from detailers.batch.client import Client, File, History, Refused, read_history, wait_for
from detailers.batch.faults import Problem, ServerFault, UnitFault
from detailers.batch.worker import _Line

ID = "00000000-0000-0000-0000-000000000001"


class Odd:
    """A server that answers each path as it is told."""

    def __init__(self):
        answers = self.answers = {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = answers.get(self.path.partition("?")[0], b"")
                status, length = 200, None
                if isinstance(answer, tuple):
                    status, answer, *length = answer
                if callable(answer):
                    answer(self)
                    return
                if not isinstance(answer, bytes):
                    answer = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(length[0] if length else len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.client = Client(f"http://127.0.0.1:{self.server.server_port}", answer=0.5)


@pytest.fixture(scope="module")
def odd():
    own = Odd()
    yield own
    own.server.shutdown()


@pytest.fixture(autouse=True)
def cleared(odd):
    odd.answers.clear()


def silent(handler):
    time.sleep(2)


def dripping(handler):
    """An answer that goes on and on, a byte at a time."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.1)
    except OSError:
        pass


def closed(handler):
    handler.connection.close()


GARBAGE = [
    b"\x00\xff<html>", b"", b"nul", [], "text", 5, None, {"a": 1}, (500, b"no"), (404, {}),
    (200, b'{"cut', 999), silent, dripping, closed,
]  # fmt: skip


@pytest.mark.parametrize("answer", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_a_fault_of_the_server_within_the_time_limit(odd, answer):
    odd.answers.update(
        dict.fromkeys(("/system_stats", "/object_info", "/queue", "/prompt"), answer)
    )
    began = time.monotonic()
    assert not odd.client.is_up()
    for call in (
        odd.client.object_info,
        lambda: odd.client.standing(ID),
        lambda: odd.client.queue({}, {}, ID),
    ):
        with pytest.raises(ServerFault):
            call()
    assert time.monotonic() - began < 20


HISTORIES = [
    None, [], {}, "x", 5, {"status": None, "outputs": {}}, {"status": {}, "outputs": {}},
    {"status": {"messages": [1], "status_str": "success"}, "outputs": {}},
    {"status": {"messages": [], "status_str": "success"}, "outputs": []},
    {"status": {"messages": [], "status_str": "success"}, "outputs": {"3": []}},
    {"status": {"messages": [["execution_error", {}]], "status_str": "error"}, "outputs": {}},
    {"status": {"messages": [], "status_str": "success"},
     "outputs": {"3": {"images": [{"filename": 5, "subfolder": "", "type": "output"}]}}},
]  # fmt: skip


@pytest.mark.parametrize("entry", HISTORIES, ids=range(len(HISTORIES)))
def test_a_history_that_is_none_is_a_fault_of_the_server(odd, entry):
    odd.answers[f"/history/{ID}"] = {ID: entry}
    with pytest.raises(ServerFault):
        odd.client.look(ID)


def test_what_a_prompt_saved_and_how_long_it_took():
    shown = {"images": [{"filename": "a.png", "subfolder": "s", "type": "output"},
                        {"filename": "b.png", "subfolder": "", "type": "temp"}],
             "animated": [True]}  # fmt: skip
    messages = [
        ["execution_start", {"timestamp": 1000}],
        ["execution_success", {"timestamp": 3500}],
    ]
    entry = {"status": {"status_str": "success", "messages": messages}, "outputs": {"3": shown}}
    assert read_history("", entry) == History(
        (File("3", "a.png", "s", "output"),), {"3": shown}, 2.5
    )
    messages[1][1]["timestamp"] = 500  # the server's clock was set back
    assert read_history("", entry).seconds == 0


def test_a_prompt_that_failed_says_where():
    error = {"node_id": 7, "node_type": "KSampler", "exception_type": "RuntimeError",
             "exception_message": "out of memory\n"}  # fmt: skip
    entry = {
        "status": {"status_str": "error", "messages": [["execution_error", error]]},
        "outputs": {},
    }
    with pytest.raises(UnitFault, match=r"^node 7 KSampler: RuntimeError: out of memory$"):
        read_history("", entry)


def test_a_refused_prompt_names_the_nodes(odd):
    errors = {"4": {"class_type": "Loader", "errors": [{"message": "Not in list", "details": "x"}]}}
    odd.answers["/prompt"] = (400, {"error": {"message": "failed", "details": ""},
                                    "node_errors": errors})  # fmt: skip
    with pytest.raises(Refused, match=r"failed; node 4 Loader: Not in list: x") as caught:
        odd.client.queue({}, {}, ID)
    assert caught.value.nodes == {"4"}


def test_a_prompt_that_the_server_has_lost_is_told(odd):
    odd.answers |= {f"/history/{ID}": {}, "/queue": {"queue_running": [], "queue_pending": []}}
    with pytest.raises(ServerFault, match="has lost the prompt") as caught:
        wait_for(odd.client, ID, 9)
    assert not caught.value.running


def test_a_prompt_that_runs_for_too_long_is_told(odd):
    odd.answers |= {
        f"/history/{ID}": {},
        "/queue": {"queue_running": [[0, ID, {}]], "queue_pending": []},
    }
    with pytest.raises(ServerFault, match=r"has not finished in 0\.2 s") as caught:
        wait_for(odd.client, ID, 0.2)
    assert caught.value.running


def test_time_in_the_queue_does_not_count(odd):
    odd.answers |= {
        f"/history/{ID}": {},
        "/queue": {"queue_running": [], "queue_pending": [[0, ID, {}]]},
    }
    began = time.monotonic()
    with pytest.raises(ServerFault, match="stopped"):
        wait_for(odd.client, ID, 0.1, lambda: time.monotonic() - began > 0.5)


@pytest.mark.parametrize(
    "answer", [(200, b"half", 99), (404, b"no"), b"", closed, silent], ids=range(5)
)
def test_a_result_that_does_not_come_whole_is_a_fault_of_the_server(odd, answer, tmp_path):
    odd.answers["/view"] = answer
    with pytest.raises(ServerFault):
        odd.client.fetch(File("3", "a.png", "", "output"), tmp_path / "a", 9)


def test_a_server_that_is_not_there():
    with pytest.raises(ServerFault, match="cannot be reached"):
        Client("http://127.0.0.1:9", 1).object_info()


@pytest.mark.parametrize("url", ["", "ftp://a", "http://", "http://a:b", "http://a:99999"])
def test_addresses_that_are_none(url):
    with pytest.raises(Problem, match="is no address"):
        Client(url)


def test_short_addresses():
    assert Client("gpu7:8188").url == "http://gpu7:8188"
    assert Client("https://gpu7/comfy/").url == "https://gpu7/comfy"


def test_of_the_units_in_a_server_that_dies_the_one_in_front_was_run():
    line = _Line()
    for unit in (1, 2, 3):
        line.queue(unit)
    line.ended(1)
    assert [line.failed(3), line.failed(2)] == [False, True]
    line.queue(4)  # on the server that was started anew
    assert line.failed(4)
