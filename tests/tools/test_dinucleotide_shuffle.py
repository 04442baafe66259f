from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest

from tools.dinucleotide_shuffle import dinucleotide_shuffle


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 1000])
def test_every_dinucleotide_is_as_often_as_before(length: int) -> None:
    generator = np.random.default_rng(length)
    sequence = "".join(generator.choice(list("ACGT"), p=[0.4, 0.1, 0.2, 0.3], size=length))
    shuffled = dinucleotide_shuffle(sequence, generator)
    assert Counter(pairwise(shuffled)) == Counter(pairwise(sequence))
    assert Counter(shuffled) == Counter(sequence)
    if length == 1000:
        assert sum(a != b for a, b in zip(sequence, shuffled, strict=True)) > 500


def test_all_sequences_with_these_dinucleotides_are_equally_likely() -> None:
    sequence = "ACGATACAGT"
    wanted = Counter(pairwise(sequence))
    middles = {"".join(middle) for middle in permutations(sequence[1:-1])}
    possible = {"A" + m + "T" for m in middles if Counter(pairwise("A" + m + "T")) == wanted}
    assert len(possible) > 10

    generator = np.random.default_rng(0)
    draws = 200 * len(possible)
    seen = Counter(dinucleotide_shuffle(sequence, generator) for _ in range(draws))
    assert set(seen) == possible
    # Chi-square with len(possible) - 1 degrees of freedom: five standard deviations.
    freedom = len(possible) - 1
    chi_square = sum((count - 200) ** 2 / 200 for count in seen.values())
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5
