"""Reports on packages as text for a terminal."""

from collections.abc import Iterator, Sequence

from converter.package import lint
from converter.package.inspection import FunctionReport, PackageReport
from converter.terminal import aligned

_MIB = 2**20


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
    yield f"  {'engine':<12}{function.engine.sentence()}"
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
    for label, name in _ENGINE_ROWS.items():
        rows.append((label, *(str(getattr(f.engine, name)) for f in (a, b))))
    rows.append(("operations", *(str(sum(f.operations.values())) for f in (a, b))))
    for type_ in sorted(a.operations.keys() | b.operations.keys()):
        rows.append((f"  {type_}", *(str(f.operations.get(type_, 0)) for f in (a, b))))
    rows.append(("lint findings", str(len(a.findings)), str(len(b.findings))))
    groups = _grouped(a.findings), _grouped(b.findings)
    for stage, rule in sorted(groups[0].keys() | groups[1].keys()):
        counts = (str(len(group.get((stage, rule), ()))) for group in groups)
        rows.append((f"  {stage}: {rule}", *counts))
    return "\n".join(aligned(rows))


# Of a comparison: label -> attribute of `EngineShare`.
_ENGINE_ROWS = {
    "segments": "segments",
    "operations off the engine": "operations_off",
    "  in the encoder": "encoder_operations_off",
}


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
