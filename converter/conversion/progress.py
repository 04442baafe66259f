"""One progress display: a bar for a person, JSON lines for a program, or nothing."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

ProgressKind = Literal["bar", "json", "none"]
# Called with the stage, the fraction of it that is done (0 to 1), and a sentence for people.
OnProgress = Callable[[str, float, str], None]

# Share of the whole that each stage takes, from a full-size conversion.
_SHARES = {"fetch": 0.02, "read": 0.08, "convert": 0.65, "verify": 0.23, "publish": 0.02}


def overall(stage: str, fraction: float) -> float:
    """Fraction of the whole conversion, 0 to 1."""
    done = 0.0
    for name, share in _SHARES.items():
        if name == stage:
            return done + share * fraction
        done += share
    raise ValueError(f"no stage {stage!r}")


@contextmanager
def progress_display(kind: ProgressKind) -> Iterator[OnProgress]:
    """A callback for `convert` that shows what it is told.

    Args:
        kind: "bar" on standard error; "json" on standard output; "none".
    """
    if kind == "bar":
        from tqdm import tqdm

        with tqdm(total=100, bar_format="{percentage:3.0f}%|{bar}| {desc} [{elapsed}]") as bar:

            def show(stage: str, fraction: float, message: str) -> None:
                bar.set_description_str(message, refresh=False)
                # A second attempt goes back; the bar does, too.
                bar.n = round(100 * overall(stage, fraction))
                bar.refresh()

            yield show
    elif kind == "json":

        def write(stage: str, fraction: float, message: str) -> None:
            line = {"stage": stage, "fraction": round(fraction, 3), "message": message}
            print(json.dumps(line), flush=True)

        yield write
    else:
        yield lambda *_: None
