"""`gena tune`: how fast and how faithful is each choice of compute units on this Mac?"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from converter.bundle.opening import Bundle, open_bundle
from converter.checkpoint.files import DEFAULT_MODEL
from converter.runtime.coreml import LIBRARY, compiled_package, default_cache
from converter.runtime.coreml_library import CoreMLLibrary
from converter.runtime.device_check import TIMEOUT_SECONDS, DeviceCheck, check_device
from converter.runtime.loading import COMPUTE_UNITS, RuntimeUnavailableError
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


def add_tune_command(subparsers: Any, default_bundle: Callable[[str], Path]) -> None:
    """Register `tune`.

    Args:
        default_bundle: where the bundle of a model lies when nobody says otherwise.
    """
    parser = subparsers.add_parser(
        "tune",
        help="measure this Mac's compute units and keep the best for the service",
        description="Measures latency and fidelity of every choice of compute units at every "
        "length, prints the table, and writes the choice beside each bundle, where the service "
        "finds it. Several bundles are variants to compare, as built with other --embedding, "
        "--ffn-chunks or --layout. Needs macOS.",
    )
    parser.add_argument(
        "bundle",
        nargs="*",
        type=Path,
        help=f"bundles to measure (default: the one of {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--compute-units", nargs="+", choices=COMPUTE_UNITS, default=list(COMPUTE_UNITS)
    )
    parser.add_argument("--repeats", type=int, default=50, help="predictions to time at a length")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run, default_bundle=default_bundle)


def run(arguments: argparse.Namespace, library: str = LIBRARY, cache: Path | None = None) -> int:
    """The command; its exit code: 0 where something was chosen for every bundle."""
    if library == LIBRARY and sys.platform != "darwin":
        raise RuntimeUnavailableError("gena tune measures Core ML, which is on macOS only.")
    tunings = [
        tune(
            open_bundle(folder),
            arguments.compute_units,
            repeats=max(1, arguments.repeats),
            library=library,
            cache=cache or default_cache(),
        )
        for folder in arguments.bundle or [arguments.default_bundle(DEFAULT_MODEL)]
    ]
    if arguments.json:
        print(json.dumps([_as_dict(tuning) for tuning in tunings], indent=2))
    else:
        print(table(tunings))
    return 0 if all(tuning.choice for tuning in tunings) else 1


def tune(
    bundle: Bundle,
    compute_units: Sequence[str] = COMPUTE_UNITS,
    *,
    repeats: int,
    library: str,
    cache: Path,
    timeout: float = TIMEOUT_SECONDS,
) -> Tuning:
    """Measure a bundle and write the choice beside it.

    ALL is measured and never chosen: it leaves the choice to Core ML anew at every load.
    """
    core_ml = cast(CoreMLLibrary, import_module(library))
    compiled = compiled_package(bundle, core_ml, cache)
    checks = []
    for units in compute_units:
        print(f"gena: measuring {units} ...", file=sys.stderr)
        checks.append(
            check_device(
                bundle.path, compiled, units, library=library, repeats=repeats, timeout=timeout
            )
        )
    eligible = [check for check in checks if check.usable and check.compute_units != "ALL"]
    best = min(eligible, key=lambda check: sum(check.milliseconds.values()), default=None)
    if best is not None:
        measurements = [asdict(check) for check in checks]
        write_choice(bundle, core_ml.system(), best.compute_units, measurements)
    return Tuning(bundle.path, checks, best.compute_units if best else None)


def _as_dict(tuning: Tuning) -> dict[str, Any]:
    return {
        "bundle": str(tuning.bundle),
        "choice": tuning.choice,
        "measurements": [asdict(check) for check in tuning.checks],
    }


def table(tunings: Sequence[Tuning]) -> str:
    """For a terminal: one line for each bundle, compute units and length."""
    rows = [("bundle", "compute units", "length", "ms", "PSNR dB", "outcome", "operations on")]
    notes = []
    for tuning in tunings:
        for check in tuning.checks:
            psnr = "" if check.psnr_db is None else f"{check.psnr_db:.1f}"
            chosen = ", chosen" if check.compute_units == tuning.choice else ""
            for length, time in check.milliseconds.items() or [("", None)]:
                devices = check.placement.get(length, {})
                rows.append(
                    (
                        tuning.bundle.name,
                        check.compute_units,
                        length,
                        "" if time is None else f"{time:.2f}",
                        psnr,
                        check.outcome + chosen,
                        ", ".join(f"{device} {count}" for device, count in devices.items()),
                    )
                )
            if not check.usable:
                notes.append(f"{tuning.bundle.name}, {check.compute_units}: {check.detail}")
        if tuning.choice is None:
            notes.append(f"{tuning.bundle.name}: no compute units pass; nothing was chosen.")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *notes])
