"""Files that are written whole: a reader finds the old content or the new, never a part."""

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from converter.digests import sha256_bytes

# A part of a file that a machine writes which is not this one is left alone for so long.
_FOREIGN_SECONDS = 24 * 3600


@contextmanager
def replacement(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its place when the block ends; after an error, nothing does."""
    # Machines that share a folder may have processes of one number.
    name = f"{_beginning(path)}{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    partial = path.with_name(name)
    try:
        with partial.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file of this content beside its place, and rename it there."""
    with replacement(path) as file:
        file.write(content)


def sweep_partials(path: Path) -> None:
    """Remove what writers of a file that were killed left beside it; not what one writes now."""
    beginning = _beginning(path)
    for left in path.parent.iterdir():
        if left.name.startswith(beginning) and _is_left(left, left.name.removeprefix(beginning)):
            with suppress(OSError):
                left.unlink()


def _beginning(path: Path) -> str:
    return f".{path.name}."


def _machine() -> str:
    return sha256_bytes(socket.gethostname().encode())[:8]


def _is_left(partial: Path, writer: str) -> bool:
    """Whether nobody writes it: its writer was a process of this machine and is none now.

    Args:
        writer: the end of its name.
    """
    machine, _, rest = writer.partition("-")
    process, _, _ = rest.partition("-")
    if not process.isdecimal():
        return False
    if machine == _machine():
        return not _runs(int(process))
    with suppress(OSError):
        return time.time() - partial.stat().st_mtime > _FOREIGN_SECONDS
    return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's; or no number that a process has
        return True
    return True
