"""What is asked of Core ML, answered with PyTorch: the same functions as in `coreml_library`.

It executes the same package operation by operation, so that what is around Core ML can be tried
where there is none. Compute units make no difference, and no figure of it tells of a Mac.
"""

import shutil
from pathlib import Path

from converter.mil.executor import PackageExecutor
from converter.runtime.coreml_library import Arrays, LoadedModel, System

LIBRARY = __name__


def system() -> System:
    """No Mac, and new enough for every package."""
    return System("no Mac: a stand-in for Core ML", "0", (15, 0))


def keep_frameworks_out() -> None:
    """Nothing: PyTorch is what it computes with."""


def compile_package(package: Path, compiled: Path) -> None:
    """A copy: there is nothing to compile."""
    shutil.copytree(package, compiled)


def load(compiled: Path, compute_units: str, function: str | None) -> LoadedModel:  # noqa: ARG001
    """One function of the package."""
    return _Model(compiled, function)


def placement(compiled: Path, compute_units: str, function: str | None) -> dict[str, int] | None:  # noqa: ARG001
    """Unknown."""
    return None


class _Model:
    def __init__(self, compiled: Path, function: str | None) -> None:
        self._executor = PackageExecutor(compiled)
        self._function = function

    def predict(self, inputs: Arrays) -> Arrays:
        return self._executor.predict(inputs, self._function)
