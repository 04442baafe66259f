"""What a person, a log and a program see of a run."""

import io
import json
import sys

import pytest

from app.embed import progress
from app.embed.progress import progress_shown


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_with_rates_and_the_time_left(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress_shown(as_json=False) as shown:
        shown.begin(100, 20, 80_000)
        clock.now += 10
        shown.answered(20, 20_000)
        shown.note("something")
    seen = screen.getvalue()
    assert "40/100 windows" in seen
    assert "0:00:30, 2.0 windows/s, 2.0 kb/s" in seen
    assert "something\n" in seen


def test_a_log_has_a_line_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown(as_json=False) as shown:
        shown.begin(1000, 0, 1_000_000)
        for _ in range(300):
            clock.now += 1
            shown.answered(1, 1_000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0] == "60 of 1000 windows, 1.0 windows/s, 1.0 kb/s, 0:15:40 left"


def test_a_program_has_events(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown(as_json=True) as shown:
        shown.step("Reading.")
        shown.begin(10, 5, 5_000)
        clock.now += 2
        shown.answered(1, 1_000)
        shown.event("done", windows=10)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["step", "begin", "progress", "done"]
    assert events[2] == {
        "event": "progress",
        "windows": 6,
        "of": 10,
        "windows_per_second": 0.5,
        "bases_per_second": 500,
        "seconds_left": 8.0,
    }
