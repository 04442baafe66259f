"""A bundle, opened: its files, after each was compared with the manifest.

Every file's size and SHA-256 stand in the manifest and are compared when the bundle is opened;
files that the manifest does not list are never read (Finder leaves `.DS_Store`, for example).
No torch in here.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from converter.bundle.manifest import (
    EMBEDDINGS,
    FORMAT,
    GOLDEN,
    MANIFEST,
    PACKAGE,
    TOKENIZER,
    FileRecord,
    Manifest,
)
from converter.digests import sha256_file
from converter.errors import BundleError, BundleMissingError, BundleReplacedError
from converter.network.config import EncoderConfig
from converter.options import BuildOptions
from converter.package.interface import PackageInterface

_OWN_NAMES = {PACKAGE, TOKENIZER, GOLDEN, EMBEDDINGS, MANIFEST, ".DS_Store"}


@dataclass(frozen=True)
class Bundle:
    """An opened, verified bundle."""

    path: Path
    manifest: Manifest

    @property
    def package(self) -> Path:
        return self.path / PACKAGE

    @property
    def tokenizer_file(self) -> Path:
        return self.path / TOKENIZER

    @property
    def golden(self) -> Path:
        """`.npz` with `input_ids` int32 (n, 512) padded, `reference` float32 (n, 512, H)."""
        return self.path / GOLDEN

    @property
    def embeddings(self) -> Path:
        """`.npy` float16 (vocab, H); only there with the option `embedding="host"`."""
        return self.path / EMBEDDINGS

    @cached_property
    def config(self) -> EncoderConfig:
        return EncoderConfig(**self.manifest.config)

    @cached_property
    def interface(self) -> PackageInterface:
        """What goes into the package and what comes out of it."""
        functions = {int(length): name for length, name in self.manifest.functions.items()}
        return package_interface(self.path, self.config, functions, self.manifest.options)


def package_interface(
    folder: Path, config: EncoderConfig, functions: Mapping[int, str], options: BuildOptions
) -> PackageInterface:
    """What goes into the package of a bundle's folder, complete or not yet, and what comes out.

    Args:
        functions: length in tokens -> name of the package's function for it.
    """
    on_host = options.embedding == "host"
    table = np.load(folder / EMBEDDINGS, mmap_mode="r") if on_host else None
    return PackageInterface(config, functions, table)


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle after comparing every file with its manifest.

    Raises:
        BundleMissingError: there is no bundle in this folder.
        BundleError: it is incomplete, altered, or of another version of this program.
    """
    before = _manifest_bytes(folder)
    try:
        return _verified(folder, before)
    except BundleError:
        # Another process may have published a new bundle while this one was read.
        after = _manifest_bytes(folder)
        if after == before:
            raise
        return _verified(folder, after)


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


def _manifest_bytes(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        refuse_strangers(folder)
        if folder.is_dir() and any(folder.iterdir()):
            raise _damaged(folder, f"{MANIFEST} is missing") from None
        raise BundleMissingError(
            f"There is no bundle at {folder}. Build one with `gena convert`."
        ) from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error


def refuse_strangers(folder: Path) -> None:
    """Make sure that a folder may be replaced: it is absent, or holds nothing but a bundle.

    Raises:
        BundleError: it is a file, or holds files that are no part of a bundle.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError(f"{folder} is a file; a bundle is a folder.")
    strangers = sorted(entry.name for entry in folder.iterdir() if entry.name not in _OWN_NAMES)
    if strangers:
        raise BundleError(
            f"{folder} holds files that are no part of a bundle ({strangers[0]}). "
            "Name another folder, or a new one in it."
        )


def _verified(folder: Path, manifest_bytes: bytes) -> Bundle:
    try:
        raw = json.loads(manifest_bytes)
    except ValueError:
        raise _damaged(folder, f"{MANIFEST} is no JSON") from None
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        raise BundleError(
            f"{folder} is a bundle of format {str(found)[:20]}; this version reads {FORMAT}. "
            "Convert the checkpoint again."
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or MANIFEST
        raise _damaged(folder, f"{MANIFEST}: {where}: {first['msg']}") from error
    if not manifest.is_unaltered():
        raise _damaged(folder, f"{MANIFEST} was altered")
    for name, record in manifest.files.items():
        _verify_file(folder, name, record)
    return Bundle(folder, manifest)


def _verify_file(folder: Path, name: str, record: FileRecord) -> None:
    path = folder / name
    try:
        size = path.stat().st_size
        if size != record.size:
            raise _damaged(folder, f"{name} has {size} bytes, not {record.size}")
        if sha256_file(path) != record.sha256:
            raise _damaged(folder, f"{name} was altered (its SHA-256 differs)")
    except FileNotFoundError:
        raise _damaged(folder, f"{name} is missing") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.") from error


def _damaged(folder: Path, what: str) -> BundleError:
    return BundleError(
        f"The bundle {folder} is damaged: {what}. Delete the folder and convert the checkpoint "
        "again (`gena convert`; `gena serve` does it by itself where it knows the checkpoint)."
    )
