"""How a process that predicts waits and allocates: what its libraries are told.

All of it is about speed and memory; nothing changes what is computed.
"""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

# OpenMP threads spin for a moment when they wait for the next product, and then sleep: without
# spinning, products take a quarter longer; with much of it, those of a busy machine take several
# times as long. For GNU's OpenMP in turns of a loop (some 0.2 ms), for LLVM's in ms.
_BRIEF_SPINNING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
# For glibc alone. All weights are read for every prediction: large pages are fewer to look up. What
# is large goes back to the system at once while the model is loaded: holes between weights would
# never be filled again, but touched in turns.
_ALLOCATION = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1048576"
    ":glibc.malloc.trim_threshold=33554432",
}
# What a layer computes (12 MiB at most, of 1,024 tokens by modernGENA's large geometry) stays in
# the process when it is freed: the system would clear new pages for every layer, a fifteenth of a
# prediction.
_MMAP_THRESHOLD, _LAYER_BYTES = -3, 13 * 2**20  # the first by its number in malloc.h
# A batch of 512 tokens by bert-base takes 25 MiB, and code of products (below) as much; holes come
# between. Were less spare than that, every batch would touch pages that have to be cleared first.
_SPARE_BYTES = 96 * 2**20
# oneDNN keeps the code of so many products, of up to half a megabyte each: those of the last dozen
# numbers of rows. To make it again takes some five milliseconds a number.
_CODE = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}


def performance_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """An environment, and beside it what its owner has not said: for a process that predicts."""
    spinning = {} if "OMP_WAIT_POLICY" in ours else _BRIEF_SPINNING
    return {**_ALLOCATION, **_CODE, **spinning, **ours}


class SpareMemory:
    """What a process that predicts keeps beside its model; does nothing without glibc.

    Made when the model is loaded: what loading has left free, a tenth of the process, goes back to
    the system; what predictions free from then on is kept for the next.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        self._settled = 0
        if self._trim is not None:
            self._trim(0)
            library.mallopt(_MMAP_THRESHOLD, _LAYER_BYTES)
            self._settled = _own_bytes()

    def limit(self) -> None:
        """Give the system what is free, where the process has grown too large.

        Batches of ever other sizes leave ever other holes. Takes a millisecond then.
        """
        if self._trim is not None and _own_bytes() - self._settled > _SPARE_BYTES:
            self._trim(0)


def _own_bytes() -> int:
    """What is resident without the pages of files, of Linux: answers lie in a file."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGESIZE")
