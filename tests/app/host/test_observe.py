"""What every answer carries, and what is counted of it."""

import re

import pytest

from tests.support.running import Server


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/fault"])
def test_a_request_id_comes_back(shared: Server, path: str) -> None:
    answer = shared.http.get(path, headers={"X-Request-ID": "run-7.sample_3"})
    assert answer.headers["x-request-id"] == "run-7.sample_3"
    if answer.status_code >= 400:
        assert answer.json()["request_id"] == "run-7.sample_3"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, '"quoted"', "é"])
def test_a_strange_request_id_is_replaced(shared: Server, given: str) -> None:
    answer = shared.http.get("/health", headers=[(b"X-Request-ID", given.encode())])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_every_answer_forbids_foreign_content(shared: Server) -> None:
    for path in ("/health", "/docs", "/nowhere", "/fault"):
        headers = shared.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def counted(shared: Server) -> dict[str, float]:
    lines = shared.http.get("/metrics").text.splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def test_requests_tokens_and_stages_are_counted(shared: Server) -> None:
    before = counted(shared)
    shared.predict(1, 9, 2)
    shared.http.get("/nowhere/ACGT")
    shared.http.request("BREW", "/swallow")
    after = counted(shared)

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
