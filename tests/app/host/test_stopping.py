"""SIGTERM in an unlucky moment: what is not answered is told, and the end is orderly."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.raw_http import read_answer
from tests.support.running import STAND_IN_SERVER, Server, running
from tests.support.scenarios import until
from tests.support.stand_in_bundle import make_bundle

GRACE_SECONDS = 0.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    bundle = make_bundle(tmp_path / "bundle")
    with running(GENA_BUNDLE=str(bundle), GENA_GRACE_SECONDS=str(GRACE_SECONDS)) as server:
        server.wait_for("ready")
        yield server


@contextmanager
def connected(server: Server, sends: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(sends)
        yield connection


def assert_told(answer: bytes) -> None:
    status, headers, body = read_answer(answer)
    assert (status, json.loads(body)["code"]) == (503, "server.stopping")
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"


def assert_orderly_end(server: Server) -> None:
    assert server.wait() == 0
    assert "Traceback" not in server.text
    assert "ERROR" not in server.text


@pytest.mark.parametrize("path", ["/swallow", "/features"])
def test_half_a_body_is_told(server: Server, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nACGT"
    with connected(server, head.encode()) as half:
        server.health()
        server.process.send_signal(signal.SIGTERM)
        with half.makefile("rb") as stream:
            assert_told(stream.read())
    assert_orderly_end(server)


def test_a_body_that_still_comes_is_told(server: Server) -> None:
    head = b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with connected(server, head) as slow:
        server.health()
        server.process.send_signal(signal.SIGTERM)
        slow.settimeout(0.05)
        answer = b""
        while not answer:
            slow.sendall(b"ACGT")
            try:
                answer = slow.recv(100_000)
            except TimeoutError:
                continue
        slow.settimeout(30)
        with slow.makefile("rb") as rest:
            assert_told(answer + rest.read())
    assert_orderly_end(server)


def test_work_that_does_not_end_is_told(server: Server) -> None:
    with connected(
        server, b"POST /endless HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    ) as waiting:
        server.health()
        server.process.send_signal(signal.SIGTERM)
        with waiting.makefile("rb") as stream:
            assert_told(stream.read())
    assert_orderly_end(server)


@pytest.mark.parametrize("sends", [b"", b"POST /swallow HTTP/1.1\r\nHo"], ids=["nothing", "half"])
def test_a_connection_without_a_request_is_not_waited_for(server: Server, sends: bytes) -> None:
    with connected(server, sends):
        server.health()
        server.process.send_signal(signal.SIGTERM)
        assert_orderly_end(server)


def test_requests_on_their_way_are_answered(server: Server) -> None:
    answers: list[bytes] = []

    def ask_until_refused() -> None:
        request = (
            b"POST /predict?ids=1,9,2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        with suppress(ConnectionRefusedError):
            while True:
                with connected(server, request) as client, client.makefile("rb") as stream:
                    answers.append(stream.read()[9:12])

    with ThreadPoolExecutor(16) as clients:
        asking = [clients.submit(ask_until_refused) for _ in range(16)]
        until(lambda: len(answers) > 100, "they ask")
        server.process.send_signal(signal.SIGTERM)
        lost = [each for each in asking if each.exception() is not None]
    assert set(answers) <= {b"200", b"503"}
    # One may connect in the instant between the last look and the end of the socket.
    assert len(lost) <= 1
    assert_orderly_end(server)


def test_an_answer_that_is_not_taken_is_cut_off(server: Server) -> None:
    body = b"A" * 100_000
    head = (
        "POST /features?format=npy&overflow=window HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connected(server, head.encode() + body) as stalled:
        assert stalled.recv(15) == b"HTTP/1.1 200 OK"
        server.process.send_signal(signal.SIGTERM)
        server.wait()
    assert "Traceback" not in server.text


@pytest.mark.parametrize("pause", [0.1, 0.2, 0.3, 0.4])
def test_a_second_signal_never_ends_the_process_by_itself(server: Server, pause: float) -> None:
    server.process.send_signal(signal.SIGTERM)
    time.sleep(pause)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() in (0, 128 + signal.SIGTERM)


def test_the_end_of_its_terminal_is_an_orderly_end(server: Server) -> None:
    """The shell and the system tell it, so that the signal comes twice."""
    request = b"POST /predict?ids=1,304,2&repeat=2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(server, request) as client, client.makefile("rb") as stream:
        until(lambda: "gena_open_flows 1" in server.http.get("/metrics").text, "it is computed")
        for _ in range(2):
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert stream.read(15) == b"HTTP/1.1 200 OK"
    assert_orderly_end(server)


def test_nohup_outlasts_the_terminal(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    command = ("sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *STAND_IN_SERVER)
    with running(command, GENA_BUNDLE=str(bundle)) as server:
        server.wait_for("ready")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert server.health()["status"] == "ready"
        assert server.stop() == 0
