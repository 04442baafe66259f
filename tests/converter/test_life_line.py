"""In processes of their own, whose standard input this one holds."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

_WATCH = """
import os, threading
from converter.life_line import when_parent_ends
when_parent_ends(lambda: os._exit(7))
print("watching", flush=True)
"""


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_was_asked_for_happens_when_standard_input_closes_and_not_before() -> None:
    with start(f"{_WATCH}\nthreading.Event().wait(60)") as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "watching\n"
        child.stdin.write("this is not read by anybody\n")
        child.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
        child.stdin.close()
        assert child.wait(30) == 7


def test_a_process_that_is_done_before_ends_in_peace() -> None:
    with start(_WATCH) as child:
        assert child.wait(30) == 0
        assert child.stderr is not None
        assert child.stderr.read() == ""


_STUCK = """
import ctypes
from converter.life_line import ends_when_stuck
with ends_when_stuck({seconds}):
    ctypes.PyDLL(None).usleep({microseconds})
print("done")
"""


def test_a_process_that_is_stuck_with_the_gil_ends_after_the_time() -> None:
    with start(_STUCK.format(seconds=0.2, microseconds=60_000_000)) as child:
        assert child.wait(30) == 1
        assert child.stderr is not None
        assert "Timeout" in child.stderr.read()


def test_a_process_that_is_done_in_time_goes_on() -> None:
    with start(_STUCK.format(seconds=0.5, microseconds=10_000) + "import time; time.sleep(1)") as c:
        assert c.wait(30) == 0
        assert c.stdout is not None
        assert c.stdout.read() == "done\n"
