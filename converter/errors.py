"""The errors that users of the converter see: what is wrong, where, and what to do."""

import errno
import reprlib
from typing import Any, ClassVar

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_full_disk(error: OSError) -> bool:
    """Whether the disk is full, or what this user may have of it."""
    return error.errno in _FULL


def brief(text: str | Exception, limit: int = 200) -> str:
    """The first line of a text from elsewhere, shortened, without what a terminal would obey.

    Of an error without words, its name.
    """
    words = str(text).strip()
    if not words and isinstance(text, Exception):
        words = type(text).__name__
    line = words.partition("\n")[0]
    shown = line if len(line) <= limit else f"{line[: limit - 3]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def brief_repr(value: Any) -> str:
    """A value from elsewhere as Python writes it: a few elements of a few levels."""
    return brief(_REPR.repr(value), 60)


class GenaError(Exception):
    """An expected failure with a message written for the user.

    `code` is stable and dotted, for scripts; the message may change, the code does not.
    `may_pass` says that the same may succeed later without anybody's doing.
    """

    code: ClassVar[str] = "gena"
    may_pass: ClassVar[bool] = False


class UnusablePathError(GenaError):
    """A path that a user named is none that this system can have."""

    code = "path.unusable"


class CheckpointError(GenaError):
    """The checkpoint cannot be fetched, read or trusted."""

    code = "checkpoint.invalid"


class CheckpointUnavailableError(CheckpointError):
    """The checkpoint is not here and cannot be fetched now."""

    code = "checkpoint.unavailable"


class HubUnreachableError(CheckpointUnavailableError):
    """The hub, or the network on the way there, does not answer as it should."""

    may_pass = True


class UnsupportedModelError(CheckpointError):
    """The configuration asks for arithmetic that this converter does not have."""

    code = "checkpoint.unsupported"


class PackageError(GenaError):
    """An `.mlpackage` is missing, damaged, or no ML program."""

    code = "package.invalid"


class UnknownOperationError(GenaError):
    """A package holds a MIL operation that the executor does not know."""

    code = "package.unknown_operation"


class PredictionError(GenaError):
    """A prediction gave something that is no features."""

    code = "model.not_finite"


class FidelityError(GenaError):
    """A package differs too much from the reference network to be published."""

    code = "package.refused"


class BundleError(GenaError):
    """A bundle is missing, incomplete or altered."""

    code = "bundle.invalid"


class BundleMissingError(BundleError):
    """There is no bundle at this path."""

    code = "bundle.missing"


class BundleReplacedError(BundleError):
    """Another bundle took the place of the one that was to be read."""

    code = "bundle.replaced"


class DiskFullError(BundleError):
    """There is no room for a bundle on the disk, or in this user's share of it."""

    code = "disk.full"


class TokenizerError(GenaError):
    """`tokenizer.json` is not a GENA-LM tokenizer."""

    code = "tokenizer.invalid"
