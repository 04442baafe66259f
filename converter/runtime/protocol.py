"""The seam between a bundle and what executes it: the runtime, as everything above it sees it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from converter.errors import GenaError

COMPUTE_UNITS = ("CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL")
RuntimeChoice = Literal["auto", "mil", "coreml"]


class RuntimeUnavailableError(GenaError):
    """The runtime that was asked for does not work on this machine."""

    code = "runtime.unavailable"


@dataclass(frozen=True)
class Circumstances:
    """Where and for whom a runtime is loaded; only Core ML's depends on it.

    Attributes:
        alone: this process only predicts (see `coreml_library.keep_frameworks_out`).
        step_seconds: patience with one step of loading: compiling, checking one choice of compute
            units (which prepares every length for them, each of which takes up to a few minutes),
            loading.
        predict_seconds: patience with one prediction.
        on_step: called with what is done next, before each step.
    """

    alone: bool = False
    step_seconds: float = 900.0
    predict_seconds: float = 60.0
    on_step: Callable[[str], None] = lambda _step: None


ANY_PROCESS = Circumstances()


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
