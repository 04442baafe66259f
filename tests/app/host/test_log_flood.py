"""What repeats does not fill the log."""

import logging
from collections.abc import Iterator

import pytest

from app.host.log_flood import FloodFilter


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("app.host.log_flood.time", clock)
    return clock


@pytest.fixture
def written() -> Iterator[list[str]]:
    """What reaches the log."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Collect()
    handler.addFilter(FloodFilter())
    root = logging.getLogger("flood")
    root.addHandler(handler)
    root.propagate = False
    root.setLevel(logging.DEBUG)
    access = logging.getLogger("gena.access")
    access.addHandler(handler)
    yield lines
    root.removeHandler(handler)
    access.removeHandler(handler)


def test_a_few_of_a_kind_pass_and_the_rest_are_counted(written: list[str], clock: Clock) -> None:
    logger = logging.getLogger("flood.one")
    for number in range(1000):
        logger.warning("no place for %d", number)
    assert written == [f"no place for {number}" for number in range(5)]
    clock.now += 11
    logger.warning("no place for %d", 1000)
    assert written[5:] == [
        "995 more of these were left out: no place for %d",
        "no place for 1000",
    ]


def test_one_kind_does_not_silence_another(written: list[str]) -> None:
    for _ in range(100):
        logging.getLogger("flood.one").warning("first")
    logging.getLogger("flood.one").warning("second")
    logging.getLogger("flood.one").error("first")
    logging.getLogger("flood.two").warning("first")
    assert written[5:] == ["second", "first", "first"]


def test_what_differs_below_the_first_line_is_one_kind(written: list[str]) -> None:
    for number in range(100):
        logging.getLogger("flood").error(f"out of something\nsocket: {number}")
    assert len(written) == 5


def test_different_exceptions_are_different_kinds(written: list[str]) -> None:
    logger = logging.getLogger("flood")
    for error in [ValueError()] * 10 + [KeyError()]:
        logger.error("unexpected failure", exc_info=error)
    assert len(written) == 6


def test_the_traceback_of_a_child_passes(written: list[str]) -> None:
    for number in range(80):
        logging.getLogger("flood").info("%s", f"line {number}")
    assert len(written) == 80


def test_requests_are_logged_one_by_one(written: list[str]) -> None:
    for _ in range(1000):
        logging.getLogger("gena.access").warning("request")
    assert len(written) == 1000


def test_nothing_is_said_where_nothing_was_left_out(written: list[str], clock: Clock) -> None:
    for _ in range(5):
        logging.getLogger("flood").warning("rare")
        clock.now += 11
    assert written == ["rare"] * 5
