"""The body of a request: received within bounds, then read as a stream, inflated where needed."""

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from app import media_types
from app.errors import ProblemError

_IN_MEMORY = 2**20
_BLOCK = 2**17
_GZIP = b"\x1f\x8b"
_MAX_FORM_FIELDS = 20
_MAX_FORM_FIELD_BYTES = 4096


@dataclass
class ReceivedBody:
    """A body as it came, on disk when it is big. Close it.

    Attributes:
        media_type: of the content, lower case, without parameters; empty when the client gave
            none.
        size: bytes as sent; of a form the file's.
        fields: of a form, beside the file; None when it was no form.
    """

    file: BinaryIO
    media_type: str
    size: int
    fields: dict[str, str] | None = None

    def close(self) -> None:
        """Give the disk space back."""
        self.file.close()


async def receive_body(request: Request) -> ReceivedBody:
    """Take the body from the wire; `app.host.body_limit` bounds and counts what arrives.

    Raises:
        ProblemError: 413 body.too_large, 415 body.unsupported_encoding, 400 form.invalid.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise ProblemError("body.unsupported_encoding")
    if media_type == media_types.FORM:
        return _body_of_form(await _parse_form(request))
    file = cast(BinaryIO, SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115
    size = 0
    try:
        async for chunk in request.stream():
            file.write(chunk)
            size += len(chunk)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return ReceivedBody(file, media_type, size)


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
    except (MultiPartException, ValueError, KeyError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "It is malformed."
        raise _bad_form(reason) from None


def _body_of_form(form: FormData) -> ReceivedBody:
    file: BinaryIO | None = None
    size = 0
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if not isinstance(value, str):
            if name != "file":
                value.file.close()
                raise _bad_form("The file must be in the field file: -F file=@genes.fa")
            file, size = value.file, value.size or 0
        elif name in fields:
            raise _bad_form("A field is given twice.")
        else:
            fields[name] = value
    if file is None:
        raise _bad_form("It has no file. With curl: -F file=@genes.fa")
    file.seek(0)
    return ReceivedBody(file, "", size, fields)


def _bad_form(reason: str) -> ProblemError:
    return ProblemError("form.invalid", reason)


@contextmanager
def open_decoded(body: ReceivedBody, limit: int) -> Iterator[io.BufferedReader]:
    """Read a body, inflated when its content is gzip, with `limit` on the bytes that come out.

    Reading raises ProblemError: 413 body.too_large_decoded, 400 gzip.invalid.
    """
    body.file.seek(0)
    is_gzip = body.file.read(2) == _GZIP
    body.file.seek(0)
    raw = _Inflated(body.file, limit) if is_gzip else _Plain(body.file)
    reader: io.BufferedReader = io.BufferedReader(raw, _BLOCK)
    with reader:
        yield reader


class _Plain(io.RawIOBase):
    """Leaves the file open when it is closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._file.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Inflated(_Plain):
    """All members of a gzip file, one block at a time, however small the file that holds them."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        super().__init__(file)
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
            if self._inflate.eof:
                self._input = self._inflate.unused_data.lstrip(b"\0")
                self._input = self._input or self._file.read(_BLOCK).lstrip(b"\0")
                if not self._input:
                    return b""
                self._inflate = zlib.decompressobj(31)
            self._input = self._input or self._file.read(_BLOCK)
            at_end = not self._input
            # Without input this gives what zlib still holds back.
            chunk = self._inflate.decompress(self._input, size)
            self._input = self._inflate.unconsumed_tail
            if chunk:
                return chunk
            if at_end and not self._inflate.eof:
                raise _bad_gzip("It ends too early.")


def _bad_gzip(reason: str) -> ProblemError:
    return ProblemError("gzip.invalid", reason)
