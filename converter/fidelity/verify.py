"""Fidelity gates on a saved package, read back from disk; what fails is never published."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    psnr,
    worst,
)
from converter.fidelity.golden import CODING, FULL_LENGTH, MASKED, Golden
from converter.fidelity.report import LIMITS, Activation, HeadFigures, LayerFigure, Report
from converter.mil.executor import Observer, PackageExecutor
from converter.mil.packed_encoder import PackedEncoder
from converter.network.reference import GenaEncoder, Head
from converter.package.engine import engine_share
from converter.package.graph import Graph
from converter.package.interface import OUTPUT, PackageInterface
from converter.package.reader import load_program

Progress = Callable[[float], None]
# Hidden states of the real tokens, (n, H), by the window's name and the package's length.
_Results = dict[tuple[str, int], NDArray[Any]]

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
    reference: GenaEncoder | None = None,
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
    exact = _Executed(package, interface, golden, "fp32")
    results = exact.results(progress=lambda fraction: progress(fraction / 2))
    repeated = exact.features(0, exact.lengths_for(0)[0])
    activations = tuple(_audit(exact))
    states = exact.states(reference) if reference else None
    del exact  # its weights are large, and the next ones bring their own
    arrangement = [_arranged_alike(package, interface, golden, results)] if arranged else []
    rounded = _Executed(package, interface, golden, "fp16")
    halves = rounded.results(sparsely=True, progress=lambda f: progress(0.5 + f / 2))
    rounded_states = rounded.states(reference) if reference else None
    fp32_gate, fp16_gate = _COMPRESSED_GATES if compressed else _GATES
    gates = (
        worst(fp32_gate, _against(golden, results)),
        worst(fp16_gate, _against(golden, halves)),
        worst(LENGTHS_AGREE, _lengths_agree(golden, results, repeated)),
        *arrangement,
    )
    return Report(
        gates=(re_authored, *gates) if re_authored else gates,
        activations=activations,
        engine=engine_share(_longest(package, interface)),
        head=_head_figures(golden, halves, head) if head else None,
        layers=_layers(states, rounded_states) if states and rounded_states else (),
    )


class _Executed:
    """A package, executed on the verification windows."""

    def __init__(
        self,
        path: Path,
        interface: PackageInterface,
        golden: Golden,
        arithmetic: Literal["fp32", "fp16"],
    ) -> None:
        self.path = path
        self.interface = interface
        self.golden = golden
        self._executor = PackageExecutor(path, arithmetic=arithmetic)
        interface.require_functions(self._executor.functions)

    def lengths_for(self, index: int) -> list[int]:
        """The package's lengths that a window fits."""
        n_tokens = self.golden.n_tokens(index)
        return [length for length in self.interface.lengths if length >= n_tokens]

    def run(self, index: int, length: int, observe: Observer | None = None) -> NDArray[Any]:
        """Hidden states (L, H) of a window, padding included."""
        input_ids = np.ascontiguousarray(self.golden.input_ids[index : index + 1, :length])
        outputs = self._executor.predict(
            self.interface.inputs(input_ids), self.interface.function(length), observe
        )
        features: NDArray[Any] = outputs[OUTPUT][0]
        return features

    def features(self, index: int, length: int) -> NDArray[Any]:
        """Hidden states of the real tokens, (n, H)."""
        return self.run(index, length)[: self.golden.n_tokens(index)].copy()

    def results(self, *, sparsely: bool = False, progress: Progress) -> _Results:
        """Every window at every length that it fits.

        Args:
            sparsely: every length once, by the window that fits all of them; the rest at their
                own length.
        """
        found: _Results = {}
        for index, name in enumerate(self.golden.names):
            lengths = self.lengths_for(index)
            for length in lengths[:1] if sparsely and index else lengths:
                found[name, length] = self.features(index, length)
            progress((index + 1) / len(self.golden.names))
        return found

    def states(self, reference: GenaEncoder) -> dict[str, float]:
        """PSNR of the value in the package that is closest to each of the reference's states.

        A package does not say which value is a layer's output; the closest one is.
        """
        index, n = 0, self.golden.n_tokens(0)
        ids = torch.from_numpy(self.golden.input_ids[index : index + 1, :n].astype(np.int64))
        with torch.no_grad():
            truth = [state[0].numpy() for state in reference.hidden_states(ids)]
        best = [-math.inf] * len(truth)

        def closest(_name: str, value: Tensor) -> None:
            rows = _rows(value, truth[0].shape[1])
            if rows is None:
                return
            for i, state in enumerate(truth):
                best[i] = max(best[i], psnr(state, rows[:n]))

        self.run(index, self.lengths_for(index)[0], closest)
        names = ["embedding", *(str(i) for i in range(reference.config.num_hidden_layers))]
        names += ["last norm"] * (len(truth) - len(names))
        return dict(zip(names, best, strict=True))


def _rows(value: Tensor, hidden_size: int) -> NDArray[Any] | None:
    """A value as (L, H), if it is activations of the whole width."""
    if value.ndim == 4 and value.shape[:3] == (1, hidden_size, 1):
        return value[0, :, 0].T.numpy()
    if value.ndim == 3 and value.shape[0] == 1 and value.shape[2] == hidden_size:
        return value[0].numpy()
    return None


def _against(golden: Golden, results: _Results) -> dict[str, Figures]:
    figures = {}
    for (name, length), result in results.items():
        truth = golden.reference[golden.index(name), : len(result)]
        figures[f"{name} at {length}"] = compare(truth, result)
    return figures


def _arranged_alike(
    package: Path, interface: PackageInterface, golden: Golden, results: _Results
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


def _lengths_agree(golden: Golden, results: _Results, repeated: NDArray[Any]) -> dict[str, Figures]:
    """Every length against the longest; and a window against itself after all the others."""
    longest = max(length for _, length in results)
    figures = {
        f"{name} at {length}": compare(results[name, longest], result)
        for (name, length), result in results.items()
        if length != longest
    }
    first = golden.names[0]
    shortest = min(length for name, length in results if name == first)
    return {
        **figures,
        f"{first} after other windows": compare(results[first, shortest], repeated),
    }


def _longest(package: Path, interface: PackageInterface) -> Graph:
    """The function for the longest window."""
    return Graph(load_program(package).functions[interface.function(interface.default_length)])


def _audit(package: _Executed) -> list[Activation]:
    """Largest magnitudes by layer and operation type, over the full-length window."""
    index = package.golden.index(FULL_LENGTH)
    n, length = package.golden.n_tokens(index), package.interface.lengths[-1]
    function = load_program(package.path).functions[package.interface.function(length)]
    types = {output.name: op.type for op in function.operations for output in op.outputs}
    first_norm_of_layer = 2 if package.interface.config.pre_layer_norm else 1
    norms = 0
    found: dict[tuple[str, str], Activation] = {}

    def observe(name: str, value: Tensor) -> None:
        nonlocal norms
        kind = types.get(name, "")
        norms += kind == "layer_norm"
        if not value.is_floating_point() or value.numel() <= length:  # the mask, or a scalar
            return
        if value.ndim == 4 and value.shape[-1] == value.shape[1] == length:
            value = value[:, :n]  # scores of padding hold the mask
        layer = (norms - first_norm_of_layer) // 2
        label = "embedding" if layer < 0 else str(layer)
        largest = float(value.abs().max())
        if math.isnan(largest):  # compares as neither larger nor smaller: it must not get lost
            largest = math.inf
        known = found.get((label, kind))
        if known is None or largest > known.largest:
            exceeds = tuple(limit for limit, bound in LIMITS.items() if not largest < bound)
            found[label, kind] = Activation(label, kind, name, round(largest, 3), exceeds)

    package.run(index, length, observe)
    return sorted(
        found.values(), key=lambda a: (a.layer != "embedding", a.layer.zfill(3), -a.largest)
    )


def _head_figures(golden: Golden, results: _Results, head: Head) -> HeadFigures:
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
