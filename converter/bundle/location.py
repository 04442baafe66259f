"""Where bundles lie when nobody names a folder."""

import re
from pathlib import Path

from converter.digests import sha256_bytes
from converter.paths import existing_folder, user_path
from converter.user_cache import user_cache_folder

_CLONE = Path(__file__).resolve().parents[2]


def bundles_root(chosen: Path | None) -> Path:
    """The folder under which bundles are built.

    Args:
        chosen: by the user (GENA_BUNDLES); None for `models/bundles` in a clone, else the user's
            cache.

    Raises:
        UnusablePathError: this system cannot have such a path.
    """
    if chosen is not None:
        return user_path(chosen)
    if (_CLONE / "pyproject.toml").is_file():
        return _CLONE / "models" / "bundles"
    return user_cache_folder()


def default_bundle_folder(model: str, revision: str | None, root: Path) -> Path:
    """Where the bundle of a model lies when nobody says otherwise.

    Args:
        model: hub id, name of a shipped model, or a checkpoint's folder.
        root: as `bundles_root` gives it.

    Raises:
        UnusablePathError: as `bundles_root`.
    """
    folder = existing_folder(model)
    if folder is not None:
        resolved = folder.resolve()
        return root / f"{_slug(resolved.name)}-{_short_hash(str(resolved))}"
    name = model.replace("/", "--")
    return root / _slug(name if revision is None else f"{name}@{revision}")


def _slug(name: str) -> str:
    """A file name for any name; names that had to be altered stay distinct."""
    readable = re.sub(r"[^\w.@-]", "-", name, flags=re.ASCII).lstrip(".")[:100]
    return readable if readable == name else f"{readable}-{_short_hash(name)}"


def _short_hash(text: str) -> str:
    return sha256_bytes(text.encode(errors="backslashreplace"))[:8]
