"""How a child process ends without its parent: on the end of its parent, or when it is stuck."""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STDERR = 2


def when_parent_ends(do: Callable[[], object]) -> None:
    """Call `do`, in a thread of its own, when standard input closes.

    The parent holds the other end. The system closes it when the parent dies, however it dies. What
    comes through it is dropped.
    """

    def wait() -> None:
        # Not sys.stdin: its lock, held by this thread, would abort the interpreter's exit.
        while os.read(sys.stdin.fileno(), 4096):
            pass
        do()

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def ends_when_stuck(seconds: float) -> Iterator[None]:
    """End this process, with exit code 1, if the block takes longer than that.

    For calls that hold the GIL, during which no thread of Python runs, `when_parent_ends` included.
    A traceback goes to standard error. One block at a time; they cannot be nested.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
