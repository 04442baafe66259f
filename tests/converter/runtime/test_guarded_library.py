"""What Core ML gets to predict from, as it may keep and drop it on a thread of its own."""

import ctypes
import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.runtime.coreml import load_coreml_runtime
from converter.runtime.coreml_library import Arrays
from converter.runtime.guarded_library import GuardedModel
from converter.runtime.mil import MilRuntime
from tests.support import coreml_stand_in
from tests.support.bundles import build_small


class KeepsAddresses:
    """A model that notes its inputs as Core ML would: by address, without owning them."""

    def __init__(self) -> None:
        self.seen: list[dict[str, int]] = []

    def predict(self, inputs: Arrays) -> Arrays:
        for array in inputs.values():
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert array.flags.aligned
            assert array.flags.owndata
        self.seen.append({name: id(array) for name, array in inputs.items()})
        return {name: array.copy() for name, array in inputs.items()}


def array_at(address: int) -> Any:
    return ctypes.cast(address, ctypes.py_object).value


def odd_inputs(seed: int) -> dict[str, Any]:
    """Strides that are no C order, and a read-only array."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((128, 16), np.float32).T[None, :, None, :]
    ids = generator.integers(5, 100, (1, 128), dtype=np.int32)
    ids.flags.writeable = False
    return {"embeddings": rows, "input_ids": ids}


def test_the_same_arrays_arrive_at_every_call_with_the_values_of_this_one() -> None:
    library = KeepsAddresses()
    model = GuardedModel(library, 60)
    for seed in range(3):
        inputs = odd_inputs(seed)
        for name, found in model.predict(inputs).items():
            np.testing.assert_array_equal(found, inputs[name])
    assert library.seen[0] == library.seen[1] == library.seen[2]


def test_references_dropped_late_and_wrongly_free_nothing() -> None:
    library = KeepsAddresses()
    model = GuardedModel(library, 60)
    inputs = odd_inputs(0)
    model.predict(inputs)
    del model
    gc.collect()
    for name, address in library.seen[0].items():
        for _ in range(1000):
            ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(address))
        array = array_at(address)
        assert sys.getrefcount(array) > 1000
        np.testing.assert_array_equal(array, inputs[name])


@pytest.mark.usefixtures("behave")
@pytest.mark.parametrize("embedding", ["graph", "host"])
def test_core_ml_predicts_from_arrays_that_the_runtime_keeps(
    embedding: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = build_small(tmp_path / "b", embedding=embedding)
    seen: list[dict[str, int]] = []
    predict = coreml_stand_in._Model.predict

    def noted(model: Any, inputs: Arrays) -> Arrays:
        assert all(array.flags.c_contiguous for array in inputs.values())
        assert all(sys.getrefcount(array) > 1000 for array in inputs.values())
        seen.append({name: id(array) for name, array in inputs.items()})
        return predict(model, inputs)

    monkeypatch.setattr(coreml_stand_in._Model, "predict", noted)
    runtime = load_coreml_runtime(
        bundle, library=coreml_stand_in.__name__, cache=tmp_path / "cache"
    )
    mil = MilRuntime(bundle)
    for window in np.load(bundle.golden())["input_ids"][:2, None, :]:
        np.testing.assert_array_equal(runtime.predict_padded(window), mil.predict_padded(window))
    assert seen[-2] == seen[-1]
