"""What a request costs grows with its size and not with its square, whatever it is made of."""

import gc
import gzip
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.live_service import Service
from tests.support.raw_http import exchange

# Eight times the size, at most 2.2 times the time for each doubling. A square would give 64.
_FACTOR = 8
_MOST = 2.2**3
_LEAST_TRIALS, _MOST_TRIALS = 2, 10

_PLAIN = {"Content-Type": "text/plain"}
_JSON = {"Content-Type": "application/json"}
_BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}
_FILE_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


@dataclass
class Request:
    """What is posted."""

    content: bytes = b"ACGT"
    path: str = "/tokenize"
    query: str = ""
    headers: dict[str, str] = field(default_factory=lambda: dict(_PLAIN))

    def as_bytes(self) -> bytes:
        """As it is sent."""
        headers = {
            "Host": "localhost",
            "Connection": "close",
            "Content-Length": str(len(self.content)),
            **self.headers,
        }
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        first = f"POST {self.path}?{self.query} HTTP/1.1\r\n"
        return "".join([first, *lines, "\r\n"]).encode() + self.content


def as_json(body: dict[str, Any], path: str = "/tokenize") -> Request:
    return Request(json.dumps(body).encode(), path, headers=_JSON)


def to_openai(given: Any) -> Request:
    return as_json({"model": "no model of ours", "input": given}, "/v1/embeddings")


def skipping(content: bytes) -> Request:
    return Request(content, query="on_error=skip")


def form(content: bytes) -> Request:
    return Request(content, headers=_BOUNDARY)


JSON_BODIES: dict[str, tuple[int, Callable[[int], Request]]] = {
    "unknown fields": (
        4000,
        lambda n: as_json({"sequence": "A", **{f"k{i}": 0 for i in range(n)}}),
    ),
    "unknown fields of a record": (
        4000,
        lambda n: as_json({"sequences": [{f"k{i}": 0 for i in range(n)}]}),
    ),
    "zeros": (100_000, lambda n: as_json({"sequences": [0] * n})),
    "lists": (10_000, lambda n: as_json({"sequences": [[]] * n})),
    "objects": (10_000, lambda n: as_json({"sequences": [{}] * n})),
    "texts": (200, lambda n: as_json({"sequences": ["A"] * n})),
    "records": (
        200,
        lambda n: as_json({"sequences": [{"id": str(i), "sequence": "A"} for i in range(n)]}),
    ),
    "records to skip": (
        300,
        lambda n: as_json({"sequences": ["X"] * n, "on_error": "skip"}),
    ),
    "one name again and again": (
        4000,
        lambda n: Request(b"{" + b'"a":0,' * n + b'"b":0}', headers=_JSON),
    ),
    "digits": (100_000, lambda n: Request(b'{"sequence":0.%b}' % (b"9" * n), headers=_JSON)),
    "brackets": (10_000, lambda n: Request(b"[" * n, headers=_JSON)),
    "escapes": (50_000, lambda n: Request(b'{"sequence":"%b!"}' % (b"\\u0041" * n), headers=_JSON)),
    "ids": (100_000, lambda n: to_openai([5] * n)),
    "whole numbers": (50_000, lambda n: to_openai([5.0] * n)),
    "a fault after many ids": (100_000, lambda n: to_openai([5] * n + [-1])),
    "lists of ids": (4000, lambda n: to_openai([[5]] * n)),
    "texts for OpenAI": (4000, lambda n: to_openai(["A"] * n)),
    "objects for OpenAI": (4000, lambda n: to_openai([{"a": 1}] * n)),
}
FILES: dict[str, tuple[int, Callable[[int], Request]]] = {
    "FASTA records": (300, lambda n: skipping(b"".join(b">%d\nX\n" % i for i in range(n)))),
    "FASTA records of one id": (300, lambda n: skipping(b">a\nA\n" * n)),
    "FASTA lines": (20_000, lambda n: Request(b">a\n" + b"X\n" * n)),
    "FASTA blank lines": (40_000, lambda n: Request(b">a\n" + b"\n" * n + b"X")),
    "a FASTA title": (500_000, lambda n: Request(b">" * n + b"\nA\n")),
    "FASTQ records": (300, lambda n: skipping(b"@a\nX\n+\nI\n" * n)),
    "FASTQ lines": (20_000, lambda n: Request(b"@a\n" + b"X\n" * n + b"+\n" + b"I\n" * n)),
    "FASTQ blank lines": (40_000, lambda n: Request(b"@a\nX\n+\nI\n" + b"\n" * n)),
    "GenBank records": (300, lambda n: skipping(b"LOCUS  a\nORIGIN\n 1 x\n//\n" * n)),
    "GenBank lines": (20_000, lambda n: Request(b"LOCUS  a\nORIGIN\n" + b" 1 x x\n" * n + b"//\n")),
    "names of GenBank": (
        20_000,
        lambda n: Request(b"LOCUS  " + b"a" * 4 * n + b"\n" + b"VERSION  a\n" * n + b"//\n"),
    ),
    "EMBL records": (300, lambda n: skipping(b"ID   a;\nSQ\n x 1\n//\n" * n)),
    "EMBL lines": (20_000, lambda n: Request(b"ID   a;\nSQ\n" + b" x x 1\n" * n + b"//\n")),
    "names of EMBL without a version": (
        20_000,
        lambda n: Request(b"ID   " + b"a" * 4 * n + b"\n" + b"AC   ;\n" * n + b"//\n"),
    ),
    "names of EMBL with a version": (
        20_000,
        lambda n: Request(b"ID   " + b"a" * 4 * n + b".1\n" + b"AC   a\n" * n + b"//\n"),
    ),
    "tabs": (200_000, lambda n: Request(b"A" + b"\t" * n)),
    "a FASTQ record": (500_000, lambda n: Request(b"@a\n%b\n+\n%b\n" % (b"X" * n, b"I" * n))),
    "text": (500_000, lambda n: Request(b"A" * n + b"X")),
    "text in lines": (200_000, lambda n: Request(b"A\n" * n + b"X")),
    "bytes that are no text": (500_000, lambda n: Request(b"\xff" * n)),
    "foreign white space": (100_000, lambda n: Request("\u2003".encode() * n + b"X")),
    "one base": (10_000, lambda n: Request(b"A" * n)),
    "unknown bases": (10_000, lambda n: Request(b"N" * n)),
    "members of gzip that are empty": (
        3000,
        lambda n: Request(gzip.compress(b"", mtime=0) * n),
    ),
    "members of gzip": (3000, lambda n: Request(gzip.compress(b"X", mtime=0) * n)),
    "zeros after gzip": (
        1_000_000,
        lambda n: Request(gzip.compress(b"X", mtime=0) + b"\0" * n),
    ),
    "gzip": (2_000_000, lambda n: Request(gzip.compress(b"\n" * n, mtime=0))),
    "before a form": (100_000, lambda n: form(b"\r\n" * n + b"--b")),
    "what resembles a form's boundary": (
        20_000,
        lambda n: form(_FILE_PART + b"\r\n--a" * n + b"\r\n--b--\r\n"),
    ),
}
HEADS: dict[str, tuple[int, Callable[[int], Request]]] = {
    "options of OpenAI": (
        700,
        lambda n: Request(
            b"{}",
            "/v1/embeddings",
            "&".join(f"{i:x}=" for i in range(n)),
            _JSON,
        ),
    ),
    "unknown options": (700, lambda n: Request(query="&".join(f"{i:x}=" for i in range(n)))),
    "an option again and again": (300, lambda n: Request(query="on_error=skip&" * n)),
    "ampersands": (3500, lambda n: Request(query="&" * n)),
    "percent signs": (1000, lambda n: Request(query="a=" + "%41" * n)),
    "ranges to accept": (800, lambda n: Request(headers={**_PLAIN, "Accept": "a/b," * n})),
    "parameters of a range": (
        600,
        lambda n: Request(headers={**_PLAIN, "Accept": "a/b" + ";q=1" * n}),
    ),
    "digits of a quality": (
        3000,
        lambda n: Request(headers={**_PLAIN, "Accept": "a/b;q=0." + "9" * n}),
    ),
    "parameters of a form": (
        600,
        lambda n: Request(headers={"Content-Type": "multipart/form-data" + ";a=b" * n}),
    ),
    "quotes of a form": (
        1500,
        lambda n: Request(headers={"Content-Type": "multipart/form-data;a=" + '\\"' * n}),
    ),
    "headers": (
        200,
        lambda n: Request(headers={**_PLAIN, **{f"x{i}": "y" for i in range(n)}}),
    ),
    "a key": (3500, lambda n: Request(headers={**_PLAIN, "X-API-Key": "k" * n})),
}


def records(path: str, query: str) -> Callable[[int], Request]:
    """Of one base each: one window, which the cache holds."""
    return lambda n: Request(b"".join(b">%d\nA\n" % i for i in range(n)), path, query)


def windows(path: str, query: str) -> Callable[[int], Request]:
    """Of one record: all the same, but for the last one."""
    return lambda n: Request(b"N" * 510 * n, path, f"overflow=window&{query}")


ANSWERS: dict[str, tuple[int, Callable[[int], Request]]] = {
    "vectors as JSON": (100, records("/embeddings", "format=json")),
    "vectors as npy": (100, records("/embeddings", "format=npy")),
    "vectors as npz": (50, records("/embeddings", "format=npz")),
    "vectors as tsv": (100, records("/embeddings", "format=tsv")),
    "vectors as arrow": (100, records("/embeddings", "format=arrow")),
    "vectors of windows": (2, windows("/embeddings", "vectors=window&format=json")),
    "ids in a header": (100, records("/embeddings", "format=npy&ids=header")),
    "features as npz": (20, records("/features", "format=npz")),
    "windows": (10, windows("/features", "format=npy")),
    "windows of bases": (10, windows("/features", "resolution=base&format=npy")),
    "windows that overlap": (2, windows("/embeddings", "stride=480&strand=both")),
}
ALL = {**JSON_BODIES, **FILES, **HEADS, **ANSWERS}


@pytest.fixture(scope="module", autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """Its rare passes over everything would fall on one trial and not on another."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("name", ALL)
def test_twice_the_size_takes_at_most_about_twice_the_time(service: Service, name: str) -> None:
    size, make = ALL[name]
    sent = [make(each).as_bytes() for each in (size, _FACTOR * size)]
    trials: list[tuple[float, ...]] = []
    while True:
        trials.append(tuple(_cpu_seconds(service, each) for each in sent))
        short, long = map(min, zip(*trials, strict=True))
        if long <= _MOST * short and len(trials) >= _LEAST_TRIALS:
            return
        # Another one where the machine may have been at fault.
        assert len(trials) < _MOST_TRIALS, f"{short:.4f} s, then {long:.4f} s"


def _cpu_seconds(service: Service, sent: bytes) -> float:
    """Of this process, where the client only sends bytes and receives them."""
    before = time.process_time()
    status, _, answer = exchange(service, sent)
    spent = time.process_time() - before
    assert status < 500, answer
    return spent
