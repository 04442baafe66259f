"""What has letters of DNA only and was hardly meant as DNA: told, where it would get an answer."""

import re

from app.errors import ProblemError
from app.requests.options import Choices
from converter.tokenizer import CleanSequence

# Of a record's letters, that may be none of A C G T N. Proteins whose letters all are IUPAC's have
# about two thirds; degenerate primers and consensus sequences seldom more than a quarter.
MOST_AMBIGUOUS = 1 / 3

_LONGEST_MISSING = 8
# What stands where a table has no value, and whose; and how it is written where it is DNA.
_MISSING = {
    "NA": "R",
    "nan": "Python",
    "NaN": "Python",
    "None": "Python",
    "<NA>": "pandas",
    "NaT": "pandas",
    "null": "JSON",
    "NULL": "R and of databases",
    "N/A": "spreadsheets",
    "#N/A": "spreadsheets",
    "-": "tables",
    "--": "tables",
    ".": "tables",
    "?": "tables",
}
_AS_DNA = {"NA": "na", "nan": "NAN", "NaN": "NAN"}

# A tab that has something on both sides of its line.
_COLUMNS = re.compile(r"[^\s] *(\t)[ \t]*[^\s]")
# Files are wrapped at 50 letters or more, by habit.
_SHORTEST_WRAPPED = 40


def who(name: str | None) -> str:
    """The beginning of a sentence about a record; None is a single sequence."""
    return "The sequence" if name is None else f"Record {name!r}"


def check_text(text: str, name: str | None) -> None:
    """Refuse what is a missing value, or columns of a table.

    Raises:
        ProblemError: 422 sequence.missing, sequence.invalid_letter.
    """
    value = text.strip() if len(text) <= 2 * _LONGEST_MISSING else text
    if value in _MISSING:
        otherwise = f" If it is DNA, write {_AS_DNA[value]}." if value in _AS_DNA else ""
        raise ProblemError(
            "sequence.missing",
            f"{who(name)} is {value!r}, a missing value of {_MISSING[value]}. Leave it out."
            f"{otherwise}",
            record=name,
        )
    if "\t" in text and (found := _COLUMNS.search(text)) is not None:
        position = found.start(1) + 1
        raise ProblemError(
            "sequence.invalid_letter",
            f"{who(name)}: a tab at position {position} separates columns. Send the column of "
            "sequences as FASTA; with names in the first and sequences in the second column: "
            "awk -F'\\t' -v begin='>' '{print begin $1; print $2}' table.tsv",
            record=name,
            position=position,
            letter="\t",
        )


def check_letters(cleaned: CleanSequence, choices: Choices, name: str | None) -> None:
    """Refuse what looks like a protein, unless that is accepted.

    Raises:
        ProblemError: 422 sequence.ambiguous.
    """
    n_bases = len(cleaned.sequence)
    if choices.ambiguous == "accept" or cleaned.n_ambiguous <= MOST_AMBIGUOUS * n_bases:
        return
    count = cleaned.n_ambiguous - cleaned.sequence.count("N")
    if count > MOST_AMBIGUOUS * n_bases:
        raise ProblemError(
            "sequence.ambiguous",
            f"{who(name)}: {count} of its {n_bases} letters ({count / n_bases:.0%}) are none of "
            "A, C, G, T and N.",
            record=name,
            count=count,
        )


def note_on_lines(text: str) -> str | None:
    """A warning where several lines that are not one wrapped sequence were read as one."""
    lines = [len(line) for line in map(str.strip, text.splitlines()) if line]
    if len(lines) < 2:
        return None
    *full, last = lines
    is_wrapped = full[0] >= _SHORTEST_WRAPPED and set(full) == {full[0]} and last <= full[0]
    if is_wrapped:
        return None
    return (
        f"{len(lines)} lines were read as one sequence. If each of them is one, send FASTA: "
        "awk -v begin='>' 'NF {print begin NR; print}' lines.txt"
    )
