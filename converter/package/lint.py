"""Checks an ML program against what is known about the Neural Engine, rule by rule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from converter.package.graph import Graph, Stage
from converter.package.program import Constant, Operation, TensorType

APPLE_ARTICLE = (
    "Apple, Deploying Transformers on the Apple Neural Engine, "
    "machinelearning.apple.com/research/neural-engine-transformers"
)
_MEASURED = "measured by others; docs/architecture.md, What is known about the Neural Engine"

FP16_MAX = float(np.finfo(np.float16).max)
SMALLEST_FP16 = float(np.finfo(np.float16).smallest_subnormal)
# The engine pads the last axis to this many bytes.
ALIGNMENT_BYTES = 64
MIN_LAST_AXIS = 32
# Besides look-ups.
_OFF_ENGINE = frozenset({"scaled_dot_product_attention"})


@dataclass(frozen=True)
class Rule:
    """One thing that keeps operations off the engine, slows it down or spoils its numbers."""

    id: str
    says: str
    source: str


RULES = {
    rule.id: rule
    for rule in (
        Rule(
            "rank", "Core ML takes at most five axes", "coremltools maintainers, coremltools#1723"
        ),
        Rule(
            "dtype-island",
            "the engine computes in fp16; another dtype in the middle cuts the graph",
            _MEASURED,
        ),
        Rule("integer", "integer operations do not run on the engine", _MEASURED),
        Rule("gather", "look-ups do not run on the engine", f"coremltools#1103; {_MEASURED}"),
        Rule(
            "flexible-shape",
            "the engine runs a ranged shape at its default size only, if at all",
            "Apple engineer, developer.apple.com/forums/thread/724930; coremltools#1764",
        ),
        Rule(
            "last-axis-width", f"a last axis under {MIN_LAST_AXIS} is mostly padding", APPLE_ARTICLE
        ),
        Rule(
            "last-axis-alignment",
            f"the last axis is padded to a multiple of {ALIGNMENT_BYTES} bytes",
            APPLE_ARTICLE,
        ),
        Rule(
            "last-axis-slice",
            "on M1 and M2 a slice of the last axis with an offset clamps values beyond 4094",
            _MEASURED,
        ),
        Rule("sdpa", "the fused attention operation runs on the CPU at this size", _MEASURED),
        Rule(
            "constant-range",
            f"fp16 ends at {FP16_MAX:.0f}; infinities become NaN in a masked softmax",
            f"IEEE 754 binary16; {_MEASURED}",
        ),
        Rule(
            "epsilon", "in fp16 an epsilon below 2^-24 is zero", f"IEEE 754 binary16; {_MEASURED}"
        ),
    )
}


@dataclass(frozen=True)
class Finding:
    """A rule that an operation (or an input of the function) breaks."""

    rule: str
    operation: str
    type: str
    stage: Stage
    message: str
    source: str


def find(graph: Graph) -> list[Finding]:
    """Everything that the rules say about a function, in program order."""
    findings = [
        _finding("flexible-shape", name, "input", "embedding", f"takes {type_}")
        for name, type_ in graph.function.inputs.items()
        if not type_.is_static
    ]
    for operation, stage in zip(graph.operations, graph.stages, strict=True):
        for check in _CHECKS:
            for rule, message in check(_Site(graph, operation, stage)):
                findings.append(_finding(rule, operation.name, operation.type, stage, message))
    return findings


def on_engine(graph: Graph) -> list[bool]:
    """For each operation, whether its types and kind let the engine take it."""
    return [
        operation.type not in _OFF_ENGINE
        and not operation.type.startswith("gather")
        and all(
            t.dtype == "fp16" and t.is_static and len(t.shape) <= 5
            for t in _Site(graph, operation, stage).values()
        )
        for operation, stage in zip(graph.operations, graph.stages, strict=True)
    ]


def _finding(rule: str, operation: str, type_: str, stage: Stage, message: str) -> Finding:
    return Finding(rule, operation, type_, stage, message, RULES[rule].source)


@dataclass(frozen=True)
class _Site:
    """An operation where it stands."""

    graph: Graph
    operation: Operation
    stage: Stage

    def values(self) -> list[TensorType]:
        """Types of everything that the operation reads and writes while the model runs."""
        return [v.type for v in (*self.graph.activations(self.operation), *self.operation.outputs)]

    def constant(self, parameter: str) -> Any:
        """A constant argument as plain Python; None where it is not given or computed."""
        arguments = self.operation.inputs.get(parameter, ())
        if len(arguments) != 1 or not isinstance(arguments[0], Constant):
            return None
        return arguments[0].read().tolist()


# The rules that a site breaks, with what it does.
_Broken = Iterator[tuple[str, str]]


def _rank(site: _Site) -> _Broken:
    for output in site.operation.outputs:
        if len(output.type.shape) > 5:
            yield "rank", f"gives {output.type}"


def _dtype(site: _Site) -> _Broken:
    others = [t for t in site.values() if t.dtype != "fp16"]
    if not others or site.stage == "output":
        return
    if site.stage == "embedding" and any(not t.is_floating for t in others):
        yield "integer", f"works on {others[0]}"
    else:
        yield "dtype-island", f"works on {others[0]}"


def _gather(site: _Site) -> _Broken:
    if site.operation.type.startswith("gather"):
        table = site.graph.argument(site.operation, "x")
        yield "gather", f"looks up in {table}"


def _flexible(site: _Site) -> _Broken:
    if all(value.type.is_static for value in site.graph.activations(site.operation)):
        for output in site.operation.outputs:
            if not output.type.is_static:
                yield "flexible-shape", f"gives {output.type}"


def _last_axis(site: _Site) -> _Broken:
    for output in site.operation.outputs:
        type_ = output.type
        width = type_.shape[-1] if type_.shape else None
        if width is None or not type_.is_floating:
            continue
        if width < MIN_LAST_AXIS:
            yield "last-axis-width", f"gives {type_}, last axis {width}"
        elif TensorType(type_.dtype, (width,)).bytes % ALIGNMENT_BYTES:
            yield "last-axis-alignment", f"gives {type_}, last axis {width}"


def _last_axis_slice(site: _Site) -> _Broken:
    if site.operation.type not in ("slice_by_index", "slice_by_size", "split"):
        return
    x = site.graph.argument(site.operation, "x")
    if not x.is_floating or not x.shape:
        return
    last = len(x.shape) - 1
    if site.operation.type == "split":
        axis = site.constant("axis")
        if axis is not None and axis % len(x.shape) == last and len(site.operation.outputs) > 1:
            yield "last-axis-slice", f"splits the last axis of {x}"
        return
    begin, mask = site.constant("begin"), site.constant("begin_mask")
    if begin is not None and begin[last] != 0 and not (mask and mask[last]):
        yield "last-axis-slice", f"starts at {begin[last]} in the last axis of {x}"


def _sdpa(site: _Site) -> _Broken:
    if site.operation.type == "scaled_dot_product_attention":
        yield "sdpa", f"gives {site.operation.outputs[0].type}"


def _constant_range(site: _Site) -> _Broken:
    for parameter, constant in site.operation.constants():
        if constant.type.is_floating:
            extreme = _extreme(constant)
            if not extreme <= FP16_MAX:
                yield "constant-range", f"{parameter} {constant.type} holds {extreme:g}"


def _epsilon(site: _Site) -> _Broken:
    epsilon = site.constant("epsilon")
    half = any(value.type.dtype == "fp16" for value in site.graph.activations(site.operation))
    if epsilon is not None and half and epsilon < SMALLEST_FP16:
        yield "epsilon", f"epsilon {epsilon:g}"


_CHECKS: tuple[Callable[[_Site], _Broken], ...] = (
    _rank,
    _dtype,
    _gather,
    _flexible,
    _last_axis,
    _last_axis_slice,
    _sdpa,
    _constant_range,
    _epsilon,
)


@cache
def _extreme(constant: Constant) -> float:
    """The largest magnitude in it; NaN where it holds one."""
    return float(np.abs(constant.read()).max(initial=0))
