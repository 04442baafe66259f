"""Who may ask: size of the headers, names of the machine, keys, web pages."""

import json
import subprocess
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from app.host.gate import Gate
from tests.support.raw_http import exchange
from tests.support.running import Server, running
from tests.support.stand_in_bundle import make_bundle


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


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.1", "[::2]"])
def test_other_names_are_refused(shared: Server, host: str) -> None:
    answer = shared.http.get("/health", headers={"Host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "host.refused")


NO_HOSTS = [
    "",
    " ",
    ":8000",
    "[::1]evil.com",
    "[::1].evil.com",
    "[::1]:8000.evil.com",
    "[::1",
    "::1]",
    "[localhost]",
    "[127.0.0.1]",
    "[::1%25eth0]",
    "[::1%eth0]",
    "[v1.::1]",
    "localhost@evil",
    "evil@localhost",
    "localhost:",
    "localhost:80a",
    "localhost:-1",
    "localhost:65536",
    "localhost:8000:8000",
    "localhost..",
    ".localhost",
    "localhost/evil",
    "localhost?evil",
    "localhost, evil.com",
    "http://localhost",
]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_is_refused(shared: Server, host: str) -> None:
    status, _, body = exchange(shared, get_health(f"Host: {host}"))
    assert (status, json.loads(body)["code"]) == (421, "host.refused")


def test_what_is_no_host_is_refused_where_any_host_is_accepted(everywhere: Server) -> None:
    assert everywhere.http.get("/health", headers={"Host": "gena.example"}).status_code == 200
    answer = everywhere.http.get("/health", headers={"Host": "[::1]evil.com"})
    assert (answer.status_code, answer.json()["code"]) == (421, "host.refused")


def test_there_is_one_host(shared: Server) -> None:
    for lines in (["Host: localhost", "Host: localhost"], []):
        status, _, body = exchange(shared, get_health(*lines))
        assert (status, json.loads(body)["code"]) == (400, "request.malformed")


def get_health(*lines: str) -> bytes:
    request = ["GET /health HTTP/1.1", *lines, "Connection: close", "", ""]
    return "\r\n".join(request).encode()


def post(server: Server, **headers: str) -> tuple[int, str]:
    """A post to a route that works, with these headers; its status and the code of a problem."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = server.http.post("/swallow", headers=given)
    return answer.status_code, answer.json().get("code", "")


FOREIGN = [
    "https://evil.example",
    "null",
    "http://localhost.evil.example",
    "http://localhost:1",
    "http://127.0.0.1",
    "http://localhost@evil.example",
    "http://[::1]evil.com",
    "file://",
    "chrome-extension://localhost",
    "localhost",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_web_page_cannot_post(shared: Server, origin: str) -> None:
    assert post(shared, Origin=origin, Host="localhost") == (403, "origin.refused")


def test_two_origins_are_foreign(shared: Server) -> None:
    headers = [("Origin", shared.url), ("Origin", "https://evil.example")]
    assert shared.http.post("/swallow", headers=headers).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/features", "/health/retry", "/nowhere"])
def test_no_route_and_no_method_is_left_out(shared: Server, method: str, path: str) -> None:
    answer = shared.http.request(method, path, headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin.refused")


def test_what_the_browser_says_of_a_page_decides(shared: Server) -> None:
    for site, status in (("same-origin", 200), ("none", 200), ("same-site", 403)):
        assert post(shared, Sec_Fetch_Site=site)[0] == status
    assert post(shared, Sec_Fetch_Site="cross-site")[0] == 403
    # A page behind a proxy that replaces Host.
    assert post(shared, Sec_Fetch_Site="same-origin", Origin="https://gena.example")[0] == 200


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("http://localhost", "localhost"),
        ("http://localhost", "localhost:80"),
        ("https://localhost", "localhost"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_the_own_page_posts(shared: Server, origin: str, host: str) -> None:
    assert post(shared, Origin=origin, Host=host) == (200, "")


def test_the_own_page_posts_under_a_listed_name(guarded: Server) -> None:
    # It is asked for its key next.
    for origin, status in (("https://gena.lab.example", 401), ("https://evil.example", 403)):
        assert post(guarded, Origin=origin, Host="gena.lab.example")[0] == status


def test_a_foreign_web_page_may_look_at_what_it_cannot_read(shared: Server) -> None:
    answer = shared.http.get("/health", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


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
    for encoding in ("utf-8", "latin-1"):
        headers = [(name.encode(), f"{prefix}schlüssel".encode(encoding))]
        answer = guarded.http.post("/predict?ids=1,9,2", headers=headers)
        assert answer.json()["rows"] == [1, 9, 2]


@pytest.mark.parametrize("key", ["voilà", "ключ", "two words"])
def test_keys_of_any_letters_fit(key: str) -> None:
    # The last byte of the first one, in UTF-8, is white space in Latin-1.
    async def answers(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("answered")(scope, receive, send)

    gate = Gate(answers, 10_000, None, (), key, lambda: False)
    for name, prefix in (("Authorization", "Bearer "), ("X-API-Key", "")):
        sent = [(name.encode(), f"{prefix}{key}".encode())]
        assert TestClient(gate).get("/info", headers=sent).text == "answered"
        assert TestClient(gate).get("/info", headers=sent[:0]).status_code == 401


def test_the_key_is_in_no_log_and_on_no_command_line(tmp_path: Path) -> None:
    key = "hunter2-hunter2"
    bundle = make_bundle(tmp_path / "bundle")
    with running(GENA_BUNDLE=str(bundle), GENA_API_KEY=key, GENA_LOG_LEVEL="debug") as server:
        server.wait_for("ready")
        for given in (key, f"{key}!"):
            server.http.get("/fault", headers={"Authorization": f"Bearer {given}"})
        (model,) = server.children()
        seen = subprocess.run(
            ["ps", "-o", "args=", "-p", f"{server.process.pid},{model}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "stand_in_model" in seen
        assert server.stop() == 0
    assert "Traceback" in server.text
    assert key not in seen + server.text


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


def test_a_listed_web_page_posts_and_may_read_its_refusals(guarded: Server) -> None:
    page = {"Origin": "https://lab.example", "Sec-Fetch-Site": "cross-site"}
    with_key = {**page, "X-API-Key": "schlüssel".encode()}
    answer = guarded.http.post("/predict?ids=1,9,2", headers=with_key)
    assert answer.json()["rows"] == [1, 9, 2]
    refused = guarded.http.post("/predict?ids=1,9,2", headers=page)
    assert (refused.status_code, refused.json()["code"]) == (401, "auth.invalid")
    assert refused.headers["access-control-allow-origin"] == "https://lab.example"


def test_any_web_page_posts_where_all_are_listed(everywhere: Server) -> None:
    assert post(everywhere, Origin="https://any.example", Sec_Fetch_Site="cross-site") == (200, "")
