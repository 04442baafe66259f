"""Faults inside libraries that are written in Rust, as errors like others."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Make a panic below a RuntimeError, which `except Exception` finds.

    PyO3 derives its PanicException from BaseException, as an interrupt is, and it cannot be
    imported: it goes by its name.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise RuntimeError(str(error)) from error
