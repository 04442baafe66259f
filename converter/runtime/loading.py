"""Opened bundle -> predictions: Core ML on macOS, the operation-by-operation executor elsewhere.

Importing this module is cheap: torch and coremltools are imported when a runtime is loaded.
"""

import sys
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from converter.bundle.opening import Bundle
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
    """

    name: str
    compute_units: str
    lengths: tuple[int, ...]

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


def load_runtime(
    bundle: Bundle,
    *,
    compute_units: str = "auto",
    threads: int | None = None,
    runtime: RuntimeChoice = "auto",
) -> Runtime:
    """Load a bundle's package.

    Args:
        compute_units: of Core ML; "auto" is what `gena tune` chose on this machine, else
            CPU_AND_NE, and another unit where that one does not pass its check. Without effect
            on "mil".
        threads: of "mil"; as many as there are cores when None.
        runtime: "auto" is Core ML on macOS and "mil" elsewhere.

    Raises:
        RuntimeUnavailableError: this machine does not have what is asked for.
    """
    if compute_units != "auto" and compute_units not in COMPUTE_UNITS:
        raise RuntimeUnavailableError(
            f"There are no compute units {compute_units!r}; choose auto or one of "
            f"{', '.join(COMPUTE_UNITS)}."
        )
    on_mac = sys.platform == "darwin"
    if runtime == "coreml" and not on_mac:
        raise RuntimeUnavailableError(
            "Core ML predicts on macOS only. Set GENA_RUNTIME to auto or mil here."
        )
    if runtime == "coreml" or (runtime == "auto" and on_mac):
        from converter.runtime.coreml import load_coreml_runtime

        return load_coreml_runtime(bundle, compute_units=compute_units)
    return MilRuntime(bundle, threads=threads)


class MilRuntime:
    """The package executed operation by operation with PyTorch on the CPU."""

    name = "mil"
    compute_units = "cpu"

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        import torch

        from converter.mil.executor import PackageExecutor

        if threads is not None:
            torch.set_num_threads(threads)
        self.lengths = tuple(bundle.manifest.lengths)
        self._package = bundle.interface
        self._executor = PackageExecutor(bundle.package)

    def predict(self, input_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Runtime`."""
        inputs = self._package.inputs(input_ids)
        function = self._package.function(input_ids.shape[1])
        return self._package.features(input_ids, self._executor.predict(inputs, function))

    def warm_up(self) -> None:
        """See `Runtime`."""
        for length in self.lengths:
            self.predict(self._package.empty_window(length))
