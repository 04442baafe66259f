"""Sequences, and what the answers for them are, made by hand."""

import random

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tests.support.live_service import HIDDEN, Truth

BASES = "ACGT"
IUPAC = "ACGTRYSWKMBDHVN"
COMPLEMENT = dict(zip(IUPAC, "TGCAYRSWMKVHDBN", strict=True))


def dna(n: int, seed: int = 0, letters: str = BASES) -> str:
    """The same `n` letters for the same seed."""
    return "".join(random.Random(seed).choices(letters, k=n))


def other_strand(sequence: str) -> str:
    """The reverse complement."""
    return "".join(COMPLEMENT[base] for base in reversed(sequence))


def windows_by_hand(n_tokens: int, overlap: int, most: int = 510) -> list[tuple[int, int]]:
    """First token and the one after the last, of each window of at most so many."""
    windows, start = [], 0
    while True:
        end = min(start + most, n_tokens)
        windows.append((start, end))
        if end == n_tokens:
            return windows
        start = end - overlap


def merged(
    truth: Truth, sequence: str, overlap: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(n_tokens, H) one row a token, from the window with more context; (n_windows, H) [CLS]."""
    ids = truth.ids(sequence)
    rows = np.full((len(ids), HIDDEN), np.nan)
    context = np.full(len(ids), -1)
    cls = []
    for start, end in windows_by_hand(len(ids), overlap, truth.manifest.window - 2):
        window = truth.rows(ids[start:end])
        cls.append(window[0])
        for token in range(start, end):
            # The ends of the record are no loss of context.
            here = min(
                token - start if start else 10**6, end - 1 - token if end < len(ids) else 10**6
            )
            if here > context[token]:
                rows[token], context[token] = window[1 + token - start], here
    return rows, np.array(cls)


def close(answer: ArrayLike, expected: ArrayLike) -> None:
    """Assert that they agree to float32 precision."""
    np.testing.assert_allclose(np.asarray(answer), np.asarray(expected), rtol=1e-5, atol=2e-5)
