"""Generated requests on a live server, all checks: it keeps to its OpenAPI document."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from converter.bundle.opening import Bundle
from tests.support.paths import ROOT
from tests.support.running import Server, running

SERVE = (sys.executable, "-m", "app.cli", "serve")
LEAST_CASES = 2000


@pytest.fixture
def server(tiny_bundle: Bundle) -> Iterator[Server]:
    with running((*SERVE, "--bundle", str(tiny_bundle.path), "--threads", "1")) as started:
        started.wait_for("ready")
        yield started


@pytest.mark.long
@pytest.mark.timeout(420)
def test_at_least_2000_generated_requests(server: Server, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", ROOT / "schemathesis.toml"),
        *("run", f"{server.url}/openapi.json"),
        # So many a path that it is 2000 together, on a slow machine as on a fast one.
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "225"),
        # One worker: hypothesis in several threads fails now and then by itself.
        *("--workers", "1", "--generation-deterministic", "--no-shrink"),
        *("--no-color", "--warnings", "off"),
    ]
    environment = {
        **os.environ,
        # Tables of Unicode, which take seconds to make. Deterministic runs keep no examples there.
        "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis"),
        # Else each request looks through the environment for a proxy.
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=360
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None, done.stdout[-3000:]
    assert int(generated[1]) >= LEAST_CASES
    assert not re.search(r"status=5\d\d", server.text)
    assert server.health()["restarts"] == 0
