"""The executor: an `.mlpackage` computed with PyTorch, operation by operation, on any machine."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converter.errors import UnknownOperationError
from converter.mil.operations import KERNELS, KERNELS_IN_HALVES
from converter.mil.weights import (
    EXPANSIONS,
    Weight,
    WeightStore,
    constant_weight,
    named_weights,
)
from converter.package.program import Constant, Function, Operation, TensorType
from converter.package.reader import load_program

Observer = Callable[[str, Tensor], None]
Arithmetic = Literal["fp32", "fp16", "fp16-norms"]


class PackageExecutor:
    """An ML program, ready to run on the CPU.

    Weights are widened to float32 once and shared by all functions. Operations run in program
    order, each computing its whole output; a value is dropped after its last use.

    Args:
        package: an `.mlpackage` folder.
        arithmetic: "fp32": weights as stored, everything else in float32. "fp16": besides, what
            the program declares as fp16 is rounded to fp16 after every operation (beyond 65504:
            infinite); the arithmetic inside one operation stays float32. "fp16-norms": inside a
            layer norm, too, every step is rounded.

    Attributes:
        functions: names of what the package has to run.
        default_function: the one that runs where none is named.

    Raises:
        PackageError: the package is damaged or no ML program.
        UnknownOperationError: it holds an operation that is not known here.
    """

    def __init__(self, package: Path, *, arithmetic: Arithmetic = "fp32") -> None:
        self._program = load_program(package)
        self._store = WeightStore()
        self.functions = tuple(sorted(self._program.functions))
        self.default_function = self._program.default_function
        self._bind(arithmetic)

    def _bind(self, arithmetic: Arithmetic) -> None:
        self._functions = {
            name: _CompiledFunction(function, self._store, arithmetic)
            for name, function in self._program.functions.items()
        }

    def with_arithmetic(self, arithmetic: Arithmetic) -> "PackageExecutor":
        """The same package, sharing its weights, with another arithmetic."""
        other = copy.copy(self)
        other._bind(arithmetic)
        return other

    @torch.inference_mode()
    def predict(
        self,
        inputs: Mapping[str, NDArray[Any]],
        function: str | None = None,
        observe: Observer | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a function.

        Args:
            inputs: arrays by input name, in the shapes that the function declares.
            function: its name; the default function when None.
            observe: called with the name and value of each operation's output, in order.

        Returns:
            Arrays by output name: float32 for floating outputs, else as the program says.

        Raises:
            ValueError: no such function, or inputs that it does not take.
        """
        name = self.default_function if function is None else function
        if name not in self._functions:
            raise ValueError(f"No function {name!r}; this package has {', '.join(self.functions)}.")
        return self._functions[name].run(inputs, observe)


@dataclass(frozen=True)
class _Step:
    """One operation, bound: constants in place, other arguments by slot of the value table.

    Attributes:
        names: of the results.
        fixed, tensors, sequences, plain: arguments by parameter: known ones; tensors; several
            tensors; and those that the operation wants as plain Python values.
        rounded: for each result, whether it is to be rounded to fp16.
        dead: slots whose last use this is.
    """

    compute: Callable[..., Tensor | tuple[Tensor, ...]]
    names: tuple[str, ...]
    fixed: Mapping[str, Any]
    tensors: Sequence[tuple[str, int]]
    sequences: Sequence[tuple[str, Sequence[int | Tensor]]]
    plain: Sequence[tuple[str, int]]
    results: tuple[int, ...]
    rounded: tuple[bool, ...]
    dead: tuple[int, ...]

    def run(self, values: list[Any]) -> None:
        arguments = dict(self.fixed)
        for parameter, slot in self.tensors:
            arguments[parameter] = values[slot]
        for parameter, parts in self.sequences:
            arguments[parameter] = [values[p] if isinstance(p, int) else p for p in parts]
        for parameter, slot in self.plain:
            arguments[parameter] = values[slot].tolist()
        results = self.compute(**arguments)
        if isinstance(results, Tensor):
            results = (results,)
        for slot, result, rounded in zip(self.results, results, self.rounded, strict=True):
            values[slot] = result.half().float() if rounded else result


class _CompiledFunction:
    """A function's operations as a list of bound steps."""

    def __init__(self, function: Function, store: WeightStore, arithmetic: Arithmetic) -> None:
        self._inputs = dict(function.inputs)
        self._half = arithmetic != "fp32"
        self._half_norms = arithmetic == "fp16-norms"
        self._store = store
        self._slots = {name: slot for slot, name in enumerate(function.inputs)}
        self._weights = named_weights(function)
        last_use = _last_uses(function)
        self._steps: list[_Step] = []
        for place, operation in enumerate(function.operations):
            if operation.type not in EXPANSIONS:
                self._steps.append(self._bind(operation, last_use, place))
        self._outputs = {output.name: self._source(output.name) for output in function.outputs}

    def run(
        self, inputs: Mapping[str, NDArray[Any]], observe: Observer | None
    ) -> dict[str, NDArray[Any]]:
        values: list[Any] = [None] * len(self._slots)
        for name, tensor in self._tensors(inputs).items():
            values[self._slots[name]] = tensor
        for step in self._steps:
            step.run(values)
            if observe is not None:
                for name, slot in zip(step.names, step.results, strict=True):
                    observe(name, values[slot])
            for slot in step.dead:
                values[slot] = None
        return {name: self._array(source, values) for name, source in self._outputs.items()}

    def _array(self, source: int | Weight, values: Sequence[Any]) -> NDArray[Any]:
        tensor = self._store.tensor(source) if isinstance(source, Weight) else values[source]
        return np.array(tensor.numpy(), order="C")

    def _tensors(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        if inputs.keys() != self._inputs.keys():
            raise ValueError(
                f"The function takes {', '.join(self._inputs) or 'nothing'}; "
                f"given: {', '.join(inputs) or 'nothing'}."
            )
        tensors = {}
        for name, type_ in self._inputs.items():
            array = np.asarray(inputs[name])
            sizes = zip(array.shape, type_.shape, strict=False)
            if array.ndim != len(type_.shape) or any(n not in (m, None) for m, n in sizes):
                raise ValueError(f"{name} has to be {type_}; given: {array.dtype}{array.shape}.")
            dtype = np.float32 if type_.is_floating else np.int32
            tensor = torch.from_numpy(np.array(array, dtype, order="C"))
            tensors[name] = tensor.half().float() if self._rounds(type_) else tensor
        return tensors

    def _bind(self, operation: Operation, last_use: Mapping[str, int], place: int) -> _Step:
        kernel = KERNELS.get(operation.type)
        if kernel is None:
            raise _unknown(operation, "is not known to this executor")
        kinds = _kinds(operation.type)
        fixed: dict[str, Any] = {}
        tensors: list[tuple[str, int]] = []
        sequences: list[tuple[str, Sequence[int | Tensor]]] = []
        plain: list[tuple[str, int]] = []
        for parameter, arguments in operation.inputs.items():
            kind = kinds.get(parameter)
            sources = [self._source(argument) for argument in arguments]
            if kind is None:
                raise _unknown(operation, f"has the parameter {parameter!r}, which is not known")
            if kind == "tensors":
                parts = [s if isinstance(s, int) else self._store.tensor(s) for s in sources]
                sequences.append((parameter, parts))
            elif len(sources) == 1 and isinstance(source := sources[0], int):
                (tensors if kind == "tensor" else plain).append((parameter, source))
            elif kind == "tensor":
                fixed[parameter] = self._store.tensor(_known(operation, sources[0]))
            else:
                read = [_known(operation, source).read().tolist() for source in sources]
                fixed[parameter] = read[0] if len(read) == 1 else read
        names = tuple(output.name for output in operation.outputs)
        results = tuple(self._slots.setdefault(name, len(self._slots)) for name in names)
        used = {*operation.values(), *names} & self._slots.keys()
        in_halves = self._half_norms and operation.outputs[0].type.dtype == "fp16"
        return _Step(
            compute=KERNELS_IN_HALVES.get(operation.type, kernel.compute)
            if in_halves
            else kernel.compute,
            names=names,
            fixed=fixed,
            tensors=tensors,
            sequences=sequences,
            plain=plain,
            results=results,
            rounded=tuple(
                self._rounds(o.type) and not kernel.only_moves for o in operation.outputs
            ),
            dead=tuple(self._slots[name] for name in used if last_use.get(name, place) <= place),
        )

    def _source(self, argument: str | Constant) -> int | Weight:
        """Where a value comes from: a slot, or a weight."""
        if isinstance(argument, Constant):
            return constant_weight(argument)
        return self._weights[argument] if argument in self._weights else self._slots[argument]

    def _rounds(self, type_: TensorType) -> bool:
        return self._half and type_.dtype == "fp16"


def _last_uses(function: Function) -> dict[str, int]:
    """For each value that somebody reads: the place of the last operation that does."""
    uses = {
        name: place
        for place, operation in enumerate(function.operations)
        for name in operation.values()
    }
    return uses | {output.name: len(function.operations) for output in function.outputs}


@cache
def _kinds(type_: str) -> dict[str, Literal["tensor", "tensors", "plain"]]:
    """How an operation wants each of its arguments, from the annotations of its kernel."""
    kinds: dict[str, Literal["tensor", "tensors", "plain"]] = {}
    for parameter, hint in get_type_hints(KERNELS[type_].compute).items():
        if hint in (Tensor, Tensor | None):
            kinds[parameter] = "tensor"
        elif hint == Sequence[Tensor]:
            kinds[parameter] = "tensors"
        elif parameter != "return":
            kinds[parameter] = "plain"
    return kinds


def _known(operation: Operation, source: int | Weight) -> Weight:
    if isinstance(source, int):
        raise _unknown(operation, "computes some of an argument's parts, which is not known")
    return source


def _unknown(operation: Operation, why: str) -> UnknownOperationError:
    return UnknownOperationError(
        f"Operation {operation.name!r} of type {operation.type!r} {why}; the package cannot be "
        "executed here."
    )
