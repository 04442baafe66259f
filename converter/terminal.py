"""What commands print: tables for people, JSON for programs."""

import json
from collections.abc import Sequence
from typing import Any


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line a row, each column as wide as its widest cell; rows have equally many cells."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def print_json(document: Any, indent: int | None = None) -> None:
    """Print one document, on one line unless indented, and let it out at once.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    print(json.dumps(document, indent=indent, allow_nan=False), flush=True)
