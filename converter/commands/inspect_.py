"""`gena inspect`: what is in a package, as text or JSON."""

import argparse
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from converter.bundle.manifest import PACKAGE
from converter.bundle.opening import open_bundle
from converter.commands.command_line import Subparsers
from converter.commands.precision_text import precision_lines
from converter.errors import BundleError
from converter.package.inspection import PackageReport, inspect_package
from converter.package.report_text import render, render_comparison
from converter.paths import user_path
from converter.terminal import print_json


def add_command(subparsers: Subparsers) -> None:
    """Register `inspect`; `args.func(args)` runs it and gives the exit status."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what is in a package, and what the Neural Engine will not like",
        description="Operations, weights, peak activation memory, arithmetic and Neural-Engine "
        "lint of a bundle or of any .mlpackage with an ML program.",
    )
    parser.add_argument("package", type=Path, help="a bundle's folder, or an .mlpackage")
    parser.add_argument("--compare", type=Path, metavar="OTHER", help="show a second one beside it")
    parser.add_argument("--json", action="store_true", help="everything, for scripts")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    report = _inspect(args.package)
    other = _inspect(args.compare) if args.compare is not None else None
    if args.json:
        document = _document(args.package, report)
        print_json(
            document if other is None else [document, _document(args.compare, other)], indent=2
        )
    elif other is not None:
        print(render_comparison(report, other))
    else:
        print("\n".join([render(report), *_bundle_lines(args.package)]))
    return 0


def _document(path: Path, report: PackageReport) -> dict[str, Any]:
    """Everything, and of a bundle that is whole what its manifest says of precision."""
    document = asdict(report)
    if _is_bundle(path):
        with suppress(BundleError):
            document["precision"] = open_bundle(user_path(path)).manifest.precision
    return document


def _bundle_lines(path: Path) -> list[str]:
    """What the manifest of a bundle knows beside its package; nothing of a bare package."""
    if not _is_bundle(path):
        return []
    try:
        manifest = open_bundle(user_path(path)).manifest
    except BundleError as error:
        return ["", f"warning: {error}"]
    heading = f"Bundle of {manifest.model}, fingerprint {manifest.fingerprint}"
    known = [f"serves {manifest.serves}", *precision_lines(manifest.precision)]
    return ["", heading, *(f"  {line}" for line in known)]


def _is_bundle(path: Path) -> bool:
    return (user_path(path) / PACKAGE).is_dir()


def _inspect(path: Path) -> PackageReport:
    """Of a package, or of the one in a bundle; it goes by the name that was given."""
    folder = user_path(path)
    package = folder / PACKAGE if _is_bundle(path) else folder
    return replace(inspect_package(package), path=str(path))
