"""A Mac that nobody touches falls asleep, and what it computes stands still: it is kept awake."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Of macOS; a part of the system, wherever PATH leads.
_KEEPER = Path("/usr/bin/caffeinate")


@contextmanager
def kept_awake(keeper: Path = _KEEPER) -> Iterator[None]:
    """Within the block a Mac does not sleep for want of anybody's doing anything.

    Its lid still sends it to sleep, and its screen may go dark.
    """
    if sys.platform != "darwin":
        yield
        return
    # It ends with this process, however that ends. In a session of its own, Ctrl-C is not for it.
    command = [str(keeper), "-i", "-w", str(os.getpid())]
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
    except OSError:  # nothing depends on it
        yield
        return
    try:
        yield
    finally:
        process.terminate()
        process.wait()
