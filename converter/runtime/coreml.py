"""Core ML behind the runtime seam: a compiled model that is kept, and compute units that work."""

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from converter.bundle.opening import Bundle
from converter.runtime.coreml_library import CoreMLLibrary, LoadedModel, System
from converter.runtime.device_check import TIMEOUT_SECONDS, DeviceCheck, check_device
from converter.runtime.loading import RuntimeUnavailableError
from converter.runtime.tuned_choice import read_choice

LIBRARY = "converter.runtime.coreml_library"
# In this order when nothing was tuned. ALL is never taken unasked: it may be several times slower
# than the best single choice.
_AUTOMATIC = ("CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")
_UNUSED_SECONDS = 90 * 24 * 3600

log = logging.getLogger(__name__)


def load_coreml_runtime(
    bundle: Bundle,
    *,
    compute_units: str = "auto",
    library: str = LIBRARY,
    cache: Path | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> "CoreMLRuntime":
    """Compile the package where that was not done before, and find compute units that work.

    Args:
        compute_units: "auto", or the ones to use and no others.
        library: name of the module that is Core ML.
        cache: folder for compiled models.
        timeout: seconds for the check of one choice of compute units.

    Raises:
        RuntimeUnavailableError: the system is too old for the package, or no compute units
            give the right features.
    """
    core_ml = cast(CoreMLLibrary, import_module(library))
    system = core_ml.system()
    _require_system(bundle, system)
    compiled = compiled_package(bundle, core_ml, cache or default_cache())
    checks = []
    for units in _candidates(bundle, compute_units, system):
        check = _checked(bundle, compiled, units, library, timeout)
        checks.append(check)
        if check.usable:
            return CoreMLRuntime(bundle, core_ml, compiled, units, checks)
        log.warning("compute units %s are not used: %s", units, check.detail)
    # A compiled model that was damaged on disk must not fail for ever.
    shutil.rmtree(compiled.parent, ignore_errors=True)
    findings = "; ".join(f"{check.compute_units}: {check.detail}" for check in checks)
    others = (
        "Set GENA_RUNTIME=mil to compute without Core ML."
        if compute_units == "auto"
        else "Set GENA_COMPUTE_UNITS=auto to let others be tried, or GENA_RUNTIME=mil."
    )
    raise RuntimeUnavailableError(
        f"Core ML does not give the right features here. {findings} {others}"
    )


def _require_system(bundle: Bundle, system: System) -> None:
    needed = {"macos14": 14, "macos15": 15}[bundle.manifest.options.target]
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


def _checked(
    bundle: Bundle, compiled: Path, units: str, library: str, timeout: float
) -> DeviceCheck:
    """A check that was passed once is not repeated; one that was not may have been bad luck."""
    record = compiled.with_name(f"{units}.json")
    try:
        return DeviceCheck(**json.loads(record.read_bytes()))
    except (OSError, ValueError, TypeError):
        check = check_device(bundle.path, compiled, units, library=library, timeout=timeout)
    if check.usable:
        _write(record, json.dumps(asdict(check)))
    return check


def default_cache() -> Path:
    """Where compiled models are kept."""
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / caches / "gena-coreml" / "compiled"


def compiled_package(bundle: Bundle, core_ml: CoreMLLibrary, cache: Path) -> Path:
    """The bundle's package as a `.mlmodelc` at a path of its own, compiled if it is not there.

    A start from it takes a fraction of a second; Core ML also keeps what it prepared for the
    engine by this path. Another fingerprint or build of macOS compiles anew.
    """
    cache.mkdir(parents=True, exist_ok=True)
    fingerprint = bundle.manifest.fingerprint
    folder = cache / f"{fingerprint}-{core_ml.system().os_build}"
    compiled = folder / "model.mlmodelc"
    with FileLock(cache / f"{fingerprint}.lock"):
        _sweep(cache, fingerprint, keep=folder)
        if not compiled.is_dir():
            with tempfile.TemporaryDirectory(
                prefix=f"{fingerprint}-building-", dir=cache
            ) as parent:
                building = Path(parent) / "new"
                building.mkdir()
                core_ml.compile_package(bundle.package, building / compiled.name)
                building.rename(folder)
        os.utime(folder)
    return compiled


def _sweep(cache: Path, fingerprint: str, keep: Path) -> None:
    """Remove what another macOS compiled, what a killed process left, and what nobody uses."""
    oldest = time.time() - _UNUSED_SECONDS
    for entry in cache.iterdir():
        if not entry.is_dir() or entry == keep:
            continue
        if entry.name.startswith(f"{fingerprint}-") or entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


class CoreMLRuntime:
    """Predictions by Core ML, one loaded model a length.

    Attributes:
        device_checks: what the checks of the compute units found, those in use last.
    """

    name = "coreml"

    def __init__(
        self,
        bundle: Bundle,
        core_ml: CoreMLLibrary,
        compiled: Path,
        compute_units: str,
        checks: list[DeviceCheck],
    ) -> None:
        self.compute_units = compute_units
        self.lengths = tuple(bundle.manifest.lengths)
        self.device_checks: list[dict[str, Any]] = [asdict(check) for check in checks]
        self._package = bundle.interface
        self._models: dict[int, LoadedModel] = {
            length: core_ml.load(compiled, compute_units, self._package.core_ml_function(length))
            for length in self.lengths
        }

    def predict(self, input_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Runtime`."""
        inputs = self._package.inputs(input_ids)
        outputs = self._models[input_ids.shape[1]].predict(inputs)
        return self._package.features(input_ids, outputs)

    def warm_up(self) -> None:
        """See `Runtime`."""
        for length in self.lengths:
            self.predict(self._package.empty_window(length))
