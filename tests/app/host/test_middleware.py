"""What surrounds a request, over real sockets: limits, keys, names, ids, headers, counts."""

import json
import re
import socket
from collections.abc import Iterator

import pytest

from tests.support.running import Server, running
from tests.support.stand_in_bundle import make_bundle

_LIMIT = 100_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = make_bundle(tmp_path_factory.mktemp("middleware") / "bundle")
    with running(GENA_BUNDLE=str(bundle), GENA_MAX_BODY_BYTES=str(_LIMIT)) as server:
        server.wait_for("ready")
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Asks for a key, lets one web site in."""
    bundle = make_bundle(tmp_path_factory.mktemp("guarded") / "bundle")
    with running(
        GENA_BUNDLE=str(bundle),
        GENA_API_KEY="schlüssel",
        GENA_CORS_ORIGINS="https://lab.example, https://other.example",
        GENA_ALLOWED_HOSTS="gena.lab.example,127.0.0.1",
        GENA_METRICS="false",
    ) as server:
        server.wait_for("ready")
        yield server


def exchange(server: Server, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """One raw request, the whole answer until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            return read_answer(stream.read())


def read_answer(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body


def test_a_body_at_the_limit_passes(server: Server) -> None:
    answer = server.http.post("/swallow", content=b"A" * _LIMIT)
    assert answer.json() == {"bytes": _LIMIT}


def test_an_announced_body_over_the_limit_is_refused_before_it_is_sent(server: Server) -> None:
    status, headers, body = exchange(
        server,
        b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        + f"Content-Length: {_LIMIT + 1}\r\n\r\n".encode(),
    )
    assert status == 413
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    problem = json.loads(body)
    assert (problem["code"], problem["limit"]) == ("body.too_large", _LIMIT)
    assert problem["request_id"] == headers["x-request-id"]


def test_a_body_without_a_length_is_counted_while_it_streams(server: Server) -> None:
    sent = 0

    def blocks() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 10_000
            yield b"A" * 10_000

    answer = server.http.post("/swallow", content=blocks())
    assert (answer.status_code, answer.json()["code"]) == (413, "body.too_large")
    assert server.health()["status"] == "ready"


def test_a_client_that_sends_before_it_reads_still_sees_the_refusal(server: Server) -> None:
    # More than the buffers of both sockets hold: without a reader the client would hang, and a
    # connection that is closed on it would be reset.
    body = b"A" * 20_000_000
    head = f"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    status, _, answer = exchange(server, head.encode() + body)
    assert status == 413
    assert json.loads(answer)["code"] == "body.too_large"


def test_a_body_that_never_ends_does_not_hold_the_server(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"
        )
        with connection.makefile("rb") as stream:
            status, _, _ = read_answer(stream.read())  # until it is closed
    assert status == 413


@pytest.mark.parametrize("size", [40_000, 3_000_000], ids=["at once", "in pieces"])
def test_too_large_a_header_is_a_problem_document(server: Server, size: int) -> None:
    status, headers, body = exchange(
        server,
        b"GET /" + b"A" * size + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    assert (status, json.loads(body)["code"]) == (431, "headers.too_large")
    assert headers["content-type"] == "application/problem+json"


def test_what_is_not_http_is_a_problem_document(server: Server) -> None:
    status, _, body = exchange(server, b">gene\nACGT\n\n")
    assert (status, json.loads(body)["code"]) == (400, "request.malformed")


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/fault"])
def test_a_request_id_comes_back(server: Server, path: str) -> None:
    answer = server.http.get(path, headers={"X-Request-ID": "run-7.sample_3"})
    assert answer.headers["x-request-id"] == "run-7.sample_3"
    if answer.status_code >= 400:
        assert answer.json()["request_id"] == "run-7.sample_3"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, '"quoted"', "é"])
def test_a_strange_request_id_is_replaced(server: Server, given: str) -> None:
    answer = server.http.get("/health", headers=[(b"X-Request-ID", given.encode())])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_every_answer_forbids_foreign_content(server: Server) -> None:
    for path in ("/health", "/docs", "/nowhere", "/fault"):
        headers = server.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST.", "::1"]
)
def test_names_of_this_machine_are_accepted(server: Server, host: str) -> None:
    assert server.http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil", ""])
def test_other_names_are_refused(server: Server, host: str) -> None:
    answer = server.http.get("/health", headers={"Host": host})
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


def test_metrics_can_be_off(guarded: Server) -> None:
    answer = guarded.http.get("/metrics", headers=[(b"X-API-Key", "schlüssel".encode())])
    assert (answer.status_code, answer.json()["code"]) == (404, "metrics.off")


def counted(server: Server) -> dict[str, float]:
    lines = server.http.get("/metrics").text.splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def test_requests_tokens_and_stages_are_counted(server: Server) -> None:
    before = counted(server)
    server.predict(1, 9, 2)
    server.http.get("/nowhere/ACGT")
    server.http.request("BREW", "/swallow")
    after = counted(server)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown('gena_requests_total{method="POST",route="/predict",status="200"}') == 1
    assert grown('gena_requests_total{method="GET",route="(no route)",status="404"}') == 1
    assert grown('gena_stage_seconds_count{stage="predicting"}') == 1
    assert grown('gena_stage_seconds_count{stage="queued"}') == 1
    assert grown('gena_request_seconds_count{route="/predict"}') == 1
    assert after["gena_model_ready"] == 1
    assert after["gena_queue_tokens"] == 0
    assert not any("ACGT" in name or "BREW" in name for name in after)


def test_info_identifies_the_answers_and_states_the_limits(server: Server) -> None:
    info = server.http.get("/info").json()
    assert info["model"] == "stand-in"
    assert info["bundle"]["checkpoint_sha256"]["weights"] == "w"
    assert len(info["bundle"]["fingerprint"]) == 16
    assert info["limits"]["body_bytes"] == _LIMIT
    assert info["limits"]["tokens_per_window"] == 512
    assert info["runtime"]["lengths"] == [128, 512]
    assert "tokenizers" in info["versions"]


def test_documentation_is_one_page_without_scripts(server: Server) -> None:
    page = server.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    paths = server.http.get("/openapi.json").json()["paths"]
    assert "/health" in paths
    for path in paths:
        assert path in page.text
    assert "<script" not in page.text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)
    assert not re.search(r"style=|<style", page.text)


def test_a_slow_client_does_not_hold_the_others(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nAC")
        assert server.predict(1, 9, 2).status_code == 200
