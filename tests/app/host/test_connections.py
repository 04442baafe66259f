"""Connections that do nothing: they neither use up the descriptors nor the log, nor stay."""

import asyncio
import contextlib
import json
import resource
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.host.connections import Connections
from app.host.descriptors import raise_limit
from app.host.protocol import HttpProtocol
from tests.support.raw_http import read_answer
from tests.support.running import STAND_IN_SERVER, Server, running
from tests.support.scenarios import scenario, until
from tests.support.stand_in_bundle import make_bundle

FILES = 256
# Of 256 files; the rest is for what requests and children need.
MOST_CONNECTIONS = 64
STALL_SECONDS = 1.0
HALF_HEADER = b"POST /swallow HTTP/1.1\r\nHost: local"
HALF_BODY = b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nACGT"


@pytest.fixture(scope="module", autouse=True)
def files_for_clients() -> Iterator[None]:
    """For hundreds of clients: a shell of macOS lets this process have 256, too."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may open 256 files and no more."""
    bundle = make_bundle(tmp_path_factory.mktemp("narrow") / "bundle")
    command = ("sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *STAND_IN_SERVER)
    with running(command, GENA_BUNDLE=str(bundle)) as server:
        server.wait_for("ready")
        yield server


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = make_bundle(tmp_path_factory.mktemp("impatient") / "bundle")
    with running(GENA_BUNDLE=str(bundle), GENA_STALL_SECONDS=str(STALL_SECONDS)) as server:
        server.wait_for("ready")
        yield server


def connect(server: Server, sends: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    connection.sendall(sends)
    return connection


@contextlib.contextmanager
def clients(server: Server, count: int, sends: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(server, sends)) for _ in range(count)]


def everything(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read()


@pytest.mark.parametrize("sends", [b"", HALF_HEADER], ids=["nothing", "half a header"])
def test_idle_connections_give_way_to_new_ones(narrow: Server, sends: bytes) -> None:
    logged = len(narrow.text)
    with clients(narrow, 300, sends):
        began = time.monotonic()
        for _ in range(20):
            assert httpx.get(narrow.url + "/health", timeout=20).status_code == 200
        assert httpx.post(narrow.url + "/predict?ids=1,9,2", timeout=20).json()["rows"] == [1, 9, 2]
        # 20 s is a client that gives up; a second is the pause of an accept loop without a place.
        assert time.monotonic() - began < 20
    assert len(narrow.text) - logged < 20_000


def test_a_burst_of_clients_is_answered(narrow: Server) -> None:
    # More than find a place at a time, and most of them are there before they are looked at.
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with clients(narrow, 3 * MOST_CONNECTIONS, request) as burst:
        assert all(each.recv(15) == b"HTTP/1.1 200 OK" for each in burst)


def test_where_none_is_idle_a_new_one_hears_so(narrow: Server) -> None:
    with clients(narrow, MOST_CONNECTIONS, HALF_BODY) as busy:
        until(lambda: refused(narrow), "all connections are busy")
        with connect(narrow) as beyond:
            status, headers, body = read_answer(everything(beyond))
        assert (status, json.loads(body)["code"]) == (503, "server.busy")
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert int(headers["retry-after"]) >= 1
        # They are all still there, and are answered.
        for each in busy:
            each.sendall(b"ACGTAC")
        assert all(each.recv(15) == b"HTTP/1.1 200 OK" for each in busy)
    assert httpx.get(narrow.url + "/health").status_code == 200


def refused(server: Server) -> bool:
    return httpx.get(server.url + "/health").status_code == 503


def test_bodies_on_disk_leave_descriptors_for_the_rest(narrow: Server) -> None:
    # A body is kept on disk beyond a megabyte; the letter at its end is an error of the request.
    body = b">gene\n" + b"A" * 1_100_000 + b"!"
    head = f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    statuses = set()
    with clients(narrow, FILES // 2 + 2, b"") as busy:
        for each in busy:
            with contextlib.suppress(OSError):
                each.sendall(head.encode() + body[:-1])
        for each in busy:
            with contextlib.suppress(OSError):
                each.sendall(body[-1:])
            with contextlib.suppress(OSError):
                statuses.add(each.recv(12)[9:])
    # Those that had to give way were idle: they are closed and answer nothing.
    assert statuses <= {b"422", b"503", b""}
    assert b"422" in statuses


def test_the_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    command = ("sh", "-c", f'ulimit -S -n {FILES} && exec "$@"', "sh", *STAND_IN_SERVER)
    with running(command, GENA_BUNDLE=str(bundle)) as server:
        server.wait_for("ready")
        with clients(server, 400, HALF_BODY):
            assert httpx.get(server.url + "/health", timeout=20).status_code == 200


def test_a_connection_that_sends_nothing_is_closed(impatient: Server) -> None:
    with connect(impatient) as idle:
        assert everything(idle) == b""


def test_half_a_header_is_told_and_closed(impatient: Server) -> None:
    with connect(impatient, HALF_HEADER) as half:
        status, headers, body = read_answer(everything(half))
    problem = json.loads(body)
    assert (status, problem["code"], problem["limit"]) == (408, "request.timeout", STALL_SECONDS)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"


def test_a_header_that_comes_byte_by_byte_does_not_hold_a_place(impatient: Server) -> None:
    with connect(impatient, HALF_HEADER) as slow:
        slow.settimeout(0.1)
        answer, began = b"", time.monotonic()
        while not answer and time.monotonic() - began < 20:
            slow.sendall(b"h")
            with contextlib.suppress(TimeoutError):
                answer = slow.recv(100)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_half_a_body_is_told_and_closed(impatient: Server) -> None:
    with connect(impatient, HALF_BODY) as half:
        status, headers, body = read_answer(everything(half))
    problem = json.loads(body)
    assert (status, problem["code"], problem["limit"]) == (408, "request.timeout", STALL_SECONDS)
    assert "after 4 of the 10 bytes" in problem["detail"]
    assert headers["connection"] == "close"


def test_a_body_that_comes_slowly_is_read(impatient: Server) -> None:
    with connect(impatient, HALF_BODY) as slow:
        for _ in range(6):
            time.sleep(STALL_SECONDS / 3)
            slow.sendall(b"A")
        assert slow.recv(15) == b"HTTP/1.1 200 OK"


def test_the_rest_of_a_body_that_nobody_reads_does_not_hold_a_place(impatient: Server) -> None:
    # /health answers at once; the body goes on for ever, byte by byte.
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with connect(impatient, head) as slow:
        assert slow.recv(15) == b"HTTP/1.1 200 OK"
        until(lambda: is_closed(slow), "the connection is closed")


def is_closed(connection: socket.socket) -> bool:
    time.sleep(0.1)
    try:
        connection.sendall(b"A")
        connection.setblocking(False)
        return connection.recv(100_000) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.setblocking(True)


def test_time_in_which_the_service_works_is_not_counted(impatient: Server) -> None:
    # 0.2 s a window.
    answer = impatient.predict(1, 304, 2, repeat=10)
    assert answer.status_code == 200


def test_a_kept_connection_serves_again_after_a_while(impatient: Server) -> None:
    kept = HTTPConnection("127.0.0.1", impatient.port, timeout=30)
    kept.connect()
    connection = kept.sock
    for _ in range(4):
        time.sleep(STALL_SECONDS / 2)
        kept.request("GET", "/health")
        assert kept.getresponse().read()
    assert kept.sock is connection
    kept.close()


class ResetBeforeTheEnd:
    """A transport whose client resets the connection just before its end is written."""

    def __init__(self, transport: asyncio.Transport, client: socket.socket) -> None:
        self._transport, self._client = transport, client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write_eof(self) -> None:
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._client.close()
        self._transport.write_eof()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """None of the connections asks for anything."""


@asynccontextmanager
async def two_clients() -> AsyncIterator[tuple[list[HttpProtocol], list[socket.socket]]]:
    """Connections without a server around them; two clients, and their protocols here."""
    config = uvicorn.Config(app, interface="asgi3", h11_max_incomplete_event_size=2**16)
    config.load()
    made: list[HttpProtocol] = []

    def make(on_lost: Callable[[HttpProtocol], None]) -> HttpProtocol:
        protocol = HttpProtocol(config, ServerState(), {}, stall_seconds=1, on_lost=on_lost)
        made.append(protocol)
        return protocol

    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        connections = Connections([listener], 10, make)
        address = listener.getsockname()
        pair = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(2)]
        while len(made) < 2 or not all(hasattr(each, "transport") for each in made):
            await asyncio.sleep(0.01)
        yield made, pair
        connections.close()
        connections.cut()


@scenario
async def test_one_that_is_reset_while_it_is_refused_leaves_the_others_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with two_clients() as (made, (reset, idle)):
        transport = ResetBeforeTheEnd(made[0].transport, reset)
        made[0].transport = cast("asyncio.Transport", transport)
        reset.sendall(HALF_HEADER)
        # The other one's turn ends a look later.
        made[1].still_since += 1
        assert await asyncio.to_thread(idle.recv, 1) == b""
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


@scenario
async def test_one_that_cannot_be_looked_at_is_cut_and_the_others_stay_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_clients() as (made, pair):
        monkeypatch.setattr(made[0], "look", lambda: 1 / 0)
        for each in pair:
            assert await asyncio.to_thread(each.recv, 1) == b""
    assert "looking at it failed" in caplog.text
