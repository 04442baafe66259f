"""A file for libraries that write to one, where bytes are wanted as they come."""

import io
from typing import Any


class Sink(io.RawIOBase):
    """Collects what a library writes, until it is taken.

    Attributes:
        size: bytes that wait to be taken.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self.size += len(part)
        return len(part)

    def take(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return data
