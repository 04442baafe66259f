"""`gena convert`: checkpoint in, verified bundle out."""

import argparse
import logging
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from converter.bundle.manifest import Manifest
from converter.checkpoint.files import DEFAULT_MODEL, SHIPPED_MODELS, SmallFiles
from converter.commands.command_line import Subparsers, default_bundle
from converter.commands.precision_text import precision_lines
from converter.conversion.progress import ProgressKind, progress_display
from converter.errors import GenaError
from converter.interrupts import ending_at_once, lasting_interrupts
from converter.life_line import when_parent_ends
from converter.options import BuildOptions, target_here
from converter.package.engine import EngineShare
from converter.paths import user_path
from converter.terminal import print_json

_AUTO = "auto"
_INTERRUPT_SECONDS = 2.0


def add_command(subparsers: Subparsers) -> None:
    """Register `convert`; `args.func(args)` runs it and gives the exit status."""
    parser = subparsers.add_parser(
        "convert",
        help="build a verified bundle from a published checkpoint",
        description="Fetches or reads a checkpoint, builds the Core ML package, compares it "
        "with the reference network, and publishes the bundle if it passes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="ID_OR_FOLDER",
        help=f"hub id, folder, or a model that ships with this: {', '.join(SHIPPED_MODELS)}",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    parser.add_argument("--output", type=Path, help="the bundle's folder (default: by the model)")
    for name, field in BuildOptions.model_fields.items():
        _add_build_option(parser, name, field)
    parser.add_argument(
        "--progress",
        choices=get_args(ProgressKind),
        default="bar",
        help="json: a line a step on standard output, and one once the tokenizer is at hand; ends "
        "when standard input closes",
    )
    parser.set_defaults(func=_run)


def _add_build_option(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    kind: dict[str, Any] = {"type": int, "metavar": "N"}
    if get_origin(field.annotation) is Literal:
        kind = {"choices": get_args(field.annotation)}
    default, description = field.default, field.description
    if name == "target":
        kind["choices"] = (_AUTO, *kind["choices"])
        default, description = _AUTO, f"{description}; auto: what this Mac runs, elsewhere macos15"
    flag = f"--{name.replace('_', '-')}"
    parser.add_argument(flag, default=default, help=description, **kind)


def _build_options(args: argparse.Namespace) -> BuildOptions:
    """The options of a command line; GenaError where no checkpoint goes with them."""
    chosen = {name: getattr(args, name) for name in BuildOptions.model_fields}
    if args.target == _AUTO:
        chosen["target"] = target_here()
    options = BuildOptions(**chosen)
    options.require_sensible()
    return options


def log_to_stderr() -> None:
    """Show what is logged, each line once."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own


def _run(args: argparse.Namespace) -> int:
    with ending_at_once():
        from converter.conversion.convert import convert

    options = _build_options(args)
    output = user_path(args.output) if args.output else default_bundle(args.model, args.revision)
    log_to_stderr()
    if args.progress == "json":
        when_parent_ends(_interrupt)
    try:
        with ExitStack() as stack:
            show = stack.enter_context(progress_display(args.progress))
            require_no_interrupt = stack.enter_context(lasting_interrupts())

            def on_progress(stage: str, fraction: float, message: str) -> None:
                require_no_interrupt()
                show(stage, fraction, message)

            try:
                bundle = convert(
                    args.model,
                    revision=args.revision,
                    output=output,
                    options=options,
                    on_progress=on_progress,
                    on_described=_tell if args.progress == "json" else lambda _: None,
                )
            except Exception:
                require_no_interrupt()  # a library may have made something else of it
                raise
    except GenaError as error:
        if args.progress != "json":
            raise
        told = {"code": error.code, "message": str(error), "may_pass": error.may_pass}
        print_json({"error": told})
        return 1
    manifest = bundle.manifest
    if args.progress == "json":
        print_json({"bundle": str(bundle.path), "fingerprint": manifest.fingerprint})
    else:
        print(f"{bundle.path}\n{_summary(manifest)}")
    return 0


def _tell(small: SmallFiles) -> None:
    """Where a program finds what it can count tokens with, while the rest takes its time."""
    files = {"config": str(small.config), "tokenizer": str(small.tokenizer)}
    print_json({"described": {"source": small.source, "commit": small.commit, **files}})


def _interrupt() -> None:
    """Whoever asked for the work is gone: an interrupt tidies up, and one may be lost."""
    while True:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(_INTERRUPT_SECONDS)


def _summary(manifest: Manifest) -> str:
    lines = [
        f"{manifest.model}, fingerprint {manifest.fingerprint}, lengths "
        f"{', '.join(map(str, manifest.lengths))}",
        f"serves {manifest.serves}",
    ]
    for gate in manifest.fidelity["gates"]:
        figure = "equal" if gate["psnr_db"] is None else f"{gate['psnr_db']} dB"
        lines.append(f"{gate['gate']}: {figure} ({gate['verdict']})")
    lines += precision_lines(manifest.precision)
    lines.append(EngineShare(**manifest.fidelity["engine"]).sentence())
    return "\n  ".join(lines)
