"""What of a function the Neural Engine can take, as far as a graph shows it."""

from dataclasses import dataclass

from converter.package import lint
from converter.package.arithmetic import floating_point_operations
from converter.package.graph import Graph


@dataclass(frozen=True)
class EngineShare:
    """What stays off the engine by its types or its kind, and what that does to the rest.

    Attributes:
        operations, floating_point_operations: all there are.
        operations_off: on the CPU or the GPU.
        encoder_operations_off: of them, those between the embedding stage and the output; only
            these are a choice.
        floating_point_operations_off: of matrix operations, 2 for a multiply-add.
        segments: pieces into which operations elsewhere cut those that the engine can take.
    """

    operations: int
    operations_off: int
    encoder_operations_off: int
    floating_point_operations: int
    floating_point_operations_off: int
    segments: int

    def sentence(self) -> str:
        """For a terminal."""
        share = self.floating_point_operations_off / max(1, self.floating_point_operations)
        return (
            f"off the Neural Engine: {self.operations_off} of {self.operations} operations "
            f"({self.encoder_operations_off} in the encoder), {share:.1%} of the arithmetic; "
            f"{self.segments} segment{'' if self.segments == 1 else 's'} on it"
        )


def engine_share(graph: Graph) -> EngineShare:
    """Count it; KeyError or IndexError where an operation lacks an argument."""
    on_engine = lint.on_engine(graph)
    costs = [floating_point_operations(graph, operation) for operation in graph.operations]
    off = [place for place, on in enumerate(on_engine) if not on]
    return EngineShare(
        operations=len(costs),
        operations_off=len(off),
        encoder_operations_off=sum(graph.stages[place] == "encoder" for place in off),
        floating_point_operations=sum(costs),
        floating_point_operations_off=sum(costs[place] for place in off),
        segments=graph.segments(on_engine),
    )
