"""How a bundle gets to its place: built once and never half.

It is built in a folder beside its destination, under a lock, and changes places with the one that
was there.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from converter.bundle.destination import (
    all_beside,
    beside,
    new_beside,
    real_place,
    refuse_strangers,
    unwritable,
)
from converter.bundle.exchange import exchange
from converter.bundle.room import require_room, saying_full_disk
from converter.errors import BundleError


@contextmanager
def build_lock(destination: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the right to build at a destination; what a killed build left is swept first.

    The system gives the lock back when its holder dies. Whoever had to wait looks first whether
    the bundle is there now.

    Args:
        destination: as `usable_destination` gives it.
        on_wait: called once if another process is building.

    Raises:
        BundleError: nothing can be written there, or the destination holds other files.
    """
    refuse_strangers(destination)
    lock = FileLock(beside(destination, "lock"))
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
    except OSError as error:
        raise unwritable(destination.parent, error) from error
    try:
        _sweep(destination)
        yield
    finally:
        lock.release()


def tidy(folder: Path) -> None:
    """Sweep what a killed build left beside a bundle, unless a process is building there now.

    What cannot be swept stays: whoever only reads a bundle need not be able to write beside it.
    """
    with suppress(OSError, BundleError, Timeout):
        destination = real_place(folder)
        if any(_leftovers(destination)):
            with FileLock(beside(destination, "lock"), timeout=0):
                _sweep(destination)


def _leftovers(destination: Path) -> Iterator[Path]:
    for kind in ("retired", "building"):
        yield from all_beside(destination, kind)


def _sweep(destination: Path) -> None:
    """Remove the leftovers of killed builds; bring a bundle back that was moved out of the way."""
    with suppress(OSError):
        for entry in all_beside(destination, "retired"):
            if not os.path.lexists(destination) and entry.is_dir() and not entry.is_symlink():
                entry.rename(destination)
        for entry in _leftovers(destination):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:  # to open a pipe, as `rmtree` would, is to wait for ever
                entry.unlink()


@contextmanager
def building_folder(destination: Path, needed: int = 0) -> Iterator[Path]:
    """A fresh folder beside the destination to build in; use it within `build_lock`.

    What is left of it at the end is removed: after `publish`, nothing.

    Args:
        needed: bytes that the build takes at most.

    Raises:
        DiskFullError: they are not there, or not any more.
    """
    require_room(destination.parent, needed)
    folder = new_beside(destination, "building")
    try:
        folder.mkdir()
    except OSError as error:
        raise unwritable(destination.parent, error) from error
    try:
        with saying_full_disk(folder, needed):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(building: Path, destination: Path) -> None:
    """Move a finished bundle into place; use it within `build_lock`.

    There is always a bundle, the old one or the new one, where the system lets two folders change
    places. Elsewhere there is none for an instant, in which readers wait; a process killed then
    leaves the old one where the next `build_lock` or `tidy` brings it back.

    Raises:
        BundleError: the destination holds files that are no part of a bundle, or cannot be
            replaced.
    """
    refuse_strangers(destination)
    _follow_umask(building)
    try:
        if not os.path.lexists(destination):
            building.rename(destination)
        elif exchange(building, destination):
            shutil.rmtree(building, ignore_errors=True)
        else:
            _replace_in_two_steps(building, destination)
    except OSError as error:
        raise BundleError(
            f"{destination} cannot be replaced by the new bundle ({error.strerror}). Name another "
            "folder with --output, or set GENA_BUNDLES."
        ) from error


def _replace_in_two_steps(building: Path, destination: Path) -> None:
    retired = new_beside(destination, "retired")
    destination.rename(retired)
    try:
        building.rename(destination)
    except BaseException:  # an interrupt as well
        if not os.path.lexists(destination):
            retired.rename(destination)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _follow_umask(building: Path) -> None:
    """Give what libraries wrote, often for its owner alone, the modes that the umask gives.

    Those of the folder itself are the system's own answer to the umask.
    """
    mode = stat.S_IMODE(building.stat().st_mode)
    for entry in building.rglob("*"):
        entry.chmod(mode if entry.is_dir() else mode & 0o666)
