"""How much arithmetic there is in the matrix operations of a function."""

from collections.abc import Sequence
from math import prod

from converter.package.graph import Graph
from converter.package.program import Constant, Operation


def floating_point_operations(graph: Graph, operation: Operation) -> int:
    """Of one operation, 2 for a multiply-add; flexible sizes count as 1, no matrices as none.

    Raises:
        KeyError, IndexError: an argument is not given.
    """
    return 2 * _multiply_adds(graph, operation)


def _multiply_adds(graph: Graph, operation: Operation) -> int:
    if operation.type in ("conv", "linear"):
        # One for each value of the filter, at each place of the output.
        weight = graph.argument(operation, "weight").shape
        return operation.outputs[0].type.elements * _elements(weight[1:])
    if operation.type == "einsum":
        inner = graph.argument(operation, "values").shape[-1:]
        return operation.outputs[0].type.elements * _elements(inner)
    if operation.type == "matmul":
        x = graph.argument(operation, "x").shape
        transposed = operation.inputs.get("transpose_x", ())
        flipped = any(isinstance(a, Constant) and a.scalar() for a in transposed) and len(x) > 1
        inner = x[-2:-1] if flipped else x[-1:]
        return operation.outputs[0].type.elements * _elements(inner)
    if operation.type == "scaled_dot_product_attention":
        query = graph.argument(operation, "query")
        key = graph.argument(operation, "key").shape
        scores = _elements(query.shape[:-1]) * _elements(key[-2:-1])
        width = _elements(query.shape[-1:]) + _elements(operation.outputs[0].type.shape[-1:])
        return scores * width
    return 0


def _elements(shape: Sequence[int | None]) -> int:
    return prod(size for size in shape if size is not None)
