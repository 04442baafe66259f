"""Step: every choice of compute units at every length, against the golden windows, and timed."""

from collections.abc import Generator, Mapping
from pathlib import Path

from app.doctor.commands import CommandError, run
from app.doctor.environment import is_virtual
from app.doctor.findings import Compilation, ComputeUnits, UnitCheck
from app.doctor.visit import SkippedStepError, Visit
from app.model.children import module_command
from converter.bundle.opening import Bundle
from converter.runtime.device_check import DeviceCheck, check_device

# For the first load of one length: preparing it for the Neural Engine may take minutes.
_CHECK_SECONDS = 600.0
_COMPILE_SECONDS = 1200.0


def examine_compute_units(visit: Visit) -> Generator[ComputeUnits, None, None]:
    """Each check is a process: its first load of a freshly compiled package is a cold one.

    A second one loads it again, and is timed. Where units crash or hang at a length, their other
    lengths are not tried.
    """
    if not visit.bundles:
        raise SkippedStepError("no model was converted.")
    found = ComputeUnits(repeats=visit.repeats)
    for model, bundle in visit.bundles.items():
        visit.say(f"{model}: compiling")
        try:
            compiled, seconds = _compile(visit, bundle)
        except CommandError as error:
            found = _with(found, problem=f"{model} was not compiled: {error}")
            yield found
            continue
        compilation = Compilation(model=model, seconds=seconds)
        found = found.model_copy(update={"compilations": (*found.compilations, compilation)})
        for units in visit.compute_units:
            for length in bundle.manifest.lengths:
                visit.say(f"{model}: {units}, {length} tokens")
                check, cold = _check(visit, bundle, compiled, units, length)
                problem = None
                if not check.usable:
                    problem = f"{model}, {units}, {length} tokens: {check.detail}"
                elif _misses_the_engine(visit, check):
                    problem = f"{model}, {units}, {length} tokens: none of it is on the engine."
                found = _with(found, row=_row(model, length, check, cold), problem=problem)
                yield found
                if check.outcome in ("crashed", "hung"):
                    break


def _compile(visit: Visit, bundle: Bundle) -> tuple[Path, float]:
    """The compiled package, and the seconds that it took, those of the process included."""
    cache = visit.scratch / "compiled"
    fingerprint = bundle.manifest.fingerprint
    command = module_command("app.doctor.compiling", f"--library={visit.library}")
    done = run(
        [*command, str(bundle.path), str(cache)],
        visit.output(f"compile-{fingerprint}"),
        seconds=_COMPILE_SECONDS,
    )
    if done.returncode != 0:
        raise CommandError(done.last_words)
    return next(cache.glob(f"{fingerprint}-*/*.mlmodelc")), done.seconds


def _check(
    visit: Visit, bundle: Bundle, compiled: Path, units: str, length: int
) -> tuple[DeviceCheck, float | None]:
    """The timed check, and the seconds of the load before it; of one that fails at once, that."""

    def check(repeats: int) -> DeviceCheck:
        return check_device(
            bundle.path,
            compiled,
            units,
            library=visit.library,
            lengths=(length,),
            repeats=repeats,
            timeout=_CHECK_SECONDS,
        )

    cold = check(0)
    return (check(visit.repeats) if cold.usable else cold), cold.load_seconds.get(str(length))


def _row(model: str, length: int, check: DeviceCheck, cold: float | None) -> UnitCheck:
    key = str(length)
    return UnitCheck(
        model=model,
        compute_units=check.compute_units,
        length=length,
        outcome=check.outcome,
        psnr_db=check.psnr_db,
        worst_cosine=check.worst_cosine,
        cold_seconds=cold,
        warm_seconds=check.load_seconds.get(key) if check.usable else None,
        median_ms=check.milliseconds.get(key),
        p95_ms=check.p95_milliseconds.get(key),
        memory_mib=check.memory_mib,
        placement=placement_text(check.placement.get(key, {})),
    )


def placement_text(devices: Mapping[str, int]) -> str:
    """How many operations run on which device, for people."""
    return ", ".join(f"{name} {n}" for name, n in devices.items()) or "unknown"


def _misses_the_engine(visit: Visit, check: DeviceCheck) -> bool:
    """Whether a Mac with a Neural Engine was to use it, and is known not to."""
    if not visit.on_a_mac or check.compute_units != "CPU_AND_NE" or is_virtual():
        return False
    return bool(check.placement) and not any(
        "NeuralEngine" in devices for devices in check.placement.values()
    )


def _with(
    found: ComputeUnits, row: UnitCheck | None = None, problem: str | None = None
) -> ComputeUnits:
    return found.model_copy(
        update={
            "checks": (*found.checks, *([row] if row else [])),
            "problems": (*found.problems, *([problem] if problem else [])),
        }
    )
