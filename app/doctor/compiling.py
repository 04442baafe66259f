"""A bundle's package compiled for Core ML, in a process of its own: the call cannot be broken off.

python -m app.doctor.compiling --library MODULE BUNDLE CACHE
"""

import argparse
import os
import sys
from pathlib import Path

from converter.bundle.opening import open_bundle
from converter.errors import GenaError
from converter.life_line import when_parent_ends
from converter.runtime.compiled_models import compiled_package
from converter.runtime.guarded_library import library_named


def main() -> int:
    """Compile it into a cache; the exit code."""
    parser = argparse.ArgumentParser(prog="app.doctor.compiling")
    parser.add_argument("--library", required=True)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("cache", type=Path)
    arguments = parser.parse_args()
    when_parent_ends(lambda: os._exit(1))
    library = library_named(arguments.library)
    library.keep_frameworks_out()
    try:
        compiled_package(open_bundle(arguments.bundle), library, arguments.cache)
    except GenaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
