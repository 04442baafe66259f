"""Core ML behind the runtime seam, with compute units that give the right features."""

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.bundle.opening import Bundle
from converter.runtime.check_records import read_record, write_record
from converter.runtime.compiled_models import compiled_package, default_cache
from converter.runtime.coreml_library import LIBRARY, CoreMLLibrary, System
from converter.runtime.device_check import DeviceCheck, check_device
from converter.runtime.guarded_library import library_named
from converter.runtime.padded import PaddedRuntime
from converter.runtime.protocol import ANY_PROCESS, Circumstances, RuntimeUnavailableError
from converter.runtime.tuned_choice import read_choice

# In this order when nothing was tuned. ALL is never taken unasked: it may be several times slower
# than the best single choice.
_AUTOMATIC = ("CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")

log = logging.getLogger(__name__)


def load_coreml_runtime(
    bundle: Bundle,
    *,
    compute_units: str = "auto",
    library: str = LIBRARY,
    cache: Path | None = None,
    circumstances: Circumstances = ANY_PROCESS,
) -> "CoreMLRuntime":
    """Compile the package where that was not done before, and find compute units that work.

    Args:
        compute_units: "auto", or the ones to use and no others.
        library: name of the module that is Core ML.
        cache: folder for compiled models.

    Raises:
        RuntimeUnavailableError: the system is too old for the package, or no compute units
            give the right features.
    """
    on_step = circumstances.on_step
    core_ml = library_named(library, circumstances)
    if circumstances.alone:
        core_ml.keep_frameworks_out()
    system = core_ml.system()
    _require_system(bundle, system)
    on_step("Core ML compiles the package")
    compiled = compiled_package(bundle, core_ml, cache or default_cache())
    checks = []
    for units in _candidates(bundle, compute_units, system):
        check = read_record(compiled, units, system)
        # Who asks for these and no others wants them tried.
        if check is None or not (check.usable or compute_units == "auto"):
            on_step(f"Core ML prepares the package for {units} and is checked")
            # It has to be known before whoever waits for this step loses patience.
            timeout = 0.9 * circumstances.step_seconds
            check = check_device(bundle.path, compiled, units, library=library, timeout=timeout)
            write_record(compiled, check, system)
        checks.append(check)
        if check.usable:
            on_step(f"Core ML loads the package for {units}")
            return CoreMLRuntime(bundle, core_ml, compiled, units, checks)
        log.warning("compute units %s are not used: %s", units, check.detail)
    # A compiled model that was damaged on disk must not fail for ever.
    shutil.rmtree(compiled.parent, ignore_errors=True)
    raise _nothing_works(checks, compute_units)


def _nothing_works(checks: list[DeviceCheck], asked_for: str) -> RuntimeUnavailableError:
    findings = "; ".join(f"{check.compute_units}: {check.detail}" for check in checks)
    others = (
        "Set GENA_RUNTIME=mil to compute without Core ML."
        if asked_for == "auto"
        else "Set GENA_COMPUTE_UNITS=auto to let others be tried, or GENA_RUNTIME=mil."
    )
    return RuntimeUnavailableError(
        f"Core ML does not give the right features here. {findings} {others}"
    )


def _require_system(bundle: Bundle, system: System) -> None:
    needed = bundle.manifest.options.macos
    if system.os_version[0] < needed:
        raise RuntimeUnavailableError(
            f"This bundle needs macOS {needed}; this is {'.'.join(map(str, system.os_version))}. "
            "Convert the checkpoint with --target macos14, or set GENA_RUNTIME=mil."
        )


def _candidates(bundle: Bundle, compute_units: str, system: System) -> list[str]:
    if compute_units != "auto":
        return [compute_units]
    tuned = read_choice(bundle, system)
    return list(dict.fromkeys([*([tuned] if tuned else []), *_AUTOMATIC]))


class CoreMLRuntime(PaddedRuntime):
    """Predictions by Core ML, one loaded model a length.

    Args:
        compiled: the bundle's package as a `.mlmodelc`.
        checks: what the checks of the compute units found, those in use last.
    """

    name = "coreml"
    compute = "fp16"

    def __init__(
        self,
        bundle: Bundle,
        core_ml: CoreMLLibrary,
        compiled: Path,
        compute_units: str,
        checks: list[DeviceCheck],
    ) -> None:
        super().__init__(bundle.interface)
        self.compute_units = compute_units
        self.device_checks = [asdict(check) for check in checks]
        self._models = {
            length: core_ml.load(compiled, compute_units, self._package.core_ml_function(length))
            for length in self.lengths
        }

    def predict_padded(self, input_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `PaddedRuntime`."""
        inputs = self._package.inputs(input_ids)
        outputs = self._models[input_ids.shape[1]].predict(inputs)
        return self._package.features(input_ids, outputs)
