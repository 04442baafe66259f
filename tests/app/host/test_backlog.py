"""The log when its disk is full, and when nobody reads it."""

import errno
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.host.backlog import Backlog, FileOutput
from tests.support.paths import ROOT
from tests.support.running import STAND_IN_SERVER
from tests.support.scenarios import until
from tests.support.stand_in_bundle import make_bundle

TOO_FAST = re.compile(r"the log lost messages: (\d+) \(they came too fast\)\n")
LOST = re.compile(r"WARNING gena\.log: the log lost messages: (\d+) \((.*)\)")


@contextmanager
def unheard(tmp_path: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server of stand-ins whose stderr is a pipe that nobody reads, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"GENA_BUNDLE": str(make_bundle(tmp_path / "bundle")), "GENA_PORT": str(port)}
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GENA_")}
    process = subprocess.Popen(
        STAND_IN_SERVER, cwd=ROOT, env={**ours, **settings, **environment}, stderr=subprocess.PIPE
    )
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(is_ready, "the server answers", 60)
        yield process, url
    finally:
        process.kill()
        process.wait()
        process.stderr.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("closed", [False, True], ids=["unread", "closed"])
def test_nobody_reads_stderr(tmp_path: Path, closed: bool) -> None:
    with unheard(tmp_path) as (process, url), httpx.Client(base_url=url, timeout=30) as client:
        if closed:
            process.stderr.close()  # type: ignore[union-attr]
        # Far more than the 64 KiB of a pipe.
        for number in range(600):
            answer = client.get("/nowhere", headers={"X-Request-ID": f"{number:064}"})
            assert answer.status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_disk_of_the_log_is_full(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with unheard(tmp_path, GENA_LOG_FILE="/dev/full") as (process, url):
        for _ in range(20):
            assert httpx.get(f"{url}/nowhere").status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read() == b""  # type: ignore[union-attr]


FILLED = """
import logging, resource, sys
from pathlib import Path
from app.host.logs import configure_logging
from app.settings import Settings

unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
configure_logging(Settings(log_file=Path(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, unlimited[1]))
for number in range(100):
    logging.info("line %d", number)
logging.getLogger().handlers[0].flush()
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
logging.info("room again")
"""


def test_what_a_full_disk_lost_is_counted_when_there_is_room(tmp_path: Path) -> None:
    log = tmp_path / "gena.log"
    done = subprocess.run(
        [sys.executable, "-c", FILLED, str(log)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    *before, notice, last = log.read_text().splitlines()
    whole = [line for line in before if re.search(r"line \d+$", line)]
    # The first line that finds no room is cut, and counts as lost; what follows is on its own line.
    assert len(before) - len(whole) <= 1
    found = LOST.search(notice)
    assert found is not None
    assert int(found[1]) + len(whole) in (100, 101)  # a number may be cut and still be a number
    assert found[2] == os.strerror(errno.EFBIG)
    assert last.endswith("room again")


def test_what_nobody_read_in_time_is_counted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    backlog = Backlog(FileOutput(tmp_path / "pipe", 10**6, 1), logging.Formatter(), room=20)
    for number in range(200):
        backlog.handle(record(f"line {number:05000}"))
    os.set_blocking(reading, True)
    with os.fdopen(reading) as pipe:
        received: list[str] = []
        reader = threading.Thread(target=lambda: received.extend(pipe))
        reader.start()
        backlog.flush()
        backlog.handle(record("room again"))
        backlog.flush()
        backlog.close()
        reader.join(60)
    lines = [line for line in received if line.startswith("line ")]
    notices = [TOO_FAST.fullmatch(line) for line in received if line not in lines]
    *found, last = notices
    assert (last, received[-1]) == (None, "room again\n")
    assert len(lines) + sum(int(notice[1]) for notice in found if notice) == 200
    assert all(found)
    assert lines == sorted(lines)
    assert len(lines) < 100


def test_a_file_that_cannot_be_renamed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "gena.log"
    obstacle = tmp_path / "gena.log.1" / "obstacle"
    obstacle.mkdir(parents=True)
    backlog = Backlog(FileOutput(log, 1000, 1), logging.Formatter())
    for number in range(100):
        backlog.handle(record(f"line {number:094}"))
    backlog.flush()
    assert len(log.read_text().splitlines()) == 9
    obstacle.rmdir()
    obstacle.parent.rmdir()
    backlog.handle(record("room again" * 10))
    backlog.flush()
    backlog.close()
    assert obstacle.parent.is_file()
    assert re.fullmatch(r"the log lost messages: 91 \(.*\)\n(room again){10}\n", log.read_text())
    assert capsys.readouterr().err == ""


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, __file__, 1, message, None, None)
