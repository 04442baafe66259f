"""Small ML programs, made with coremltools' own builder, for tests of their readers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.mil.executor import PackageExecutor

logging.getLogger("coremltools").setLevel(logging.ERROR)

import coremltools as ct  # noqa: E402 - after its chatter is off
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import Function, Program, types  # noqa: E402

_TYPES = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32}
Body = Callable[..., Any]

# Of `feed_forward`.
HIDDEN, TOKENS, INNER = 64, 32, 256


def half(*shape: int) -> NDArray[np.float16]:
    """Ones of a shape."""
    return np.ones(shape, np.float16)


def feed_forward(x: Any) -> Any:
    """A feed-forward block with its residual, as on the Neural Engine; x (1, 64, 1, 32)."""
    inner = mb.conv(x=x, weight=half(INNER, HIDDEN, 1, 1), bias=half(INNER), name="up")
    inner = mb.gelu(x=inner, mode="EXACT", name="gelu")
    return mb.add(x=x, y=mb.conv(x=inner, weight=half(HIDDEN, INNER, 1, 1), name="down"))


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


class Draws:
    """Random arrays, the same ones for the same seed and order of calls."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def floats(self, *shape: int) -> NDArray[np.float32]:
        """Normally distributed."""
        return self._generator.normal(size=shape).astype(np.float32)

    def integers(self, low: int, high: int, *shape: int) -> NDArray[np.int32]:
        """From `low` to below `high`."""
        return self._generator.integers(low, high, shape).astype(np.int32)


def execute(
    folder: Path,
    arrays: Sequence[NDArray[Any]],
    body: Body,
    target: ct.target = ct.target.iOS18,
) -> list[NDArray[Any]]:
    """The results of `body` when its package is saved in `folder` and executed."""
    inputs = {f"input_{place}": array for place, array in enumerate(arrays)}
    package = save_program(folder, inputs, body, target)
    return list(PackageExecutor(package).predict(inputs).values())


def inferred_value(
    inputs: Sequence[NDArray[Any]], body: Body, target: ct.target = ct.target.iOS18
) -> NDArray[Any]:
    """What coremltools itself computes for `body` of constants."""
    with Function({}, opset_version=target):
        result = body(*(mb.const(val=array) for array in inputs))
        assert result.val is not None, "coremltools has no value inference for this"
        return np.asarray(result.val)
