"""`gena verify`: the gates once more, on a bundle that is there."""

import argparse
from pathlib import Path

from converter.bundle.manifest import Manifest
from converter.bundle.opening import open_bundle
from converter.checkpoint.files import CheckpointFiles, find_checkpoint
from converter.commands.command_line import Subparsers
from converter.commands.precision_text import precision_lines
from converter.errors import CheckpointUnavailableError, GenaError, brief_repr
from converter.fidelity.golden import Golden
from converter.paths import user_path
from converter.terminal import print_json


def add_command(subparsers: Subparsers) -> None:
    """Register `verify`; `args.func(args)` runs it and gives the exit status."""
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
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    from converter.fidelity.verify import verify_package
    from converter.network.loading import load_checkpoint

    bundle = open_bundle(user_path(args.bundle))
    manifest = bundle.manifest
    reference = head = None
    if args.layers or args.model:
        files = find_checkpoint(args.model) if args.model else _checkpoint_of(manifest)
        checkpoint = load_checkpoint(files)
        if not manifest.matches(files):
            raise GenaError(f"{files.source} is not the checkpoint that {args.bundle} is of.")
        reference = checkpoint.encoder() if args.layers else None
        head = checkpoint.masked_language_model_head()
    with bundle.reading_package() as package:
        report = verify_package(
            package,
            bundle.interface,
            Golden.load(bundle.golden(), manifest.pad_token_id),
            compressed=manifest.options.compressed,
            head=head,
            reference=reference,
            arranged=manifest.options.layout != "published",
        )
    if args.json:
        print_json({**report.as_dict(), "precision": manifest.precision}, indent=2)
    else:
        print(f"{manifest.model}, fingerprint {manifest.fingerprint}")
        print(report.as_text())
        print("\n".join(precision_lines(manifest.precision)))
    return 1 if report.flag == "refused" else 0


def _checkpoint_of(manifest: Manifest) -> CheckpointFiles:
    try:
        return find_checkpoint(manifest.model, manifest.commit)
    except CheckpointUnavailableError as error:
        raise CheckpointUnavailableError(
            f"The bundle was made of {brief_repr(manifest.model)}, and that is not found: {error} "
            "Say where it is with --model."
        ) from error
