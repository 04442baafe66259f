"""Tables of spreadsheets and of R: known by their first lines, with the command that helps.

Commands hold no double quotes, beside one that removes them: in an error that is read as JSON,
they have backslashes.
"""

import re
from dataclasses import dataclass

from converter.tokenizer_file import LETTERS

# Bytes of a body that have to be there, to know all that is known by its beginning.
LOOKED_AT = 1024
_FIRST_LINE = re.compile(rb"[^\r\n,;\t]*([,;\t])[ \t]*[^\s][^\r\n]*")
_DNA = re.compile(rf"[{LETTERS}]+".encode(), re.IGNORECASE)
_HEADINGS = (b"DNA", b"RNA")
_QUOTE = b'"'


@dataclass(frozen=True)
class _Kind:
    """What people call it, how awk writes what separates its columns, and what its files end in."""

    name: str
    separator: str
    end: str


_KINDS = {
    b",": _Kind("a table with commas", ",", "csv"),
    b";": _Kind("a table with semicolons", ";", "csv"),
    b"\t": _Kind("a table with tabs", r"\t", "tsv"),
}


def recognise_table(first: bytes) -> tuple[str, str] | None:
    """The name of a table, and what makes FASTA of it; None where it is none.

    Args:
        first: the first bytes of a body, `LOOKED_AT` where it has so many.
    """
    line = _FIRST_LINE.match(first)
    if line is None or line.end() == len(first) < LOOKED_AT:  # one line may be anything
        return None
    kind = _KINDS[line[1]]
    return kind.name, _advice(first, line[1], kind)


def _advice(first: bytes, separator: bytes, kind: _Kind) -> str:
    """The command for this very table: where its DNA is, and whether it has names of columns."""
    rows = [row.split(separator) for row in re.split(rb"[\r\n]+", first)[:2] if row]
    column = _column_of_dna(rows[-1])
    sequence = 2 if column is None else column + 1
    name = 2 if sequence == 1 else 1
    # What is no heading would be left out; a heading that stays is an error by its name.
    headed = column is not None and not _is_dna(rows[0], column)
    # Spreadsheets of Windows end lines with CR, and write rows that are empty.
    lines = f"{'NR > 1 && ' if headed else ''}${name} ${sequence}"
    unquoted = f"tr -d '\"' < table.{kind.end} | " if _QUOTE in first else ""
    file = "" if unquoted else f" table.{kind.end}"
    return (
        f"Make FASTA of it, names from column {name} and sequences from column {sequence}: "
        f"{unquoted}awk -F'{kind.separator}' -v begin='>' "
        f"'{{sub(/[[:cntrl:]]+$/, x)}} {lines} {{print begin ${name}; print ${sequence}}}'{file} "
        "> genes.fa"
    )


def _column_of_dna(row: list[bytes]) -> int | None:
    """Where the longest DNA is: a name may be DNA as well, GATA."""
    return max(
        (column for column in range(len(row)) if _is_dna(row, column)),
        key=lambda column: len(row[column]),
        default=None,
    )


def _is_dna(row: list[bytes], column: int) -> bool:
    field = row[column].strip(b'" ') if column < len(row) else b""
    return _DNA.fullmatch(field) is not None and field.upper() not in _HEADINGS
