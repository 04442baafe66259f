"""What the server and the model's process say to each other.

A request is a fixed header and the window's ids, padded to a length of the package. A reply is its
size and a JSON object: `Loading` before every step, then `LoadedRuntime` or `NotLoaded`; after that
`Predicted` or `NotPredicted` for each request. Features travel in shared memory, cut into slots, so
that a megabyte and a half costs one copy at each end and the model never waits for a slow reader.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from app.model.prediction import IN_FLIGHT
from converter.tokenizer import WINDOW

# Each window that is with the model has a place for its answer.
SLOTS = IN_FLIGHT
# Number of the request, slot for its answer, count of int32 ids that follow.
REQUEST = struct.Struct("<III")
# Bytes of the JSON object that follows.
REPLY = struct.Struct("<I")
LONGEST_REPLY = 2**20

_EXACT = ConfigDict(strict=True, extra="forbid")


class GarbledReplyError(Exception):
    """The process sent what is no reply to what it was asked."""


@dataclass(frozen=True, config=_EXACT)
class Loading:
    """What is done next, as a clause; it may take as long as one step may."""

    step: str


@dataclass(frozen=True, config=_EXACT)
class LoadedRuntime:
    """What executes the package, as `converter.runtime.protocol.Runtime` says it."""

    name: str
    compute_units: str
    lengths: Sequence[int]
    device_checks: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, config=_EXACT)
class NotLoaded:
    """Why there is no runtime; the process ends."""

    code: str
    message: str


@dataclass(frozen=True, config=_EXACT)
class Predicted:
    """The features of a request are in its slot: (rows, hidden), padding included."""

    number: int
    shape: tuple[int, int]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, config=_EXACT)
class NotPredicted:
    """Why a request has no features; the process lives on."""

    number: int
    code: str
    message: str


Reply: TypeAlias = Loading | LoadedRuntime | NotLoaded | Predicted | NotPredicted
_REPLIES: TypeAdapter[Reply] = TypeAdapter(Reply)


def encode_reply(reply: Reply) -> bytes:
    """A reply as it travels, its size first."""
    data = json.dumps(asdict(reply)).encode()
    return REPLY.pack(len(data)) + data


def decode_reply(data: bytes) -> Reply:
    """A reply without its size.

    Raises:
        GarbledReplyError: it is none.
    """
    try:
        return _REPLIES.validate_json(data)
    except ValidationError as error:
        raise GarbledReplyError("it sent no reply") from error


def slot_bytes(hidden_size: int) -> int:
    """Room for the features of one full window."""
    return WINDOW * hidden_size * np.dtype(np.float32).itemsize
