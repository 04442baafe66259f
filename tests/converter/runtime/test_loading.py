import subprocess
import sys

import numpy as np
import pytest
import torch

from converter.bundle.opening import Bundle
from converter.errors import PredictionError
from converter.pooling import WindowPooling
from converter.runtime.loading import load_runtime
from converter.runtime.mil import MilRuntime
from converter.runtime.protocol import RuntimeUnavailableError
from tests.support.bundles import build_small
from tests.support.paths import ROOT


@pytest.fixture(scope="module", params=["graph", "host"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build_small(tmp_path_factory.mktemp("b") / "small", embedding=request.param)


@pytest.fixture(scope="module")
def runtime(bundle: Bundle) -> MilRuntime:
    return MilRuntime(bundle, threads=1)


def decibels(reference: np.ndarray, result: np.ndarray) -> float:
    error = np.sqrt(np.mean((reference - result) ** 2))
    return float(20 * np.log10(np.abs(reference).max() / error))


def test_predictions_agree_with_the_reference(bundle: Bundle, runtime: MilRuntime) -> None:
    assert (runtime.name, runtime.compute_units, runtime.lengths) == ("mil", "cpu", (128, 512))
    runtime.warm_up()
    golden = np.load(bundle.golden())
    for ids, reference in zip(golden["input_ids"], golden["reference"], strict=True):
        n_tokens = np.count_nonzero(ids != 3)
        for length in runtime.lengths:
            if length < n_tokens:
                continue
            features = runtime.predict_padded(ids[None, :length])
            assert features.shape == (1, length, 64)
            assert features.dtype == np.float32
            assert features.flags.c_contiguous
            # Weights of the package are fp16: the gate for "expected" is 70 dB.
            assert decibels(reference[:n_tokens], features[0, :n_tokens]) >= 70


def test_what_is_pooled_is_pooled_without_padding(runtime: MilRuntime) -> None:
    """As every runtime that pads does it, Core ML's among them."""
    windows = [np.arange(5, 5 + n, dtype=np.int32) for n in (20, 200, 3)]
    poolings = [WindowPooling("mean", 1, 19), WindowPooling("max", 0, 200), None]
    mean, highest, rows = runtime.predict(windows, poolings)
    whole = runtime.predict(windows)
    np.testing.assert_allclose(mean, whole[0][1:19].mean(0, keepdims=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(highest, whole[1].max(0, keepdims=True))
    np.testing.assert_array_equal(rows, whole[2])
    with pytest.raises(ValueError, match="no row 20"):
        runtime.predict(windows[:1], [WindowPooling("mean", 1, 21)])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.full((1, 128), 5, np.int64), "int32"),
        (np.full((128,), 5, np.int32), r"\(1, L\)"),
        (np.full((2, 128), 5, np.int32), r"\(1, L\)"),
        (np.full((1, 100), 5, np.int32), "128, 512"),
        (np.full((1, 128), 400, np.int32), "vocabulary of 400"),
        (np.full((1, 128), -1, np.int32), "vocabulary"),
    ],
)
def test_what_the_package_cannot_take_is_refused(
    runtime: MilRuntime, ids: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        runtime.predict_padded(ids)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_is_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    runtime = MilRuntime(bundle)
    features = np.zeros((1, 128, 64), np.float32)
    features[0, 100, 3] = bad
    executor = type("Executor", (), {"predict": lambda *_: {"features": features}})()
    monkeypatch.setattr(runtime, "_executor", executor)
    with pytest.raises(PredictionError, match="finite"):
        runtime.predict_padded(np.full((1, 128), 5, np.int32))


def test_a_prediction_of_another_shape_is_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = MilRuntime(bundle)
    features = np.zeros((1, 127, 64), np.float32)
    executor = type("Executor", (), {"predict": lambda *_: {"features": features}})()
    monkeypatch.setattr(runtime, "_executor", executor)
    with pytest.raises(PredictionError, match="127"):
        runtime.predict_padded(np.full((1, 128), 5, np.int32))


def test_the_number_of_threads_is_obeyed(bundle: Bundle) -> None:
    before = torch.get_num_threads()
    try:
        load_runtime(bundle, runtime="mil", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_unknown_compute_units_are_refused(bundle: Bundle) -> None:
    with pytest.raises(RuntimeUnavailableError, match="CPU_AND_NE"):
        load_runtime(bundle, compute_units="NEURAL")


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is there on macOS")
def test_core_ml_off_macos_is_refused(bundle: Bundle) -> None:
    with pytest.raises(RuntimeUnavailableError, match="macOS"):
        load_runtime(bundle, runtime="coreml")


def test_light_modules_import_neither_torch_nor_coremltools() -> None:
    code = (
        "import sys, converter.bundle.opening, converter.tokenizer, converter.runtime.loading, "
        "converter.checkpoint.hub, converter.checkpoint.files\n"
        "print([m for m in ('torch', 'coremltools', 'transformers') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
