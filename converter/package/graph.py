"""A function of an ML program as a graph: types, who feeds whom, stages, segments."""

from collections.abc import Sequence
from typing import Literal

from converter.package.program import Constant, Function, Operation, Output, TensorType

Stage = Literal["embedding", "encoder", "output"]

# Operations that do the network's work.
_MATRIX_OPERATIONS = frozenset(
    {"conv", "linear", "matmul", "einsum", "scaled_dot_product_attention"}
)
_HAND_OVER = frozenset({"cast", "identity", "transpose", "reshape", "squeeze", "expand_dims"})


class Graph:
    """Types of all values, and the operations with their predecessors, in program order.

    Compressed weights (`constexpr_*`) count as weights, not as operations.

    Attributes:
        operations: what runs, in program order.
        predecessors: for each operation, the places of those that it reads from.
        stages: for each operation, where it stands. "embedding": no matrix operation comes
            before it (look-up, embedding norm, mask); "output": casts and moves that only hand
            the results over; "encoder": all between.
    """

    def __init__(self, function: Function) -> None:
        self.function = function
        self.operations = tuple(
            op for op in function.operations if not op.type.startswith("constexpr_")
        )
        self._types = dict(function.inputs) | {
            output.name: output.type for op in function.operations for output in op.outputs
        }
        producers = {o.name: i for i, op in enumerate(self.operations) for o in op.outputs}
        self._computed = producers.keys() | function.inputs.keys()
        self.predecessors = [
            sorted({producers[name] for name in op.values() if name in producers})
            for op in self.operations
        ]
        self.stages = self._stages()

    def activations(self, operation: Operation) -> list[Output]:
        """What an operation reads that is computed when the model runs, each once."""
        names = dict.fromkeys(name for name in operation.values() if name in self._computed)
        return [Output(name, self._types[name]) for name in names]

    def argument(self, operation: Operation, parameter: str, place: int = 0) -> TensorType:
        """The type of an argument.

        Raises:
            KeyError, IndexError: it is not given.
        """
        argument = operation.inputs[parameter][place]
        return argument.type if isinstance(argument, Constant) else self._types[argument]

    def segments(self, on_engine: Sequence[bool]) -> int:
        """Into how many pieces, one after the other, operations elsewhere cut those on it."""
        levels: list[int] = []
        for place, before in enumerate(self.predecessors):
            # The level rises whenever a value has to cross from one side to the other.
            levels.append(
                max((levels[p] + (on_engine[p] != on_engine[place]) for p in before), default=0)
            )
        return len({level for level, engine in zip(levels, on_engine, strict=True) if engine})

    def _stages(self) -> list[Stage]:
        early: set[int] = set()
        for place, operation in enumerate(self.operations):
            before = self.predecessors[place]
            if operation.type not in _MATRIX_OPERATIONS and early.issuperset(before):
                early.add(place)
        if len(early) == len(self.operations):
            early.clear()  # no encoder to come before
        late = self._hand_over()
        return [
            "output" if place in late else "embedding" if place in early else "encoder"
            for place in range(len(self.operations))
        ]

    def _hand_over(self) -> set[int]:
        """Casts and moves whose results go to the outputs of the function and nowhere else."""
        results = {output.name for output in self.function.outputs}
        needed_inside: set[int] = set()
        late: set[int] = set()
        for place in reversed(range(len(self.operations))):
            operation = self.operations[place]
            leads_out = any(output.name in results for output in operation.outputs)
            if operation.type in _HAND_OVER and leads_out and place not in needed_inside:
                late.add(place)
                results.update(operation.values())
            else:
                needed_inside.update(self.predecessors[place])
        return late
