"""`gena tune`: measure this Mac's compute units, print the table, keep the choice."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converter.bundle.opening import open_bundle
from converter.checkpoint.files import DEFAULT_MODEL
from converter.commands.command_line import Subparsers, default_bundle
from converter.paths import user_path
from converter.runtime.compiled_models import default_cache
from converter.runtime.coreml_library import LIBRARY
from converter.runtime.protocol import COMPUTE_UNITS, RuntimeUnavailableError
from converter.runtime.tuning import Tuning, tune
from converter.terminal import aligned, print_json


def add_command(subparsers: Subparsers) -> None:
    """Register `tune`; `args.func(args)` runs it and gives the exit status."""
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
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace, library: str = LIBRARY, cache: Path | None = None) -> int:
    """The command; exit status 0 where something was chosen for every bundle.

    Args:
        library: name of the module that is Core ML.
        cache: folder for compiled models; None: the user's.
    """
    if library == LIBRARY and sys.platform != "darwin":
        raise RuntimeUnavailableError("gena tune measures Core ML, which is on macOS only.")
    tunings = [
        tune(
            open_bundle(user_path(folder)),
            arguments.compute_units,
            repeats=max(1, arguments.repeats),
            library=library,
            cache=cache or default_cache(),
            on_measure=_say_what_is_measured,
        )
        for folder in arguments.bundle or [default_bundle(DEFAULT_MODEL)]
    ]
    if arguments.json:
        print_json([_as_dict(tuning) for tuning in tunings], indent=2)
    else:
        print(_table(tunings))
    return 0 if all(tuning.choice for tuning in tunings) else 1


def _say_what_is_measured(units: str) -> None:
    print(f"gena: measuring {units} ...", file=sys.stderr)


def _as_dict(tuning: Tuning) -> dict[str, Any]:
    return {
        "bundle": str(tuning.bundle),
        "choice": tuning.choice,
        "measurements": [asdict(check) for check in tuning.checks],
    }


def _table(tunings: Sequence[Tuning]) -> str:
    """For a terminal: one line for each bundle, compute units and length."""
    rows = [("bundle", "compute units", "length", "ms", "PSNR dB", "outcome", "operations on")]
    notes = []
    for tuning in tunings:
        for check in tuning.checks:
            psnr = "" if check.psnr_db is None else f"{check.psnr_db:.1f}"
            chosen = ", chosen" if check.compute_units == tuning.choice else ""
            for length, time in check.milliseconds.items() or [("", None)]:
                devices = check.placement.get(length)
                rows.append(
                    (
                        tuning.bundle.name,
                        check.compute_units,
                        length,
                        "" if time is None else f"{time:.2f}",
                        psnr,
                        check.outcome + chosen,
                        _placement(devices) if length else "",
                    )
                )
            if not check.usable:
                notes.append(f"{tuning.bundle.name}, {check.compute_units}: {check.detail}")
        if tuning.choice is None:
            notes.append(f"{tuning.bundle.name}: no compute units pass; nothing was chosen.")
    return "\n".join([*aligned(rows), *notes])


def _placement(devices: Mapping[str, int] | None) -> str:
    if devices is None:  # Core ML tells it of one length only
        return "unknown"
    return ", ".join(f"{device} {count}" for device, count in devices.items())
