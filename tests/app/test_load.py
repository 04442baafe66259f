"""Many clients on a real server: every request ends, memory stays flat, short ones get through.

`python -m benchmarks.load` does the same for a minute.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from converter.bundle.opening import Bundle
from tools.load_client import load, short_during_upload
from tools.served import Served, served

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals"),
]


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Served]:
    # Room for 32 requests, so that of 64 clients some are refused. A cache that is full before
    # memory is first looked at: filling one of 64 MiB is no leak, and took longer than that.
    room = {"GENA_QUEUE_TOKENS": str(32 * 512), "GENA_CACHE_BYTES": str(2**22)}
    with served(tiny_bundle.path, **room) as started:
        yield started


def metric(server: Served, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_64_clients_are_answered_or_refused_and_leave_nothing_behind(server: Served) -> None:
    report = asyncio.run(load(server, clients=64, seconds=8, answers=64))

    assert report.broken_promises() == []
    assert report.statuses[200] >= 64
    assert report.statuses[429] > 0
    assert httpx.get(f"{server.url}/health").json()["status"] == "ready"
    assert metric(server, "gena_queue_") == 0


def test_a_short_request_does_not_wait_for_an_upload_of_5000_records(server: Served) -> None:
    report = asyncio.run(short_during_upload(server, 5000, shorts=40, finish=False))

    assert report.broken_promises() == []
    assert report.answered_during_upload >= 10
