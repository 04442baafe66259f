"""A child process that notices the end of its parent: the parent holds the other end of stdin."""

import os
import sys
import threading
from collections.abc import Callable


def when_parent_ends(do: Callable[[], object]) -> None:
    """Call `do`, in a thread of its own, when standard input closes.

    The system closes it when the parent dies, however it dies. What comes through it is dropped.
    """

    def wait() -> None:
        # Not sys.stdin: its lock, held by this thread, would abort the interpreter's exit.
        while os.read(sys.stdin.fileno(), 4096):
            pass
        do()

    threading.Thread(target=wait, daemon=True).start()
