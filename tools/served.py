"""`gena serve` of a bundle as a process of its own, ready, for whoever measures it.

Memory is the resident set without the pages of files, read from /proc.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.model.performance import performance_environment

_ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 120.0


@dataclass
class Served:
    """A server that is ready."""

    url: str
    pid: int

    @property
    def model_pid(self) -> int:
        """The process that holds the model: its only child."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return next(int(pid) for task in tasks for pid in task.read_text().split())

    def memory_mib(self) -> dict[str, float]:
        """Of both processes: resident memory that no file stands behind."""
        return {
            name: _anonymous_mib(pid)
            for name, pid in (("server", self.pid), ("model", self.model_pid))
        }


def _anonymous_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@contextmanager
def told_as_served() -> Iterator[None]:
    """Processes that are spawned meanwhile wait and allocate as the service's model does."""
    before = dict(os.environ)
    os.environ.update(performance_environment(before))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def served(bundle: Path, **environment: str) -> Iterator[Served]:
    """`gena serve` of a bundle on a free port, ready; ended by SIGTERM."""
    command = [sys.executable, "-m", "app.cli", "serve", "--bundle", str(bundle), "--port", "0"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GENA_")}
    settings = {"GENA_THREADS": "1", **environment}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=_ROOT, env={**kept, **settings}, stdout=subprocess.DEVNULL, stderr=log
        )
        try:
            yield Served(_wait_until_ready(process, log.fileno()), process.pid)
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_ready(process: subprocess.Popen[bytes], log: int) -> str:
    deadline = time.monotonic() + _START_SECONDS
    url = None
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        text = os.pread(log, 2**16, 0).decode()
        found = re.search(r"listening on (http://[^\s\"]+)", text)
        if found:
            url = found[1]
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                return url
    raise RuntimeError(f"the server was not ready:\n{os.pread(log, 2**16, 0).decode()[-3000:]}")
