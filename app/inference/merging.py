"""One vector out of a record's windows and strands."""

from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from app.inference.records import RecordStrand
from app.inference.windows import Window
from app.requests.options import Choices


def own_rows(rows: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """(n, H) rows of the tokens that the window answers for; row 0 is [CLS]."""
    return rows[own_span(window)]


def own_span(window: Window) -> slice:
    """Where those rows are."""
    shift = 1 - window.first
    return slice(window.own_first + shift, window.own_end + shift)


def window_vector(rows: NDArray[np.float32], choices: Choices) -> NDArray[np.float32]:
    """(H,) of one window by itself: of its (n, H) rows, [CLS] first and [SEP] last."""
    own = rows[1:-1]
    vector: NDArray[np.float64]
    match choices.pooling:
        case "mean":
            vector = own.mean(axis=0, dtype=np.float64)
        case "cls":
            vector = rows[0].astype(np.float64)
        case "max":
            vector = own.max(axis=0).astype(np.float64)
        case "none":
            raise ValueError("features that are not pooled have no vectors")
        case unknown:
            assert_never(unknown)
    return _finished(vector, choices)


def _finished(vector: NDArray[np.float64], choices: Choices) -> NDArray[np.float32]:
    if choices.normalize:
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

    def add(self, strand: RecordStrand, window: Window, rows: NDArray[np.float32]) -> None:
        """The next window of the record: (n, H) rows, [CLS] first."""
        part = self._part(strand, window, rows)
        if not self._totals or self._totals[-1].strand is not strand:
            self._totals.append(_StrandTotal(strand, part))
            return
        last = self._totals[-1]
        is_max = self._choices.pooling == "max"
        last.total = np.maximum(last.total, part) if is_max else last.total + part

    def vector(self) -> NDArray[np.float32]:
        """(H,) of all windows that were added."""
        vector: NDArray[np.float64] = np.mean([each.total for each in self._totals], axis=0)
        return _finished(vector, self._choices)

    def _part(
        self, strand: RecordStrand, window: Window, rows: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """(H,) that a window adds to its strand."""
        part: NDArray[np.float64]
        own = own_rows(rows, window)
        match self._choices.pooling:
            case "mean":
                part = own.sum(axis=0, dtype=np.float64) / strand.own_tokens
            case "cls":
                part = rows[0].astype(np.float64) / strand.n_windows
            case "max":
                part = own.max(axis=0).astype(np.float64)
            case "none":
                raise ValueError("features that are not pooled are not merged")
            case unknown:
                assert_never(unknown)
        return part
