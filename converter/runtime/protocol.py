"""The seam between a bundle and what executes it: the runtime, as everything above it sees it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from converter.errors import GenaError

COMPUTE_UNITS = ("CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL")
RuntimeChoice = Literal["auto", "mil", "coreml"]


class RuntimeUnavailableError(GenaError):
    """The runtime that was asked for does not work on this machine."""

    code = "runtime.unavailable"


class Runtime(Protocol):
    """Something that computes features.

    Attributes:
        name: "mil" or "coreml".
        compute_units: "cpu" for mil; one of `COMPUTE_UNITS` for Core ML.
        lengths: tokens that a prediction can take, ascending.
        device_checks: what the checks of Core ML's compute units found, those in use last, as
            plain data; None for mil.
    """

    name: str
    compute_units: str
    lengths: tuple[int, ...]

    @property
    def device_checks(self) -> Sequence[Mapping[str, Any]] | None: ...

    def predict(self, input_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Features of one padded window.

        Args:
            input_ids: (1, L) int32, with both specials, padded to one of `lengths`.

        Returns:
            (1, L, H) float32, all finite, C order; rows of padding hold numbers without meaning.

        Raises:
            ValueError: another shape, dtype or length, or ids outside the vocabulary.
            PredictionError: the model gave NaN, infinity or another shape.
        """

    def warm_up(self) -> None:
        """One prediction a length, so that the first real one is as fast as the others."""
