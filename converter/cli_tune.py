"""`gena tune`: measure this Mac's compute units, print the table, keep the choice."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converter.bundle.opening import open_bundle
from converter.checkpoint.files import DEFAULT_MODEL
from converter.columns import aligned
from converter.runtime.compiled_models import default_cache
from converter.runtime.coreml_library import LIBRARY
from converter.runtime.protocol import COMPUTE_UNITS, RuntimeUnavailableError
from converter.runtime.tuning import Tuning, tune


def add_tune_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    default_bundle: Callable[[str], Path],
) -> None:
    """Register `tune`; `args.func(args)` runs it and gives the exit status.

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
            on_measure=_say_what_is_measured,
        )
        for folder in arguments.bundle or [arguments.default_bundle(DEFAULT_MODEL)]
    ]
    if arguments.json:
        print(json.dumps([_as_dict(tuning) for tuning in tunings], indent=2))
    else:
        print(table(tunings))
    return 0 if all(tuning.choice for tuning in tunings) else 1


def _say_what_is_measured(units: str) -> None:
    print(f"gena: measuring {units} ...", file=sys.stderr)


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
    return "\n".join([*aligned(rows), *notes])
