"""Room on the disk: asked for before a build, and whether its lack is why one failed.

Libraries report a full disk in many ways: `OSError` with its number or without, `RuntimeError`,
an archive that cannot be closed, a file that is cut short. What is there and what is free tell.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from converter.errors import BundleError, DiskFullError, GenaError, PackageError, is_full_disk

_BLOCK = bytes(2**20)
_NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def require_room(folder: Path, needed: int) -> None:
    """Make sure that a folder's disk has room for a build.

    Args:
        needed: bytes.

    Raises:
        DiskFullError: it has not.
    """
    if shutil.disk_usage(folder).free < needed:
        raise disk_full(folder, _NO_SPACE, needed)


def require_temporary_folder() -> None:
    """Make sure that there is a folder for temporary files, where libraries want one.

    Raises:
        BundleError: there is none that can be written; on a full disk none can.
    """
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise BundleError(
            f"There is no place for temporary files ({error.strerror}). Make room on that disk, or "
            "set TMPDIR to a folder that can be written."
        ) from error


@contextmanager
def saying_full_disk(folder: Path, needed: int) -> Iterator[None]:
    """Whatever is raised by writing into a folder becomes one sentence where its disk is full.

    Args:
        needed: bytes that the folder takes at most while it is filled.

    Raises:
        DiskFullError: the disk is full, or this user's share of it.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        full = _full_disk_behind(error)
        # A package that is cut short may be for lack of room; other sentences of ours are final.
        if full is None and (isinstance(error, PackageError) or not isinstance(error, GenaError)):
            full = _lack_of_room(folder, needed - _used(folder))
        if full is None:
            raise
        raise disk_full(folder.parent, full, needed) from error


def disk_full(folder: Path, error: OSError, needed: int = 0) -> DiskFullError:
    """The sentence for a full disk.

    Args:
        error: by which that became known.
        needed: bytes for a build; 0 where they are not known yet.
    """
    sizes = ""
    if needed:
        free = shutil.disk_usage(folder).free
        sizes = f" Building it takes {_sized(needed)} there, {_sized(free)} are free."
    return DiskFullError(
        f"There is no room for the bundle in {folder} ({error.strerror}).{sizes} Make room, or "
        "name another folder with --output or GENA_BUNDLES."
    )


def _full_disk_behind(error: BaseException | None) -> OSError | None:
    """The error of a full disk among an error and its causes."""
    while error is not None:
        if isinstance(error, OSError) and is_full_disk(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def _used(folder: Path) -> int:
    used = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                used += (Path(parent) / name).lstat().st_size
    return used


def _lack_of_room(folder: Path, size: int) -> OSError | None:
    """Why so many bytes cannot be written there; None if they can."""
    if shutil.disk_usage(folder).free < size:
        return _NO_SPACE
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # a quota shows in no other way
            for _ in range(0, size, len(_BLOCK)):
                file.write(_BLOCK)
            file.flush()
    except OSError as error:
        return error
    return None


def _sized(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"
