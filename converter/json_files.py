"""JSON files that anybody may have written, read with bounds and without guesses."""

import json
import math
import stat
from pathlib import Path
from typing import Any

from converter.errors import brief


class UnreadableJsonError(Exception):
    """No JSON object can be had from a file; the message completes "FILE ..."."""


def read_json_object(path: Path, max_bytes: int) -> dict[str, Any]:
    """The object in a file of UTF-8.

    Raises:
        UnreadableJsonError: it is no file or cannot be read, or as `parse_json_object`.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would be to wait for ever
            raise UnreadableJsonError("is no file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise UnreadableJsonError(f"cannot be read: {error.strerror}") from error
    return parse_json_object(content, max_bytes)


def parse_json_object(content: bytes, max_bytes: int) -> dict[str, Any]:
    """The object in the content of a file.

    Raises:
        UnreadableJsonError: it is larger, nests too deeply, names a key twice, holds a number that
            is not finite, or is no JSON object.
    """
    if len(content) > max_bytes:
        raise UnreadableJsonError(f"is larger than the {max_bytes} bytes that it may have")
    try:
        value = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=_each_key_once,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise UnreadableJsonError("is not valid JSON: it nests too deeply") from error
    except ValueError as error:
        raise UnreadableJsonError(f"is not valid JSON: {_reason(error)}") from error
    if not isinstance(value, dict):
        raise UnreadableJsonError("holds no JSON object")
    return value


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _finite(written: str) -> float:
    number = float(written)  # of 1e999, or of NaN, which is no JSON
    if not math.isfinite(number):
        raise ValueError(f"{brief(written, 60)} is no finite number")
    return number


def _reason(error: ValueError) -> str:
    # Python's own words on a number of thousands of digits advise to lift the limit.
    return "a number is too long" if "integer string" in str(error) else str(error)
