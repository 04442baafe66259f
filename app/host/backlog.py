"""Log lines on their way out: who logs waits neither for a disk nor for who reads stderr.

A line is made where it is logged, and written by a thread. What finds no room in between, or cannot
be written, is counted, and said as soon as something can be written again.
"""

import io
import logging
import os
import queue
import select
from collections.abc import Callable
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path

_ROOM = 10_000
_LAST_LINES_SECONDS = 2.0
_STDERR = 2


class Backlog(QueueHandler):
    """Makes lines of records and hands them to a thread.

    Args:
        output: what the thread writes with; it raises where it cannot.
        room: lines that may wait.
    """

    def __init__(
        self, output: logging.Handler, formatter: logging.Formatter, room: int = _ROOM
    ) -> None:
        self._lines: queue.Queue[logging.LogRecord] = queue.Queue(room)
        super().__init__(self._lines)
        self.setFormatter(formatter)
        self._output = output
        self._lost = 0
        self._writer: _Writer | None = _Writer(self._lines, output, self._line)
        self._writer.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record as a line, made now: what it holds may change while it waits."""
        return logging.makeLogRecord({"msg": self.format(record)})

    def enqueue(self, record: logging.LogRecord) -> None:
        """Keep a line, or count it where there is no room."""
        vars(record)["lost_before"] = self._lost
        try:
            self._lines.put_nowait(record)
            self._lost = 0
        except queue.Full:
            self._lost += 1

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the library's name
        """Say where the message is that cannot be made; the library would print its arguments."""
        where = f"{record.pathname}:{record.lineno}"
        self.enqueue(self._line(logging.ERROR, f"a message of {where} cannot be formatted"))

    def flush(self) -> None:
        """Wait until all is written, for a while: at the end of the process nobody may read."""
        written = self._lines.all_tasks_done
        with written:
            written.wait_for(lambda: not self._lines.unfinished_tasks, _LAST_LINES_SECONDS)

    def close(self) -> None:
        """End the thread, unless it is stuck; then it ends with the process."""
        if self._writer is not None and not self._lines.unfinished_tasks:
            self._writer.stop()
            self._writer = None
            self._output.close()
        super().close()

    def _line(self, level: int, message: str) -> logging.LogRecord:
        return self.prepare(logging.LogRecord("gena.log", level, "", 0, message, None, None))


class _Writer(QueueListener):
    """The thread. It outlives whatever writing raises."""

    def __init__(
        self,
        lines: "queue.Queue[logging.LogRecord]",
        output: logging.Handler,
        make_line: Callable[[int, str], logging.LogRecord],
    ) -> None:
        super().__init__(lines)
        self._output = output
        self._make_line = make_line
        self._lost = 0
        self._reason = ""

    def handle(self, record: logging.LogRecord) -> None:
        """Write a line, and with it how many could not be written before, if any."""
        if lost_before := getattr(record, "lost_before", 0):
            self._lost += lost_before
            self._reason = "they came too fast"
        try:
            if self._lost:
                text = f"the log lost messages: {self._lost} ({self._reason})"
                notice = self._make_line(logging.WARNING, text)
                record.msg = f"{notice.msg}\n{record.msg}"
            self._output.handle(record)
            self._lost = 0
        except Exception as error:
            self._lost += 1
            self._reason = getattr(error, "strerror", None) or type(error).__name__


class _Output(logging.Handler):
    """For one thread, which hears of its failures."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write without the lock, for which `logging.shutdown` would wait while a pipe is stuck."""
        self.emit(record)
        return True

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802, the library's name
        """Raise what `emit` caught."""
        raise


class StderrOutput(_Output, logging.StreamHandler[io.TextIOWrapper]):
    """To stderr, past Python's buffer, whose lock a blocked thread would hold at the end."""

    def __init__(self) -> None:
        super().__init__(_Lines(io.FileIO(_STDERR, "w", closefd=False), encoding="utf-8"))


class FileOutput(_Output, RotatingFileHandler):
    """To a file, which is renamed when it is full.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int, kept: int) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=kept, encoding="utf-8")

    def _open(self) -> io.TextIOWrapper:
        return _Lines(io.FileIO(self.baseFilename, "a"), encoding="utf-8")


class _Lines(io.TextIOWrapper):
    """Writes at once: what a full disk refuses stays in no buffer, to be refused again."""

    _cut = False

    def write(self, text: str) -> int:
        """Write a line as a whole.

        Raises:
            OSError: it could not be written, or only its beginning; the next one starts afresh.
        """
        line = text.encode("utf-8", "backslashreplace")
        rest = memoryview(b"\n" + line if self._cut else line)
        whole = len(rest)
        try:
            while rest:
                try:
                    rest = rest[os.write(self.fileno(), rest) :]
                except BlockingIOError:  # a terminal that another program set so
                    select.select([], [self.fileno()], [])
        finally:
            self._cut = bool(rest) and (self._cut or len(rest) < whole)
        return len(text)
