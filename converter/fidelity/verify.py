"""Fidelity gates on a saved package, read back from disk; what fails is never published."""

from pathlib import Path

import numpy as np
import torch

from converter.fidelity.audit import Audit
from converter.fidelity.executed import Executed, Progress, Results
from converter.fidelity.gates import (
    COMPRESSED_FP16_OPERATIONS,
    COMPRESSED_FP32_ARITHMETIC,
    FP16_OPERATIONS,
    FP32_ARITHMETIC,
    LENGTHS_AGREE,
    TORCH_RUNTIME,
    Figures,
    GateResult,
    compare,
    worst,
)
from converter.fidelity.golden import CODING, FULL_LENGTH, MASKED, ONE_TOKEN, Golden
from converter.fidelity.report import HeadFigures, LayerFigure, Report
from converter.mil.executor import PackageExecutor
from converter.mil.packed_encoder import PackedEncoder
from converter.network.reference import Head, ReferenceEncoder
from converter.package.engine import engine_share
from converter.package.graph import Graph
from converter.package.interface import PackageInterface
from converter.package.program import Function
from converter.package.reader import load_program

# In fp32 arithmetic, and with every operation in fp16.
_GATES = FP32_ARITHMETIC, FP16_OPERATIONS
_COMPRESSED_GATES = COMPRESSED_FP32_ARITHMETIC, COMPRESSED_FP16_OPERATIONS


def verify_package(
    package: Path,
    interface: PackageInterface,
    golden: Golden,
    *,
    compressed: bool = False,
    re_authored: GateResult | None = None,
    head: Head | None = None,
    reference: ReferenceEncoder | None = None,
    arranged: bool = True,
    progress: Progress = lambda _: None,
) -> Report:
    """Execute a package operation by operation and compare it with the reference.

    Args:
        golden: windows, and the reference's hidden states for them.
        compressed: its weights are, on request; what that costs is flagged, not refused.
        re_authored: the gate of the network before packaging, to stand first in the report.
        head: the checkpoint's, to compare logits.
        reference: to find the layer where the package starts to diverge.
        arranged: it is laid out as the torch runtime reads it, which is compared too.
        progress: called with the fraction done, 0 to 1.

    Raises:
        UnknownOperationError, PackageError: the package cannot be executed.
    """
    exact = Executed(PackageExecutor(package), interface, golden)
    longest = load_program(package).functions[interface.function(interface.default_length)]
    audit = _audit(longest, interface, golden)
    fitting = exact.longest_that_fits()
    watched = {FULL_LENGTH: audit.observe}
    results = exact.results((fitting,), lambda done: progress(done / 2), watched)
    repeated = exact.shortest((fitting,))
    rounded = exact.with_arithmetic("fp16")
    halves = rounded.results((fitting,), lambda done: progress(0.5 + done / 2))
    norms = rounded.with_arithmetic("fp16-norms").shortest((fitting, ONE_TOKEN))
    layers = _layers(exact.states(reference), rounded.states(reference)) if reference else ()
    del exact, rounded  # their weights are large, and the next ones bring their own
    gates = _package_gates(golden, results, repeated, halves, compressed=compressed)
    if arranged:
        gates.append(_arranged_alike(package, interface, golden, results))
    return Report(
        gates=(re_authored, *gates) if re_authored else tuple(gates),
        activations=audit.activations(),
        engine=engine_share(Graph(longest)),
        half_norms=worst(FP16_OPERATIONS, _against(golden, norms)).worst,
        head=_head_figures(golden, halves, head) if head else None,
        layers=layers,
    )


def _package_gates(
    golden: Golden,
    results: Results,
    repeated: Results,
    halves: Results,
    *,
    compressed: bool,
) -> list[GateResult]:
    fp32_gate, fp16_gate = _COMPRESSED_GATES if compressed else _GATES
    return [
        worst(fp32_gate, _against(golden, results)),
        worst(fp16_gate, _against(golden, halves)),
        worst(LENGTHS_AGREE, _lengths_agree(results, repeated)),
    ]


def _against(golden: Golden, results: Results) -> dict[str, Figures]:
    figures = {}
    for (name, length), result in results.items():
        truth = golden.reference[golden.index(name), : len(result)]
        figures[f"{name} at {length}"] = compare(truth, result)
    return figures


def _arranged_alike(
    package: Path, interface: PackageInterface, golden: Golden, results: Results
) -> GateResult:
    """The encoder as the torch runtime arranges it against the executed package.

    All windows at a time; each against what the package's shortest length for it gives.
    """
    encoder = PackedEncoder.of_package(package, interface)
    executed = {name: result for (name, _), result in reversed(results.items())}
    windows = [golden.input_ids[golden.index(name), : len(executed[name])] for name in executed]
    figures = {
        name: compare(truth, found)
        for (name, truth), found in zip(executed.items(), encoder.predict(windows), strict=True)
    }
    return worst(TORCH_RUNTIME, figures)


def _lengths_agree(results: Results, repeated: Results) -> dict[str, Figures]:
    """Every length against the longest; and a window against itself after all the others."""
    longest = dict(sorted(results))
    figures = {
        f"{name} at {length}": compare(results[name, longest[name]], result)
        for (name, length), result in results.items()
        if length != longest[name]
    }
    again = {
        f"{name} after other windows": compare(results[name, length], result)
        for (name, length), result in repeated.items()
    }
    return figures | again


def _audit(longest: Function, interface: PackageInterface, golden: Golden) -> Audit:
    return Audit(
        longest,
        length=interface.default_length,
        n_tokens=golden.n_tokens(golden.index(FULL_LENGTH)),
        norms_before_layers=interface.config.norms_before_layers,
    )


def _head_figures(golden: Golden, results: Results, head: Head) -> HeadFigures:
    index = golden.index(MASKED)
    result = next(array for (name, _), array in results.items() if name == MASKED)
    unmasked = golden.input_ids[golden.index(CODING)]
    positions = np.flatnonzero(golden.input_ids[index] != unmasked)
    with torch.no_grad():
        truth, found = (
            head(torch.from_numpy(rows[positions].astype(np.float32))).double()
            for rows in (golden.reference[index], result)
        )
    divergence = torch.nn.functional.kl_div(
        found.log_softmax(-1), truth.log_softmax(-1), reduction="batchmean", log_target=True
    )
    return HeadFigures(
        n_positions=len(positions),
        top1_agreement=float((truth.argmax(-1) == found.argmax(-1)).float().mean()),
        mean_kl=float(divergence),
    )


def _layers(fp32: dict[str, float], fp16: dict[str, float]) -> tuple[LayerFigure, ...]:
    return tuple(LayerFigure(name, round(fp32[name], 2), round(fp16[name], 2)) for name in fp32)
