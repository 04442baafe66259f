"""One vector out of a record's windows and strands."""

from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from app.inference.records import RecordStrand
from app.inference.windows import Window
from app.requests.options import Choices
from converter.pooling import WindowPooling


def own_rows(rows: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """(n, H) rows of the tokens that the window answers for; row 0 is [CLS]."""
    return rows[own_span(window)]


def own_span(window: Window) -> slice:
    """Where those rows are."""
    shift = 1 - window.first
    return slice(window.own_first + shift, window.own_end + shift)


def pooling_of(window: Window, choices: Choices) -> WindowPooling | None:
    """What of a window's rows goes into the answer: all, or the vector that is made of them.

    A vector of the window by itself is of all its tokens, a part of its record's of its own.
    """
    span = slice(1, window.n_tokens - 1) if choices.by_window else own_span(window)
    match choices.pooling:
        case "none":
            return None
        case "cls":
            return WindowPooling("mean", 0, 1)
        case "mean" | "max" as how:
            return WindowPooling(how, span.start, span.stop)
        case unknown:
            assert_never(unknown)


def finished(vector: NDArray[Any], choices: Choices) -> NDArray[np.float32]:
    """(H,) as it is answered, before it is cast."""
    if choices.normalize:
        vector = vector.astype(np.float64)
        length = np.linalg.norm(vector)
        vector = vector / length if length > 0 else vector
    single: NDArray[np.float32] = vector.astype(np.float32)
    return single


@dataclass
class _StrandTotal:
    strand: RecordStrand
    total: NDArray[np.float64]


class RecordMerger:
    """Gathers the windows of one record, strand by strand, and merges them into its vector.

    Every token counts once, in the window that answers for it; both strands count alike. It holds
    one (H,) float64 a strand.
    """

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._totals: list[_StrandTotal] = []

    def add(self, strand: RecordStrand, window: Window, vector: NDArray[np.float32]) -> None:
        """The next window of the record: (H,), pooled as `pooling_of` says."""
        part = self._part(strand, window, vector.astype(np.float64))
        if not self._totals or self._totals[-1].strand is not strand:
            self._totals.append(_StrandTotal(strand, part))
            return
        last = self._totals[-1]
        is_max = self._choices.pooling == "max"
        last.total = np.maximum(last.total, part) if is_max else last.total + part

    def vector(self) -> NDArray[np.float32]:
        """(H,) of all windows that were added."""
        vector: NDArray[np.float64] = np.mean([each.total for each in self._totals], axis=0)
        return finished(vector, self._choices)

    def _part(
        self, strand: RecordStrand, window: Window, vector: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(H,) that a window adds to its strand."""
        match self._choices.pooling:
            case "mean":
                return vector * ((window.own_end - window.own_first) / strand.own_tokens)
            case "cls":
                return vector / strand.n_windows
            case "max":
                return vector
            case "none":
                raise ValueError("features that are not pooled are not merged")
            case unknown:
                assert_never(unknown)
