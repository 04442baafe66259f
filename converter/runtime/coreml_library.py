"""What is asked of Core ML, in five functions: the only file that needs a Mac to run.

Tests put another module with the same functions in its place (see `CoreMLLibrary`).
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from converter.errors import brief

Arrays = Mapping[str, NDArray[Any]]
LIBRARY = __name__

# Frameworks that coremltools imports, where they are there, to convert from.
_FRAMEWORKS = ("torch", "transformers", "scipy", "sklearn", "tensorflow", "xgboost")


@dataclass(frozen=True)
class System:
    """The machine, as far as Core ML's behaviour depends on it.

    Attributes:
        machine: Apple's model identifier and the chip.
        os_build: changes with every update of macOS.
        os_version: major, minor.
    """

    machine: str
    os_build: str
    os_version: tuple[int, int]


class LoadedModel(Protocol):
    """One function of a model, ready to run."""

    def predict(self, inputs: Arrays) -> Arrays:
        """Arrays by output name."""


class CoreMLLibrary(Protocol):
    """This module, or one that stands in for it."""

    def system(self) -> System: ...

    def keep_frameworks_out(self) -> None: ...

    def compile_package(self, package: Path, compiled: Path) -> None: ...

    def load(self, compiled: Path, compute_units: str, function: str | None) -> LoadedModel: ...

    def placement(
        self, compiled: Path, compute_units: str, function: str | None
    ) -> dict[str, int] | None: ...


def words_of(error: Exception, limit: int = 500) -> str:
    """What an error of Core ML says, on one line.

    coremltools raises the dictionary that macOS has of it, as that is printed: the first line is a
    brace.
    """
    text = str(error).strip()
    if text.startswith("{"):
        flat = " ".join(text.strip("{}; \n").split())
        return brief(flat.removeprefix("NSLocalizedDescription = "), limit)
    return brief(error, limit)


def system() -> System:
    """This machine."""
    version = _output("sw_vers", "-productVersion").split(".")
    return System(
        machine=f"{_sysctl('hw.model')}, {_sysctl('machdep.cpu.brand_string')}",
        os_build=_sysctl("kern.osversion"),
        os_version=(int(version[0]), int(version[1]) if len(version) > 1 else 0),
    )


def keep_frameworks_out() -> None:
    """Called first in a process that only predicts: coremltools starts faster and smaller then.

    The frameworks cannot be imported any more.
    """
    for name in _FRAMEWORKS:
        # So the import system is told that there is no such module.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def compile_package(package: Path, compiled: Path) -> None:
    """Compile a `.mlpackage` to a `.mlmodelc` folder that is not there yet."""
    from coremltools.models.utils import compile_model

    compile_model(str(package), str(compiled))


def load(compiled: Path, compute_units: str, function: str | None) -> LoadedModel:
    """Load one function; None: of a package that has only one.

    Core ML prepares the model for the compute units here, which can take a while.
    """
    import coremltools

    model: LoadedModel = coremltools.models.CompiledMLModel(
        str(compiled), coremltools.ComputeUnit[compute_units], function
    )
    return model


def placement(compiled: Path, compute_units: str, function: str | None) -> dict[str, int] | None:
    """How many operations Core ML intends to run on "NeuralEngine", "GPU" and "CPU".

    Returns:
        Counts by device, without operations that run nowhere; None for what is no ML program.

    Raises:
        ValueError: this version of macOS does not tell (before 14.4).
    """
    import coremltools
    from coremltools.models.compute_plan import MLComputePlan

    plan = MLComputePlan.load_from_path(str(compiled), coremltools.ComputeUnit[compute_units])
    program = plan.model_structure.program
    if program is None:
        return None
    counts: Counter[str] = Counter()
    for operation in program.functions[function or "main"].block.operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is not None:  # constants run nowhere
            device = type(usage.preferred_compute_device).__name__
            counts[device.removeprefix("ML").removesuffix("ComputeDevice")] += 1
    return dict(counts)


def _sysctl(name: str) -> str:
    return _output("sysctl", "-n", name)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
