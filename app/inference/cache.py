"""What was computed of windows before: bounded in bytes, least recently used go first."""

from collections import OrderedDict
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from converter.pooling import WindowPooling

# Key, array object and dictionary entry of one window, beside its values.
_ENTRY_BYTES = 300


class WindowCache:
    """(n, H) float32 rows, or (1, H) pooled, by the bundle's fingerprint, the ids and the pooling.

    Holds what the model answered, before casting: a vector of a window takes as much as one row of
    it. Used by the event loop only; not for threads.

    Args:
        limit: bytes; 0 keeps nothing.

    Attributes:
        bytes: that its entries take.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self.bytes = 0

    @staticmethod
    def key(
        fingerprint: str, ids: NDArray[np.int32], pooling: WindowPooling | None = None
    ) -> bytes:
        """Digest of what the features depend on."""
        digest = blake2b(f"{fingerprint} {pooling}".encode(), digest_size=24)
        digest.update(b"\0")
        digest.update(np.ascontiguousarray(ids, dtype="<i4").tobytes())
        return digest.digest()

    def get(self, key: bytes) -> NDArray[np.float32] | None:
        """The rows, read-only, or None."""
        rows = self._entries.get(key)
        if rows is not None:
            self._entries.move_to_end(key)
        return rows

    def put(self, key: bytes, rows: NDArray[np.float32]) -> None:
        """Keep the rows, where they fit."""
        size = rows.nbytes + _ENTRY_BYTES
        if size > self._limit or key in self._entries:
            return
        # A view would keep its whole base alive, and the bound would be a fiction.
        kept = rows if rows.base is None else rows.copy()
        kept.flags.writeable = False
        self._entries[key] = kept
        self.bytes += size
        while self.bytes > self._limit:
            _, dropped = self._entries.popitem(last=False)
            self.bytes -= dropped.nbytes + _ENTRY_BYTES
