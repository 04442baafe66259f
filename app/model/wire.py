"""What the server and the model's process say to each other.

A request is a fixed header and the window's ids, padded to a length of the package. A reply is its
size and a JSON object: once `runtime` (a `LoadedRuntime`) or `failed` (`code` and `message`); then,
for each request, its `number` with `shape` and `seconds`, or with `error` (a code) and `message`.
Features travel in shared memory, cut into slots, so that a megabyte and a half costs one copy at
each end and the model never waits for a slow reader.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.model.prediction import IN_FLIGHT
from converter.tokenizer import WINDOW

# Each window that is with the model has a place for its answer.
SLOTS = IN_FLIGHT
# Number of the request, slot for its answer, count of int32 ids that follow.
REQUEST = struct.Struct("<III")
# Bytes of the JSON object that follows.
REPLY = struct.Struct("<I")


@dataclass(frozen=True)
class LoadedRuntime:
    """What executes the package, as `converter.runtime.protocol.Runtime` says it."""

    name: str
    compute_units: str
    lengths: Sequence[int]
    device_checks: Sequence[Mapping[str, Any]] | None


def slot_bytes(hidden_size: int) -> int:
    """Room for the features of one full window."""
    return WINDOW * hidden_size * np.dtype(np.float32).itemsize
