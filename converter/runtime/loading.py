"""Opened bundle -> predictions: Core ML on macOS, the operation-by-operation executor elsewhere.

Importing this module is cheap: torch and coremltools are imported when a runtime is loaded.
"""

import sys
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from converter.bundle.opening import Bundle
from converter.errors import GenaError
from converter.tokenizer import SPECIAL_TOKENS

COMPUTE_UNITS = ("CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY", "ALL")
RuntimeChoice = Literal["auto", "mil", "coreml"]


class RuntimeUnavailableError(GenaError):
    """The runtime that was asked for does not work on this machine."""

    code = "runtime.unavailable"


class PredictionError(GenaError):
    """A prediction gave something that is no features."""

    code = "model.not_finite"


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
        self._package = PackageInterface(bundle)
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


class PackageInterface:
    """What goes into a bundle's package and what comes out of it, checked.

    Hides where tokens are looked up: in the package, or here (`embedding="host"`).
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._functions = {int(length): name for length, name in manifest.functions.items()}
        self._hidden_size = manifest.hidden_size
        self._vocab_size = bundle.config.vocab_size
        self._pad_id = manifest.pad_token_id
        self._table: NDArray[np.float16] | None = None
        if manifest.options.embedding == "host":
            self._table = np.load(bundle.embeddings, mmap_mode="r")

    def function(self, length: int) -> str:
        """The package's function for a length."""
        return self._functions[length]

    def core_ml_function(self, length: int) -> str | None:
        """The function's name as Core ML wants it: None where the package has only one."""
        return self._functions[length] if len(self._functions) > 1 else None

    def empty_window(self, length: int) -> NDArray[np.int32]:
        """(1, length) int32: the two specials and padding."""
        window = np.full((1, length), self._pad_id, dtype=np.int32)
        window[0, :2] = SPECIAL_TOKENS["[CLS]"], SPECIAL_TOKENS["[SEP]"]
        return window

    def inputs(self, input_ids: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        """The package's inputs by name, for (1, L) ids.

        Raises:
            ValueError: as `Runtime.predict`.
        """
        if input_ids.dtype != np.int32 or input_ids.ndim != 2 or input_ids.shape[0] != 1:
            raise ValueError(
                f"input_ids are {input_ids.dtype} {input_ids.shape}; expected int32 (1, L)"
            )
        if input_ids.shape[1] not in self._functions:
            lengths = ", ".join(map(str, sorted(self._functions)))
            raise ValueError(f"length {input_ids.shape[1]}; the package has {lengths}")
        # Core ML reads beyond the table without a word.
        if input_ids.min() < 0 or input_ids.max() >= self._vocab_size:
            raise ValueError(f"ids outside the vocabulary of {self._vocab_size}")
        if self._table is None:
            return {"input_ids": input_ids}
        rows = self._table[input_ids[0]].astype(np.float32)  # (L, H)
        return {
            "embeddings": np.ascontiguousarray(rows.T)[None, :, None, :],
            "padding_mask": (input_ids != self._pad_id).astype(np.float32),
        }

    def features(
        self, input_ids: NDArray[np.int32], outputs: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.float32]:
        """The package's output as (1, L, H) float32.

        Raises:
            PredictionError: it is missing, misshapen or not finite.
        """
        features = np.ascontiguousarray(outputs["features"], dtype=np.float32)
        expected = (1, input_ids.shape[1], self._hidden_size)
        if features.shape != expected:
            raise PredictionError(f"The model gave {features.shape}; expected {expected}.")
        if not np.isfinite(features).all():
            raise PredictionError("The model gave values that are not finite numbers.")
        return features
