"""Figures of a process and of many measurements."""

import math
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

_STATUS = Path("/proc/self/status")


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest of some measurements that so many of a hundred do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def peak_memory_mib() -> float:
    """The most that this process ever had resident."""
    if _STATUS.exists():  # `ru_maxrss` would count what its parent had before the spawn
        line = next(each for each in _STATUS.read_text().splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resident_mib(resource.getrusage(resource.RUSAGE_SELF))


def resident_mib(usage: resource.struct_rusage) -> float:
    """Peak resident memory in what the system says of a process that ended, or of this one."""
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
