"""Imports of what is large, without looking for garbage among what they bring."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def large_imports() -> Iterator[None]:
    """The garbage collector stays away from modules: while they are imported, and from then on.

    torch and coremltools make a million objects that stay. To look through them time and again is
    a fifth of their import, and coremltools asks for it again with each package that it writes.
    """
    collects, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if collects:
            gc.enable()
