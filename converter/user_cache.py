"""Where this project keeps, for one user, what it can make again."""

import sys
from pathlib import Path

from converter.paths import user_path


def user_cache_folder() -> Path:
    """The folder, which need not be there yet.

    Raises:
        UnusablePathError: this user has no home folder.
    """
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return user_path("~") / caches / "gena-coreml"
