"""BED files: intervals on the records of the input."""

import hashlib
import re
import shlex
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from app.embed.errors import InputError
from app.embed.whole_numbers import whole_number
from app.embed.windows import Side
from app.errors import ProblemError
from app.requests.bodies import ReceivedBody, check_wanted, open_decoded

_NO_INTERVALS = ("#", "track", "browser")
_BLOCK = 2**20
# Characters of a line; names of 12 columns are far below.
_LONGEST_LINE = 2**20
_NAMES = "(The names of columns? Begin that line with #.)"
_GFF = (
    "It looks like GFF or GTF, which count from 1. Make BED of it: awk -F '\\t' -v OFS='\\t' "
    "'!/^#/ {print $1, $4 - 1, $5, $3, \".\", $7}' genes.gff > genes.bed"
)
_PLACES = re.compile(r"\S+:[\d,]+-[\d,]+\s*")
_OF_A_BROWSER = (
    "It looks like places as a genome browser has them, which count from 1. Make BED of it: "
    "awk -F '[:-]' -v OFS='\\t' '{{gsub(/,/, x); print $1, $2 - 1, $3}}' {0} > made.bed"
)
_WITH_COMMAS = "It looks like a table with commas: tr ',' '\\t' < {0} > made.bed"
_VCF = (
    "It looks like VCF. Make BED of it: bcftools query -f '%CHROM\\t%POS0\\t%END\\t%ID\\n' "
    "calls.vcf > calls.bed"
)
# Nothing bounds a file of one's own.
_MOST = 2**40


@dataclass(frozen=True, slots=True)
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


def read_bed(path: Path, stop: threading.Event) -> Bed:
    """Read a BED file of 3 to 12 columns, gzipped or not.

    Args:
        stop: when set, reading is given up.

    Raises:
        InputError: it cannot be read; which line is wrong, and why.
        AbandonedError: `stop` was set.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                check_wanted(stop)
                digest.update(block)
            with open_decoded(ReceivedBody(file, "", 0), _MOST, stop) as decoded:
                intervals = tuple(_intervals(path, TextIOWrapper(decoded, "utf-8-sig", "replace")))
    except ProblemError as error:
        raise InputError(f"{path}: {error.detail}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if not intervals:
        raise InputError(f"{path} has no intervals.")
    return Bed(digest.hexdigest(), intervals)


def _intervals(path: Path, text: TextIOWrapper) -> Iterator[Interval]:
    number = 0
    while line := text.readline(_LONGEST_LINE):
        number += 1
        where = f"{path}, line {number}"
        if len(line) == _LONGEST_LINE:
            raise InputError(f"{where}: it has more than {_LONGEST_LINE} characters.")
        if "\0" in line:
            raise InputError(
                f"{path} is not plain text: of a spreadsheet's table, or of text in UTF-16, make "
                "text in UTF-8 with tabs "
                f"(iconv -f UTF-16 -t UTF-8 {shlex.quote(path.name)} > utf8.bed)."
            )
        if line.strip() and not line.startswith(_NO_INTERVALS):
            yield _interval(path, number, line)


def _interval(path: Path, number: int, line: str) -> Interval:
    where = f"{path}, line {number}"
    # Tabs separate, and blanks where a line has no tab; names may hold blanks then.
    cells = line.rstrip("\n").split("\t" if "\t" in line else None)
    if len(cells) < 3:
        raise InputError(
            f"{where}: BED has at least three columns, this line {len(cells)}. "
            f"{_likely_of_few(line, path)}".rstrip()
        )
    record = cells[0].strip()
    numbers = [whole_number(cell.strip()) for cell in cells[:5]]
    _, start, end, *_ = numbers
    if start is None or end is None:
        raise InputError(
            f"{where}: start and end of the interval are not whole numbers of a genome's size. "
            f"{_likely(cells, numbers)}"
        )
    if start > end:
        raise InputError(f"{where}: the interval ends before it begins.")
    strand = cells[5].strip() if len(cells) > 5 else "."
    if strand not in ("+", "-", "."):
        raise InputError(f"{where}: the strand is none of + - and a dot.")
    name = cells[3].strip() if len(cells) > 3 else ""
    return Interval(number, record, start, end, name or None, "-" if strand == "-" else "+")


def _likely_of_few(line: str, file: Path) -> str:
    """What a line of fewer than three columns is."""
    name = shlex.quote(file.name)
    if _PLACES.fullmatch(line):
        return _OF_A_BROWSER.format(name)
    return _WITH_COMMAS.format(name) if line.count(",") > 1 else ""


def _likely(cells: Sequence[str], numbers: Sequence[int | None]) -> str:
    """What a line is whose second and third column are not numbers.

    Args:
        numbers: its first columns, None where one is none.
    """
    if len(cells) < 8:
        return _NAMES
    if None not in numbers[3:]:
        return _GFF
    return _NAMES if numbers[1] is None else _VCF
