"""HTTP/1.1 byte by byte: forms of a request's target, two ends of one body, what is not HTTP."""

import json
import socket
import uuid

import pytest

from tests.support.raw_http import exchange
from tests.support.running import Server
from tests.support.scenarios import until

DNA = b"ACGTTGCAACGTTGCA"


def log_since(server: Server, before: int) -> str:
    """The log after its first `before` characters, up to a request that is made now."""
    mark = uuid.uuid4().hex
    server.http.get("/info", headers={"X-Request-ID": mark})
    until(lambda: mark in server.text, "the log has arrived")
    return server.text[before:]


def assert_quiet(log: str) -> None:
    """Neither a fault of the service nor what was sent."""
    assert "Traceback" not in log
    assert "ACGT" not in log


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://127.0.0.1:{port}/health", 200),
        ("HTTP://LocalHost/health", 200),
        ("http://localhost/static/none.js", 404),
        ("http://localhost", 200),
        ("http://localhost?a=b", 200),
        ("https://[::1]:8000/health", 200),
    ],
)
def test_the_absolute_form_names_a_path(shared: Server, target: str, status: int) -> None:
    line = f"GET {target.format(port=shared.port)} HTTP/1.1\r\n".encode()
    answered, _, _ = exchange(shared, line + b"Host: localhost\r\nConnection: close\r\n\r\n")
    assert answered == status


def test_the_absolute_form_has_a_query(shared: Server) -> None:
    status, _, body = exchange(
        shared,
        b"POST http://localhost/predict?ids=1,9,2 HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 0\r\nConnection: close\r\n\r\n",
    )
    assert (status, json.loads(body)) == (200, {"rows": [1, 9, 2]})


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.example/health", "localhost", 421),
        ("http://localhost/health", "evil.example", 200),
        ("http://user@localhost/health", "localhost", 421),
        ("http://localhost:80@evil.example/health", "localhost", 421),
    ],
)
def test_the_authority_counts_and_not_the_host_header(
    shared: Server, target: str, host: str, status: int
) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert exchange(shared, request.encode())[0] == status


def test_two_lengths_of_one_body_end_the_connection(shared: Server) -> None:
    # By its Content-Length the body ends where the second request begins.
    status, headers, body = exchange(
        shared,
        b"POST /swallow HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 14\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"4\r\nACGT\r\n0\r\n\r\n"
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    assert status == 200
    assert headers["connection"] == "close"
    assert body == b'{"bytes":4}'


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + DNA + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + DNA + b" : x\r\n\r\n",
        DNA + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + DNA + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: " + DNA + b"\r\n\r\n",
        b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + DNA
        + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_is_told_without_an_echo(shared: Server, request_: bytes) -> None:
    before = len(shared.text)
    status, headers, body = exchange(shared, request_)
    assert (status, json.loads(body)["code"]) == (400, "request.malformed")
    assert headers["connection"] == "close"
    assert b"ACGT" not in body
    assert_quiet(log_since(shared, before))


def test_what_is_not_http_is_told_to_a_head_request(shared: Server) -> None:
    before = len(shared.text)
    status, headers, body = exchange(
        shared,
        b"HEAD /predict?ids=1,2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + DNA
        + b"\r\n",
    )
    assert (status, body) == (400, b"")
    assert int(headers["content-length"]) > 0
    assert_quiet(log_since(shared, before))


def test_what_is_not_http_is_told_to_who_would_wait_for_100_continue(shared: Server) -> None:
    # The application has not begun by the time at which the connection is given up.
    before = len(shared.text)
    head = b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    status, _, _ = exchange(shared, head + b"Transfer-Encoding: chunked\r\n\r\n" + DNA + b"\r\n")
    assert status == 400
    assert_quiet(log_since(shared, before))


def test_a_body_that_breaks_off_after_its_answer_has_begun(shared: Server) -> None:
    before = len(shared.text)
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shared.port), timeout=30) as connection:
        connection.sendall(head)
        assert connection.recv(100_000).startswith(b"HTTP/1.1 200 ")
        connection.sendall(DNA + b"\r\n")
        while connection.recv(100_000):
            pass
    assert_quiet(log_since(shared, before))


def test_an_upgrade_is_not_taken_up(shared: Server) -> None:
    before = len(shared.text)
    status, _, _ = exchange(
        shared,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n"
        b"Upgrade: websocket\r\n\r\n",
    )
    assert status == 200
    assert "pip install" not in log_since(shared, before)
