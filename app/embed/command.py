"""`gena embed`: a file of DNA in, Parquet out; goes on where it was ended."""

import argparse
import asyncio
import errno
import logging
import signal
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.embed.errors import DONE, FAILED, INTERRUPTED, TRY_AGAIN, USAGE, EmbedError, UsageError
from app.embed.options import EmbedOptions, add_options, read_options
from app.embed.progress import Progress, progress_shown
from app.embed.run import embed
from app.embed.shards import merge, strangers
from app.host.awake import kept_awake
from app.settings import Settings
from converter.errors import GenaError, brief, is_full_disk
from converter.paths import user_path
from converter.terminal import print_json

__all__ = ["add_options", "run"]

_LAST_LINES = 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """The command; its exit status (see `app.embed.errors`)."""
    try:
        if arguments.merge is not None:
            return _merge(arguments)
        options = read_options(arguments)
        was_there = options.output.exists()
        try:
            return _embed(options, settings)
        finally:
            if not was_there:
                with suppress(OSError):  # where nothing came of it, it is empty
                    options.output.rmdir()
    except BrokenPipeError:  # who read the events has read enough
        return FAILED
    except EmbedError as error:
        return _failed(arguments, str(error), error.status)
    except GenaError as error:
        return _failed(arguments, str(error), TRY_AGAIN if error.may_pass else FAILED)
    except OSError as error:
        status = TRY_AGAIN if is_full_disk(error) else FAILED
        if error.errno in (errno.EROFS, errno.EACCES) and error.filename:
            folder = Path(error.filename).parent  # of a file with a name of ours
            return _failed(arguments, f"{folder} cannot be written ({error.strerror}).", USAGE)
        return _failed(arguments, f"{error.strerror}: {error.filename or ''}", status)


def _failed(arguments: argparse.Namespace, message: str, status: int) -> int:
    print(f"gena embed: {message}", file=sys.stderr)
    if arguments.json:
        print_json({"event": "failed", "status": status, "message": message})
    return status


def _merge(arguments: argparse.Namespace) -> int:
    if any(getattr(arguments, name) for name in ("input", "windows", "tokens", "bed", "url")):
        raise UsageError("--merge takes its folder and -o, and nothing else.")
    output = user_path(arguments.output)
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UsageError(
            f"-o {output}: with --merge it is a Parquet file in a folder that is there."
        )
    folder = user_path(arguments.merge)
    n_windows = merge(folder, output)
    if others := strangers(folder):
        named = brief(", ".join(others))
        print(f"Left out, as they are no shards of this run: {named}.", file=sys.stderr)
    what = "1 window is" if n_windows == 1 else f"{n_windows} windows are"
    print(f"{what} in {output}.", file=sys.stderr)
    return DONE


def _embed(options: EmbedOptions, settings: Settings) -> int:
    with progress_shown(as_json=options.json) as progress, log_told(progress), kept_awake():
        try:
            return asyncio.run(_until_signalled(options, settings, progress))
        except asyncio.CancelledError:
            what = "nothing was written" if options.dry_run else "shards that are there stay"
            with suppress(OSError):  # the terminal may be gone
                progress.note(f"Interrupted; {what}. The same command goes on from here.")
            return INTERRUPTED


class _Log(logging.Handler):
    """Of what the model's supervisor logs, warnings are shown; the last of the rest if it fails."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("failed:"):  # which is told at the end
            for line in self._last:
                self._progress.note(f"log: {line}")
            self._last.clear()
        elif record.levelno >= logging.WARNING:
            self._progress.note(message)
        else:
            self._last.append(message)


@contextmanager
def log_told(progress: Progress) -> Iterator[None]:
    """Within the block, progress also shows what is logged: see `_Log`."""
    logger, handler = logging.getLogger("gena"), _Log(progress)
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


async def _until_signalled(options: EmbedOptions, settings: Settings, progress: Progress) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for each in _SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as `nohup` wants it
            loop.add_signal_handler(each, task.cancel)
    return await embed(options, settings, progress)
