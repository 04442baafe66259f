"""Bounds of one request."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for.

    Attributes:
        records: in it.
        record_bases: of each of them.
        tokens: of all of them, the specials and overlaps of windows included.
        json_bytes: of a JSON body, unpacked.
    """

    records: int
    record_bases: int
    tokens: int
    json_bytes: int
