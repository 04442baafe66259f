"""Data types of MIL: their numbers and names, and how elements are stored."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# MIL.proto, enum DataType: number -> (name, bits of one element).
DATA_TYPES: dict[int, tuple[str, int]] = {
    1: ("bool", 8),
    2: ("string", 0),
    10: ("fp16", 16),
    11: ("fp32", 32),
    12: ("fp64", 64),
    21: ("int8", 8),
    22: ("int16", 16),
    23: ("int32", 32),
    24: ("int64", 64),
    25: ("int4", 4),
    31: ("uint8", 8),
    32: ("uint16", 16),
    33: ("uint32", 32),
    34: ("uint64", 64),
    35: ("uint4", 4),
    36: ("uint2", 2),
    37: ("uint1", 1),
    38: ("uint6", 6),
    39: ("uint3", 3),
}
# Bits of one element, by name.
BITS = dict(DATA_TYPES.values())
# As NumPy has them, where it does.
NUMPY = {
    "bool": np.dtype(np.bool_),
    "fp16": np.dtype("<f2"),
    "fp32": np.dtype("<f4"),
    "fp64": np.dtype("<f8"),
    **{f"{s}int{b}": np.dtype(f"<{s or 'i'}{b // 8}") for s in ("", "u") for b in (8, 16, 32, 64)},
}


def unpack_unsigned(packed: NDArray[Any], width: int, count: int) -> NDArray[np.uint8]:
    """Integers of `width` bits (1 to 8), back to back from the lowest bit of the first byte.

    Args:
        packed: uint8, at least `count * width` bits.

    Returns:
        (count,) uint8.
    """
    bits = np.unpackbits(packed, bitorder="little", count=count * width)
    return np.packbits(bits.reshape(count, width), axis=1, bitorder="little").reshape(count)
