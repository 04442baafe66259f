"""Where this project keeps, for one user, what it can make again."""

import sys
from pathlib import Path


def user_cache_folder() -> Path:
    """The folder, which need not be there yet."""
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / caches / "gena-coreml"
