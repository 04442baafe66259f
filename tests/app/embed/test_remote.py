"""A service that refuses, is busy, or answers half: told, waited for, asked again."""

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pytest

from app.embed import remote
from app.embed.embedder import Job
from app.embed.errors import EmbedError, InputError, TryAgainError
from app.embed.remote import RemoteService
from app.embed.shards import Answer
from app.embed.threads import Threads
from app.embed.windows import Row
from app.requests.options import Choices
from tests.support.embedding import InMemory
from tests.support.scenarios import scenario

FINGERPRINT = "f" * 16
# Status, headers and content of an answer to the n-th request for vectors, from 0.
Script = Callable[[int], tuple[int, dict[str, str], bytes]]


def arrow(ids: range, skipped: tuple[str, ...] = ()) -> bytes:
    told = json.dumps([{"id": each, "code": "sequence.empty"} for each in skipped])
    features = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(4 * len(ids), np.float32)), 4)
    columns = {
        "id": pa.array(map(str, ids)),
        "n_tokens": pa.array([3] * len(ids)),
        "features": features,
    }
    table = pa.table(columns).replace_schema_metadata({"skipped": told})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def other_arrow() -> bytes:
    """Of another program."""
    table = pa.table({"features": pa.array([1.0])})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], str]]:
    """Starts a service that answers as it is told to; its address."""
    monkeypatch.setattr(remote, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(remote, "_LONGEST_TOLD", 0.02)
    servers: list[ThreadingHTTPServer] = []

    def begin(script: Script) -> str:
        count = iter(range(10**6))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                facts = {"model": "m", "fingerprint": FINGERPRINT}
                facts |= {"bundle": {"config": {"hidden_size": 4}}}
                facts |= {"limits": {"tokens_per_window": 512}}
                self._answer(200, {}, json.dumps(facts).encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(*script(next(count)))

            def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in ({"X-Gena-Fingerprint": FINGERPRINT} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: object) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


async def answers(url: str) -> list[Answer]:
    choices = Choices(pooling="mean", overflow="window")
    service = RemoteService(url, choices, None, Threads(), lambda _text: None)
    await service.ready()
    service.sequences = InMemory([("a", "ACGT"), ("b", "GG")])
    job = Job([Row(0, 0, 4), Row(1, 0, 2)])
    return await service.compute(await service.prepare(job), lambda _windows, _bases: None)


@scenario
async def test_a_busy_service_and_a_torn_answer_are_asked_again(
    scripted: Callable[[Script], str],
) -> None:
    def script(number: int) -> tuple[int, dict[str, str], bytes]:
        if number == 0:
            return 503, {"Retry-After": "0"}, b"{}"
        if number == 1:
            return 200, {}, arrow(range(2))[:-40]
        if number == 2:
            return 200, {}, arrow(range(1))
        return 200, {}, arrow(range(1), skipped=("1",))

    first, second = await answers(scripted(script))
    assert first.values is not None
    assert first.values.tolist() == [1, 1, 1, 1]
    assert (second.values, second.problem) == (None, "sequence.empty")


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((422, {}, b'{"detail": "It is no good."}'), InputError, "It is no good"),
        ((200, {"X-Gena-Fingerprint": "other"}, arrow(range(2))), InputError, "another model"),
        ((503, {"Retry-After": "0"}, b"{}"), TryAgainError, "does not answer"),
        ((200, {}, b"half"), TryAgainError, "do not arrive whole"),
        ((200, {}, other_arrow()), TryAgainError, "do not arrive whole"),
        ((503, {"Retry-After": "9" * 400}, b"{}"), TryAgainError, "does not answer"),
    ],
)
@scenario
async def test_what_does_not_change_is_told(
    scripted: Callable[[Script], str],
    answer: tuple[int, dict[str, str], bytes],
    error: type[EmbedError],
    said: str,
) -> None:
    with pytest.raises(error, match=said):
        await answers(scripted(lambda _number: answer))


def test_another_server_is_no_service() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    service = RemoteService(url, Choices(pooling="mean"), None, Threads(), lambda _text: None)
    try:
        with pytest.raises(InputError, match="answers, but is no gena-coreml"):
            asyncio.run(service.ready())
    finally:
        server.shutdown()
        server.server_close()
