"""Compute units measured on this machine: which are right, and the fastest of those."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from converter.bundle.opening import Bundle
from converter.runtime.compiled_models import compiled_package
from converter.runtime.device_check import DeviceCheck, check_device
from converter.runtime.guarded_library import library_named
from converter.runtime.tuned_choice import write_choice


@dataclass(frozen=True)
class Tuning:
    """What was measured for one bundle.

    Attributes:
        choice: the fastest compute units that pass the gate; None where none does.
    """

    bundle: Path
    checks: list[DeviceCheck]
    choice: str | None


def tune(
    bundle: Bundle,
    compute_units: Sequence[str],
    *,
    repeats: int,
    library: str,
    cache: Path,
    on_measure: Callable[[str], object] = lambda _: None,
) -> Tuning:
    """Measure a bundle and write the choice beside it.

    ALL is measured and never chosen: it leaves the choice to Core ML anew at every load.

    Args:
        repeats: predictions to time at a length.
        library: name of the module that is Core ML.
        cache: folder for compiled models.
        on_measure: called with the compute units before they are measured.
    """
    core_ml = library_named(library)
    compiled = compiled_package(bundle, core_ml, cache)
    checks = []
    for units in compute_units:
        on_measure(units)
        checks.append(check_device(bundle.path, compiled, units, library=library, repeats=repeats))
    eligible = [check for check in checks if check.usable and check.compute_units != "ALL"]
    best = min(eligible, key=lambda check: sum(check.milliseconds.values()), default=None)
    if best is not None:
        measurements = [asdict(check) for check in checks]
        write_choice(bundle, core_ml.system(), best.compute_units, measurements)
    return Tuning(bundle.path, checks, best.compute_units if best else None)
