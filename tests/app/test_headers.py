"""The table of headers, held against the headers of real answers."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from app.headers import HEADERS
from tests.support.dna import dna
from tests.support.live_service import Service, Truth, full_queue, running
from tests.support.paths import ROOT

ORIGIN = "http://lab.example"
# Between the browser, the connection and the cache: scripts need none of them, or have them anyway.
PLUMBING = {
    "access-control-allow-origin",
    "access-control-expose-headers",
    "allow",
    "cache-control",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "referrer-policy",
    "server",
    "transfer-encoding",
    "vary",
    "x-content-type-options",
}
LONG = dna(3000)


@pytest.fixture(scope="module")
def open_service(truth: Truth) -> Iterator[Service]:
    """It may be called from a page of another origin."""
    with running(truth, cors_origins=(ORIGIN,), queue_tokens=512, cache_bytes=0) as service:
        yield service


def exposed(headers: Any) -> set[str]:
    return {name.lower() for name in headers["access-control-expose-headers"].split(", ")}


def sent_by(headers: Any) -> set[str]:
    return {name for name in headers if name not in PLUMBING}


ANSWERS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "one": ("/features", {"sequence": "ACGT"}, set()),
    "npy": ("/features?format=npy", {"sequence": "ACGT"}, set()),
    "several": ("/embeddings", {"sequences": ["ACGT", "GG"]}, {"x-gena-records"}),
    "skipped": (
        "/embeddings",
        {"sequences": ["ACGT", "X", "GG", ""], "on_error": "skip"},
        {"x-gena-records", "x-gena-skipped"},
    ),
    "truncated": (
        "/features",
        {"sequences": [LONG, "ACGT"], "overflow": "truncate"},
        {"x-gena-records", "x-gena-truncated"},
    ),
    "warned": ("/features", {"sequence": "ACGT\nACG\n"}, {"x-gena-warning"}),
    "ids": (
        "/embeddings?format=npy&ids=header",
        {"sequences": ["ACGT"]},
        {"x-gena-ids", "x-gena-records"},
    ),
    "tokens": ("/tokenize", {"sequence": "ACGT"}, set()),
    "openai": ("/v1/embeddings", {"model": "model", "input": "ACGT"}, {"x-gena-records"}),
}
ALWAYS = {
    "server-timing",
    "x-request-id",
    "x-gena-model",
    "x-gena-fingerprint",
    "x-gena-tokens",
    "x-gena-unknown",
    "x-gena-windows",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_carry_what_the_table_says_and_all_of_it_is_exposed(
    open_service: Service, name: str
) -> None:
    path, body, more = ANSWERS[name]

    headers = open_service.post(path, json=body, headers={"Origin": ORIGIN}).headers

    assert sent_by(headers) == ALWAYS | more
    assert exposed(headers) >= sent_by(headers)
    assert {kind.lower() for kind in HEADERS} >= sent_by(headers)


def test_the_page_lists_the_headers_of_every_answer_and_of_some() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    sentence = page.partition("Headers of every answer:")[2].partition(". ")[0]
    always, some = (set(re.findall(r"`([\w-]+)`", part.lower())) for part in sentence.split(";"))

    assert always == ALWAYS
    assert some == set().union(*(more for _, _, more in ANSWERS.values()))


def test_nothing_is_exposed_that_no_answer_has(open_service: Service) -> None:
    with full_queue(open_service):
        refused = open_service.post(
            "/features", json={"sequence": "ACGT"}, headers={"Origin": ORIGIN}
        )

    assert refused.status_code == 429
    assert sent_by(refused.headers) == {"retry-after", "x-request-id"}
    some = ALWAYS.union(*(more for _, _, more in ANSWERS.values()))
    assert exposed(refused.headers) == some | sent_by(refused.headers)


def test_skipped_records_are_counted_where_the_format_cannot_list_them(
    open_service: Service,
) -> None:
    body = {"sequences": ["ACGT", "X", "GG", ""], "on_error": "skip"}

    skipping = open_service.post("/embeddings?format=npy", json=body)
    nothing_to_skip = open_service.post("/embeddings?format=npy", json={**body, "sequences": ["A"]})

    assert skipping.headers["x-gena-skipped"] == "2"
    assert skipping.headers["x-gena-records"] == "2"
    assert "x-gena-skipped" not in nothing_to_skip.headers


MANY = {"sequences": [dna(20, seed=n) for n in range(20)]}


@pytest.mark.parametrize(
    ("path", "body", "stages"),
    [
        ("/features", {"sequence": "ACGT"}, ["tokenize", "queue", "predict", "encode"]),
        ("/embeddings", MANY, ["tokenize", "queue"]),
        ("/tokenize", MANY, ["tokenize"]),
    ],
    ids=["computed", "sent while computed", "without the model"],
)
def test_server_timing_names_the_stages_that_are_over(
    service: Service, path: str, body: dict[str, Any], stages: list[str]
) -> None:
    timing = service.post(path, json=body).headers["server-timing"]

    named = dict(part.split(";dur=") for part in timing.split(", "))
    assert list(named) == stages
    assert all(float(milliseconds) >= 0 for milliseconds in named.values())
