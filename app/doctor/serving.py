"""`gena serve` of a bundle, as a person starts it, on a free port; and how it is asked."""

import http.client
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from app.doctor.commands import CommandError, environment, run, started
from app.doctor.findings import LogLine
from app.doctor.visit import Visit
from app.model.children import module_command
from converter.errors import brief

_START_SECONDS = 1800.0
_POLL_SECONDS = 0.1
# Seconds: longer than any answer that is asked for here.
_TIMEOUT = 120.0
# Every window is to be computed; and the end of the server is not to be waited for.
_SETTINGS = {"GENA_CACHE_BYTES": "0", "GENA_GRACE_SECONDS": "5"}
_WARNING = re.compile("WARNING|ERROR|CRITICAL")
_MOST_LINES, _LONGEST_LINE = 10, 300


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    body: bytes


class Connection:
    """To a server on this machine; no proxy is asked."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)

    def ask(self, method: str, path: str, body: bytes | None = None, media: str = "") -> Answer:
        """One request.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
        """
        headers = {"Content-Type": media} if media else {}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request opens a new one
            raise

    def features(self, sequence: str) -> Answer:
        """Features of one sequence, or of what of it fits a window, as a numpy file."""
        path = "/features?format=npy&overflow=truncate"
        return self.ask("POST", path, sequence.encode(), "text/plain")

    def close(self) -> None:
        """Leave."""
        self._connection.close()


def health(port: int) -> dict[str, Any]:
    """What `/health` says; nothing where nobody answers."""
    connection = Connection(port)
    try:
        found: dict[str, Any] = json.loads(connection.ask("GET", "/health").body)
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    else:
        return found
    finally:
        connection.close()


def wait_until_ready(
    port: int,
    *,
    restarts: int = 0,
    process: Popen[bytes] | None = None,
    seconds: float = _START_SECONDS,
    on_message: Callable[[str], object] = lambda _message: None,
) -> float:
    """Seconds until `/health` says so.

    Args:
        on_message: called with what it says of itself, again and again.
        restarts: of the model that have to be behind it.
        process: the server; where it ends meanwhile there is nothing to wait for.
        seconds: to wait at most.

    Raises:
        CommandError: it failed, ended, or was not ready in time.
    """
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        found = health(port)
        on_message(str(found.get("message")))
        if found.get("status") == "ready" and found["restarts"] >= restarts:
            return time.monotonic() - began
        if found.get("status") == "failed":
            raise CommandError(f"The service failed: {found['message']}")
        if process is not None and process.poll() is not None:
            raise CommandError(f"The server ended with exit code {process.returncode}.")
        time.sleep(_POLL_SECONDS)
    raise CommandError(f"The service was not ready after {seconds:g} s.")


@dataclass(frozen=True)
class Server:
    """A server that is ready.

    Attributes:
        model: as the report calls it.
        ready_seconds: from its start.
    """

    process: Popen[bytes]
    log: Path
    port: int
    model: str
    ready_seconds: float

    def runtime(self) -> str:
        """What computes, as a person would say it."""
        facts: Mapping[str, Any] = health(self.port)["runtime"]
        return f"{facts['name']}, {facts['compute_units']}"

    def model_pid(self) -> int:
        """The process that holds the model now."""
        return int(next(reversed(_logged(self.log, "model process started")))["pid"])

    def warnings(self) -> tuple[LogLine, ...]:
        """Warnings and errors in its log so far, and in those of its children; the first ones."""
        return logged_warnings(self.log)

    def facts(self) -> dict[str, Any]:
        """What `findings.Served` holds."""
        return {
            "model": self.model,
            "runtime": self.runtime(),
            "ready_seconds": round(self.ready_seconds, 2),
        }


@contextmanager
def serving(visit: Visit, name: str) -> Iterator[Server]:
    """A server of the bundle that there is to serve, ready; ended at the end of the block.

    Args:
        name: of the step, for its log.

    Raises:
        SkippedStepError: nothing was converted.
        CommandError: it does not get ready.
    """
    model, bundle = visit.bundle_to_serve()
    visit.say(f"starting the service with {model}")
    log = visit.output(f"{name}-server")
    command = module_command("app.doctor.tethered", "app.cli", "serve", "--log-format=json")
    command += [f"--bundle={bundle.path}", "--port=0"]
    began = time.monotonic()
    with started(command, log, environment(**_SETTINGS)) as process:
        port = _port(process, log)
        try:
            wait_until_ready(port, process=process)
        except CommandError as error:
            told = "; ".join(each.line for each in logged_warnings(log))
            raise CommandError(f"{error} Its log: {told}" if told else str(error)) from error
        yield Server(process, log, port, model, time.monotonic() - began)


def resident_mib(pid: int, output: Path) -> float | None:
    """Memory of a process that is resident now; None where `ps` does not say."""
    with suppress(CommandError, ValueError):
        done = run(["ps", "-o", "rss=", "-p", str(pid)], output, seconds=10)
        return round(int(done.text) / 1024, 1)
    return None


def logged_warnings(log: Path) -> tuple[LogLine, ...]:
    """Warnings and errors of a server and of its children, whose lines are news to it."""
    counts = Counter(
        brief(entry["message"], _LONGEST_LINE)
        for entry in _logged(log, "")
        if entry.get("level") in ("warning", "error", "critical")
        or _WARNING.match(entry["message"])
    )
    return tuple(LogLine(count=n, line=line) for line, n in list(counts.items())[:_MOST_LINES])


def _port(process: Popen[bytes], log: Path) -> int:
    began = time.monotonic()
    while time.monotonic() - began < _TIMEOUT:
        for line in _logged(log, "listening on "):
            return int(line["message"].rpartition(":")[2].rstrip("/"))
        if process.poll() is not None:
            raise CommandError(f"The server ended at once: {_last_line(log)}")
        time.sleep(_POLL_SECONDS)
    raise CommandError("The server did not listen.")


def _logged(log: Path, beginning: str) -> list[dict[str, Any]]:
    """Lines of a log whose message begins so."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            message = entry.get("message") if isinstance(entry, dict) else None
            if isinstance(message, str) and message.startswith(beginning):
                found.append(entry)
    return found


def _last_line(log: Path) -> str:
    return log.read_text(errors="replace").strip().rpartition("\n")[2][:300]
