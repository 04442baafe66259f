"""Many clients on a real server: every request ends, memory stays flat, short ones get through.

`python -m benchmarks.load` does the same for a minute.
"""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.load import (
    LoadReport,
    Served,
    UploadReport,
    load,
    mixed_request,
    served,
    short_during_upload,
)
from converter.bundle.opening import Bundle

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals"),
]


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Served]:
    # Room for 32 requests, so that of 64 clients some are refused.
    with served(tiny_bundle.path, GENA_QUEUE_TOKENS=str(32 * 512)) as started:
        yield started


def metric(server: Served, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_64_clients_are_answered_or_refused_and_leave_nothing_behind(server: Served) -> None:
    report = asyncio.run(load(server, clients=64, seconds=8))

    assert report.broken_promises() == []
    assert report.statuses[200] >= 64
    assert report.statuses[429] > 0
    assert httpx.get(f"{server.url}/health").json()["status"] == "ready"
    assert metric(server, "gena_queue_") == 0


def test_a_short_request_does_not_wait_for_an_upload_of_5000_records(server: Served) -> None:
    report = asyncio.run(short_during_upload(server, 5000, shorts=40, finish=False))

    assert report.broken_promises() == []
    assert report.answered_during_upload >= 10


def test_what_breaks_a_promise_is_named() -> None:
    """The judge, before its verdicts count."""
    report = LoadReport(
        statuses=Counter({200: 5, 503: 1}),
        failures=["ReadTimeout after 60.0 s: /features"],
        refusals_without_retry_after=2,
        growth_mib={"server": 500.0, "model": 1.0},
    )
    broken = report.broken_promises()
    assert len(broken) == 4
    assert "status 503" in broken
    assert LoadReport(statuses=Counter({429: 5})).broken_promises() == ["nothing was answered"]
    slow = UploadReport(5000, 0.01, (2.0, 2.0), 9.0, 0)
    assert len(slow.broken_promises()) == 2


def test_the_mix_has_every_kind_and_is_the_same_every_time() -> None:
    mixed = [mixed_request(random.Random(seed)) for seed in range(200)]
    assert {path.partition("?")[0] for path, _ in mixed} == {"/features", "/embeddings"}
    assert {len(body) for _, body in mixed} >= {60, 300, 500, 4600, 6000}
    assert sum(body.startswith(">") for _, body in mixed) > 10
    assert mixed == [mixed_request(random.Random(seed)) for seed in range(200)]
