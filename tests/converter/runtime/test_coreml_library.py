"""What is asked of Core ML: the stand-in agrees with it, coremltools has it, plans are counted."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import coremltools
import pytest
from coremltools.models import compute_plan
from coremltools.models.compute_device import (
    MLComputeDevice,
    MLCPUComputeDevice,
    MLGPUComputeDevice,
    MLNeuralEngineComputeDevice,
)
from coremltools.models.compute_plan import MLComputePlan, MLComputePlanDeviceUsage
from coremltools.models.utils import compile_model

from converter.runtime import coreml_library
from converter.runtime import coreml_stand_in as shipped_stand_in
from converter.runtime.coreml_library import CoreMLLibrary
from converter.runtime.protocol import COMPUTE_UNITS
from tests.support import coreml_stand_in
from tests.support.paths import ROOT


def test_the_stand_ins_have_the_signatures_of_the_real_library() -> None:
    for name, function in inspect.getmembers(CoreMLLibrary, inspect.isfunction):
        if name.startswith("_"):
            continue
        wanted = list(inspect.signature(function).parameters)[1:]  # less self
        for module in (coreml_library, shipped_stand_in, coreml_stand_in):
            assert list(inspect.signature(getattr(module, name)).parameters) == wanted


def test_coremltools_still_has_what_the_library_calls() -> None:
    assert {unit.name for unit in coremltools.ComputeUnit} >= set(COMPUTE_UNITS)
    parameters = list(inspect.signature(coremltools.models.CompiledMLModel).parameters)
    assert parameters[:3] == ["path", "compute_units", "function_name"]
    assert list(inspect.signature(compile_model).parameters) == ["model", "destination_path"]
    load_plan = inspect.signature(MLComputePlan.load_from_path)
    assert list(load_plan.parameters) == ["path", "compute_units"]
    assert hasattr(MLComputePlan, "get_compute_device_usage_for_mlprogram_operation")


ENGINE, GPU, CPU = MLNeuralEngineComputeDevice, MLGPUComputeDevice, MLCPUComputeDevice
Device = type[MLComputeDevice] | None


class StandInForMacOS:
    """Gives the plan that coremltools gets from its native part, and notes what was asked for.

    Args:
        functions: name -> for each operation, the device that Core ML prefers; None: no usage,
            as of constants. None instead of functions: the model is no ML program.
    """

    def __init__(self, functions: dict[str, list[Device]] | None) -> None:
        self.asked: list[tuple[str, str]] = []
        self._usages: dict[int, MLComputePlanDeviceUsage | None] = {}
        program = None
        if functions is not None:
            program = compute_plan.MLModelStructureProgram(
                {name: self._function(devices) for name, devices in functions.items()}
            )
        self.model_structure = compute_plan.MLModelStructure(None, program, None)

    def get_compute_plan(self, path: str, compute_units: str) -> MLComputePlan:
        self.asked.append((path, compute_units))
        plan = object.__new__(MLComputePlan)  # its constructor takes a native object only
        plan.__proxy__ = self
        return plan

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        return self._usages[id(operation)]

    def _function(self, devices: list[Device]) -> Any:
        operations = [
            compute_plan.MLModelStructureProgramOperation({}, "conv", [], [], None) for _ in devices
        ]
        for operation, device in zip(operations, devices, strict=True):
            self._usages[id(operation)] = device and MLComputePlanDeviceUsage(
                object.__new__(device), [object.__new__(CPU), object.__new__(device)]
            )
        block = compute_plan.MLModelStructureProgramBlock([], operations, [])
        return compute_plan.MLModelStructureProgramFunction([], block)


FUNCTIONS: dict[str, list[Device]] = {
    "length_128": [None, ENGINE, None, ENGINE, CPU, ENGINE, GPU, CPU],
    "length_512": [GPU, None],
    "main": [None, CPU],
    "constants": [None, None],
}


@pytest.mark.parametrize(
    ("function", "counts"),
    [
        ("length_128", {"NeuralEngine": 3, "CPU": 2, "GPU": 1}),
        ("length_512", {"GPU": 1}),
        (None, {"CPU": 1}),
        ("constants", {}),
    ],
)
def test_placement_counts_the_operations_of_one_function_by_device(
    function: str | None, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    macos = StandInForMacOS(FUNCTIONS)
    monkeypatch.setattr(compute_plan, "_MLModelProxy", macos)
    assert coreml_library.placement(Path("/a/b.mlmodelc"), "CPU_AND_NE", function) == counts
    assert macos.asked == [("/a/b.mlmodelc", "CPU_AND_NE")]


def test_placement_of_what_is_no_program_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_plan, "_MLModelProxy", StandInForMacOS(None))
    assert coreml_library.placement(Path("/a/b.mlmodelc"), "ALL", None) is None


def test_a_process_that_only_predicts_imports_no_framework() -> None:
    code = """
import sys
from converter.runtime import coreml_library
coreml_library.keep_frameworks_out()
from coremltools.models import CompiledMLModel
from coremltools.models.compute_plan import MLComputePlan
from coremltools.models.utils import compile_model
print([name for name in sys.argv[1:] if sys.modules.get(name)])
"""
    frameworks = ("torch", "transformers", "scipy", "sklearn")
    done = subprocess.run(
        [sys.executable, "-c", code, *frameworks], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
