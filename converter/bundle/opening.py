"""What is served: package, tokenizer and manifest in one folder, built once and never half.

A bundle is built in a folder beside its destination and renamed into place under a lock. Every
file's size and SHA-256 stand in the manifest and are compared when the bundle is opened; files
that the manifest does not list are never read (Finder leaves `.DS_Store`, for example).
No torch in here.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from converter.checkpoint.files import CheckpointFiles, sha256_file
from converter.errors import BundleError, BundleMissingError
from converter.network.config import EncoderConfig
from converter.package.interface import PackageInterface

FORMAT = 1
PACKAGE = "model.mlpackage"
TOKENIZER = "tokenizer.json"
GOLDEN = "golden.npz"
EMBEDDINGS = "embeddings.npy"
MANIFEST = "manifest.json"

_OWN_NAMES = {PACKAGE, TOKENIZER, GOLDEN, EMBEDDINGS, MANIFEST, ".DS_Store"}
_CLONE = Path(__file__).resolve().parents[2]
# Less free space than this after a failed build is taken as the reason for the failure.
_FULL = 16 * 2**20
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BuildOptions(_Frozen):
    """Choices of the converter that change the package."""

    target: Literal["macos14", "macos15"] = "macos15"
    embedding: Literal["graph", "host"] = "graph"
    ffn_chunks: int = 1
    layout: Literal["neural-engine", "published"] = "neural-engine"
    precision: Literal["auto", "fp16", "fp32"] = "auto"
    weights: Literal["fp16", "int8", "palettized6"] = "fp16"


class FileRecord(_Frozen):
    """Size in bytes and hex SHA-256 of one file."""

    sha256: str
    size: int


class Manifest(_Frozen):
    """Where a bundle comes from, what it holds and how faithful it is.

    Attributes:
        fingerprint: 16 hex digits that stand for weights, tokenizer, configuration, options and
            package. Equal inputs give equal fingerprints, whenever and wherever they are built:
            `golden.npz` is left out, since the reference's last bits depend on the machine.
        checkpoint_sha256: hex digests of the source files "config", "weights" and "tokenizer".
        config: the fields of `EncoderConfig`.
        lengths: tokens that a prediction can take, ascending.
        functions: length -> name of the package's function for it.
        precision: "chosen" ("fp16", "mixed" or "fp32"), "fp32_operations" and "reason".
        fidelity: measured figures, and "flag" ("expected" or "flagged").
        files: every other file of the bundle by its relative POSIX path.
        digest: hex SHA-256 over all other fields.
    """

    format: int = FORMAT
    model: str
    commit: str | None
    fingerprint: str
    checkpoint_sha256: dict[str, str]
    config: dict[str, Any]
    hidden_size: int
    pad_token_id: int
    lengths: list[int]
    functions: dict[str, str]
    options: BuildOptions
    precision: dict[str, Any]
    fidelity: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, FileRecord]
    digest: str

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise ValueError(f"{name!r} leads out of the bundle")
        return files

    @model_validator(mode="after")
    def _complete(self) -> "Manifest":
        if not self.lengths or self.lengths != sorted(set(self.lengths)):
            raise ValueError("lengths are not ascending")
        if set(self.functions) != {str(length) for length in self.lengths}:
            raise ValueError("functions and lengths differ")
        required = [TOKENIZER, GOLDEN]
        if self.options.embedding == "host":
            required.append(EMBEDDINGS)
        missing = [name for name in required if name not in self.files]
        if not any(name.startswith(f"{PACKAGE}/") for name in self.files):
            missing.append(PACKAGE)
        if missing:
            raise ValueError(f"files does not list {', '.join(missing)}")
        return self

    def matches(self, files: CheckpointFiles) -> bool:
        """Whether the bundle was built from these very files."""
        return self.checkpoint_sha256 == {
            "config": sha256_file(files.config),
            "weights": sha256_file(files.weights),
            "tokenizer": sha256_file(files.tokenizer),
        }


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
        on_host = self.manifest.options.embedding == "host"
        return PackageInterface(
            self.config,
            {int(length): name for length, name in self.manifest.functions.items()},
            np.load(self.embeddings, mmap_mode="r") if on_host else None,
        )


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle after comparing every file with its manifest.

    Raises:
        BundleMissingError: there is no bundle in this folder.
        BundleError: it is incomplete, altered, or of another version of this program.
    """
    folder = Path(folder)
    before = _manifest_bytes(folder)
    try:
        return _verified(folder, before)
    except BundleError:
        # Another process may have published a new bundle while this one was read.
        after = _manifest_bytes(folder)
        if after == before:
            raise
        return _verified(folder, after)


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
    if manifest.digest != _digest(manifest) or manifest.fingerprint != _fingerprint(manifest):
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


def write_manifest(
    folder: Path,
    *,
    model: str,
    commit: str | None,
    checkpoint_sha256: Mapping[str, str],
    config: EncoderConfig,
    functions: Mapping[int, str],
    options: BuildOptions,
    precision: Mapping[str, Any],
    fidelity: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Manifest:
    """Hash every file in a folder and write its manifest: the last step before `publish`.

    Args:
        functions: length in tokens -> name of the package's function for it.

    Raises:
        ValidationError (pydantic): a file that a bundle needs is not there.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {
        name: FileRecord(sha256=sha256_file(folder / name), size=(folder / name).stat().st_size)
        for name in names
        if name != MANIFEST
    }
    draft = Manifest(
        model=model,
        commit=commit,
        fingerprint="",
        checkpoint_sha256=dict(checkpoint_sha256),
        config=asdict(config),
        hidden_size=config.hidden_size,
        pad_token_id=config.pad_token_id,
        lengths=sorted(functions),
        functions={str(length): functions[length] for length in sorted(functions)},
        options=options,
        precision=dict(precision),
        fidelity=dict(fidelity),
        versions=dict(versions),
        files=files,
        digest="",
    )
    stamped = draft.model_copy(update={"fingerprint": _fingerprint(draft)})
    manifest = stamped.model_copy(update={"digest": _digest(stamped)})
    # NaN would be no JSON; a figure that is none has no place in a manifest.
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def _fingerprint(manifest: Manifest) -> str:
    fields = manifest.model_dump(
        mode="json", include={"format", "checkpoint_sha256", "config", "options", "files"}
    )
    del fields["files"][GOLDEN]
    return _sha256_json(fields)[:16]


def _digest(manifest: Manifest) -> str:
    return _sha256_json(manifest.model_dump(mode="json", exclude={"digest"}))


def _sha256_json(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


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
    destination = Path(destination)
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
    destination = Path(destination)
    prefix = _beside(destination, "building-").name
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=destination.parent))
        folder.chmod(0o755)  # a bundle may be served by another user than built it
    except OSError as error:
        raise _disk_error(destination, error) from error
    try:
        yield folder
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise _disk_error(destination, error) from error
        raise
    except RuntimeError as error:  # so coremltools and torch report a full disk
        if shutil.disk_usage(destination.parent).free < _FULL:
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
    destination = Path(destination)
    refuse_strangers(destination)
    retired = _beside(destination, f"retired-{os.getpid()}")
    if destination.exists():
        destination.rename(retired)
    building.rename(destination)
    shutil.rmtree(retired, ignore_errors=True)


def _beside(destination: Path, suffix: str) -> Path:
    return destination.with_name(f".{destination.name}.{suffix}")


def default_bundle_folder(model: str, revision: str | None = None) -> Path:
    """Where the bundle of a model lies when nobody says otherwise.

    Args:
        model: hub id, name of a shipped model, or a checkpoint's folder.
    """
    as_folder = Path(model).expanduser()
    if as_folder.is_dir():
        resolved = as_folder.resolve()
        return _bundles_root() / f"{_slug(resolved.name)}-{_short_hash(str(resolved))}"
    name = model.replace("/", "--")
    return _bundles_root() / _slug(name if revision is None else f"{name}@{revision}")


def _bundles_root() -> Path:
    chosen = os.environ.get("GENA_BUNDLES")
    if chosen:
        return Path(chosen).expanduser()
    if (_CLONE / "pyproject.toml").is_file():
        return _CLONE / "models" / "bundles"
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / caches / "gena-coreml"


def _slug(name: str) -> str:
    """A file name for any name; names that had to be altered stay distinct."""
    readable = re.sub(r"[^\w.@-]", "-", name, flags=re.ASCII).lstrip(".")[:100]
    return readable if readable == name else f"{readable}-{_short_hash(name)}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
