"""The seam between a bundle and what executes it: the runtime, as everything above it sees it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from converter.errors import GenaError
from converter.pooling import Poolings

COMPUTE_UNITS = ("CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL")
RuntimeChoice = Literal["auto", "coreml", "torch", "mil"]
# Of the torch runtime: where it computes, and in which numbers.
Device = Literal["auto", "cpu", "cuda", "mps"]
Compute = Literal["fp32", "bf16", "fp16"]


def computed_fingerprint(fingerprint: str, compute: Compute) -> str:
    """A bundle's fingerprint, as answers carry it: with how they were computed, unless in fp32."""
    return fingerprint if compute == "fp32" else f"{fingerprint}-{compute}"


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
        name: "coreml", "torch" or "mil".
        compute_units: one of `COMPUTE_UNITS` for Core ML; the device for torch; "cpu" for mil.
        compute: what the features are computed in: "fp32", "bf16", "fp16"; of Core ML "fp16",
            though parts of a package may be fp32.
        lengths: tokens that windows are padded to, ascending; empty where they are not.
        batch_tokens: windows of so many tokens together are worth one call of `predict`; 1 where
            windows gain nothing by company.
        device_checks: what checks on this machine found, of Core ML's compute units those in use
            last, as plain data; None for mil.
    """

    name: str
    compute_units: str
    compute: str
    lengths: tuple[int, ...]
    batch_tokens: int

    @property
    def device_checks(self) -> Sequence[Mapping[str, Any]] | None: ...

    def predict(
        self, windows: Sequence[NDArray[np.int32]], poolings: Poolings = None
    ) -> list[NDArray[np.float32]]:
        """Features of some windows.

        Args:
            windows: of each, (n,) int32 ids with both specials and without padding, 2 <= n and
                no more than a window of the model.
            poolings: what is wanted of each.

        Returns:
            Of each, (n, H) float32, or (1, H) where it is pooled; all finite, C order.

        Raises:
            ValueError: another shape, dtype or length, ids outside the vocabulary, or rows that a
                window has not.
            PredictionError: the model gave NaN, infinity or another shape.
        """

    def warm_up(self) -> None:
        """A few predictions, so that the first real one is as fast as the others."""
