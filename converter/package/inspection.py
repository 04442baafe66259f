"""What is in an `.mlpackage`: operations, weights, memory, arithmetic, and the lint's findings."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from converter.errors import PackageError
from converter.package import lint
from converter.package.arithmetic import floating_point_operations
from converter.package.engine import EngineShare, engine_share
from converter.package.graph import Graph
from converter.package.program import Constant, Function, TensorType
from converter.package.reader import load_program
from converter.package.weight_file import Blob


@dataclass(frozen=True)
class Value:
    """A named tensor; the type as "fp16(1, 768, 1, 512)", "?" for a flexible size."""

    name: str
    type: str
    bytes: int


@dataclass(frozen=True)
class PeakMemory:
    """Activations alive at the worst operation.

    Counted in program order: what the operation reads and writes, and everything computed
    before that is still needed later. Views (reshape, transpose, ...) count as buffers of their
    own; constants do not count; a flexible size counts as 1.
    """

    bytes: int
    operation: str
    type: str
    alive: tuple[Value, ...]


@dataclass(frozen=True)
class FunctionReport:
    """One function of a package.

    Attributes:
        operations: how many of each type; weights in compressed form are not operations.
        weight_bytes: bytes in the weight file by dtype, each record once.
        peak: None for a function without operations.
        floating_point_operations: of matrix operations, by type, 2 for a multiply-add.
        engine: what of it the Neural Engine can take.
    """

    name: str
    opset: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    operations: dict[str, int]
    weight_bytes: dict[str, int]
    peak: PeakMemory | None
    floating_point_operations: dict[str, int]
    engine: EngineShare
    findings: tuple[lint.Finding, ...]


@dataclass(frozen=True)
class PackageReport:
    """A package and its functions, by name.

    Attributes:
        weight_bytes: bytes in the weight file by dtype; what functions share counts once.
        disk_bytes: all files of the package.
    """

    path: str
    specification_version: int
    default_function: str
    flexible_inputs: dict[str, tuple[str, ...]]
    metadata: dict[str, str]
    disk_bytes: int
    weight_bytes: dict[str, int]
    functions: dict[str, FunctionReport]

    @property
    def costliest(self) -> FunctionReport:
        """The function with the most arithmetic: of several lengths, the longest."""
        return max(
            self.functions.values(),
            key=lambda function: sum(function.floating_point_operations.values()),
        )


def inspect_package(package: Path) -> PackageReport:
    """Read and measure the ML program of an `.mlpackage`.

    Raises:
        PackageError: it is not there, damaged, or no ML program.
    """
    program = load_program(package)
    try:
        functions = {
            name: _inspect_function(program.functions[name]) for name in sorted(program.functions)
        }
    except (KeyError, IndexError) as error:
        raise PackageError(f"{package} is damaged: an operation lacks {error}.") from error
    return PackageReport(
        path=str(package),
        specification_version=program.specification_version,
        default_function=program.default_function,
        flexible_inputs=dict(program.flexible_inputs),
        metadata=dict(program.metadata),
        disk_bytes=sum(f.stat().st_size for f in package.rglob("*") if f.is_file()),
        weight_bytes=_weight_bytes(*program.functions.values()),
        functions=functions,
    )


def _inspect_function(function: Function) -> FunctionReport:
    graph = Graph(function)
    return FunctionReport(
        name=function.name,
        opset=function.opset,
        inputs=tuple(_value(name, type_) for name, type_ in function.inputs.items()),
        outputs=tuple(_value(output.name, output.type) for output in function.outputs),
        operations=dict(Counter(operation.type for operation in graph.operations).most_common()),
        weight_bytes=_weight_bytes(function),
        peak=_peak(graph),
        floating_point_operations=_arithmetic(graph),
        engine=engine_share(graph),
        findings=tuple(lint.find(graph)),
    )


def _value(name: str, type_: TensorType) -> Value:
    return Value(name, str(type_), type_.bytes)


def _weight_bytes(*functions: Function) -> dict[str, int]:
    records: dict[Blob, Constant] = {}
    for function in functions:
        for operation in function.operations:
            for _, constant in operation.constants():
                if isinstance(constant.source, Blob):
                    records[constant.source] = constant
    sizes: Counter[str] = Counter()
    for constant in records.values():
        sizes[constant.type.dtype] += constant.type.bytes
    return dict(sizes.most_common())


def _peak(graph: Graph) -> PeakMemory | None:
    last_use = {
        value.name: place
        for place, operation in enumerate(graph.operations)
        for value in graph.activations(operation)
    }
    end = len(graph.operations)
    last_use |= {output.name: end for output in graph.function.outputs}
    alive = dict(graph.function.inputs)
    peak = None
    for place, operation in enumerate(graph.operations):
        alive |= {output.name: output.type for output in operation.outputs}
        total = sum(type_.bytes for type_ in alive.values())
        if peak is None or total > peak.bytes:
            values = sorted((_value(*item) for item in alive.items()), key=lambda v: -v.bytes)
            peak = PeakMemory(total, operation.name, operation.type, tuple(values))
        alive = {name: t for name, t in alive.items() if last_use.get(name, -1) > place}
    return peak


def _arithmetic(graph: Graph) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for operation in graph.operations:
        counts[operation.type] += floating_point_operations(graph, operation)
    return {type_: count for type_, count in counts.most_common() if count}
