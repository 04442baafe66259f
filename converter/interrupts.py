"""What asks a command to end before it is done: Ctrl-C, SIGTERM, the end of its terminal."""

import atexit
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end.

    Attributes:
        status: the exit status that says so.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.status = 128 + number


@contextmanager
def ending_at_once() -> Iterator[None]:
    """While nothing is begun there is nothing to tidy: Ctrl-C ends this process, in silence.

    A KeyboardInterrupt while modules are imported is a traceback, or what a library makes of it.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # somebody's own, or it is to be ignored
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, before)


@contextmanager
def lasting_interrupts() -> Iterator[Callable[[], None]]:
    """Raise `Interrupted`, and remember it: libraries swallow what hits a bare `except`.

    Each signal raises it again, but not while one is handled: what it tidies up is not torn.

    Yields:
        A function that raises Interrupted if there was one.
    """
    first = threading.Event()
    number = signal.SIGINT

    def interrupt(received: int, _frame: object) -> None:
        nonlocal number
        if not first.is_set():
            number = signal.Signals(received)
            first.set()
        if not isinstance(sys.exception(), KeyboardInterrupt):
            raise Interrupted(number)

    def require_none() -> None:
        if first.is_set():
            raise Interrupted(number)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:  # as `nohup` wants it
            signal.signal(each, interrupt)
    try:
        yield require_none
    finally:
        if first.is_set():
            # Registered last, so called first: what libraries do at the exit is not torn either.
            atexit.register(ignore_interrupts)
        for each, handler in before.items():
            signal.signal(each, handler)


def ignore_interrupts() -> None:
    """From now on; what is left to do is short, and is not to be torn."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
