import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tools.demo import main, shape, wait_for_model

ANSWERS = [(503, "converting"), (503, "loading")]


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server whose model is converted, loaded, and then ends as the test says."""
    answers = [*ANSWERS, request.param]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, word = answers.pop(0)
            body = json.dumps({"status": word}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.communicate(b"\n")


@pytest.mark.parametrize("url", [(200, "ready"), (503, "failed")], indirect=True)
def test_the_demo_waits_until_the_model_is_served_or_has_failed(
    url: str,
    process: subprocess.Popen[bytes],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there
    assert wait_for_model(url, process) == request.node.callspec.params["url"][1]


def test_the_shape_of_an_answer_is_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"limits": {"tokens_per_window": 1024}, "bundle": {"hidden_size": 256}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/info"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(info).encode())

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is there
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert shape(f"http://127.0.0.1:{server.server_port}") == "1 x 1024 x 256"
        server.shutdown()


def test_the_demo_does_not_wait_for_a_server_that_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert wait_for_model("http://127.0.0.1:9", child) == "ended"


def test_a_port_with_another_server_is_told_with_the_way_around(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>not what was asked for")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("GENA_PORT", str(server.server_port))
        assert main() == 1
        server.shutdown()
    said = capfd.readouterr().err
    assert said.startswith(f"Port {server.server_port} is taken by another program")
    assert f"GENA_PORT={server.server_port % 65535 + 1} make demo" in said
