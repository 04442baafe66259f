"""Answers that are not taken: their requests lose their places."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.running import Server, running
from tests.support.scenarios import until
from tests.support.stand_in_bundle import make_bundle

READERS = 24
STALL_SECONDS = 2.0
# 200 windows of 512 rows of 64 float32: more than the buffers of both ends hold.
N_BASES, N_BYTES = 510 * 200, 512 * 64 * 4 * 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its queue has a place for each reader and none more."""
    bundle = make_bundle(tmp_path_factory.mktemp("stalled") / "bundle")
    with running(
        GENA_BUNDLE=str(bundle),
        GENA_STALL_SECONDS=str(STALL_SECONDS),
        GENA_QUEUE_TOKENS=str(512 * READERS),
    ) as server:
        server.wait_for("ready")
        yield server


def ask(server: Server, header: bytes = b"") -> socket.socket:
    """A request for a big answer, of which nothing is read yet."""
    connection = socket.socket()
    connection.settimeout(30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    connection.connect(("127.0.0.1", server.port))
    head = (
        "POST /features?format=npy&overflow=window HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {N_BASES}\r\n"
    )
    connection.sendall(head.encode() + header + b"\r\n" + b"A" * N_BASES)
    return connection


def open_flows(server: Server) -> int:
    found = re.search(r"^gena_open_flows (\d+)\.0$", server.http.get("/metrics").text, re.MULTILINE)
    assert found
    return int(found[1])


def taken(connection: socket.socket) -> int:
    """Bytes that come until it is closed."""
    received = 0
    while block := connection.recv(2**20):
        received += len(block)
    return received


def test_readers_that_take_nothing_lose_their_places(server: Server) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(ask(server)) for _ in range(READERS)]
        until(lambda: open_flows(server) > READERS // 2, "they hold the queue")
        until(lambda: open_flows(server) == 0, "they have lost it")
        assert server.predict(1, 9, 2).status_code == 200
        assert all(taken(each) < N_BYTES for each in readers)
    assert "Traceback" not in server.text


def test_a_slow_reader_gets_everything(server: Server) -> None:
    with ask(server, b"Connection: close\r\n") as slow:
        began, received = time.monotonic(), 0
        while time.monotonic() - began < 3 * STALL_SECONDS:
            time.sleep(0.1)
            received += len(slow.recv(30_000))
        assert received < N_BYTES / 4
        assert received + taken(slow) > N_BYTES
