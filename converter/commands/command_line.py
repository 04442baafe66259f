"""What commands take from the command line: a place among the others, and the default bundle."""

import argparse
import os
from pathlib import Path
from typing import TypeAlias

from converter.bundle.location import bundles_root, default_bundle_folder

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def default_bundle(model: str, revision: str | None = None) -> Path:
    """Where a model's bundle lies when nobody names a folder; GENA_BUNDLES says below which."""
    chosen = os.environ.get("GENA_BUNDLES")
    root = bundles_root(Path(chosen) if chosen else None)
    return default_bundle_folder(model, revision, root)
