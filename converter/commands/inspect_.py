"""`gena inspect`: what is in a package, as text or JSON."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from converter.bundle.manifest import PACKAGE
from converter.commands.command_line import Subparsers
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
        print_json(asdict(report) if other is None else [asdict(report), asdict(other)], indent=2)
    elif other is not None:
        print(render_comparison(report, other))
    else:
        print(render(report))
    return 0


def _inspect(path: Path) -> PackageReport:
    """Of a package, or of the one in a bundle; it goes by the name that was given."""
    folder = user_path(path)
    within = folder / PACKAGE
    return replace(inspect_package(within if within.is_dir() else folder), path=str(path))
