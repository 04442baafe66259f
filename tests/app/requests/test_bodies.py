"""Bodies that are received and unpacked."""

import asyncio
import gzip
import io
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import starlette.formparsers
from fastapi import Request
from starlette.types import Message

from app.errors import ProblemError
from app.requests.bodies import AbandonedError, ReceivedBody, open_decoded, receive_body

FASTA = b">a\nACGT\n"
PART = "--b\r\nContent-Disposition: form-data; name={}\r\n\r\n{}\r\n"


def received(data: bytes) -> ReceivedBody:
    return ReceivedBody(io.BytesIO(data), "", len(data))


def decoded(data: bytes) -> bytes:
    with open_decoded(received(data), 2**30, threading.Event()) as file:
        return file.read()


def test_members_with_any_number_of_zeros_between_them() -> None:
    first, second = gzip.compress(FASTA, mtime=0), gzip.compress(b">b\nAC\n", mtime=0)
    for n_zeros in (0, 1, 4096, 20_000, 300_000):
        data = first + b"\0" * n_zeros + second + b"\0" * n_zeros
        assert decoded(data) == FASTA + b">b\nAC\n"


def test_a_bulk_body_is_big_or_may_become_so() -> None:
    assert not received(FASTA).is_bulk
    assert received(FASTA * 2**16).is_bulk
    assert received(gzip.compress(FASTA)).is_bulk


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(gzip.compress(b"", mtime=0) * 1000, id="empty members"),
        pytest.param(gzip.compress(FASTA * 2**16), id="gzip"),
        pytest.param(FASTA * 2**16, id="plain"),
    ],
)
def test_nothing_more_is_read_when_nobody_waits(data: bytes) -> None:
    stop = threading.Event()
    with open_decoded(received(data), 2**30, stop) as file:
        stop.set()
        with pytest.raises(AbandonedError):
            file.read()


def test_a_title_that_never_ends_is_not_kept(service: Any) -> None:
    body = gzip.compress(b">a " + b">" * 60_000_000, mtime=0)
    tracemalloc.start()
    try:
        answer = service.post("/tokenize", content=body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.json()["code"] == "record.too_long"
    assert peak < 50_000_000


def form_request(*parts: str) -> Request:
    body = "".join([*parts, "--b--\r\n"]).encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


@pytest.mark.parametrize("header", ["a: {}", "{}: a", "a: b\r\n{}"])
def test_the_headers_of_a_part_are_bounded(header: str) -> None:
    lines = header.format("c: d\r\n" * 20 if "\r" in header else "x" * 10_000)
    with pytest.raises(ProblemError, match="malformed"):
        asyncio.run(receive_body(form_request(f"--b\r\n{lines}\r\n\r\n")))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(['"on_error"', '"on_error"'], id="a field twice"),
        pytest.param(['"file"; filename="b"'], id="a second file"),
        pytest.param(['"x"'] * 30, id="too many fields"),
    ],
)
def test_the_file_of_a_refused_form_is_closed(
    monkeypatch: pytest.MonkeyPatch, parts: list[str]
) -> None:
    opened: list[Any] = []
    make: Callable[..., Any] = starlette.formparsers.SpooledTemporaryFile

    def remembered(*arguments: Any, **options: Any) -> Any:
        opened.append(make(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(starlette.formparsers, "SpooledTemporaryFile", remembered)
    names = ['"file"; filename="a"', *parts]
    with pytest.raises(ProblemError) as caught:
        asyncio.run(receive_body(form_request(*(PART.format(name, "ACGT") for name in names))))
    assert caught.value.code == "form.invalid"
    assert opened
    assert all(file.closed for file in opened)
