"""JSON bodies: counted before they are parsed, parsed once, then held against a schema.

Five megabytes of `[],[],` are a hundred as objects, and many times that as a list of complaints.
So bytes and marks are counted first. What is parsed meets schemas that stop at the first wrong item
of a list and look at a few fields of an object (see `app.requests.schemas`).
"""

import threading
from io import BufferedReader
from typing import Any, TypeVar

import jiter
import pydantic

from app.errors import ProblemError, too_many_records
from app.requests.bodies import BYTE_ORDER_MARK
from app.requests.limits import Limits
from app.requests.options import FROM_JSON
from app.requests.validation import validation_problem

Body = TypeVar("Body", bound=pydantic.BaseModel)

_QUOTES = " Names and texts stand in double quotes; in Python, json.dumps makes them."
_MARKS = (b'"', b"[", b"{")
# An id and a sequence have 9 marks with their names and their object; the rest is for ids that hold
# some themselves.
_MARKS_OF_A_RECORD = 16
# Options, and fields that are not known here but deserve to hear so.
_MARKS_BESIDE_RECORDS = 256
# Parsing holds the GIL. Two at a time would be no faster, and the event loop would wait for both.
_TURN = threading.Lock()


def read_json(file: BufferedReader, schema: type[Body], limits: Limits) -> Body:
    """Read a decoded body to its end.

    Raises:
        ProblemError: 413 json.too_large or request.too_many_records, 400 json.invalid, 422 by the
            schema.
    """
    data = _read(file, limits)
    with _TURN:
        return _fit(_parse(data), schema)


def _read(file: BufferedReader, limits: Limits) -> bytes:
    data = file.read(limits.json_bytes + 1)
    if len(data) > limits.json_bytes:
        raise ProblemError(
            "json.too_large",
            f"JSON may have {limits.json_bytes} bytes, unpacked.",
            limit=limits.json_bytes,
        )
    most = _MARKS_OF_A_RECORD * limits.records + _MARKS_BESIDE_RECORDS
    if sum(data.count(mark) for mark in _MARKS) > most:
        raise too_many_records(
            limits.records,
            f"The JSON has more than {most} quotes and opening brackets; a request may have "
            f"{limits.records} records.",
        )
    return data.removeprefix(BYTE_ORDER_MARK)


def _parse(data: bytes) -> Any:
    try:
        return jiter.from_json(
            data, allow_inf_nan=False, cache_mode="none", catch_duplicate_keys=True
        )
    except ValueError as error:
        what, _, place = str(error).rpartition(" at line ")
        if what.startswith("Detected duplicate key"):  # the only message that quotes
            what = "a name occurs twice in an object"
        hint = _QUOTES if data.lstrip().startswith(b"{'") else ""
        raise ProblemError("json.invalid", f"Invalid JSON: {what} at line {place}.{hint}") from None


def _fit(value: Any, schema: type[Body]) -> Body:
    try:
        return schema.model_validate(value, strict=True, context=FROM_JSON)
    except pydantic.ValidationError as error:
        errors = error.errors(include_input=False, include_url=False, include_context=False)
        raise validation_problem(errors) from None
