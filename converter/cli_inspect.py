"""`gena inspect`: what is in a package, as text or JSON."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from converter.package.inspection import inspect_package
from converter.package.report_text import render, render_comparison


def add_inspect_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
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
    report = inspect_package(args.package)
    other = inspect_package(args.compare) if args.compare is not None else None
    if args.json:
        documents = [asdict(r) for r in (report, other) if r is not None]
        json.dump(documents[0] if other is None else documents, sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif other is not None:
        print(render_comparison(report, other))
    else:
        print(render(report))
    return 0
