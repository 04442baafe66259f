"""Opened bundle -> its runtime: Core ML on macOS, PyTorch elsewhere; or the executor.

Importing this module is cheap: torch and coremltools are imported when a runtime is loaded.
"""

import sys

from converter.bundle.opening import Bundle
from converter.importing import large_imports
from converter.runtime.protocol import (
    ANY_PROCESS,
    COMPUTE_UNITS,
    Circumstances,
    Compute,
    Device,
    Runtime,
    RuntimeChoice,
    RuntimeUnavailableError,
)


def load_runtime(
    bundle: Bundle,
    *,
    compute_units: str = "auto",
    threads: int | None = None,
    runtime: RuntimeChoice = "auto",
    device: Device = "auto",
    compute: Compute = "fp32",
    circumstances: Circumstances = ANY_PROCESS,
) -> Runtime:
    """Load a bundle's package.

    Args:
        compute_units: of Core ML; "auto" is what `gena tune` chose on this machine, else
            CPU_AND_NE, and another unit where that one does not pass its check. Without effect
            on the others.
        threads: of "torch" and "mil"; as many as there are cores when None.
        runtime: "auto" is Core ML on macOS and "torch" elsewhere.
        device: of "torch"; "auto" is CUDA where there is any, else the CPU.
        compute: of "torch": the dtype of its products.

    Raises:
        RuntimeUnavailableError: this machine does not have what is asked for.
    """
    if compute_units != "auto" and compute_units not in COMPUTE_UNITS:
        raise RuntimeUnavailableError(
            f"There are no compute units {compute_units!r}; choose auto or one of "
            f"{', '.join(COMPUTE_UNITS)}."
        )
    runtime = _runtime_here(runtime, compute)
    match runtime:
        case "coreml":
            from converter.runtime.coreml import load_coreml_runtime

            return load_coreml_runtime(
                bundle, compute_units=compute_units, circumstances=circumstances
            )
        case "torch":
            with large_imports():
                from converter.runtime.torch_runtime import TorchRuntime

            return TorchRuntime(bundle, device=device, compute=compute, threads=threads)
        case "mil":
            with large_imports():
                from converter.runtime.mil import MilRuntime

            return MilRuntime(bundle, threads=threads)
        case "auto":
            raise AssertionError("it has become one of the others")


def _runtime_here(runtime: RuntimeChoice, compute: Compute) -> RuntimeChoice:
    """The runtime that "auto" is on this machine, or the one that was asked for."""
    on_mac = sys.platform == "darwin"
    if runtime == "coreml" and not on_mac:
        raise RuntimeUnavailableError(
            "Core ML predicts on macOS only. Set GENA_RUNTIME to auto, torch or mil here."
        )
    if runtime == "auto":
        runtime = "coreml" if on_mac else "torch"
    if runtime != "torch" and compute != "fp32":
        raise RuntimeUnavailableError(
            f"GENA_COMPUTE={compute} is for the torch runtime, and this is {runtime}. Set "
            "GENA_RUNTIME=torch, or GENA_COMPUTE=fp32."
        )
    return runtime
