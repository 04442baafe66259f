"""Small ML programs, made with coremltools' own builder, for tests of the executor."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

logging.getLogger("coremltools").setLevel(logging.ERROR)

import coremltools as ct  # noqa: E402 - after its chatter is off
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import Function, Program, types  # noqa: E402

_TYPES = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32}
Body = Callable[..., Any]


def save_program(
    folder: Path,
    inputs: Mapping[str, NDArray[Any]],
    body: Body,
    target: ct.target = ct.target.iOS18,
) -> Path:
    """Write a package whose function is `body`, untouched by coremltools' optimisations.

    Args:
        inputs: examples of the inputs; their shapes and dtypes become the function's.
        body: from input variables, by position, to one result or several.
    """
    program = Program()
    placeholders = {
        name: mb.placeholder(shape=array.shape, dtype=_TYPES[str(array.dtype)])
        for name, array in inputs.items()
    }
    with Function(placeholders, opset_version=target) as function:
        results = body(*function.inputs.values())
        function.set_outputs(list(results) if isinstance(results, Sequence) else [results])
    program.add_function("main", function)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    package = folder / "model.mlpackage"
    model.save(str(package))
    return package


def inferred_value(
    inputs: Sequence[NDArray[Any]], body: Body, target: ct.target = ct.target.iOS18
) -> NDArray[Any]:
    """What coremltools itself computes for `body` of constants."""
    with Function({}, opset_version=target):
        result = body(*(mb.const(val=array) for array in inputs))
        assert result.val is not None, "coremltools has no value inference for this"
        return np.asarray(result.val)
