"""Python children of the server: how they are started, heard and ended."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from app.model.performance import performance_environment

_ROOT = Path(__file__).resolve().parents[2]
_BLOCK = 2**16
# Of the log.
_LONGEST_LINE = 2000
_GONE_SECONDS = 2.0
# GENA_API_KEY, HF_TOKEN, PGPASSWORD; not GENA_QUEUE_TOKENS.
_SECRET = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(_|$)|(^|_)PASS(_|$)", re.IGNORECASE
)
# Settings of the hub's library, its token among them: for who fetches checkpoints.
HUB_PREFIXES = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of this project with this interpreter.

    -P: the working directory is the user's, and may hold an `app` or a `torch.py` of its own.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


async def start_child(
    command: Sequence[str],
    *,
    stdout: int,
    pass_fds: Sequence[int] = (),
    secrets: tuple[str, ...] = (),
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own, with pipes for stdin and stderr.

    Its own session, because Ctrl-C in the terminal is for the server alone, and so that it can
    be ended with everything it started. The open stdin is its life line: children of this project
    end when it closes, also when the server was killed.

    Args:
        secrets: beginnings of names; of the secrets in the environment it gets those, and no other.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(os.environ, secrets),
        pass_fds=pass_fds,
        start_new_session=True,
    )


def is_secret(name: str) -> bool:
    """Whether a variable of the environment is called as those that hold a secret."""
    return _SECRET.search(name) is not None


def _environment(ours: Mapping[str, str], secrets: tuple[str, ...]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in ours.items()
        if name.startswith(secrets) or not is_secret(name)
    }
    paths = [str(_ROOT), ours.get("PYTHONPATH", "")]
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return performance_environment(kept)


def kill_child(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to a child and to what it started."""
    signal_child(process, signal.SIGKILL)


def signal_child(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """A signal to a child and to what it started; none where there is nobody left."""
    # macOS does not permit it where all that is left is a child whose end nobody asked for yet.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def gone(process: asyncio.subprocess.Process, log: asyncio.Task[None]) -> str:
    """Wait for a child that has ended or was killed, and for its last words; say how it ended.

    Not for long: the system may not let go of it, and what it started may hold its pipes open.

    Args:
        log: its `log_lines`.
    """
    end = asyncio.create_task(process.wait())
    _, late = await asyncio.wait({end, log}, timeout=_GONE_SECONDS)
    for task in late:
        task.cancel()
    returncode = process.returncode
    return "it does not go away" if returncode is None else _describe_exit(returncode)


async def lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """What a child writes, line by line, until it ends; of a line without end, its end.

    The reader's own lines raise where one is too long.
    """
    rest = b""
    while block := await stream.read(_BLOCK):
        # A progress bar ends its lines with carriage returns only.
        *whole, rest = (rest + block).replace(b"\r", b"\n").split(b"\n")
        rest = rest[-_BLOCK:]
        for line in whole:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


async def log_lines(stream: asyncio.StreamReader, logger: logging.Logger) -> None:
    """Log what a child writes to stderr, until it ends."""
    async for line in lines(stream):
        logger.info("%s", line.decode(errors="replace").strip()[:_LONGEST_LINE])


def _describe_exit(returncode: int) -> str:
    """`exit code 1` or `signal SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"
