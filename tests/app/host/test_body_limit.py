"""The bound on a body, over real sockets: announced, counted, and seen by who still sends."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.support.raw_http import exchange, read_answer
from tests.support.running import Server


def test_a_body_at_the_limit_passes(shared: Server, body_limit: int) -> None:
    answer = shared.http.post("/swallow", content=b"A" * body_limit)
    assert answer.json() == {"bytes": body_limit}


def test_an_announced_body_over_the_limit_is_refused_before_it_is_sent(
    shared: Server, body_limit: int
) -> None:
    status, headers, body = exchange(
        shared,
        b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        + f"Content-Length: {body_limit + 1}\r\n\r\n".encode(),
    )
    assert status == 413
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    problem = json.loads(body)
    assert (problem["code"], problem["limit"]) == ("body.too_large", body_limit)
    assert problem["request_id"] == headers["x-request-id"]


def test_a_body_without_a_length_is_counted_while_it_streams(shared: Server) -> None:
    sent = 0

    def blocks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 10_000
            yield b"A" * 10_000

    answer = shared.http.post("/swallow", content=blocks())
    assert (answer.status_code, answer.json()["code"]) == (413, "body.too_large")
    assert shared.health()["status"] == "ready"


def test_a_client_that_sends_before_it_reads_still_sees_the_refusal(shared: Server) -> None:
    # More than the buffers of both sockets hold: without a reader the client would hang, and a
    # connection that is closed on it would be reset.
    body = b"A" * 20_000_000
    head = f"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    status, _, answer = exchange(shared, head.encode() + body)
    assert status == 413
    assert json.loads(answer)["code"] == "body.too_large"


def test_a_body_that_never_ends_does_not_hold_the_server(shared: Server) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=30) as connection:
        connection.sendall(
            b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"
        )
        with connection.makefile("rb") as stream:
            status, _, _ = read_answer(stream.read())  # until it is closed
    assert status == 413


def test_a_slow_client_does_not_hold_the_others(shared: Server) -> None:
    with socket.create_connection(("127.0.0.1", shared.port)) as slow:
        slow.sendall(b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nAC")
        assert shared.predict(1, 9, 2).status_code == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [("/nothing-here", 404), ("/health", 405), ("/predict?ids=1&repeat=x", 422)],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_before_the_body_is_seen_by_who_still_sends(
    everywhere: Server, target: str, status: int, version: str
) -> None:
    # As Python's urllib asks; the connection, closed on what still comes, would be reset.
    body = b"A" * 20_000_000
    head = (
        f"POST {target} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    answered, _, answer = exchange(everywhere, head.encode() + body)
    assert answered == status
    assert json.loads(answer)["status"] == status


def test_an_answer_before_a_body_that_does_not_come(shared: Server) -> None:
    head = b"POST /nothing-here HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for more in (b"", b"Expect: 100-continue\r\n"):
        status, _, _ = exchange(shared, head + more + b"Content-Length: 1000\r\n\r\n")
        assert status == 404
