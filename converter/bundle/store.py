"""How a bundle gets to its place: built once and never half.

It is built in a folder beside its destination and renamed into place under a lock.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from converter.bundle.opening import refuse_strangers
from converter.errors import BundleError, is_full_disk

# Less free space than this after a failed build is taken as the reason for the failure.
_FULL_BYTES = 16 * 2**20


@contextmanager
def build_lock(destination: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the right to build at a destination; what a killed build left is swept first.

    The system gives the lock back when its holder dies. Whoever had to wait looks first whether
    the bundle is there now.

    Args:
        on_wait: called once if another process is building.

    Raises:
        BundleError: nothing can be written there, or the destination holds other files.
    """
    refuse_strangers(destination)
    lock = FileLock(_beside(destination, "lock"))
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
    except OSError as error:
        raise BundleError(
            f"{destination.parent} cannot be written ({error.strerror}). Name another folder with "
            "--output, or set GENA_BUNDLES."
        ) from error
    try:
        _sweep(destination)
        yield
    finally:
        lock.release()


def _sweep(destination: Path) -> None:
    """Remove the leftovers of killed builds; bring a bundle back that was moved out of the way."""
    for entry in list(destination.parent.iterdir()):
        if entry.name.startswith(_beside(destination, "retired-").name):
            if not destination.exists():
                entry.rename(destination)
            else:
                shutil.rmtree(entry, ignore_errors=True)
        elif entry.name.startswith(_beside(destination, "building-").name):
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def building_folder(destination: Path) -> Iterator[Path]:
    """A fresh folder beside the destination to build in; use it within `build_lock`.

    What is left of it at the end is removed: after `publish`, nothing.

    Raises:
        BundleError: the disk is full.
    """
    prefix = _beside(destination, "building-").name
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=destination.parent))
        folder.chmod(0o755)  # a bundle may be served by another user than built it
    except OSError as error:
        raise _disk_error(destination, error) from error
    try:
        yield folder
    except OSError as error:
        if is_full_disk(error):
            raise _disk_error(destination, error) from error
        raise
    except RuntimeError as error:  # so coremltools and torch report a full disk
        if shutil.disk_usage(destination.parent).free < _FULL_BYTES:
            raise _disk_error(destination, error) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _disk_error(destination: Path, error: Exception) -> BundleError:
    reason = error.strerror if isinstance(error, OSError) else "no space left"
    return BundleError(
        f"The bundle cannot be written in {destination.parent} ({reason}). Make room (about three "
        "times the size of the weights file), or name another folder with --output or GENA_BUNDLES."
    )


def publish(building: Path, destination: Path) -> None:
    """Move a finished bundle into place; use it within `build_lock`.

    There is either the old bundle, or the new one, or for an instant none: a process killed in
    that instant leaves the old one where the next `build_lock` brings it back.

    Raises:
        BundleError: the destination holds files that are no part of a bundle.
    """
    refuse_strangers(destination)
    retired = _beside(destination, f"retired-{os.getpid()}")
    if destination.exists():
        destination.rename(retired)
    building.rename(destination)
    shutil.rmtree(retired, ignore_errors=True)


def _beside(destination: Path, suffix: str) -> Path:
    return destination.with_name(f".{destination.name}.{suffix}")
