"""What is wanted of a window's rows."""

from typing import Any

import numpy as np
import pytest

from converter.pooling import WindowPooling, of_each, pooled

ROWS = np.arange(20, dtype=np.float32).reshape(5, 4) ** 2


@pytest.mark.parametrize(
    ("how", "expected"),
    [("mean", [(16 + 64) / 2, 53.0, 68.0, 85.0]), ("max", [64.0, 81.0, 100.0, 121.0])],
)
def test_a_vector_is_of_the_rows_that_are_named(how: Any, expected: list[float]) -> None:
    vector = pooled(ROWS, WindowPooling(how, 1, 3))
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, [expected])


def test_without_pooling_rows_stay_as_they_are() -> None:
    assert pooled(ROWS, None) is ROWS


@pytest.mark.parametrize(("first", "end"), [(2, 2), (3, 2), (-1, 2)])
def test_no_rows_have_no_vector(first: int, end: int) -> None:
    with pytest.raises(ValueError, match="are none"):
        WindowPooling("mean", first, end)


def test_rows_that_a_window_has_not_are_refused() -> None:
    poolings = [WindowPooling("mean", 0, 5), WindowPooling("mean", 0, 6)]
    with pytest.raises(ValueError, match="5 ids has no row 5"):
        of_each(poolings, [5, 5])
    with pytest.raises(ValueError, match="zip"):
        of_each(poolings, [5])
    assert of_each(None, [5, 5]) == [None, None]
    assert of_each(poolings, [5, 6]) is poolings
