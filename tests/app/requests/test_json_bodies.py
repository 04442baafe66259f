"""JSON read within bounds: what is refused, in which words, and what it costs in memory."""

import gzip
import io
import json
import threading
import tracemalloc
from typing import Any

import pytest

from app.errors import ProblemError
from app.requests.bodies import ReceivedBody, open_decoded
from app.requests.json_bodies import read_json
from app.requests.limits import Limits
from app.requests.schemas import EmbeddingsBody, OpenAIEmbeddingsBody
from app.settings import Settings
from tests.support.live_service import Service

PATHS = ["/features", "/embeddings", "/tokenize", "/v1/embeddings"]
JSON = {"Content-Type": "application/json"}
MEGABYTE = 2**20
LIMITS = Limits(records=2000, record_bases=MEGABYTE, tokens=MEGABYTE, json_bytes=MEGABYTE)


def read(data: bytes, schema: type[Any] = EmbeddingsBody, limits: Limits = LIMITS) -> Any:
    body = ReceivedBody(io.BytesIO(data), "application/json", len(data))
    with open_decoded(body, 2**30, threading.Event()) as file:
        return read_json(file, schema, limits)


def refused(data: bytes, schema: type[Any] = EmbeddingsBody) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        read(data, schema)
    return caught.value


def filled(unit: bytes, field: bytes = b"sequences") -> bytes:
    """A megabyte of one thing in a list."""
    count = (LIMITS.json_bytes - 100) // len(unit)
    return b'{"model":"m","%b":[%b]}' % (field, unit * (count - 1) + unit.rstrip(b","))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b'{"sequence":"A","sequence":"C"}',
        b'{"input":"A","input":"A","model":"model"}',
        b'{"sequences":[{"id":"a","sequence":"A","id":"b"}]}',
        b'{"unknown":{"deep":[{"ACGTACGTACGT":1,"ACGTACGTACGT":1}]}}',
        b'{"a":1,"\\u0061":2}',
    ],
)
def test_a_name_twice_in_an_object_is_refused(service: Service, path: str, body: bytes) -> None:
    answer = service.post(path, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "json.invalid")
    assert "a name occurs twice in an object at line 1 column" in answer.json()["detail"]
    assert "ACGTACGT" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"sequence":"A"',
        b'{"sequence":"A",}',
        b'{"sequence":NaN}',
        b'{"stride":-Infinity}',
        b'{"sequence":"\\ud800"}',
        b'{"sequence":"\xff"}',
        b'{"sequence":%b}' % (b"9" * 5000),
        b"[" * 10_000,
        '{"sequence":"A"}'.encode("utf-16"),
        b"{'sequence':'A'}",
        b'{"sequence":"A"} {"sequence":"A"}',
    ],
)
def test_what_is_not_json(body: bytes) -> None:
    problem = refused(body)
    assert problem.code == "json.invalid"
    assert "at line 1 column " in problem.detail


def test_a_long_sequence_in_lines_fits() -> None:
    limits = Limits(10_000, 5_000_000, 5_000_000, Settings.model_fields["max_json_bytes"].default)
    lines = "\n".join(["A" * 60] * (5_000_000 // 60))
    body = read(json.dumps({"sequence": lines}).encode(), limits=limits)
    assert body.sequence == lines


@pytest.mark.parametrize("pack", [bytes, lambda data: gzip.compress(data, mtime=0)])
def test_json_that_is_too_large_is_refused_by_what_it_unpacks_to(pack: Any) -> None:
    body = b'{"sequence":"%b"}'
    fitting = body % (b"A" * (LIMITS.json_bytes - len(body) + 2))
    assert len(read(pack(fitting)).sequence) > LIMITS.json_bytes - 20
    problem = refused(pack(fitting + b" "))
    assert (problem.code, problem.members["limit"]) == ("json.too_large", LIMITS.json_bytes)
    assert "FASTA" in problem.detail


def test_a_dict_as_python_prints_it_is_told_how_json_is_made() -> None:
    problem = refused(b"{'sequence': 'ACGT'}")
    assert problem.code == "json.invalid"
    assert "double quotes" in problem.detail
    assert "double quotes" not in refused(b'{"sequence" "ACGT"}').detail


def test_inflating_stops_at_the_limit() -> None:
    data = gzip.compress(b" " * 50 * MEGABYTE, mtime=0)
    received = ReceivedBody(io.BytesIO(data), "application/json", len(data))
    with (
        open_decoded(received, 2**30, threading.Event()) as file,
        pytest.raises(ProblemError, match="JSON may have"),
    ):
        read_json(file, EmbeddingsBody, LIMITS)
    assert received.file.tell() < len(data) / 10


HOSTILE = {
    "zeros": filled(b"0,"),
    "floats": filled(b"1e9,"),
    "lists": filled(b"[],"),
    "objects": filled(b"{},"),
    "objects of one field": filled(b'{"":0},'),
    "texts": filled(b'"AC",'),
    "fields": b"{%b}" % b",".join(b'"%x":0' % i for i in range(100_000)),
    "fields of a record": b'{"sequences":[{%b}]}'
    % b",".join(b'"%x":0' % i for i in range(100_000)),
    "ids": filled(b"5000,", b"input"),
    "large floats": filled(b"1e308,", b"input"),
    "negative ids": filled(b"-1000,", b"input"),
    "lists of ids": filled(b"[5],", b"input"),
    "texts for OpenAI": filled(b'"AC",', b"input"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("schema", [EmbeddingsBody, OpenAIEmbeddingsBody])
def test_no_body_becomes_much_more_in_memory(name: str, schema: type[Any]) -> None:
    tracemalloc.start()
    try:
        problems = refused_or_read(HOSTILE[name], schema)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * LIMITS.json_bytes
    assert len(problems) <= 20


def refused_or_read(data: bytes, schema: type[Any]) -> list[dict[str, str]]:
    """The problems that are told."""
    try:
        read(data, schema)
    except ProblemError as problem:
        return problem.members.get("problems", [])
    return []


def test_records_with_ids_as_people_have_them_are_no_hostile_json() -> None:
    records = [
        {"id": f"lcl|NC_{i} [gene=a] [protein={{b}}] [location=1..9]", "sequence": "A"}
        for i in range(LIMITS.records)
    ]
    assert len(read(json.dumps({"sequences": records}).encode()).sequences) == LIMITS.records


def test_too_many_records_are_refused_before_they_are_parsed() -> None:
    problem = refused(b'{"sequences":[%b]}' % b",".join([b'""'] * 20_000))
    assert problem.code == "request.too_many_records"
    assert problem.members["limit"] == LIMITS.records
    assert "2000 records" in problem.detail


def places(problem: ProblemError) -> list[str]:
    return [each["where"] for each in problem.members["problems"]]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ("A", "the body"),
        ({"sequence": 5}, "sequence"),
        ({"sequences": 5}, "sequences"),
        ({"sequences": ["A", 5, 6]}, "sequences.2"),
        ({"sequences": [{"id": 1.5, "sequence": "A"}]}, "sequences.1.id"),
        ({"sequences": [{"id": "a"}]}, "sequences.1.sequence"),
        ({"sequences": [{"id": "a", "sequence": "A", "x": 1}]}, "sequences.1.x"),
        ({"sequence": "A", "query": 1}, "query"),
        ({"sequence": "A", "(text)": 1}, "(a name of 6 characters)"),
        ({"sequence": "A", "GATTACAGATTACA": 1}, "(a name of 14 characters)"),
        ({"sequence": "A", "x" * 70: 1}, "(a name of 70 characters)"),
        ({"sequence": "A", "pooling": "GATTACAGATTACA"}, "pooling"),
    ],
)
def test_where_something_is_wrong_is_a_path_in_the_body(body: Any, where: str) -> None:
    assert places(refused(json.dumps(body).encode())) == [where]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        (5, "input"),
        ([], "input"),
        ({}, "input"),
        (["A", 5, 5], "input.2"),
        ([5, "A", "A"], "input.2"),
        ([5, True], "input.2"),
        ([5, 5.5, 6.5], "input.2"),
        ([5, 1e300], "input.2"),
        ([5, -1e300], "input.2"),
        ([5, -1, -1], "input.2"),
        ([None], "input.1"),
        ([[5], [], []], "input.2"),
        ([[5], [5, None]], "input.2.2"),
        ([[5], "A"], "input.2"),
    ],
)
def test_where_an_input_is_wrong(given: Any, where: str) -> None:
    body = json.dumps({"model": "m", "input": given}).encode()
    assert places(refused(body, OpenAIEmbeddingsBody)) == [where]


def test_ids_are_whole_numbers_however_they_are_written() -> None:
    body = b'{"model":"m","input":[5,6.0,7e0],"stride":3.0,"overflow":"window"}'
    found = read(body, OpenAIEmbeddingsBody)
    assert (found.input, found.stride) == ([5, 6, 7], 3)
    assert [type(each) for each in found.input] == [int] * 3


def test_numbers_as_text_are_for_queries_only() -> None:
    assert places(refused(b'{"sequence":"A","stride":"3"}')) == ["stride"]
    assert places(refused(b'{"sequence":"A","normalize":"true"}')) == ["normalize"]


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/features", ["ACGT", None], "sequences, element 2: null is a missing value"),
        ("/embeddings", {"sequences": ["ACGT", 5]}, "sequences, element 2: give DNA as text"),
        ("/embeddings", {"sequences": [{"id": None, "sequence": "A"}]}, "element 1, id: text is"),
        ("/features", {"sequence": None}, "sequence: null is a missing value"),
        ("/features", {"sequence": ["ACGT"]}, "sequence: text is expected; a list goes into"),
        ("/features", {"sequences": "ACGT"}, "sequences: a list is expected, also of one"),
        ("/features", {"sequence": "A", "stride": "x"}, "stride: a whole number is expected."),
        ("/features", {"sequence": "A", "stride": -1}, "stride: it has to be greater than or"),
        ("/features", {"sequence": "A", "pooling": "avg"}, "pooling: it has to be 'none', 'mean'"),
        ("/features", "ACGT", "the body: an object is expected."),
        ("/v1/embeddings", {"model": "model", "input": ["A", None]}, "input, element 2: text is"),
        ("/v1/embeddings", {"input": "A"}, "model: it is missing."),
    ],
)
def test_what_does_not_fit_is_said_in_peoples_words(service, path, body, sentence):
    found = service.post(path, json=body).json()

    assert found["code"] == "request.invalid"
    assert sentence in found["detail"]
    assert not any(word in found["detail"] for word in ("Input", "str]", "function", "valid "))


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}])
def test_a_bare_list_is_one_of_sequences(service, headers):
    body = b'["ACGT", {"id": 7, "sequence": "AC"}]'

    answer = service.post("/tokenize", content=body, headers=headers).json()

    assert [(each["id"], each["n_bases"]) for each in answer["records"]] == [("1", 4), ("7", 2)]
