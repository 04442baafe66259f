"""How far a run is: a bar on a terminal, a line a minute in a log, events for programs."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from converter.terminal import print_json

_EVENT_SECONDS, _LINE_SECONDS = 1.0, 60.0


class Progress(Protocol):
    """Is told what happens; shows it."""

    @property
    def seconds(self) -> float:
        """Since `begin`."""
        ...

    def step(self, text: str) -> None:
        """What goes on before anything is computed."""
        ...

    def begin(self, n_windows: int, n_there: int, n_bases: int) -> None:
        """Windows of this run, those that are there already, and bases of the others."""
        ...

    def answered(self, n_windows: int, n_bases: int) -> None:
        """Windows got their answers."""
        ...

    def note(self, text: str) -> None:
        """Something to read once."""
        ...

    def event(self, name: str, **members: Any) -> None:
        """Something for programs."""
        ...


class _Base:
    """Counts; says nothing."""

    def __init__(self) -> None:
        self.total = self.done = self.bases = self.total_bases = 0
        self.computed = 0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def begin(self, n_windows: int, n_there: int, n_bases: int) -> None:
        self.total, self.done, self.total_bases = n_windows, n_there, n_bases
        self._began = time.monotonic()

    def answered(self, n_windows: int, n_bases: int) -> None:
        self.done += n_windows
        self.computed += n_windows
        self.bases += n_bases

    def step(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def event(self, name: str, **members: Any) -> None: ...

    def rates(self) -> tuple[float, float, float | None]:
        """Windows and bases a second, and seconds that are left, by bases."""
        seconds = max(self.seconds, 1e-9)
        per_base = seconds / self.bases if self.bases else None
        left = None if per_base is None else (self.total_bases - self.bases) * per_base
        return self.computed / seconds, self.bases / seconds, left


class _Bar(_Base):
    """A bar, on standard error."""

    def __init__(self) -> None:
        super().__init__()
        from tqdm import tqdm

        layout = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} windows [{elapsed}<{postfix}]"
        self._bar = tqdm(total=1, bar_format=layout, file=sys.stderr, disable=None, leave=False)
        self._text = ""

    def step(self, text: str) -> None:
        if text != self._text:
            self._text = text
            self._bar.write(text, file=sys.stderr)

    def note(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def begin(self, n_windows: int, n_there: int, n_bases: int) -> None:
        super().begin(n_windows, n_there, n_bases)
        self._bar.reset(n_windows)
        self._bar.update(n_there)

    def answered(self, n_windows: int, n_bases: int) -> None:
        super().answered(n_windows, n_bases)
        windows, bases, left = self.rates()
        self._bar.postfix = f"{_time(left)}, {windows:.1f} windows/s, {_rate(bases)}"
        self._bar.update(n_windows)

    def close(self) -> None:
        self._bar.close()


class _Lines(_Base):
    """A line a minute, on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0
        self._text = ""

    def step(self, text: str) -> None:
        # Sentences about one thing differ in their figures only: one a minute.
        now = time.monotonic()
        if text.partition("(")[0] != self._text or now >= self._next:
            self._text, self._next = text.partition("(")[0], now + _LINE_SECONDS
            self.note(text)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def begin(self, n_windows: int, n_there: int, n_bases: int) -> None:
        super().begin(n_windows, n_there, n_bases)
        self._next = time.monotonic() + _LINE_SECONDS

    def answered(self, n_windows: int, n_bases: int) -> None:
        super().answered(n_windows, n_bases)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_SECONDS
            windows, bases, left = self.rates()
            self.note(
                f"{self.done} of {self.total} windows, {windows:.1f} windows/s, {_rate(bases)}, "
                f"{_time(left)} left"
            )

    def close(self) -> None: ...


class _Events(_Base):
    """A JSON object a line, on standard output."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0
        self._text = ""

    def step(self, text: str) -> None:
        if text != self._text:
            self._text = text
            self.event("step", message=text)

    def note(self, text: str) -> None:
        self.event("note", message=text)

    def begin(self, n_windows: int, n_there: int, n_bases: int) -> None:
        super().begin(n_windows, n_there, n_bases)
        self.event("begin", windows=n_windows, there=n_there, bases=n_bases)

    def answered(self, n_windows: int, n_bases: int) -> None:
        super().answered(n_windows, n_bases)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVENT_SECONDS
            windows, bases, left = self.rates()
            self.event(
                "progress",
                windows=self.done,
                of=self.total,
                windows_per_second=round(windows, 3),
                bases_per_second=round(bases),
                seconds_left=None if left is None else round(left, 1),
            )

    def event(self, name: str, **members: Any) -> None:
        print_json({"event": name, **members})

    def close(self) -> None: ...


@contextmanager
def progress_shown(*, as_json: bool) -> Iterator[Progress]:
    """A bar where standard error is a terminal, else lines; events where they are asked for."""
    kind: type[_Bar | _Lines | _Events]
    kind = _Events if as_json else _Bar if sys.stderr.isatty() else _Lines
    shown = kind()
    try:
        yield shown
    finally:
        shown.close()


def _rate(bases: float) -> str:
    return f"{bases / 1e6:.2f} Mb/s" if bases >= 1e6 else f"{bases / 1e3:.1f} kb/s"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
