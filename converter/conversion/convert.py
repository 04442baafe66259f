"""The whole way, once: checkpoint -> package -> verified -> published bundle.

What is small is fetched and checked before the weights are, and before torch, which takes seconds,
is imported.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from converter.bundle.destination import usable_destination
from converter.bundle.opening import Bundle, open_bundle
from converter.bundle.room import require_temporary_folder
from converter.bundle.store import build_lock, building_folder, publish
from converter.checkpoint.files import CheckpointFiles, SmallFiles, find_small_files, find_weights
from converter.conversion.progress import OnProgress
from converter.errors import BundleError, CheckpointError
from converter.importing import large_imports
from converter.network.description import read_description
from converter.options import BuildOptions


def convert(
    model: str,
    *,
    output: Path,
    revision: str | None = None,
    options: BuildOptions | None = None,
    on_progress: OnProgress = lambda *_: None,
    on_described: Callable[[SmallFiles], None] = lambda _: None,
) -> Bundle:
    """Build a verified bundle, or return the one that is there already.

    Args:
        model: hub id, shipped model or folder, as `find_checkpoint` takes it.
        output: the bundle's folder.
        on_described: called once configuration and tokenizer are at hand, and belong together.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or of another architecture.
        FidelityError: no package passes the gates; nothing is published.
        BundleError: the bundle cannot be written.
        GenaError: the options do not go together, or not with this checkpoint.
    """
    options = options or BuildOptions()
    destination = usable_destination(output)
    require_temporary_folder()
    on_progress("fetch", 0.0, f"Looking for {model}")
    small = find_small_files(model, revision)
    read_description(small)
    on_described(small)
    files = find_weights(small)
    on_progress("fetch", 1.0, f"{model} is at hand")

    def waiting() -> None:
        on_progress("fetch", 1.0, "Another process is building this bundle; waiting for it")

    with build_lock(destination, waiting):
        current = _current_bundle(destination, files, options)
        if current is not None:
            on_progress("publish", 1.0, "The bundle is up to date")
            return current
        _build(files, options, destination, on_progress)
    bundle = open_bundle(destination)
    on_progress("publish", 1.0, f"Published {destination}")
    return bundle


def _current_bundle(folder: Path, files: CheckpointFiles, options: BuildOptions) -> Bundle | None:
    """The bundle that is there, if it was built of these files with these options."""
    with suppress(BundleError):
        bundle = open_bundle(folder)
        if bundle.manifest.matches(files) and bundle.manifest.options == options:
            return bundle
    return None


def _build(
    files: CheckpointFiles, options: BuildOptions, destination: Path, on_progress: OnProgress
) -> None:
    """Build a bundle and publish it."""
    on_progress("read", 0.0, f"Reading {files.weights.name}")
    with large_imports():
        from converter.conversion.filling import disk_space, fill_bundle
        from converter.network.loading import load_checkpoint

    before = files.sha256
    checkpoint = load_checkpoint(files)
    options.require_possible(checkpoint.config.intermediate_size)
    needed = disk_space(checkpoint, in_fp32=options.precision == "fp32")
    with building_folder(destination, needed) as building:
        fill_bundle(checkpoint, options, building, on_progress)
        _require_same(files, before)
        on_progress("publish", 0.5, "Publishing the bundle")
        publish(building, destination)


def _require_same(files: CheckpointFiles, before: dict[str, str]) -> None:
    """The manifest names what the files were before they were read; they still have to be that."""
    if replace(files).sha256 != before:
        raise CheckpointError(
            f"{files.source}: its files were changed while they were converted. Convert again."
        )
