"""Who may ask: size of the headers, names of the machine, keys, web pages."""

import json

import pytest

from tests.support.raw_http import exchange
from tests.support.running import Server


@pytest.mark.parametrize("size", [40_000, 3_000_000], ids=["at once", "in pieces"])
def test_too_large_a_header_is_a_problem_document(shared: Server, size: int) -> None:
    status, headers, body = exchange(
        shared,
        b"GET /" + b"A" * size + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    assert (status, json.loads(body)["code"]) == (431, "headers.too_large")
    assert headers["content-type"] == "application/problem+json"


def test_what_is_not_http_is_a_problem_document(shared: Server) -> None:
    status, _, body = exchange(shared, b">gene\nACGT\n\n")
    assert (status, json.loads(body)["code"]) == (400, "request.malformed")


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST.", "::1"]
)
def test_names_of_this_machine_are_accepted(shared: Server, host: str) -> None:
    assert shared.http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil", ""])
def test_other_names_are_refused(shared: Server, host: str) -> None:
    answer = shared.http.get("/health", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "host.refused")


def test_listed_names_are_accepted(guarded: Server) -> None:
    for host, status in (("gena.lab.example:443", 200), ("localhost", 421)):
        assert guarded.http.get("/health", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic schlüssel"},
        {"X-API-Key": ""},
        {"X-API-Key": "schlüsse"},
    ],
)
def test_without_the_key_nothing_is_answered(guarded: Server, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    for method, path in (("POST", "/predict?ids=1,2"), ("GET", "/info"), ("GET", "/metrics")):
        answer = guarded.http.request(method, path, headers=raw)
        assert (answer.status_code, answer.json()["code"]) == (401, "auth.invalid")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("Authorization", "Bearer "), ("authorization", "bearer "), ("X-API-Key", "")],
)
def test_with_the_key_everything_is(guarded: Server, name: str, prefix: str) -> None:
    headers = [(name.encode(), f"{prefix}schlüssel".encode())]
    answer = guarded.http.post("/predict?ids=1,9,2", headers=headers)
    assert answer.json()["rows"] == [1, 9, 2]


def test_health_and_the_documentation_need_no_key(guarded: Server) -> None:
    for path in ("/health", "/docs", "/openapi.json"):
        assert guarded.http.get(path).status_code == 200


def test_a_listed_web_page_may_call(guarded: Server) -> None:
    preflight = guarded.http.options(
        "/predict",
        headers={
            "Origin": "https://lab.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://lab.example"
    refused = guarded.http.get("/info", headers={"Origin": "https://lab.example"})
    assert refused.headers["access-control-allow-origin"] == "https://lab.example"
    stranger = guarded.http.get("/health", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers
