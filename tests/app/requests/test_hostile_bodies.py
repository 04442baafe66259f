"""Bodies that are small on the wire: others are answered meanwhile, and the end does not wait."""

import gzip
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.support.running import Server, running
from tests.support.scenarios import until
from tests.support.stand_in_bundle import make_bundle

PACKED = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
# Generous: a few milliseconds are spent on what takes a minute where it is not bounded.
SECONDS = 5

ZEROS = b'{"sequences":[%b0]}' % (b"0," * 2_000_000)
NULLS = b'{"model":"stand-in","input":[%bnull]}' % (b"null," * 1_000_000)
IDS = b'{"model":"stand-in","input":[%b5]}' % (b"5," * 2_000_000)
FIELDS = b'{"sequence":"A",%b}' % b",".join(b'"k%d":0' % i for i in range(70_000))
FIELDS_OF_A_RECORD = b'{"sequences":[%b]}' % FIELDS


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from started(tmp_path_factory)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that a test may end."""
    yield from started(tmp_path_factory)


def started(folders: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = make_bundle(folders.mktemp("hostile") / "bundle")
    with running(GENA_BUNDLE=str(bundle)) as server:
        server.wait_for("ready")
        yield server


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embeddings", ZEROS),
        ("/v1/embeddings", NULLS),
        ("/v1/embeddings", IDS),
        ("/embeddings", FIELDS),
        ("/tokenize", FIELDS_OF_A_RECORD),
    ],
    ids=["zeros", "nulls", "ids", "fields", "fields of a record"],
)
def test_others_are_answered_meanwhile(lasting: Server, path: str, body: bytes) -> None:
    packed = gzip.compress(body)

    def post() -> int:
        answer = httpx.post(lasting.url + path, content=packed, headers=PACKED, timeout=300)
        return answer.status_code

    slowest = 0.0
    began = time.monotonic()
    with ThreadPoolExecutor(4) as clients:
        hostile = [clients.submit(post) for _ in range(4)]
        while not all(each.done() for each in hostile):
            before = time.monotonic()
            assert lasting.http.get("/health").status_code == 200
            slowest = max(slowest, time.monotonic() - before)
    assert slowest < SECONDS
    assert time.monotonic() - began < 4 * SECONDS
    assert {each.result() for each in hostile} <= {404, 413, 422}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/embeddings", ZEROS), ("/embeddings", FIELDS), ("/v1/embeddings", IDS)],
    ids=["zeros", "fields", "ids"],
)
def test_the_end_does_not_wait_for_what_nobody_waits_for(
    server: Server, path: str, body: bytes
) -> None:
    packed = gzip.compress(body)
    lines = {"Host": "localhost", "Content-Length": str(len(packed)), **PACKED}
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    with ExitStack() as clients:
        for _ in range(4):
            client = socket.create_connection(("127.0.0.1", server.port))
            clients.enter_context(client).sendall(f"{head}\r\n".encode() + packed)
        time.sleep(0.5)  # until they are at work
    began = time.monotonic()
    until(lambda: server.text.count("POST") == 4, "all of them are over for the server", 300)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - began < SECONDS
