"""Where bundles lie when nobody names a folder."""

import os
import re
from pathlib import Path

from converter.digests import sha256_bytes
from converter.errors import BundleError
from converter.user_cache import user_cache_folder

_CLONE = Path(__file__).resolve().parents[2]


def bundles_root(chosen: Path | None) -> Path:
    """The folder under which bundles are built.

    Args:
        chosen: by the user (GENA_BUNDLES); None for `models/bundles` in a clone, else the user's
            cache.

    Raises:
        BundleError: it begins with the home folder of a user whom the system does not know.
    """
    if chosen is not None:
        return expanded(chosen)
    if (_CLONE / "pyproject.toml").is_file():
        return _CLONE / "models" / "bundles"
    return user_cache_folder()


def default_bundle_folder(model: str, revision: str | None, root: Path) -> Path:
    """Where the bundle of a model lies when nobody says otherwise.

    Args:
        model: hub id, name of a shipped model, or a checkpoint's folder.
        root: as `bundles_root` gives it.
    """
    as_folder = _folder(model)
    if as_folder is not None:
        return root / f"{_slug(as_folder.name)}-{_short_hash(str(as_folder))}"
    name = model.replace("/", "--")
    return root / _slug(name if revision is None else f"{name}@{revision}")


def expanded(path: Path) -> Path:
    """A path with the home folder for `~`.

    Raises:
        BundleError: of a user whom the system does not know.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise BundleError(f"{path}: there is no home folder {path.parts[0]}.") from error


def _folder(model: str) -> Path | None:
    """The real path of a model that is a folder here; None for any other name, however odd."""
    try:
        folder = Path(model).expanduser().resolve()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _slug(name: str) -> str:
    """A file name for any name; names that had to be altered stay distinct."""
    readable = re.sub(r"[^\w.@-]", "-", name, flags=re.ASCII).lstrip(".")[:100]
    return readable if readable == name else f"{readable}-{_short_hash(name)}"


def _short_hash(text: str) -> str:
    return sha256_bytes(os.fsencode(text))[:8]
