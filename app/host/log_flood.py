"""One cause cannot fill the log: what repeats is left out, and counted."""

import logging
import threading
import time
from collections import Counter

ACCESS_LOGGER = "gena.access"

_SECONDS = 10.0
# Of one kind in that time. Lines of children, tracebacks among them, are all of one kind.
_MOST, _MOST_BELOW_WARNING = 5, 100

# Logger, level, template and exception of records that have one cause.
_Kind = tuple[str, int, str, type[BaseException] | None]


class FloodFilter(logging.Filter):
    """Lets a few records of a kind pass in ten seconds, then says how many it left out.

    It says so when the next record comes after them. Requests are let through: they are counted
    one by one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._counts: Counter[_Kind] = Counter()
        self._ends = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it may pass."""
        if record.name == ACCESS_LOGGER:
            return True
        kind = _kind(record)
        left_out: list[tuple[_Kind, int]] = []
        with self._lock:
            if time.monotonic() >= self._ends:
                left_out = [(each, n - _most(each)) for each, n in self._counts.items()]
                self._counts.clear()
                self._ends = time.monotonic() + _SECONDS
            self._counts[kind] += 1
            passes = self._counts[kind] <= _most(kind)
        for (name, level, template, _), count in left_out:
            if count > 0:
                text = "%d more of these were left out: %s"
                logging.getLogger(name).log(level, text, count, template)
        return passes


def _kind(record: logging.LogRecord) -> _Kind:
    # asyncio writes what it was at into the lines below the first.
    template = str(record.msg).partition("\n")[0]
    return record.name, record.levelno, template, record.exc_info[0] if record.exc_info else None


def _most(kind: _Kind) -> int:
    return _MOST if kind[1] >= logging.WARNING else _MOST_BELOW_WARNING
