"""The converter's commands: `gena convert`, `verify`, `inspect`, `tune`."""

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from converter.bundle.location import bundles_root, default_bundle_folder
from converter.bundle.manifest import Manifest
from converter.bundle.opening import open_bundle
from converter.checkpoint.files import DEFAULT_MODEL, SHIPPED_MODELS, find_checkpoint
from converter.cli_inspect import add_inspect_command
from converter.cli_tune import add_tune_command
from converter.conversion.progress import ProgressKind, progress_display
from converter.errors import GenaError
from converter.life_line import when_parent_ends
from converter.options import BuildOptions


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m converter`."""
    parser = argparse.ArgumentParser(prog="python -m converter", description=__doc__)
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    parsed = parser.parse_args(arguments)
    return run_command(parsed)


def run_command(parsed: argparse.Namespace) -> int:
    """Run a parsed command: expected failures become one sentence and exit status 1."""
    try:
        status: int = parsed.func(parsed)
    except GenaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was published", file=sys.stderr)
        return 130
    return status


def add_commands(subparsers: Any) -> None:
    """Register the commands; each sets `func(args) -> exit status`."""
    _add_convert_command(subparsers)
    _add_verify_command(subparsers)
    add_inspect_command(subparsers)
    add_tune_command(subparsers, _default_bundle)


def _add_convert_command(subparsers: Any) -> None:
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
        help="json: a line a step on standard output; ends when standard input closes",
    )
    parser.set_defaults(func=_convert)


def _add_build_option(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    kind: dict[str, Any] = {"type": int, "metavar": "N"}
    if get_origin(field.annotation) is Literal:
        kind = {"choices": get_args(field.annotation)}
    flag = f"--{name.replace('_', '-')}"
    parser.add_argument(flag, default=field.default, help=field.description, **kind)


def _add_verify_command(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="execute a bundle's package and compare it with the reference",
        description="Repeats the gates on a bundle, against the reference's results stored in it.",
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--layers", action="store_true", help="where it starts to diverge (reads the checkpoint)"
    )
    parser.add_argument(
        "--model", metavar="ID_OR_FOLDER", help="the bundle's checkpoint, if it is not where it was"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(func=_verify)


def _convert(args: argparse.Namespace) -> int:
    from converter.conversion.convert import convert

    options = BuildOptions(**{name: getattr(args, name) for name in BuildOptions.model_fields})
    options.require_sensible()
    output = args.output or _default_bundle(args.model, args.revision)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if args.progress == "json":
        # Whoever asked for the work is gone: an interrupt tidies up.
        when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        with ExitStack() as stack:
            show = stack.enter_context(progress_display(args.progress))
            require_no_interrupt = stack.enter_context(_lasting_interrupts())

            def on_progress(stage: str, fraction: float, message: str) -> None:
                require_no_interrupt()
                show(stage, fraction, message)

            bundle = convert(
                args.model,
                revision=args.revision,
                output=output,
                options=options,
                on_progress=on_progress,
            )
    except GenaError as error:
        if args.progress != "json":
            raise
        _print_json({"error": {"code": error.code, "message": str(error)}})
        return 1
    manifest = bundle.manifest
    if args.progress == "json":
        _print_json({"bundle": str(bundle.path), "fingerprint": manifest.fingerprint})
    else:
        print(f"{bundle.path}\n{_summary(manifest)}")
    return 0


def _default_bundle(model: str, revision: str | None = None) -> Path:
    """Where a model's bundle lies when nobody names a folder."""
    chosen = os.environ.get("GENA_BUNDLES")
    root = bundles_root(Path(chosen) if chosen else None)
    return default_bundle_folder(model, revision, root)


def _summary(manifest: Manifest) -> str:
    gates = ""
    for gate in manifest.fidelity["gates"]:
        figure = "equal" if gate["psnr_db"] is None else f"{gate['psnr_db']} dB"
        gates += f"\n  {gate['gate']}: {figure} ({gate['verdict']})"
    return (
        f"{manifest.model}, fingerprint {manifest.fingerprint}, lengths "
        f"{', '.join(map(str, manifest.lengths))}, {manifest.precision['chosen']}{gates}"
    )


def _verify(args: argparse.Namespace) -> int:
    from converter.fidelity.golden import Golden
    from converter.fidelity.verify import verify_package
    from converter.network.loading import load_checkpoint

    bundle = open_bundle(args.bundle)
    manifest = bundle.manifest
    reference = head = None
    if args.layers or args.model:
        files = find_checkpoint(
            args.model or manifest.model, None if args.model else manifest.commit
        )
        checkpoint = load_checkpoint(files)
        if not manifest.matches(files):
            raise GenaError(f"{files.source} is not the checkpoint that {args.bundle} is of.")
        reference = checkpoint.encoder() if args.layers else None
        head = checkpoint.masked_language_model_head()
    report = verify_package(
        bundle.package,
        bundle.interface,
        Golden.load(bundle.golden, manifest.pad_token_id),
        compressed=manifest.options.compressed,
        head=head,
        reference=reference,
    )
    if args.json:
        _print_json(report.as_dict(), indent=2)
    else:
        print(f"{manifest.model}, fingerprint {manifest.fingerprint}")
        print(report.as_text())
    return 1 if report.flag == "refused" else 0


def _print_json(document: dict[str, Any], indent: int | None = None) -> None:
    print(json.dumps(document, indent=indent, allow_nan=False), flush=True)


@contextmanager
def _lasting_interrupts() -> Iterator[Callable[[], None]]:
    """Remember an interrupt: libraries swallow a KeyboardInterrupt that hits a bare `except`.

    Yields:
        A function that raises KeyboardInterrupt if there was one.
    """
    interrupted = threading.Event()

    def remember(*_: object) -> None:
        # Only the first one raises: a second must not tear what the first one tidies up.
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def require_none() -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield require_none
    finally:
        signal.signal(signal.SIGINT, before)
