"""How `gena embed` ends, in the statuses that workflow engines act upon."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from converter.errors import is_full_disk

DONE, FAILED, USAGE, INPUT, TRY_AGAIN, INTERRUPTED = 0, 1, 2, 3, 75, 130


class EmbedError(Exception):
    """An expected end with a sentence for people.

    Attributes:
        status: the exit status.
    """

    status: ClassVar[int] = FAILED


class UsageError(EmbedError):
    """The command asks for what does not go together, or not with what is there."""

    status = USAGE


class InputError(EmbedError):
    """The input, or the checkpoint, cannot be used as it is."""

    status = INPUT


class TryAgainError(EmbedError):
    """The same command may succeed later: a full disk, a service that is down."""

    status = TRY_AGAIN


@contextmanager
def full_disk_told(place: Path, advice: str) -> Iterator[None]:
    """Make the error of a full disk below a sentence: which disk, and what to do.

    Raises:
        TryAgainError: the disk of `place` is full.
    """
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        raise TryAgainError(f"The disk of {place} is full. Make room and {advice}") from error
