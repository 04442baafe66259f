"""BED files: intervals on the records of the input."""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.embed.errors import InputError
from app.embed.windows import Side

_GZIP = b"\x1f\x8b"
_NO_INTERVALS = ("#", "track", "browser")


@dataclass(frozen=True)
class Interval:
    """A line of a BED file: 0-based, half-open, as BED has it; it may be empty, a point.

    Attributes:
        strand: `+` where the file says nothing, or `.`.
    """

    line: int
    record: str
    start: int
    end: int
    name: str | None
    strand: Side


@dataclass(frozen=True)
class Bed:
    """A BED file that was read.

    Attributes:
        sha256: of the file as it is.
    """

    sha256: str
    intervals: tuple[Interval, ...]


def read_bed(path: Path) -> Bed:
    """Read a BED file of 3 to 12 columns, gzipped or not.

    Raises:
        InputError: it cannot be read; which line is wrong, and why.
    """
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    lines = text.decode("utf-8-sig", "replace").splitlines()
    intervals = tuple(_intervals(path, lines))
    if not intervals:
        raise InputError(f"{path} has no intervals.")
    return Bed(hashlib.sha256(content).hexdigest(), intervals)


def _intervals(path: Path, lines: list[str]) -> Iterator[Interval]:
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(_NO_INTERVALS):
            continue
        # Tabs separate, and blanks where a line has no tab; names may hold blanks then.
        cells = line.rstrip("\n").split("\t" if "\t" in line else None)
        where = f"{path}, line {number}"
        if len(cells) < 3:
            raise InputError(f"{where}: BED has at least three columns, this line {len(cells)}.")
        record, start, end = (cell.strip() for cell in cells[:3])
        if not (start.isascii() and start.isdecimal() and end.isascii() and end.isdecimal()):
            raise InputError(
                f"{where}: start and end of the interval are not whole numbers. (The names of "
                "columns? Begin that line with #.)"
            )
        if int(start) > int(end):
            raise InputError(f"{where}: the interval ends before it begins.")
        strand = cells[5].strip() if len(cells) > 5 else "."
        if strand not in ("+", "-", "."):
            raise InputError(f"{where}: the strand is none of + - and a dot.")
        name = cells[3].strip() if len(cells) > 3 else ""
        side: Side = "-" if strand == "-" else "+"
        yield Interval(number, record, int(start), int(end), name or None, side)
