"""What a run would take, before it is begun: windows, tokens, hours, bytes."""

import random
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.embed.embedder import Embedder, Job
from app.embed.errors import TryAgainError, UsageError
from app.embed.options import EmbedOptions
from app.embed.planning import Planner
from app.embed.shards import Answer, ShardStamp
from app.embed.threads import Threads
from app.embed.windows import Refused, Row
from converter.terminal import aligned

# Windows that are tried, and how long at most.
_SAMPLED, _SECONDS, _AT_ONCE = 64, 20.0, 8
# What a window takes in a shard beside its vector, and a base makes of tokens at most, roughly.
_BYTES_BESIDE = 60
_BASES_PER_TOKEN = 4
_SHARE_OF_DISK = 0.5


@dataclass(frozen=True)
class Estimate:
    """A run that was not begun.

    Attributes:
        n_windows, n_bases, n_refused: listed, not estimated.
        n_tokens, seconds: from windows that were tried, with what they were.
        n_bytes: of all shards.
        free: bytes on the disk of the output.
    """

    n_windows: int
    n_bases: int
    n_refused: int
    n_tokens: int
    seconds: float
    n_tried: int
    n_bytes: int
    free: int

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "windows": self.n_windows,
            "bases": self.n_bases,
            "refused": self.n_refused,
            "tokens": self.n_tokens,
            "seconds": round(self.seconds, 1),
            "tried_windows": self.n_tried,
            "bytes": self.n_bytes,
            "free_bytes": self.free,
        }

    def as_text(self) -> str:
        """For people."""
        rows = [
            ("windows", f"{self.n_windows}, of {self.n_bases} bases in all"),
            ("refused", f"{self.n_refused}"),
            ("tokens", f"about {self.n_tokens}"),
            ("time", f"about {_duration(self.seconds)} here ({self.n_tried} windows were tried)"),
            ("output", f"about {_size(self.n_bytes)}; {_size(self.free)} are free"),
        ]
        return "\n".join(aligned(rows))


async def estimate(
    planner: Planner, model: Embedder, options: EmbedOptions, threads: Threads
) -> Estimate:
    """List the windows of a run, and try some of them.

    Raises:
        as `Planner.rows` and `Embedder.compute`.
    """
    n_windows, n_bases, n_refused, sample = await threads.run(partial(_listed, planner))
    n_tokens = tried_bases = n_tried = 0
    began = time.perf_counter()
    seconds = 0.0
    # The first ones only warm up.
    if sample:
        await _answers(model, sample[:1])
        began = time.perf_counter()
    while n_tried < len(sample) and seconds < _SECONDS:
        rows = sample[n_tried : n_tried + _AT_ONCE]
        answers = await _answers(model, rows)
        n_tried += len(rows)
        tried_bases += sum(row.n_bases for row in rows)
        n_tokens += sum(answer.n_tokens for answer in answers)
        seconds = time.perf_counter() - began
    scale = n_bases / max(tried_bases, 1)
    tokens = round(n_tokens * scale)
    n_rows = n_windows if options.choices.pooled else tokens
    n_bytes = _bytes(n_windows, n_rows, model.hidden_size, options.choices.dtype)
    free = shutil.disk_usage(existing_parent(options.output)).free
    return Estimate(n_windows, n_bases, n_refused, tokens, seconds * scale, n_tried, n_bytes, free)


async def _answers(model: Embedder, rows: list[Row]) -> list[Answer]:
    prepared = await model.prepare(Job(rows))
    return await model.compute(prepared, lambda _windows, _bases: None)


def _listed(planner: Planner) -> tuple[int, int, int, list[Row]]:
    """Counts, and some rows, drawn evenly (Vitter's reservoir; seeded)."""
    draw = random.Random(0)
    n_windows = n_bases = n_refused = 0
    sample: list[Row] = []
    for row in planner.rows():
        if isinstance(row, Refused):
            n_refused += 1
            continue
        n_windows += 1
        n_bases += row.n_bases
        if len(sample) < _SAMPLED:
            sample.append(row)
        elif (place := draw.randrange(n_windows)) < _SAMPLED:
            sample[place] = row
    draw.shuffle(sample)
    return n_windows, n_bases, n_refused, sample


def require_room(folder: Path, stamp: ShardStamp, n_windows: int, n_bases: int) -> None:
    """Refuse what takes more than half of the free disk.

    Raises:
        TryAgainError: it would not fit at all. UsageError: it would take more than half.
    """
    n_rows = n_bases // _BASES_PER_TOKEN + 2 * n_windows if stamp.per_token else n_windows
    needed = _bytes(n_windows, n_rows, stamp.hidden_size, stamp.options["dtype"])
    free = shutil.disk_usage(folder).free
    half = _bytes(n_windows, n_rows, stamp.hidden_size, "float16")
    sizes = f"The vectors take up to {_size(needed)}, and {_size(free)} are free in {folder}."
    if needed > free:
        smaller = ", or choose --dtype float16" if half < min(needed, free) else ""
        raise TryAgainError(f"{sizes} Make room{smaller}.")
    if needed > _SHARE_OF_DISK * free:
        raise UsageError(f"{sizes} That is more than half: say --yes if it is meant so.")


def _bytes(n_windows: int, n_rows: int, hidden_size: int, dtype: str) -> int:
    """Of shards with so many windows, and rows of numbers for them."""
    return n_windows * _BYTES_BESIDE + n_rows * hidden_size * np.dtype(dtype).itemsize


def existing_parent(folder: Path) -> Path:
    """The folder, or the nearest one above that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _size(n_bytes: int) -> str:
    unit = next((unit for unit in (10**12, 10**9, 10**6) if n_bytes >= unit), 10**3)
    names = {10**12: "TB", 10**9: "GB", 10**6: "MB", 10**3: "kB"}
    return f"{n_bytes / unit:.2f} {names[unit]}"
