"""What a record may be called: nothing with a character that cannot be seen."""

import unicodedata

from app.errors import ProblemError
from app.requests.schemas import MAX_ID_LENGTH

# What stands for it in text that was read.
_REPLACED = "\ufffd"
_UNSEEN = {
    "Cc": "a control character",
    "Cf": "a character that formats and is not seen",
    "Cn": "a character that Unicode does not define",
    "Co": "a character of private use",
    "Cs": "half a character",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
    "Zs": "a space that is not the plain one",
}
# Letters, marks and a symbol for Unicode, and nothing for the eye: joiners, Hangul and Braille
# blanks, inherent vowels, variation selectors.
_BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)
# What a spreadsheet computes where a cell begins with it, in both widths, and what readers of
# tables take for a quote, which hides the rest of the file up to the next one.
_SPECIAL = frozenset("=+-@\uff1d\uff0b\uff0d\uff20\"'")


def special_in_tables(text: str) -> str:
    """The first letter of a cell where it is more than a letter there, else nothing."""
    first = text.lstrip()[:1]
    return first if first in _SPECIAL else ""


def id_problem(record_id: str, number: int) -> ProblemError | None:
    """Why an id cannot be used: 422 record.invalid_id, which does not repeat it; None: it can.

    Args:
        number: of the record, from 1.
    """
    if not record_id or record_id.isspace():
        return invalid_id(number, "has no id.")
    if len(record_id) > MAX_ID_LENGTH:
        return invalid_id(number, f"has an id of more than {MAX_ID_LENGTH} characters.")
    if _REPLACED in record_id:
        return invalid_id(number, "has in its id a byte that is not UTF-8.")
    if record_id.isprintable() and _BLANK.isdisjoint(record_id):
        return None
    position, letter = next(
        (position, letter)
        for position, letter in enumerate(record_id, start=1)
        if not letter.isprintable() or letter in _BLANK
    )
    kind = _UNSEEN.get(unicodedata.category(letter), "a character that is not seen")
    where = f"U+{ord(letter):04X}, at position {position}"
    return invalid_id(number, f"has in its id {kind} ({where}).")


def invalid_id(number: int, reason: str) -> ProblemError:
    """422 record.invalid_id.

    Args:
        number: of the record, from 1.
        reason: the rest of a sentence about it.
    """
    return ProblemError("record.invalid_id", f"Record {number} {reason}", record_number=number)
