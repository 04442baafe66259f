"""NumPy's format: all features in one array."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from app import media_types
from app.answers.writer import AnswerPlan, Chunk, Writer
from app.inference.engine import Block

_ZEROS = memoryview(bytes(2**18))


class NpyWriter(Writer):
    """The features, and nothing that says what they are of: the headers do."""

    media_type = media_types.NPY

    def __init__(self, plan: AnswerPlan) -> None:
        super().__init__(plan)
        self._head = npy_header(plan.shape, plan.dtype)

    @property
    def length(self) -> int:
        return len(self._head) + self.plan.n_values * self.plan.dtype.itemsize

    @property
    def estimate(self) -> int:
        return self.length

    def begin(self) -> Iterator[Chunk]:
        yield self._head

    def block(self, block: Block) -> Iterator[Chunk]:
        yield from raw_values(block)


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """What `np.save` writes before the values of an array in C order."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(  # type: ignore[no-untyped-call]
        file, {"descr": dtype.str, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def raw_values(block: Block) -> Iterator[memoryview]:
    """The values in C order, then their padding."""
    yield np.ascontiguousarray(block.values).reshape(-1).view(np.uint8).data
    left = block.padding * block.values[:1].nbytes
    while left > 0:
        yield _ZEROS[:left]
        left -= len(_ZEROS)
