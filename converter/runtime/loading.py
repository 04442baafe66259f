"""Opened bundle -> its runtime: Core ML on macOS, the executor elsewhere.

Importing this module is cheap: torch and coremltools are imported when a runtime is loaded.
"""

import sys
from typing import assert_never

from converter.bundle.opening import Bundle
from converter.runtime.protocol import (
    ANY_PROCESS,
    COMPUTE_UNITS,
    Circumstances,
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
    circumstances: Circumstances = ANY_PROCESS,
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
    if runtime == "auto":
        runtime = "coreml" if on_mac else "mil"
    match runtime:
        case "coreml":
            from converter.runtime.coreml import load_coreml_runtime

            return load_coreml_runtime(
                bundle, compute_units=compute_units, circumstances=circumstances
            )
        case "mil":
            from converter.runtime.mil import MilRuntime

            return MilRuntime(bundle, threads=threads)
        case unknown:
            assert_never(unknown)
