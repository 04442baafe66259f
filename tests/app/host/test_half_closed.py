"""Clients that say that they have sent all, and wait: `nc -N`, shutdown(SHUT_WR)."""

import json
import socket
import time
from pathlib import Path

import pytest

from tests.support import stand_in_model as stand_in
from tests.support.raw_http import read_answer
from tests.support.running import Server, running
from tests.support.scenarios import until
from tests.support.stand_in_bundle import make_bundle

HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
PREDICT = b"POST /predict?ids=1,9,2" + HEAD + b"Content-Length: 0\r\n\r\n"
PREDICT_SLOWLY = b"POST /predict?ids=%d,2" % stand_in.SLOW + HEAD + b"Content-Length: 0\r\n\r\n"


def ask_and_end(server: Server, request: bytes) -> bytes:
    """Everything that comes after a request that nothing will follow."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            return stream.read()


def without_interim(answer: bytes) -> bytes:
    head, _, rest = answer.partition(b"\r\n\r\n")
    return rest if head.startswith(b"HTTP/1.1 100 ") else answer


def test_an_answer_comes_after_the_end_of_asking(shared: Server) -> None:
    status, _, body = read_answer(without_interim(ask_and_end(shared, PREDICT)))
    assert (status, json.loads(body)) == (200, {"rows": [1, 9, 2]})


def test_an_answer_of_http_1_0_comes_too(shared: Server) -> None:
    status, _, _ = read_answer(ask_and_end(shared, PREDICT.replace(b"1.1", b"1.0", 1)))
    assert status == 200


def test_all_requests_on_a_connection_are_answered(shared: Server) -> None:
    answers = ask_and_end(shared, PREDICT * 5 + b"GET /health" + HEAD + b"\r\n")
    assert answers.count(b"HTTP/1.1 200 ") == 6


def test_an_answer_that_takes_long_comes_too(shared: Server) -> None:
    answer = ask_and_end(shared, PREDICT_SLOWLY)
    assert read_answer(without_interim(answer))[0] == 200


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (b"GET /health HTTP/1.1\r\nHos", "It ended within its headers, after 25 bytes."),
        (
            b"POST /swallow" + HEAD + b"Content-Length: 10\r\n\r\nACG",
            "Its body ended after 3 of the 10 bytes that its Content-Length announces.",
        ),
        (
            b"POST /swallow" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nACG\r\n9\r\nTA",
            "Its body ended after 5 bytes, before its last chunk.",
        ),
    ],
    ids=["headers", "length", "chunks"],
)
def test_a_request_that_breaks_off_is_told(shared: Server, request_: bytes, said: str) -> None:
    status, _, body = read_answer(ask_and_end(shared, request_))
    problem = json.loads(body)
    assert (status, problem["code"]) == (400, "request.cut_short")
    assert problem["detail"].startswith(said)
    both = ask_and_end(shared, PREDICT + request_)
    assert (both.count(b"HTTP/1.1 200 "), both.count(b"HTTP/1.1 400 ")) == (1, 1)
    assert said.encode() in both


def test_a_client_that_has_left_is_noticed_while_others_work(tmp_path: Path) -> None:
    with running(GENA_BUNDLE=str(make_bundle(tmp_path / "bundle"))) as server:
        server.wait_for("ready")
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(PREDICT_SLOWLY.replace(b"?", b"?repeat=1000&"))
            time.sleep(0.5)
        until(lambda: "route=/predict status=499" in server.text, "its work is ended")


def test_an_empty_connection_is_closed(shared: Server) -> None:
    assert ask_and_end(shared, b"") == b""
