"""An answer that ends early is seen to be short, whoever reads it and whatever stands between."""

import io
import shutil
import subprocess
import urllib.request
from http.client import IncompleteRead
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest

from tests.support.dna import dna
from tests.support.live_service import Service
from tests.support.nginx import needs_nginx, proxied, to

MANY = "".join(f">r{n}\n{dna(40, seed=n)}\n" for n in range(200)).encode()
FORMATS = ["json", "npy", "npz", "tsv", "arrow"]

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def curl(url: str, *options: str) -> tuple[int, bytes]:
    """The exit status and what was written."""
    done = subprocess.run(
        ["curl", "--silent", *options, "--data-binary", "@-", url], input=MANY, capture_output=True
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
@pytest.mark.parametrize("format_", FORMATS)
def test_curl_sees_that_an_answer_is_short(uncached: Service, format_: str, version: str) -> None:
    uncached.model.fail_after = 100
    code, part = curl(f"{uncached.url}/embeddings?format={format_}", version)
    assert part
    assert code in (18, 56)  # short; reset

    uncached.model.fail_after = None
    assert curl(f"{uncached.url}/embeddings?format={format_}", version)[0] == 0


@needs_nginx
def test_curl_sees_it_behind_a_proxy(uncached: Service, tmp_path: Path) -> None:
    with proxied(tmp_path, to(uncached.url)) as url:
        for format_ in FORMATS:
            whole = curl(f"{url}/embeddings?format={format_}")[0]
            uncached.model.seen.clear()
            uncached.model.fail_after = 100
            short = curl(f"{url}/embeddings?format={format_}")[0]
            uncached.model.fail_after = None
            assert (whole, short != 0) == (0, True), format_


@needs_nginx
def test_a_client_of_http_1_0_behind_a_proxy_can_count(uncached: Service, tmp_path: Path) -> None:
    """The proxy's own end of such an answer is the same, whole or short."""
    uncached.model.fail_after = 100
    with proxied(tmp_path, to(uncached.url)) as url:
        _, answer = curl(f"{url}/embeddings?format=tsv", "--http1.0", "--include")
    head, _, table = answer.partition(b"\r\n\r\n")
    assert b"x-gena-records: 200\r\n" in head.lower()
    assert 0 < table.count(b"\n") - 1 < 200


def test_pythons_own_client_sees_it(uncached: Service) -> None:
    uncached.model.fail_after = 100
    request = urllib.request.Request(f"{uncached.url}/embeddings?format=tsv", data=MANY)
    with (
        pytest.raises((ConnectionResetError, IncompleteRead)),
        urllib.request.urlopen(request) as answer,
    ):
        answer.read()


def test_arrow_says_how_many_rows_will_come(uncached: Service) -> None:
    """A reader takes a stream that ends between two batches for a whole one."""
    answer = uncached.post("/embeddings?format=arrow", content=MANY)
    with pa.ipc.open_stream(io.BytesIO(answer.content)) as stream:
        assert stream.schema.metadata[b"records"] == b"200"
        assert len(stream.read_all()) == 200
    assert answer.headers["x-gena-records"] == "200"
