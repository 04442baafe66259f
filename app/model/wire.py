"""What the server and the model's process say to each other.

A request is some windows: a fixed header, of each window how long it is and what is wanted of it,
and the ids. A reply is its size and a JSON object: `Loading` before every step, then
`LoadedRuntime` or `NotLoaded`; after that `Predicted` for each request, and `GaveUp` where it
answers no more. Features travel in shared memory, cut into slots, so that megabytes cost one copy
at each end and the model never waits for a slow reader. In its slot a request's answers lie end to
end, a row of float32 for each id, or one for a window that is pooled.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, BinaryIO, Literal, TypeAlias

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from app.model.prediction import IN_FLIGHT, WindowIds
from converter.pooling import WindowPooling

# Each request that is with the model has a place for its answer.
SLOTS = IN_FLIGHT
# Number of the request, slot for its answer, count of windows. Of each window four int32 follow:
# how many ids it has, the place of its pooling in _HOW, the first and the end of its rows; after
# those of all the int32 ids.
REQUEST = struct.Struct("<III")
_WINDOW_HEAD = 4
_HOW: tuple[Literal["mean", "max"] | None, ...] = (None, "mean", "max")
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
    compute: str
    lengths: Sequence[int]
    batch_tokens: Annotated[int, Field(ge=1)]
    device_checks: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, config=_EXACT)
class NotLoaded:
    """Why there is no runtime; the process ends."""

    code: str
    message: str


@dataclass(frozen=True, config=_EXACT)
class Failure:
    """Why a window, counted from 0, has no features; the process lives on."""

    window: Annotated[int, Field(ge=0)]
    code: str
    message: str


@dataclass(frozen=True, config=_EXACT)
class Predicted:
    """The features of a request's windows are in its slot, but for those that failed.

    Attributes:
        shape: (rows, hidden) of the whole, those that failed included.
    """

    number: int
    shape: tuple[int, int]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    failures: Sequence[Failure] = ()


@dataclass(frozen=True, config=_EXACT)
class GaveUp:
    """Why the process ends by itself, as a clause; it has begun with no request meanwhile."""

    reason: str


Reply: TypeAlias = Loading | LoadedRuntime | NotLoaded | Predicted | GaveUp
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


def encode_request(
    number: int, slot: int, windows: Sequence[WindowIds], poolings: Sequence[WindowPooling | None]
) -> bytes:
    """A request as it travels."""
    heads = [
        _window_head(len(ids), pooling) for ids, pooling in zip(windows, poolings, strict=True)
    ]
    parts = [np.array(heads, np.int32), *(np.asarray(ids, np.int32) for ids in windows)]
    return REQUEST.pack(number, slot, len(windows)) + b"".join(part.tobytes() for part in parts)


def _window_head(length: int, pooling: WindowPooling | None) -> tuple[int, int, int, int]:
    if pooling is None:
        return length, 0, 0, 0
    return length, _HOW.index(pooling.how), pooling.first, pooling.end


def read_windows(
    stream: BinaryIO, count: int
) -> tuple[list[WindowIds], list[WindowPooling | None]]:
    """The windows of a request whose header was read, and what is wanted of each."""
    heads = np.frombuffer(stream.read(4 * _WINDOW_HEAD * count), np.int32).reshape(count, -1)
    lengths = heads[:, 0]
    ids = np.frombuffer(stream.read(4 * int(lengths.sum())), np.int32)
    # Copies: what predicts may want memory that it can write to.
    windows = [np.array(window) for window in np.split(ids, np.cumsum(lengths)[:-1])]
    return windows, [_pooling(*map(int, head[1:])) for head in heads]


def _pooling(place: int, first: int, end: int) -> WindowPooling | None:
    how = _HOW[place]
    return None if how is None else WindowPooling(how, first, end)


def slot_bytes(hidden_size: int, tokens: int) -> int:
    """Room for the features of so many tokens."""
    return tokens * hidden_size * np.dtype(np.float32).itemsize
