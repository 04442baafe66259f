"""Arrays that a Core ML model may keep: they outlive every use that it makes of them."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.runtime.coreml_library import Arrays, LoadedModel

# More than could be miscounted: that takes a race, once in many predictions.
_REFERENCES = 2**16


class BufferedModel:
    """A loaded model that always predicts from the same arrays, which are its own.

    Core ML lets go of a prediction's inputs about a second after `predict`, on a thread of its
    own, and coremltools 9.0 then drops a reference to the numpy array without the GIL
    (coremltools pull requests 2827 and 2829). Were it the last one, the array would be freed there
    and the heap corrupted; and as it is not atomic, references may be miscounted. Hence these
    arrays have references that nobody gives back: they are never freed, not even with the model,
    since Core ML may let go of them after that.

    Core ML also wants inputs writable, aligned and in C order, which these are.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._buffers: dict[tuple[str, tuple[int, ...], np.dtype[Any]], NDArray[Any]] = {}

    def predict(self, inputs: Arrays) -> Arrays:
        """Predict from copies of these arrays."""
        return self._model.predict({name: self._copy(name, a) for name, a in inputs.items()})

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
