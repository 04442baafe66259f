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
from typing import Any

from converter.checkpoint.files import DEFAULT_MODEL, SHIPPED_MODELS
from converter.cli_inspect import add_inspect_command
from converter.cli_tune import add_tune_command
from converter.errors import GenaError


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
    add_tune_command(subparsers)


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
    parser.add_argument(
        "--target",
        choices=("macos15", "macos14"),
        default="macos15",
        help="macos15: lengths 128, 256 and 512 sharing weights; macos14: one length, 512",
    )
    parser.add_argument(
        "--embedding", choices=("graph", "host"), default="graph", help="where tokens are looked up"
    )
    parser.add_argument(
        "--ffn-chunks", type=int, default=1, metavar="N", help="feed-forward in N chunks"
    )
    parser.add_argument(
        "--layout",
        choices=("neural-engine", "published"),
        default="neural-engine",
        help="published: the network as it is, the baseline to measure against",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp16", "fp32"),
        default="auto",
        help="auto: fp16, with the least fp32 that fidelity asks for",
    )
    parser.add_argument(
        "--weights",
        choices=("fp16", "int8", "palettized6"),
        default="fp16",
        help="compressed weights are smaller and less faithful",
    )
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="json: a line a step on standard output; ends when standard input closes",
    )
    parser.set_defaults(func=_convert)


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
    from converter.bundle.opening import BuildOptions
    from converter.conversion.convert import convert
    from converter.conversion.progress import progress_display

    if args.ffn_chunks < 1:
        raise GenaError(f"--ffn-chunks {args.ffn_chunks}: expected 1 or more.")
    options = BuildOptions(
        target=args.target,
        embedding=args.embedding,
        ffn_chunks=args.ffn_chunks,
        layout=args.layout,
        precision=args.precision,
        weights=args.weights,
    )
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if args.progress == "json":
        _end_with_parent()
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
                output=args.output,
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


def _summary(manifest: Any) -> str:
    gates = ""
    for gate in manifest.fidelity["gates"]:
        figure = "equal" if gate["psnr_db"] is None else f"{gate['psnr_db']} dB"
        gates += f"\n  {gate['gate']}: {figure} ({gate['verdict']})"
    return (
        f"{manifest.model}, fingerprint {manifest.fingerprint}, lengths "
        f"{', '.join(map(str, manifest.lengths))}, {manifest.precision['chosen']}{gates}"
    )


def _verify(args: argparse.Namespace) -> int:
    from converter.bundle.opening import open_bundle
    from converter.checkpoint.loading import load_checkpoint
    from converter.fidelity.golden import Golden
    from converter.fidelity.verify import verify_bundle

    bundle = open_bundle(args.bundle)
    golden = Golden.load(bundle.golden, bundle.manifest.pad_token_id)
    reference = head = None
    if args.layers or args.model:
        checkpoint = load_checkpoint(
            args.model or bundle.manifest.model, None if args.model else bundle.manifest.commit
        )
        if checkpoint.sha256 != bundle.manifest.checkpoint_sha256:
            raise GenaError(f"{checkpoint.source} is not the checkpoint that {args.bundle} is of.")
        reference = checkpoint.encoder() if args.layers else None
        network = checkpoint.masked_language_model_head()
        if network is not None:
            words = checkpoint.weights["embeddings.word_embeddings.weight"].float()
            head = network, words
    report = verify_bundle(bundle, golden, head=head, reference=reference)
    if args.json:
        _print_json(report.as_dict(), indent=2)
    else:
        print(f"{bundle.manifest.model}, fingerprint {bundle.manifest.fingerprint}")
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


def _end_with_parent() -> None:
    """Interrupt this process when standard input closes: whoever asked for the work is gone."""

    def wait() -> None:
        # Not sys.stdin: its lock, held by this thread, would abort the interpreter's exit.
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()
