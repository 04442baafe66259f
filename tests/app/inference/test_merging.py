"""One vector out of rows that are written by hand."""

import numpy as np
import pytest

from app.inference.merging import RecordMerger, pooling_of
from app.inference.records import RecordStrand
from app.requests.options import Choices
from converter.pooling import pooled

# 600 tokens in two windows that share 20: 0 to 510 and 490 to 600, with their border at 500.
N_TOKENS, OVERLAP, BORDER = 600, 20, 500
FORWARD = RecordStrand(False, 0, N_TOKENS, 600, OVERLAP, 510)
REVERSE = RecordStrand(True, 0, N_TOKENS, 600, OVERLAP, 510)


def merged(strand_values: dict[RecordStrand, np.ndarray], **choices) -> np.ndarray:
    """The vector where token t of a strand has the row values[t] in the window that answers for it.

    [CLS] has the number of its window. All other rows have a million, which must not show.
    """
    chosen = Choices(overflow="window", stride=OVERLAP, **choices)
    merger = RecordMerger(chosen)
    for strand, values in strand_values.items():
        for window in strand.windows:
            rows = np.full((window.n_tokens, 1), 1e6, np.float32)
            rows[0] = window.index
            for token in range(window.first, window.end):
                if (token < BORDER) == (window.index == 0):
                    rows[1 + token - window.first] = values[token]
            merger.add(strand, window, pooled(rows, pooling_of(window, chosen))[0])
    return merger.vector()


@pytest.mark.parametrize(("pooling", "expected"), [("mean", -300.5), ("max", -1.0), ("cls", 0.5)])
def test_each_token_counts_once(pooling, expected):
    values = -np.arange(1.0, N_TOKENS + 1)

    vector = merged({FORWARD: values}, pooling=pooling)

    np.testing.assert_allclose(vector, [expected])
    assert vector.dtype == np.float32


@pytest.mark.parametrize(("pooling", "expected"), [("mean", 4.0), ("max", 5.5), ("cls", 0.5)])
def test_both_strands_count_alike(pooling, expected):
    forward, reverse = np.full(N_TOKENS, 2.0), np.full(N_TOKENS, 6.0)
    forward[510] = 5.0
    expected += 3.0 / N_TOKENS / 2 if pooling == "mean" else 0.0

    vector = merged({FORWARD: forward, REVERSE: reverse}, pooling=pooling)

    np.testing.assert_allclose(vector, [expected], rtol=1e-6)


def test_a_normalized_vector_has_length_1_and_zeros_stay_zeros():
    assert merged({FORWARD: np.full(N_TOKENS, -7.0)}, pooling="mean", normalize=True) == [-1.0]
    assert merged({FORWARD: np.zeros(N_TOKENS)}, pooling="mean", normalize=True) == [0.0]
