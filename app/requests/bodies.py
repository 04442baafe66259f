"""The body of a request: received within bounds, then read as a stream, inflated where needed."""

import io
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from app import media_types
from app.errors import ProblemError

# Of UTF-8; files of Windows begin with it.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_IN_MEMORY = 2**20
_BLOCK = 2**17
# Of a gzip body that is inflated at a time. At the end of a member zlib copies what is left of it,
# and a member can be 20 bytes.
_PIECE = 2**12
_GZIP = b"\x1f\x8b"
# What may follow a gzip stream, or stand between two: padding, and the line end of an editor.
_AFTER_GZIP = b"\0\r\n"
_MOST_AFTER_GZIP = 2
# An empty block (SAMv1, 4.1.2).
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
# A body above this may take long to read.
_BULK_BYTES = 2**18
_MAX_FORM_FIELDS = 20
_MAX_FORM_FIELD_BYTES = 4096


class AbandonedError(Exception):
    """The request that wanted this work is gone."""


def check_wanted(stop: threading.Event) -> None:
    """Raises AbandonedError once `stop` is set."""
    if stop.is_set():
        raise AbandonedError


@dataclass
class ReceivedBody:
    """A body as it came, on disk when it is big. Close it.

    Attributes:
        media_type: of the content, lower case, without parameters; empty when the client gave
            none.
        size: bytes as sent; of a form the file's.
        fields: of a form, beside the file; None when it was no form.
        is_gzip: by its first bytes.
    """

    file: BinaryIO
    media_type: str
    size: int
    fields: dict[str, str] | None = None
    is_gzip: bool = field(init=False)

    def __post_init__(self) -> None:
        self.file.seek(0)
        self.is_gzip = self.file.read(len(_GZIP)) == _GZIP
        self.file.seek(0)

    @property
    def is_bulk(self) -> bool:
        """Whether it may take long to read: it is big, or may be when it is inflated."""
        return self.is_gzip or self.size > _BULK_BYTES

    def close(self) -> None:
        """Give the disk space back."""
        self.file.close()


async def receive_body(request: Request) -> ReceivedBody:
    """Take the body from the wire; `app.host.body_limit` bounds and counts what arrives.

    Raises:
        ProblemError: 408 request.timeout, 413 body.too_large, 415 body.unsupported_encoding, 400
            form.invalid.
        OSError: there is no room for it on the disk.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise ProblemError("body.unsupported_encoding")
    if media_type == media_types.FORM:
        return await _receive_form(request)
    file = cast(BinaryIO, SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115
    size = 0
    try:
        async for chunk in request.stream():
            file.write(chunk)
            size += len(chunk)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return ReceivedBody(file, media_type, size)


async def _receive_form(request: Request) -> ReceivedBody:
    form = await _parse_form(request)
    try:
        return _body_of_form(form)
    except BaseException:
        await form.close()
        raise


async def _parse_form(request: Request) -> FormData:
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary")
    if not boundary:
        raise _bad_form("Its Content-Type has no boundary.")
    parser = MultiPartParser(
        request.headers,
        request.stream(),
        max_files=1,
        max_fields=_MAX_FORM_FIELDS,
        max_part_size=_MAX_FORM_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except (MultiPartException, ValueError, KeyError):
        raise _bad_form(
            f"It is malformed, or has more than one file, {_MAX_FORM_FIELDS} fields or "
            f"{_MAX_FORM_FIELD_BYTES} bytes in a field. Make one file of several: cat a.fa b.fa"
        ) from None


def _body_of_form(form: FormData) -> ReceivedBody:
    file: BinaryIO | None = None
    size = 0
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str):
            if name != "file":
                raise _bad_form("The file must be in the field file: -F file=@genes.fa")
            file, size = value.file, value.size or 0
        elif name in fields:
            raise _bad_form("A field is given twice.")
        else:
            fields[name] = value
    if file is None:
        raise _bad_form("It has no file. With curl: -F file=@genes.fa")
    return ReceivedBody(file, "", size, fields)


def _bad_form(reason: str) -> ProblemError:
    return ProblemError("form.invalid", reason)


@contextmanager
def open_decoded(
    body: ReceivedBody, limit: int, stop: threading.Event
) -> Iterator[io.BufferedReader]:
    """Read a body, inflated when its content is gzip, with `limit` on the bytes that come out.

    Reading raises ProblemError: 413 body.too_large_decoded, 400 gzip.invalid; and AbandonedError
    once `stop` is set.
    """
    body.file.seek(0)
    if body.is_gzip and _is_cut(body.file):
        raise _bad_gzip("The end mark of BGZF is missing: the file was cut off.")
    raw = _Inflated(body.file, stop, limit) if body.is_gzip else _Plain(body.file, stop)
    reader: io.BufferedReader = io.BufferedReader(raw, _BLOCK)
    with reader:
        yield reader


def _is_cut(file: BinaryIO) -> bool:
    """Whether it is BGZF, gzip in blocks as bgzip writes it, without the block that ends it.

    Cut between two blocks it would be a shorter file and nothing else.
    """
    head = file.read(len(_BGZF_END))
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - len(_BGZF_END) - _MOST_AFTER_GZIP))
    is_whole = _BGZF_END in file.read()
    file.seek(0)
    return head[12:16] == _BGZF_END[12:16] and not is_whole


class _Plain(io.RawIOBase):
    """Leaves the file open when it is closed."""

    def __init__(self, file: BinaryIO, stop: threading.Event) -> None:
        self._file = file
        self._stop = stop

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def _read(self, size: int) -> bytes:
        check_wanted(self._stop)
        return self._file.read(size)


class _Inflated(_Plain):
    """All members of a gzip file, one block at a time, however small the file that holds them."""

    def __init__(self, file: BinaryIO, stop: threading.Event, limit: int) -> None:
        super().__init__(file, stop)
        self._limit = limit
        self._left = limit
        self._input = b""
        self._inflate = zlib.decompressobj(31)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            chunk = self._next(len(buffer))
        except zlib.error:
            raise _bad_gzip("Its content is damaged.") from None
        self._left -= len(chunk)
        if self._left < 0:
            raise ProblemError(
                "body.too_large_decoded",
                f"A compressed body may inflate to {self._limit} bytes.",
                limit=self._limit,
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def _next(self, size: int) -> bytes:
        while True:
            if self._inflate.eof and not self._begin_member():
                return b""
            self._input = self._input or self._read(_PIECE)
            at_end = not self._input
            # Without input this gives what zlib still holds back.
            chunk = self._inflate.decompress(self._input, size)
            self._input = self._inflate.unconsumed_tail
            if chunk:
                return chunk
            if at_end and not self._inflate.eof:
                raise _bad_gzip("It ends too early.")

    def _begin_member(self) -> bool:
        """Whether there is one more; padding may stand before it."""
        self._input = self._inflate.unused_data.lstrip(_AFTER_GZIP)
        while not self._input:
            piece = self._read(_PIECE)
            if not piece:
                return False
            self._input = piece.lstrip(_AFTER_GZIP)
        self._inflate = zlib.decompressobj(31)
        return True


def _bad_gzip(reason: str) -> ProblemError:
    return ProblemError("gzip.invalid", reason)
