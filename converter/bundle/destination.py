"""Where a bundle goes: a folder that may be made or replaced, and the names used beside it."""

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from converter.bundle.manifest import (
    EMBEDDINGS,
    GOLDEN,
    MANIFEST,
    PACKAGE,
    TOKENIZER,
    is_of_macos,
)
from converter.bundle.room import disk_full
from converter.errors import BundleError, is_full_disk
from converter.paths import user_path

_OWN_NAMES = {PACKAGE, TOKENIZER, GOLDEN, EMBEDDINGS, MANIFEST}


def beside(destination: Path, suffix: str) -> Path:
    """A hidden name beside a bundle: "lock"; "building-..." and "retired-..." for folders."""
    return destination.with_name(f".{destination.name}.{suffix}")


def new_beside(destination: Path, kind: str) -> Path:
    """A name that nobody has, for a folder of a kind ("building", "retired")."""
    return beside(destination, f"{kind}-{secrets.token_hex(6)}")


def all_beside(destination: Path, kind: str) -> Iterator[Path]:
    """What there is of a kind ("building", "retired") beside a bundle; nothing where no folder is.

    Raises:
        OSError: the folder cannot be read.
    """
    name = re.compile(re.escape(beside(destination, kind).name) + r"-\w+")
    if destination.parent.is_dir():
        yield from (e for e in list(destination.parent.iterdir()) if name.fullmatch(e.name))


def real_place(folder: Path) -> Path:
    """A folder's absolute path without links; links to what is not there are followed as well.

    Raises:
        UnusablePathError: the links go in a circle, or this system cannot have such a path.
    """
    return user_path(folder).resolve()


def usable_destination(output: Path) -> Path:
    """The real place of a folder where a bundle is to be built: said before anything is done.

    A link to a folder is followed: the bundle is built beside the folder itself, and the link
    stays. Nothing is left there.

    Raises:
        BundleError: nothing can be built there, or it holds other files.
        UnusablePathError: as `real_place`.
    """
    try:
        destination = real_place(output)
        _require_no_dangling_link(user_path(output))
        if destination.is_mount():
            raise BundleError(f"{destination} is a disk's own folder; name a new folder in it.")
        if destination == Path.cwd():
            raise BundleError(f"{destination} is the working directory; name a new folder in it.")
        refuse_strangers(destination)
        _try_to_write(destination)
    except OSError as error:
        raise unwritable(output, error) from error
    return destination


def refuse_strangers(folder: Path) -> None:
    """Make sure that a folder may be replaced: it is absent, or holds nothing but a bundle.

    Raises:
        BundleError: it is a file, cannot be read, or holds files that are no part of a bundle.
    """
    try:
        if not folder.exists():
            return
        if not folder.is_dir():
            raise BundleError(f"{folder} is a file; a bundle is a folder.")
        names = {entry.name for entry in folder.iterdir()} - _OWN_NAMES
        strangers = sorted(name for name in names if not is_of_macos(name))
    except OSError as error:
        raise BundleError(f"{folder} cannot be read ({error.strerror}).") from error
    if strangers:
        raise BundleError(
            f"{folder} holds files that are no part of a bundle ({strangers[0]}). "
            "Name another folder, or a new one in it."
        )


def unwritable(folder: Path, error: OSError) -> BundleError:
    """What to say of a place where nothing can be written."""
    if is_full_disk(error):
        return disk_full(folder, error)
    return BundleError(
        f"{folder} cannot be written ({error.strerror}). Name another folder with --output, or set "
        "GENA_BUNDLES."
    )


def _require_no_dangling_link(path: Path) -> None:
    """A link to a disk that is not there must not become a folder on the disk that is."""
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            raise BundleError(
                f"{place} is a link to {place.readlink()}, which is not there. Mount or make it, "
                "or name another folder."
            )


def _try_to_write(destination: Path) -> None:
    """Make and remove what a build would make first, in the nearest folder that is there."""
    there = next(parent for parent in destination.parents if parent.exists())
    trial = there / new_beside(destination, "building").name
    for name in destination.relative_to(there).parts:
        with suppress(FileNotFoundError):
            (there / name).lstat()  # an error where the name is too long
    trial.mkdir()
    trial.rmdir()
