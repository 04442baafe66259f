"""What goes into a package and what comes out of it, with numbers written down here."""

import numpy as np
import pytest

from converter.errors import PredictionError
from converter.package.interface import PackageInterface, host_inputs
from tests.support.bundles import CONFIG

FUNCTIONS = {128: "length_128", 64: "length_64"}
TABLE = np.arange(400 * 64, dtype=np.float16).reshape(400, 64)


def ids(*tokens: int, length: int = 64) -> np.ndarray:
    window = np.full((1, length), 3, np.int32)
    window[0, : len(tokens)] = tokens
    return window


def test_ids_go_in_as_they_are_where_the_package_looks_them_up() -> None:
    inputs = PackageInterface(CONFIG, FUNCTIONS).inputs(ids(1, 9, 2))
    assert list(inputs) == ["input_ids"]
    assert np.array_equal(inputs["input_ids"], ids(1, 9, 2))


def test_on_the_host_rows_go_in_and_what_is_no_padding() -> None:
    inputs = PackageInterface(CONFIG, FUNCTIONS, TABLE).inputs(ids(1, 9, 2))
    assert list(inputs) == ["embeddings", "padding_mask"]
    rows, mask = inputs.values()
    assert (rows.shape, rows.dtype) == ((1, 64, 1, 64), np.float32)
    for position, token in enumerate((1, 9, 2, 3)):
        assert np.array_equal(rows[0, :, 0, position], TABLE[token])
    assert mask.tolist() == [[1.0] * 3 + [0.0] * 61]
    # Core ML takes arrays in C order.
    assert all(array.flags.c_contiguous for array in inputs.values())
    assert np.array_equal(host_inputs(ids(1, 9, 2), TABLE, 3)["embeddings"], rows)


def test_functions_are_named_for_core_ml_where_there_are_several() -> None:
    several = PackageInterface(CONFIG, FUNCTIONS)
    assert several.lengths == (64, 128)
    assert several.function(128) == several.core_ml_function(128) == "length_128"
    one = PackageInterface(CONFIG, {512: "main"})
    assert (one.function(512), one.core_ml_function(512)) == ("main", None)


def test_an_empty_window_is_the_specials_and_padding() -> None:
    window = PackageInterface(CONFIG, FUNCTIONS).empty_window(64)
    assert window.dtype == np.int32
    assert np.array_equal(window, ids(1, 2))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (ids(1, 2).astype(np.int64), "int32"),
        (ids(1, 2)[0], r"\(1, L\)"),
        (ids(1, 2, length=100), "length 100; the package has 64, 128"),
        (ids(1, 400, 2), "vocabulary of 400"),
        (ids(1, -1, 2), "vocabulary of 400"),
    ],
)
def test_other_windows_are_refused(window: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PackageInterface(CONFIG, FUNCTIONS).inputs(window)


def test_features_come_out_as_they_are_or_not_at_all() -> None:
    interface = PackageInterface(CONFIG, FUNCTIONS)
    numbers = np.random.default_rng(0).normal(size=(1, 64, 64))
    features = interface.features(ids(1, 2), {"features": np.asfortranarray(numbers)})
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert np.array_equal(features, numbers.astype(np.float32))
    with pytest.raises(PredictionError, match="63"):
        interface.features(ids(1, 2), {"features": numbers[:, :63]})
    numbers[0, 5, 5] = np.inf
    with pytest.raises(PredictionError, match="finite"):
        interface.features(ids(1, 2), {"features": numbers})
