"""What is in an `.mlpackage`: operations, weights, memory, arithmetic, and the lint's findings."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

from converter.package import lint
from converter.package.graph import Graph
from converter.package.program import Blob, Constant, Function, Operation, TensorType, load_program

_MIB = 2**20


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
        segments: pieces into which operations elsewhere cut those that the engine can take.
    """

    name: str
    opset: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    operations: dict[str, int]
    weight_bytes: dict[str, int]
    peak: PeakMemory | None
    floating_point_operations: dict[str, int]
    segments: int
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


def inspect_package(path: Path) -> PackageReport:
    """Read and measure any ML program.

    Args:
        path: an `.mlpackage`, or the folder of a bundle.

    Raises:
        PackageError: it is not there, damaged, or no ML program.
    """
    package = _package_of(path)
    program = load_program(package)
    return PackageReport(
        path=str(path),
        specification_version=program.specification_version,
        default_function=program.default_function,
        flexible_inputs=dict(program.flexible_inputs),
        metadata=dict(program.metadata),
        disk_bytes=sum(f.stat().st_size for f in package.rglob("*") if f.is_file()),
        weight_bytes=_weight_bytes(*program.functions.values()),
        functions={
            name: _inspect_function(program.functions[name]) for name in sorted(program.functions)
        },
    )


def _package_of(path: Path) -> Path:
    if (path / "Manifest.json").is_file() or not (path / "model.mlpackage").is_dir():
        return path
    return path / "model.mlpackage"


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
        floating_point_operations=_floating_point_operations(graph),
        segments=graph.segments(lint.on_engine(graph)),
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


def _floating_point_operations(graph: Graph) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for operation in graph.operations:
        count = _multiply_adds(graph, operation)
        if count:
            counts[operation.type] += 2 * count
    return dict(counts.most_common())


def _multiply_adds(graph: Graph, operation: Operation) -> int:
    """Of one operation; flexible sizes count as 1."""
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


# The command


def add_inspect_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Register `inspect`; `args.func(args)` runs it and gives the exit status."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what is in a package, and what the Neural Engine will not like",
        description="Operations, weights, peak activation memory, arithmetic and Neural-Engine "
        "lint of a bundle or of any .mlpackage with an ML program.",
    )
    parser.add_argument("package", type=Path, help="a bundle's folder, or an .mlpackage")
    parser.add_argument("--compare", type=Path, metavar="OTHER", help="show a second one beside it")
    parser.add_argument("--json", action="store_true", help="everything, for scripts")
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    report = inspect_package(args.package)
    other = inspect_package(args.compare) if args.compare is not None else None
    if args.json:
        documents = [asdict(r) for r in (report, other) if r is not None]
        json.dump(documents[0] if other is None else documents, sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif other is not None:
        print(render_comparison(report, other))
    else:
        print(render(report))
    return 0


def render(report: PackageReport) -> str:
    """The report as text for a terminal."""
    lines = [
        report.path,
        f"  specification {report.specification_version}, {_size(report.disk_bytes)} on disk, "
        f"weights {_weights(report.weight_bytes)}",
    ]
    lines += [f"  {key}: {value}" for key, value in report.metadata.items() if "\n" not in value]
    for function in report.functions.values():
        lines += ["", *_function_lines(function, default=function.name == report.default_function)]
    return "\n".join(lines)


def _function_lines(function: FunctionReport, *, default: bool) -> Iterator[str]:
    yield f"Function {function.name}{' (default)' if default else ''}, opset {function.opset}"
    for label, values in (("in", function.inputs), ("out", function.outputs)):
        yield from (f"  {label:<12}{value.name}: {value.type}" for value in values)
    total = sum(function.operations.values())
    kinds = ", ".join(f"{count} {type_}" for type_, count in function.operations.items())
    yield f"  {'operations':<12}{total}: {kinds}"
    yield f"  {'weights':<12}{_weights(function.weight_bytes)}"
    yield f"  {'arithmetic':<12}{_arithmetic(function)}"
    if function.peak is not None:
        peak = function.peak
        yield f"  {'peak':<12}{_size(peak.bytes)} of activations at {peak.operation} ({peak.type})"
        yield from (f"    {_size(v.bytes):>10}  {v.name}: {v.type}" for v in peak.alive[:5])
    yield f"  {'segments':<12}{function.segments}"
    yield f"  {'lint':<12}{_count(len(function.findings), 'finding')}"
    for (stage, rule), findings in _grouped(function.findings).items():
        says = lint.RULES[rule].says
        yield f"    {stage}: {rule} ({len(findings)}): {says} [{findings[0].source}]"
        yield from (f"      {f.operation} ({f.type}) {f.message}" for f in findings[:5])
        if len(findings) > 5:
            yield f"      ... and {len(findings) - 5} more"


def render_comparison(left: PackageReport, right: PackageReport) -> str:
    """Two reports side by side: the longest function of each."""
    a, b = left.costliest, right.costliest
    rows: list[tuple[str, ...]] = [("", left.path, right.path), ("function", a.name, b.name)]
    rows.append(("on disk", _size(left.disk_bytes), _size(right.disk_bytes)))
    rows.append(("weights", _weights(left.weight_bytes), _weights(right.weight_bytes)))
    rows.append(("arithmetic", _arithmetic(a), _arithmetic(b)))
    rows.append(("peak activations", *(_size(f.peak.bytes) if f.peak else "" for f in (a, b))))
    rows.append(("  at", *(f.peak.operation if f.peak else "" for f in (a, b))))
    rows.append(("segments", str(a.segments), str(b.segments)))
    rows.append(("operations", *(str(sum(f.operations.values())) for f in (a, b))))
    for type_ in sorted(a.operations.keys() | b.operations.keys()):
        rows.append((f"  {type_}", *(str(f.operations.get(type_, 0)) for f in (a, b))))
    rows.append(("lint findings", str(len(a.findings)), str(len(b.findings))))
    groups = _grouped(a.findings), _grouped(b.findings)
    for stage, rule in sorted(groups[0].keys() | groups[1].keys()):
        counts = (str(len(group.get((stage, rule), ()))) for group in groups)
        rows.append((f"  {stage}: {rule}", *counts))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _grouped(findings: Sequence[lint.Finding]) -> dict[tuple[str, str], list[lint.Finding]]:
    groups: dict[tuple[str, str], list[lint.Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.stage, finding.rule), []).append(finding)
    return groups


def _size(count: int) -> str:
    return f"{count / _MIB:.2f} MiB" if count >= _MIB // 100 else f"{count} bytes"


def _weights(sizes: dict[str, int]) -> str:
    return ", ".join(f"{_size(size)} {dtype}" for dtype, size in sizes.items()) or "none"


def _arithmetic(function: FunctionReport) -> str:
    counts = function.floating_point_operations
    if not counts:
        return "none"
    parts = ", ".join(f"{type_} {count / 1e9:.3g}" for type_, count in counts.items())
    return f"{sum(counts.values()) / 1e9:.4g} GFLOP ({parts})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
