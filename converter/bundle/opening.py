"""A bundle, opened: its files, after each was compared with the manifest.

Every file's size and SHA-256 stand in the manifest. What this program reads itself is read once,
and compared as it is read: a file that is changed afterwards changes no answer. What a library
reads by its path, the package, is compared before that and once more after it. Files that the
manifest does not list are never read (Finder leaves `.DS_Store`, for example). No torch in here.
"""

import io
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.bundle.destination import all_beside, real_place, refuse_strangers
from converter.bundle.manifest import (
    EMBEDDINGS,
    FORMAT,
    GOLDEN,
    MANIFEST,
    MAX_BYTES,
    PACKAGE,
    TOKENIZER,
    FileRecord,
    FormatError,
    Manifest,
    ManifestError,
    is_of_macos,
    parse_manifest,
)
from converter.digests import sha256_bytes, sha256_file
from converter.errors import BundleError, BundleMissingError, BundleReplacedError
from converter.network.structure import EncoderConfig
from converter.package.interface import PackageInterface
from converter.tokenizer import DnaTokenizer

# Where two folders cannot change places in one step, there is none for an instant.
_INSTANT_SECONDS, _LOOKS = 0.05, 20


@dataclass(frozen=True)
class Bundle:
    """An opened, verified bundle.

    Attributes:
        tokenizer_json: the content of its tokenizer file.
    """

    path: Path
    manifest: Manifest
    tokenizer_json: bytes = field(repr=False)

    @property
    def package(self) -> Path:
        """The package's folder; `reading_package` gives it to whoever reads what is in it."""
        return self.path / PACKAGE

    @property
    def config(self) -> EncoderConfig:
        return self.manifest.config

    def tokenizer(self) -> DnaTokenizer:
        """The tokenizer, and the model's window; TokenizerError if the file holds none."""
        return DnaTokenizer(
            self.path / TOKENIZER, self.tokenizer_json, model_max_length=self.manifest.window
        )

    def golden(self) -> io.BytesIO:
        """The content of `golden.npz`, for `Golden.load`.

        Raises:
            BundleError: the file is not what it was.
        """
        return io.BytesIO(_read_file(self.path, GOLDEN, self.manifest.files[GOLDEN]))

    @cached_property
    def interface(self) -> PackageInterface:
        """What goes into the package and what comes out of it.

        Raises:
            BundleError: with `embedding="host"`, the table is not what it was.
        """
        functions = {int(length): name for length, name in self.manifest.functions.items()}
        return PackageInterface(self.config, functions, self._embedding_table())

    @contextmanager
    def reading_package(self) -> Iterator[Path]:
        """The package's folder, for a block that reads it; its files are compared once more then.

        Raises:
            BundleReplacedError, BundleError: it is another one now, or not what it was, whatever
                the block made of that.
        """
        with undisturbed(self.path):
            try:
                yield self.package
            finally:
                for name, record in self.manifest.files.items():
                    if name.startswith(f"{PACKAGE}/"):
                        _verify_file(self.path, name, record)

    def _embedding_table(self) -> NDArray[np.float16] | None:
        """(V, H) float16, in memory; None where tokens are looked up in the package."""
        if self.manifest.options.embedding != "host":
            return None
        content = _read_file(self.path, EMBEDDINGS, self.manifest.files[EMBEDDINGS])
        expected = (self.config.vocab_size, self.config.hidden_size)
        try:
            table: NDArray[np.float16] = np.load(io.BytesIO(content), allow_pickle=False)
            if table.shape == expected and table.dtype == np.float16:
                return table
        except (ValueError, EOFError, AttributeError):  # no array, or an archive of several
            pass
        raise _damaged(self.path, f"{EMBEDDINGS} holds no table {expected} of float16")


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle after comparing every file with its manifest.

    Raises:
        BundleMissingError: there is no bundle in this folder.
        BundleError: it is incomplete, altered, or of another version of this program.
    """
    while True:
        before = _settled_identity(folder)
        try:
            return _verified(folder, _manifest_bytes(folder))
        except (BundleError, OSError):
            # The files may be of two bundles: another process has published one meanwhile.
            if _settled_identity(folder) == before:
                raise


def open_expected(folder: Path, fingerprint: str) -> Bundle:
    """Open the bundle that was opened before, maybe by another process.

    Raises:
        BundleReplacedError: there is another one in this folder now.
        BundleError: as `open_bundle`.
    """
    bundle = open_bundle(folder)
    found = bundle.manifest.fingerprint
    if found != fingerprint:
        raise BundleReplacedError(f"{folder} holds the bundle {found} now, not {fingerprint}.")
    return bundle


@contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Read files of a bundle one after the other, and be sure that they are of one bundle.

    Raises:
        BundleReplacedError: at the end, whatever became of the reading: another folder took the
            place of this one meanwhile, or did for a while.
    """
    before = _identity(folder)
    try:
        yield
    finally:
        if _identity(folder) != before:
            raise BundleReplacedError(f"The bundle {folder} was replaced while it was read.")


def _identity(folder: Path) -> tuple[int, int] | None:
    """Differs once another folder has this place, also when the first one came back to it."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


def _settled_identity(folder: Path) -> tuple[int, int] | None:
    """As `_identity`, but not of the instant in which one folder is moved aside for another."""
    for _ in range(_LOOKS):
        if (found := _identity(folder)) is not None:
            return found
        if not _is_being_replaced(folder):
            break
        time.sleep(_INSTANT_SECONDS)
    return _identity(folder)  # the instant may have ended between the two looks


def _manifest_bytes(folder: Path) -> bytes:
    try:
        return _bounded(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise BundleError(f"{folder / MANIFEST} cannot be read: {error.strerror}.") from error
    refuse_strangers(folder)
    if folder.is_dir() and any(not is_of_macos(entry.name) for entry in folder.iterdir()):
        raise _damaged(folder, f"{MANIFEST} is missing")
    raise BundleMissingError(f"There is no bundle at {folder}. Build one with `gena convert`.")


def _bounded(folder: Path) -> bytes:
    """The content of the manifest; of a file that is too long to be one, more than it may have."""
    path = folder / MANIFEST
    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would be to wait for ever
        raise _damaged(folder, f"{MANIFEST} is no file")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _is_being_replaced(folder: Path) -> bool:
    """Whether the old bundle was moved aside, and the new one is not there yet."""
    try:
        return any(all_beside(real_place(folder), "retired"))
    except OSError:
        return False


def _verified(folder: Path, manifest_bytes: bytes) -> Bundle:
    try:
        manifest = parse_manifest(manifest_bytes)
    except FormatError as found:
        raise BundleError(
            f"{folder} is a bundle of format {found}; this version reads {FORMAT}. "
            "Convert the checkpoint again."
        ) from None
    except ManifestError as error:
        raise _damaged(folder, f"{MANIFEST}: {error}") from error
    for name, record in manifest.files.items():
        if name != TOKENIZER:
            _verify_file(folder, name, record)
    return Bundle(folder, manifest, _read_file(folder, TOKENIZER, manifest.files[TOKENIZER]))


def _verify_file(folder: Path, name: str, record: FileRecord) -> None:
    """Compare a file with its record, block by block."""
    path = folder / name
    try:
        _require_size(folder, name, record)
        digest = sha256_file(path)
    except OSError as error:
        raise _unreadable(folder, name, error) from error
    if digest != record.sha256:
        raise _damaged(folder, f"{name} was altered (its SHA-256 differs)")


def _read_file(folder: Path, name: str, record: FileRecord) -> bytes:
    """The content of a file, after comparing it with its record."""
    try:
        _require_size(folder, name, record)
        content = (folder / name).read_bytes()
    except OSError as error:
        raise _unreadable(folder, name, error) from error
    if sha256_bytes(content) != record.sha256:
        raise _damaged(folder, f"{name} was altered (its SHA-256 differs)")
    return content


def _require_size(folder: Path, name: str, record: FileRecord) -> None:
    found = (folder / name).stat()
    if not stat.S_ISREG(found.st_mode):
        raise _damaged(folder, f"{name} is no file")
    if found.st_size != record.size:
        raise _damaged(folder, f"{name} has {found.st_size} bytes, not {record.size}")


def _unreadable(folder: Path, name: str, error: OSError) -> BundleError:
    if isinstance(error, FileNotFoundError):
        return _damaged(folder, f"{name} is missing")
    return BundleError(f"{folder / name} cannot be read: {error.strerror}.")


def _damaged(folder: Path, what: str) -> BundleError:
    return BundleError(
        f"The bundle {folder} is damaged: {what}. Delete the folder and convert the checkpoint "
        "again (`gena convert`; `gena serve` does it by itself where it knows the checkpoint)."
    )
