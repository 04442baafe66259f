"""How a process that predicts waits and allocates: what its libraries are told.

All of it is about speed and memory; nothing changes what is computed.
"""

import ctypes
from collections.abc import Mapping

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
# oneDNN keeps the code of so many products, of up to half a megabyte each: those of the last dozen
# numbers of rows. To make it again takes a millisecond or two a batch.
_CODE = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}


def performance_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """An environment, and beside it what its owner has not said: for a process that predicts."""
    spinning = {} if "OMP_WAIT_POLICY" in ours else _BRIEF_SPINNING
    return {**_ALLOCATION, **_CODE, **spinning, **ours}


def settle_memory() -> None:
    """Called when the model is loaded; does nothing without glibc.

    What loading has left free, a tenth of the process, goes back to the system; what predictions
    free from now on is kept.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
        library.mallopt(_MMAP_THRESHOLD, _LAYER_BYTES)
