"""The project's own files, in a clone or in an unpacked source distribution."""

import subprocess
from pathlib import Path

from tests.support.paths import ROOT

# What is built or kept beside the project, where git is not there to say so.
_FOREIGN = {"build", "dist", "__pycache__", "bundles"}


def tracked_files(root: Path = ROOT) -> list[Path]:
    """Relative to `root`, sorted: what git tracks; without git, what is no debris."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True
        )
        # A file that was deleted and not yet committed is listed as well.
        paths = [Path(name) for name in listed.stdout.split("\0") if name]
        return sorted(path for path in paths if (root / path).is_file())
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(map(_is_foreign, path.parts[:-1])))


def _is_foreign(folder: str) -> bool:
    hidden = folder.startswith(".") and folder not in (".ci", ".github")
    return hidden or folder in _FOREIGN or folder.endswith(".egg-info")
