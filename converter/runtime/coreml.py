"""Core ML behind the runtime seam, with compute units that give the right features."""

import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.bundle.opening import Bundle
from converter.errors import PredictionError
from converter.runtime.check_records import forget_record, read_record, write_record
from converter.runtime.compiled_models import compiled_package, default_cache
from converter.runtime.coreml_library import LIBRARY, CoreMLLibrary, System, words_of
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
    core_ml = library_named(library, circumstances)
    if circumstances.alone:
        core_ml.keep_frameworks_out()
    system = core_ml.system()
    _require_system(bundle, system)
    search = _Search(bundle, compute_units, library, core_ml, system, circumstances)
    for _ in range(2):
        circumstances.on_step("Core ML compiles the package")
        compiled = compiled_package(bundle, core_ml, cache or default_cache())
        was_well = search.knows_of_some(compiled)
        checks: list[DeviceCheck] = []
        runtime = search.first_that_works(compiled, checks)
        if runtime is not None:
            return runtime
        # A compiled model that was damaged on disk must not fail for ever, nor this time.
        shutil.rmtree(compiled.parent, ignore_errors=True)
        if not was_well:
            break
    raise _nothing_works(checks, compute_units)


@dataclass(frozen=True)
class _Search:
    """For compute units that give the right features."""

    bundle: Bundle
    compute_units: str
    library: str
    core_ml: CoreMLLibrary
    system: System
    circumstances: Circumstances

    def knows_of_some(self, compiled: Path) -> bool:
        """Whether some were well when they were checked before."""
        found = (read_record(compiled, units, self.system) for units in self._candidates())
        return any(check is not None and check.usable for check in found)

    def first_that_works(self, compiled: Path, checks: list[DeviceCheck]) -> "CoreMLRuntime | None":
        """A runtime; `checks` gets what was found on the way."""
        for units in self._candidates():
            check = self._check(compiled, units)
            checks.append(check)
            if check.usable:
                self.circumstances.on_step(f"Core ML loads the package for {units}")
                # Whoever dies of it leaves no record, and these units are checked again.
                forget_record(compiled, units)
                try:
                    runtime = CoreMLRuntime(self.bundle, self.core_ml, compiled, units, checks)
                    runtime.warm_up()
                except (RuntimeError, PredictionError) as error:  # the first is Core ML's
                    detail = f"It was well in its check, and is not in use: {words_of(error)}"
                    checks[-1] = replace(check, outcome="failed", detail=detail)
                else:
                    write_record(compiled, check, self.system)
                    return runtime
            log.warning("compute units %s are not used: %s", units, checks[-1].detail)
        return None

    def _check(self, compiled: Path, units: str) -> DeviceCheck:
        found = read_record(compiled, units, self.system)
        # Who asks for these and no others wants them tried.
        if found is not None and (found.usable or self.compute_units == "auto"):
            return found
        self.circumstances.on_step(f"Core ML prepares the package for {units} and is checked")
        # It has to be known before whoever waits for this step loses patience.
        timeout = 0.9 * self.circumstances.step_seconds
        path, library = self.bundle.path, self.library
        found = check_device(path, compiled, units, library=library, timeout=timeout)
        write_record(compiled, found, self.system)
        return found

    def _candidates(self) -> list[str]:
        if self.compute_units != "auto":
            return [self.compute_units]
        tuned = read_choice(self.bundle, self.system)
        return list(dict.fromkeys([*([tuned] if tuned else []), *_AUTOMATIC]))


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
