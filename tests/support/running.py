"""A server as a process of its own, on a free port."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.paths import ROOT
from tests.support.scenarios import is_running

_PATIENCE_SECONDS = 60.0
# An interpreter then tells its imports on standard error; its children's come with a log's prefix.
NOTE_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}
STAND_IN_SERVER = (sys.executable, "-m", "tests.support.stand_in_server")


class Server:
    """A started server: its process, its log so far, and a client."""

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], folder: Path = ROOT
    ) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**_clean_environment(), "GENA_PORT": "0", **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self.url = ""
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if not self._listening.wait(_PATIENCE_SECONDS) or not self.url:
            self.kill()
            raise AssertionError(f"the server did not start:\n{self.text}")
        # Plain HTTP: without the certificates, which take longer to read than to start a client.
        self.http = httpx.Client(base_url=self.url, timeout=_PATIENCE_SECONDS, verify=False)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening on (http://[^\s\"]+)", line)
            if found:
                self.url = found[1]
                self._listening.set()
        self._listening.set()

    @property
    def text(self) -> str:
        """The log."""
        return "".join(self.log)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/health").json()
        return answer

    def wait_for(self, status: str, **more: Any) -> dict[str, Any]:
        """Poll /health until it says so."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            health = self.health()
            if health["status"] == status and all(health.get(k) == v for k, v in more.items()):
                return health
            stuck = health["status"] == "failed" != status or time.monotonic() > deadline
            assert not stuck, f"{health}\n{self.text[-3000:]}"
            time.sleep(0.02)

    def children(self) -> list[int]:
        """Process ids of its children that run; its log names them, as text or as JSON."""
        started = re.findall(r"\b(?:process|conversion) started\W+pid\W+(\d+)", self.text)
        return [int(pid) for pid in started if is_running(int(pid))]

    def imported(self) -> set[str]:
        """Top-level packages that its own process has imported; started with `NOTE_IMPORTS`."""
        return set(re.findall(r"^import time:.*\|\s+(\w+)", self.text, re.MULTILINE))

    def predict(self, *ids: int, **parameters: Any) -> httpx.Response:
        """On a stand-in server: first column of the features of these ids."""
        window = ",".join(map(str, ids))
        return self.http.post("/predict", params={"ids": window, **parameters})

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(_PATIENCE_SECONDS)
        self._reader.join(_PATIENCE_SECONDS)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.wait()


@contextmanager
def running(
    command: Sequence[str] = STAND_IN_SERVER, *, folder: Path = ROOT, **environment: str
) -> Iterator[Server]:
    """A server, by default one of stand-ins, in a folder; killed at the end where it still runs."""
    server = Server(command, environment, folder)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
        server.http.close()


def _clean_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GENA_")}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
