"""Paths as people write them, with `~`, before anything is looked for there."""

import os
from contextlib import suppress
from pathlib import Path

from converter.errors import UnusablePathError, brief


def user_path(given: str | Path) -> Path:
    """A path, `~` expanded, of which the system can say whether something is there.

    Raises:
        UnusablePathError: there is no such user, it is too long, it may not be looked at, or it is
            no text (names are bytes on Linux, and a bundle's manifest is text).
    """
    try:
        path = Path(given).expanduser()
        os.path.realpath(path).encode()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except RuntimeError as error:  # of an unknown user, or of nobody
        raise _unusable(given, "there is no home folder of that name") from error
    except OSError as error:
        raise _unusable(given, error.strerror or type(error).__name__) from error
    except ValueError as error:  # a NUL, or bytes that are no UTF-8
        raise _unusable(given, "it holds characters that are no text") from error
    return path


def existing_folder(model: str) -> Path | None:
    """The folder that a model's name means; None where it means something else.

    Raises:
        UnusablePathError: as `user_path`.
    """
    folder = user_path(model)
    # Path("") would be the working directory.
    return folder if model and folder.is_dir() else None


def _unusable(given: str | Path, reason: str) -> UnusablePathError:
    return UnusablePathError(f"{brief(str(given))} cannot be used as a path: {reason}.")
