"""Numbers as people and files write them: whole, and such that whatever counts can hold them."""

# More than any genome has bases, less than 64 bits hold.
MOST_DIGITS = 15


def whole_number(text: str) -> int | None:
    """A number of decimal digits, from 0; None where it is none, or has more than `MOST_DIGITS`."""
    is_plain = text.isascii() and text.isdecimal() and len(text.lstrip("0")) <= MOST_DIGITS
    return int(text.lstrip("0") or "0") if is_plain else None
