"""Pieces of JSON documents that are too big to be made at once."""

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray


def array(values: NDArray[Any]) -> bytes:
    """Any shape; float32 as the shortest text that reads back to it."""
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)


def items(values: NDArray[Any] | list[str]) -> bytes:
    """The elements of the outermost axis, without the brackets around them."""
    return (orjson.dumps(values) if isinstance(values, list) else array(values))[1:-1]


def open_object(members: dict[str, Any]) -> bytes:
    """An object that more members follow."""
    return orjson.dumps(members)[:-1]
