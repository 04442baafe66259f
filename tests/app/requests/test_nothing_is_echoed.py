"""DNA in every place of a request that libraries read: neither an answer nor the log repeats it.

The ids of records and of requests are not such places: they are names that clients choose for
themselves, and have to recognise.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from pydantic_core import PydanticKnownError

from app.requests.validation import PLAIN_COMPLAINTS, shown
from tests.support.raw_http import exchange
from tests.support.running import Server, running
from tests.support.stand_in_bundle import make_bundle

# The second one is no run of plain bases, which the log would leave out by itself.
MARKERS = ("GATTACATTGCCAGGCATCGATCCGTAAGCTACC", "GRTTMCAYTGNCAKGCATSGATBCGTAHGCTWCC")
_RUN = 8
_TRACES = {
    marker[start : start + _RUN] for marker in MARKERS for start in range(len(marker) - _RUN + 1)
}

markers = some.sampled_from([*MARKERS, *(marker.lower() for marker in MARKERS)])
# No marker is DNA as a whole, or the answer to it would rightly be made of it.
dna = markers.map(lambda marker: marker + "!")
paths = some.sampled_from(["/features", "/embeddings", "/tokenize", "/v1/embeddings"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle: Path = make_bundle(tmp_path_factory.mktemp("echo") / "bundle")
    with running(GENA_BUNDLE=str(bundle), GENA_LOG_LEVEL="debug") as server:
        server.wait_for("ready")
        yield server
        server.stop()
        assert not traces(server.text)


def traces(text: str) -> set[str]:
    """What of the markers is found again."""
    return {trace for trace in _TRACES if trace in text.upper()}


def post(
    server: Server, path: str, body: bytes = b"", query: str = "", **headers: str
) -> tuple[int, str]:
    """Status, and headers and body of the answer."""
    lines = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = f"POST {path}?{query} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    status, fields, answer = exchange(server, f"{head}\r\n".encode() + body)
    return status, f"{fields}\n{answer.decode()}"


def repeated(answer: tuple[int, str]) -> set[str]:
    status, text = answer
    assert status != 500, text
    return traces(text)


KNOWN = ["sequence", "sequences", "input", "model", "pooling", "stride", "normalize", "dimensions"]
keys = some.sampled_from([*KNOWN, "user", "encoding_format", "on_error"]) | markers | dna
leaves = markers.map(lambda marker: marker + "?") | some.sampled_from([None, True, 0, -1.5, "", []])
values = some.recursive(
    leaves,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@some.composite
def json_bodies(draw: some.DrawFn) -> bytes:
    """JSON, or what was JSON before something happened to it."""
    text = json.dumps(draw(some.dictionaries(keys, values, max_size=6)))
    place = draw(some.integers(0, len(text)))
    damage = draw(some.sampled_from(["", "", "cut", "{", "\\", '"', "\x01", "\\ud800", *MARKERS]))
    return (text[:place] + ("" if damage == "cut" else damage + text[place:])).encode()


often = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@often
@given(path=paths, body=json_bodies())
def test_of_json(server: Server, path: str, body: bytes) -> None:
    # A body that is right after all, and its record: there is no such thing without an id of its
    # own or a letter that is none.
    assert not repeated(post(server, path, body, Content_Type="application/json"))


pieces = some.sampled_from(
    [b">r1 ", b"@r2 ", b"+", b"\n", b"\r\n", b"\r", b" ", b"IIII", b"!", b"\xff", b"#", b";", b"-"]
) | dna.map(str.encode)
files = some.lists(pieces, max_size=14).map(b"".join)


@often
@given(path=paths, begin=some.sampled_from([b">r0 ", b"@r0 ", b""]), rest=files)
@pytest.mark.parametrize("media_type", ["text/plain", "application/octet-stream"])
def test_of_files(server: Server, media_type: str, path: str, begin: bytes, rest: bytes) -> None:
    assert not repeated(post(server, path, begin + rest, Content_Type=media_type))
    skipping = post(server, path, begin + rest, "on_error=skip", Content_Type=media_type)
    assert not repeated(skipping)


form_pieces = (
    some.sampled_from(
        [
            b"--b\r\n",
            b"--b--\r\n",
            b"\r\n",
            b'Content-Disposition: form-data; name="file"; filename="x"\r\n\r\n',
            b'Content-Disposition: form-data; name="on_error"\r\n\r\n',
            b">r1\n",
            b": ",
            b"\x00",
        ]
    )
    | dna.map(str.encode)
    | dna.map(lambda name: f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode())
)


@often
@given(path=paths, parts=some.lists(form_pieces, max_size=14), boundary=some.just("b") | markers)
def test_of_forms(server: Server, path: str, parts: list[bytes], boundary: str) -> None:
    body = b"--b\r\n" + b"".join(parts) + b"\r\n--b--\r\n"
    media_type = f"multipart/form-data; boundary={boundary}"
    assert not repeated(post(server, path, body, Content_Type=media_type))


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("path", ["/features", "/tokenize", "/v1/embeddings", "/health", "/info"])
def test_of_heads(server: Server, path: str, marker: str) -> None:
    odd = [
        post(server, f"{path}/{marker}"),
        post(server, f"/{marker}{path}"),
        post(server, path, query=f"{marker}=1"),
        post(server, path, query=f"on_error={marker}&pooling={marker}&stride={marker}"),
        post(server, path, query=f"{marker}=1&{marker}=2"),
        *(
            post(server, path, b"ACGT", **{name: value})
            for name in ("Content_Type", "Content_Encoding", "Accept", "Host", "Origin", marker)
            for value in (marker, f"{marker}/{marker}", f"text/plain; charset={marker}")
        ),
    ]
    for answer in odd:
        assert not repeated(answer)


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize(
    "request_",
    [
        "{} / HTTP/1.1\r\n\r\n",
        "GET /{} HTTP/9\r\n\r\n",
        "GET / {}\r\n\r\n",
        "{}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {}\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n",
    ],
)
def test_of_what_is_no_http(server: Server, request_: str, marker: str) -> None:
    sent = request_.format(marker).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1)
    _, fields, answer = exchange(server, sent.encode())
    assert not traces(f"{fields}{answer.decode()}")


@pytest.mark.parametrize("kind", sorted(PLAIN_COMPLAINTS))
def test_pydantic_makes_what_is_told_of_the_schema_alone(kind: Any) -> None:
    of_schemas: dict[str, Any] = {
        "expected": "'none' or 'mean'",
        "field_type": "List",
        **dict.fromkeys(["ge", "le", "min_length", "actual_length"], 1),
    }
    template = PydanticKnownError(kind, of_schemas).message_template
    assert set(re.findall(r"{(\w+)}", template)) <= {*of_schemas, "expected_plural"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("poling", "poling"),
        ("encoding_format", "encoding_format"),
        ("application/vnd.ms-excel", "application/vnd.ms-excel"),
        ("ACGTACG", "ACGTACG"),
        ("ACGTACGT", "(a name of 8 characters)"),
        ("my_acgtnnryacgt", "(a name of 15 characters)"),
        ("a" * 61, "(a name of 61 characters)"),
        ("", "(a name of 0 characters)"),
        ("two words", "(a name of 9 characters)"),
        ("größe", "(a name of 5 characters)"),
    ],
)
def test_names_are_repeated_where_they_are_plain(name: str, message: str) -> None:
    assert shown(name) == message
