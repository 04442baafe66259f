"""`gena embed`: a file of DNA in, Parquet out; goes on where it was ended."""

import argparse
import asyncio
import os
import signal
import sys
from contextlib import suppress

from app.embed.errors import DONE, FAILED, INTERRUPTED, TRY_AGAIN, EmbedError, UsageError
from app.embed.options import EmbedOptions, add_options, read_options
from app.embed.progress import Progress, progress_shown
from app.embed.run import embed
from app.embed.shards import merge
from app.settings import Settings
from converter.errors import GenaError, is_full_disk
from converter.paths import user_path

__all__ = ["add_options", "run"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """The command; its exit status (see `app.embed.errors`)."""
    try:
        if arguments.merge is not None:
            return _merge(arguments)
        return _embed(read_options(arguments), settings)
    except EmbedError as error:
        return _failed(str(error), error.status)
    except GenaError as error:
        return _failed(str(error), TRY_AGAIN if error.may_pass else FAILED)
    except OSError as error:
        status = TRY_AGAIN if is_full_disk(error) else FAILED
        return _failed(f"{error.strerror}: {error.filename or ''}", status)


def _failed(message: str, status: int) -> int:
    print(f"gena embed: {message}", file=sys.stderr)
    return status


def _merge(arguments: argparse.Namespace) -> int:
    if arguments.input is not None:
        raise UsageError("--merge takes no input beside its folder.")
    output = user_path(arguments.output)
    if output.is_dir():
        raise UsageError(f"{output} is a folder; with --merge, -o is the Parquet file.")
    n_windows = merge(user_path(arguments.merge), output)
    print(f"{n_windows} windows are in {output}.", file=sys.stderr)
    return DONE


def _embed(options: EmbedOptions, settings: Settings) -> int:
    # OpenMP threads that spin while they wait would slow the model's process.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with progress_shown(as_json=options.json) as progress:
        try:
            return asyncio.run(_until_signalled(options, settings, progress))
        except asyncio.CancelledError:
            what = "nothing was written" if options.dry_run else "shards that are there stay"
            with suppress(OSError):  # the terminal may be gone
                progress.note(f"Interrupted; {what}. The same command goes on from here.")
            return INTERRUPTED


async def _until_signalled(options: EmbedOptions, settings: Settings, progress: Progress) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for each in _SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as `nohup` wants it
            loop.add_signal_handler(each, task.cancel)
    return await embed(options, settings, progress)
