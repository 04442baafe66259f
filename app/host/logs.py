"""Logs as text or JSON lines, to stderr or a rotated file; never DNA."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

from app.host.backlog import Backlog, FileOutput, StderrOutput
from app.host.log_flood import FloodFilter
from app.settings import Settings
from converter.tokenizer_file import LETTERS

_ROTATED_BYTES, _ROTATED_FILES = 10_000_000, 5
# A traceback or a library's message may quote what it worked on. Runs of letters this long,
# out of this alphabet and line ends, plain or escaped, are DNA and nothing else: no word has so
# many without E, I, L, O or P, and hexadecimal digits are not only A to D.
_DNA = re.compile(rf"(?:[{LETTERS}\r\n]|\\+[rn]){{16,}}", re.IGNORECASE)
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _without_dna(text: str) -> str:
    return _DNA.sub(lambda found: f"[{len(found.group())} bases]", text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {k: v for k, v in vars(record).items() if k not in _OWN_ATTRIBUTES and k[0] != "_"}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000+00:00 INFO gena.access: message key=value ...`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, _format: str | None = None) -> str:  # noqa: N802, the library's name
        return _time(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the library's name
        extra = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return super().formatMessage(record) + extra

    def format(self, record: logging.LogRecord) -> str:
        return _without_dna(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _without_dna(json.dumps(line, default=str))


def configure_logging(settings: Settings) -> None:
    """Send every logger of this process to one place in one format.

    Raises:
        OSError: the log file cannot be written.
    """
    formatter = JsonFormatter() if settings.log_format == "json" else TextFormatter()
    handler = Backlog(_output(settings), formatter)
    handler.addFilter(_is_news)
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # uvicorn's own lines repeat what gena.server says; its warnings and errors stay.
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Else they go to stderr by themselves, and wait for who reads it.
    logging.captureWarnings(True)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether nobody has said it: an answer that is left unfinished on purpose, whoever did so."""
    return record.msg != "ASGI callable returned without completing response."


def _output(settings: Settings) -> logging.Handler:
    if settings.log_file is not None:
        path = settings.log_file
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileOutput(path, _ROTATED_BYTES, _ROTATED_FILES)
    # A process may be started without; then the number belongs to something else.
    return logging.NullHandler() if sys.stderr is None else StderrOutput()
