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
# a layer computes (12 MiB at most, of 1,024 tokens by modernGENA's large geometry) stays in the
# process when it is freed: the system would clear new pages for every layer, a fifteenth of a
# prediction. What is larger goes back at once.
_ALLOCATION = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=13631488"
    ":glibc.malloc.trim_threshold=33554432",
}


def performance_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """An environment, and beside it what its owner has not said: for a process that predicts."""
    spinning = {} if "OMP_WAIT_POLICY" in ours else _BRIEF_SPINNING
    return {**_ALLOCATION, **spinning, **ours}


def return_free_memory() -> None:
    """Give the system what loading has left free, a tenth of the process; nothing without glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
