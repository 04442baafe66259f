"""Compiled packages on disk, kept from one start to the next."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock

from converter.bundle.opening import Bundle
from converter.runtime.coreml_library import CoreMLLibrary, words_of
from converter.runtime.protocol import RuntimeUnavailableError
from converter.user_cache import user_cache_folder

_UNUSED_SECONDS = 90 * 24 * 3600


def default_cache() -> Path:
    """Where compiled models are kept."""
    return user_cache_folder() / "compiled"


def compiled_package(bundle: Bundle, core_ml: CoreMLLibrary, cache: Path) -> Path:
    """The bundle's package as a `.mlmodelc` at a path of its own, compiled if it is not there.

    A start from it takes a fraction of a second; Core ML also keeps what it prepared for the
    engine by this path. Another fingerprint or build of macOS compiles anew.

    Raises:
        BundleReplacedError, BundleError: another bundle took this one's place, or its package
            changed while it was compiled; nothing of that is kept.
        RuntimeUnavailableError: Core ML cannot compile it, or nothing can be written in the cache.
    """
    try:
        return _kept_or_compiled(bundle, core_ml, cache)
    except OSError as error:
        raise RuntimeUnavailableError(
            f"Compiled models are kept in {cache}, where nothing can be written "
            f"({error.strerror}). Mend that, or set GENA_RUNTIME=mil to compute without Core ML."
        ) from error


def _kept_or_compiled(bundle: Bundle, core_ml: CoreMLLibrary, cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    fingerprint = bundle.manifest.fingerprint
    folder = cache / f"{fingerprint}-{core_ml.system().os_build}"
    compiled = folder / "model.mlmodelc"
    with FileLock(cache / f"{fingerprint}.lock"):
        _sweep(cache, fingerprint, keep=folder)
        if not compiled.is_dir():
            shutil.rmtree(folder, ignore_errors=True)  # may hold less than it should
            with tempfile.TemporaryDirectory(
                prefix=f"{fingerprint}-building-", dir=cache
            ) as parent:
                building = Path(parent) / "new"
                building.mkdir()
                with bundle.reading_package() as package:
                    _compile(package, core_ml, building / compiled.name)
                building.rename(folder)
        os.utime(folder)
    return compiled


def _compile(package: Path, core_ml: CoreMLLibrary, destination: Path) -> None:
    try:
        core_ml.compile_package(package, destination)
    except Exception as error:  # whatever Core ML raises
        raise RuntimeUnavailableError(
            f"Core ML cannot compile the package {package} ({words_of(error)}). Set "
            "GENA_RUNTIME=mil to compute without Core ML."
        ) from error


def _sweep(cache: Path, fingerprint: str, keep: Path) -> None:
    """Remove what another macOS compiled, what a killed process left, and what nobody uses."""
    oldest = time.time() - _UNUSED_SECONDS
    for entry in cache.iterdir():
        if not entry.is_dir() or entry == keep:
            continue
        if entry.name.startswith(f"{fingerprint}-") or entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)
