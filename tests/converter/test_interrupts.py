import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from converter.interrupts import Interrupted, lasting_interrupts
from tests.support.paths import ROOT


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)
    for _ in range(3):  # a handler of Python's runs between two instructions
        pass


def test_after_one_that_was_swallowed_the_next_is_raised() -> None:
    with lasting_interrupts() as require_none:
        require_none()
        with suppress(KeyboardInterrupt):
            send()
        with pytest.raises(Interrupted):
            send()
        with pytest.raises(Interrupted):
            require_none()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_of_them_is_told_by_the_exit_status(number: signal.Signals) -> None:
    with lasting_interrupts():
        assert callable(signal.getsignal(number))  # or the signal would end the tests
        with pytest.raises(Interrupted) as raised:
            send(number)
    assert raised.value.status == 128 + number


def test_none_tears_what_another_tidies_up() -> None:
    tidied = []

    def work() -> None:
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGINT)
            tidied.append(True)

    with lasting_interrupts(), pytest.raises(Interrupted) as raised:
        work()
    assert tidied
    assert raised.value.status == 128 + signal.SIGTERM


def test_what_is_to_be_ignored_is_ignored_and_handlers_come_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    others = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with lasting_interrupts() as require_none:
            send(signal.SIGHUP)
            require_none()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert others == {each: signal.getsignal(each) for each in others}


@pytest.mark.parametrize("module", ["converter.conversion.filling", "torch"])
def test_an_interrupt_while_the_heavy_libraries_are_imported_is_no_traceback(
    tmp_path: Path, module: str
) -> None:
    arguments = ["convert", "--model=gena-mini", f"--output={tmp_path / 'b'}", "--progress=none"]
    ended = interrupted_at(module, *arguments)
    assert (ended.returncode, ended.stderr) == (130, "interrupted; nothing was published\n")
    assert [path.name for path in tmp_path.iterdir()] == [".b.lock"]


def test_none_tears_what_a_library_does_at_the_exit() -> None:
    code = """
    import atexit, os, signal
    from contextlib import suppress
    from converter.interrupts import lasting_interrupts

    with suppress(KeyboardInterrupt), lasting_interrupts():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:  # as a library that is imported after the interrupt
            atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("convert", "converter.cli"),
        ("convert", "converter.conversion.convert"),
        ("serve", "app.main"),
    ],
)
def test_an_interrupt_before_anything_is_begun_is_no_traceback(command: str, module: str) -> None:
    ended = interrupted_at(module, command)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def interrupted_at(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that gets an interrupt when it begins to import a module."""
    code = """
    import os, signal, sys

    class Interrupt:
        def find_spec(self, name, *_):
            if name == sys.argv[1]:
                os.kill(os.getpid(), signal.SIGINT)

    sys.meta_path.insert(0, Interrupt())
    from app.cli import main

    sys.exit(main(sys.argv[2:]))
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), module, *arguments],
        cwd=ROOT,
        env={**os.environ, "GENA_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
