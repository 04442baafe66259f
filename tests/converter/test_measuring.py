"""Figures of many measurements and of a process."""

import subprocess
import sys

import numpy as np
import pytest

from converter.measuring import peak_memory_mib, percentile


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 100])
@pytest.mark.parametrize("percent", [1, 50, 95, 100])
def test_percentiles_are_those_of_numpy(count: int, percent: int) -> None:
    values = np.sort(np.random.default_rng(count).normal(size=count))
    expected = np.percentile(values, percent, method="inverted_cdf")
    assert percentile(values.tolist(), percent) == expected


def test_peak_memory_rises_with_what_was_held() -> None:
    code = (
        "from converter.measuring import peak_memory_mib as peak\n"
        "before = peak(); held = bytearray(b'x' * 64 * 2**20); del held\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The literal that it is made of may be there as well.
    assert 60 < float(done.stdout) < 140
    assert peak_memory_mib() > 10
