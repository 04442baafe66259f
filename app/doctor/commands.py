"""Commands that a step runs: heard line by line, within a time, and ended with what they began.

Their output goes to a file, so that nothing waits for a pipe that some grandchild holds open.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from converter.measuring import resident_mib

ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.1
_LAST_LINES = 5
# Until a command that was asked to end is asked again, or killed.
_PATIENCE_SECONDS = 10.0


class CommandError(Exception):
    """A command is not here, took too long, or failed; the message is a sentence."""


@dataclass(frozen=True)
class Done:
    """A command that has ended.

    Attributes:
        text: standard output and error.
        peak_mib: the most that it had resident, or one of what it started.
    """

    returncode: int
    text: str
    seconds: float
    peak_mib: float

    @property
    def last_words(self) -> str:
        """The end of what it said, as a clause."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return " / ".join(lines[-_LAST_LINES:])[-600:] or "it said nothing"


def environment(**more: str) -> dict[str, str]:
    """This shell's, without the settings of the service, and with this project to import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GENA_")}
    paths = [str(ROOT), kept.get("PYTHONPATH", "")]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


@contextmanager
def started(
    command: Sequence[str], output: Path, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a session of its own; at the end of the block it and all of that is ended.

    Raises:
        CommandError: there is no such command.
    """
    with output.open("wb") as file:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # held open: children of this project end when it closes
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=variables or environment(),
                start_new_session=True,
            )
        except OSError as error:
            name = Path(command[0]).name
            raise CommandError(f"{name} cannot be run here: {error.strerror}.") from error
    try:
        yield process
    finally:
        _end(process)


def run(
    command: Sequence[str],
    output: Path,
    *,
    seconds: float,
    on_line: Callable[[str], object] = lambda _line: None,
    variables: Mapping[str, str] | None = None,
) -> Done:
    """Run a command to its end.

    Args:
        output: file for what it says.
        seconds: after which it is ended.
        on_line: called with every line that it says.

    Raises:
        CommandError: there is no such command, or it took longer.
    """
    began = time.monotonic()
    with started(command, output, variables) as process, output.open(errors="replace") as said:
        text = ""
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            news = said.read()
            for line in (text.rpartition("\n")[2] + news).split("\n")[:-1]:
                on_line(line)
            text += news
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                taken = time.monotonic() - began
                return Done(process.returncode, text, round(taken, 2), resident_mib(usage))
            if time.monotonic() - began > seconds:
                raise CommandError(f"{Path(command[0]).name} had not ended after {seconds:g} s.")
            time.sleep(_POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, so that it tidies up; then kill what is left of its session."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have it ignore the first
        if process.poll() is None:
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_SECONDS)
    # macOS does not permit it where only a zombie is left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
