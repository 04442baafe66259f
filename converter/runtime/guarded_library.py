"""Core ML, asked so that two faults of it stay harmless: calls that hang, inputs that are kept."""

import ctypes
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from converter.life_line import ends_when_stuck
from converter.runtime.coreml_library import Arrays, CoreMLLibrary, LoadedModel, System
from converter.runtime.protocol import ANY_PROCESS, Circumstances

# More than could be miscounted: that takes a race, once in many predictions.
_REFERENCES = 2**16
_LATER = 5.0


def library_named(module: str, circumstances: Circumstances = ANY_PROCESS) -> "GuardedLibrary":
    """`coreml_library.LIBRARY`, or a module that stands in for it."""
    return GuardedLibrary(cast(CoreMLLibrary, import_module(module)), circumstances)


class GuardedLibrary:
    """A `CoreMLLibrary` in front of another one: a call that takes too long ends this process.

    It holds the GIL meanwhile, so that nothing in Python could give it up. Whoever started this
    process ends it when patience is over, and says why; after `_LATER` seconds more, one that was
    left alone ends by itself.

    Args:
        circumstances: patience with a step (compiling, loading, asking where operations are
            placed), and with one prediction.
    """

    def __init__(self, library: CoreMLLibrary, circumstances: Circumstances) -> None:
        self._library = library
        self._step_seconds = circumstances.step_seconds
        self._predict_seconds = circumstances.predict_seconds

    def system(self) -> System:
        """See `CoreMLLibrary`."""
        return self._library.system()

    def keep_frameworks_out(self) -> None:
        """See `CoreMLLibrary`."""
        self._library.keep_frameworks_out()

    def compile_package(self, package: Path, compiled: Path) -> None:
        """See `CoreMLLibrary`."""
        with ends_when_stuck(self._step_seconds + _LATER):
            self._library.compile_package(package, compiled)

    def load(self, compiled: Path, compute_units: str, function: str | None) -> LoadedModel:
        """See `CoreMLLibrary`."""
        with ends_when_stuck(self._step_seconds + _LATER):
            model = self._library.load(compiled, compute_units, function)
        return GuardedModel(model, self._predict_seconds)

    def placement(
        self, compiled: Path, compute_units: str, function: str | None
    ) -> dict[str, int] | None:
        """See `CoreMLLibrary`."""
        with ends_when_stuck(self._step_seconds + _LATER):
            return self._library.placement(compiled, compute_units, function)


class GuardedModel:
    """A loaded model that predicts within a time, and always from the same arrays, its own.

    Core ML lets go of a prediction's inputs about a second after `predict`, on a thread of its
    own, and coremltools 9.0 then drops a reference to the numpy array without the GIL
    (coremltools pull requests 2827 and 2829). Were it the last one, the array would be freed there
    and the heap corrupted; and as it is not atomic, references may be miscounted. Hence these
    arrays have references that nobody gives back: they are never freed, not even with the model,
    since Core ML may let go of them after that.

    Core ML also wants inputs writable, aligned and in C order, which these are.
    """

    def __init__(self, model: LoadedModel, seconds: float) -> None:
        self._model = model
        self._seconds = seconds
        self._buffers: dict[tuple[str, tuple[int, ...], np.dtype[Any]], NDArray[Any]] = {}

    def predict(self, inputs: Arrays) -> Arrays:
        """Predict from copies of these arrays."""
        copies = {name: self._copy(name, array) for name, array in inputs.items()}
        with ends_when_stuck(self._seconds + _LATER):
            return self._model.predict(copies)

    def _copy(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        key = name, array.shape, array.dtype
        if key not in self._buffers:
            self._buffers[key] = _never_freed(np.empty(array.shape, array.dtype))
        self._buffers[key][...] = array
        return self._buffers[key]


def _never_freed(array: NDArray[Any]) -> NDArray[Any]:
    for _ in range(_REFERENCES):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(array))
    return array
