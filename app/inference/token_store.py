"""The tokens of a request between its two passes: in memory, on disk when they are many."""

from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

_IN_MEMORY = 2**22
# One token: its id and the base after its last one.
_TOKEN = np.dtype([("id", "<i4"), ("end", "<i4")])


class TokenStore:
    """Tokens of all records of a request, one after the other. Close it."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._size = 0

    def append(self, ids: NDArray[np.int32], ends: NDArray[np.int64]) -> int:
        """Keep (n,) ids and (n,) ends; returns where they begin.

        Raises:
            OSError: they do not fit on the disk.
        """
        tokens = np.empty(len(ids), _TOKEN)
        tokens["id"], tokens["end"] = ids, ends
        self._file.seek(self._size * _TOKEN.itemsize)
        self._file.write(tokens.tobytes())
        # A full disk is heard of now, and not when an answer is on its way.
        self._file.flush()
        start = self._size
        self._size += len(ids)
        return start

    def read(self, start: int, end: int) -> NDArray[Any]:
        """(end - start,) structured: id, end."""
        self._file.seek(start * _TOKEN.itemsize)
        data = self._file.read((end - start) * _TOKEN.itemsize)
        return np.frombuffer(data, _TOKEN)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()
