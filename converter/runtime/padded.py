"""A runtime whose package takes one window at a time, padded to one of its lengths."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from converter.package.interface import PackageInterface
from converter.pooling import Poolings, of_each, pooled


class PaddedRuntime(ABC):
    """Windows one by one, each at the shortest length of the package that holds it.

    Attributes:
        lengths: tokens that a window can be padded to, ascending.
    """

    batch_tokens = 1

    def __init__(self, package: PackageInterface) -> None:
        self._package = package
        self.lengths = package.lengths

    @abstractmethod
    def predict_padded(self, input_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Features of one padded window.

        Args:
            input_ids: (1, L) int32, with both specials, padded to one of `lengths`.

        Returns:
            (1, L, H) float32, all finite, C order; rows of padding hold numbers without meaning.

        Raises:
            ValueError: another shape, dtype or length, or ids outside the vocabulary.
            PredictionError: the model gave NaN, infinity or another shape.
        """

    def predict(
        self, windows: Sequence[NDArray[np.int32]], poolings: Poolings = None
    ) -> list[NDArray[np.float32]]:
        """See `Runtime`."""
        wanted = of_each(poolings, [len(window) for window in windows])
        rows = (
            self.predict_padded(self._package.padded(window))[0, : len(window)]
            for window in windows
        )
        return list(map(pooled, rows, wanted))

    def warm_up(self) -> None:
        """See `Runtime`."""
        for length in self.lengths:
            self.predict_padded(self._package.empty_window(length))
