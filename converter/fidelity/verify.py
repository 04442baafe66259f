"""Fidelity gates on a bundle's package, read back from disk; what fails is never published."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converter.bundle.opening import Bundle
from converter.errors import FidelityError
from converter.fidelity.gates import (
    COMPRESSED_FP16_OPERATIONS,
    COMPRESSED_FP32_ARITHMETIC,
    FP16_OPERATIONS,
    FP32_ARITHMETIC,
    LENGTHS_AGREE,
    Figures,
    GateResult,
    Verdict,
    compare,
    psnr,
    worst,
)
from converter.fidelity.golden import MASKED, Golden
from converter.mil.executor import PackageExecutor
from converter.network.reference import GenaEncoder, MaskedLanguageModelHead
from converter.package.interface import OUTPUT
from converter.package.program import load_program

Progress = Callable[[float], None]
# fp16's largest number, and the range of the fixed-point accumulators (Q15.16) of newer engines:
# beyond it a sum is infinite, beyond half of it there is no room for a larger input.
LIMITS = {"fp16": 65504.0, "accumulator": 32768.0, "half the accumulator": 16384.0}


@dataclass(frozen=True)
class Activation:
    """The largest magnitude among the operations of one type in one layer.

    Attributes:
        layer: "embedding", or the layer's number from 0.
        exceeds: names of `LIMITS` that it is beyond.
    """

    layer: str
    type: str
    operation: str
    largest: float
    exceeds: tuple[str, ...]


@dataclass(frozen=True)
class HeadFigures:
    """Masked-language-model logits of package features against those of reference features.

    Attributes:
        top1_agreement: share of masked positions with the same best token, 0 to 1.
        mean_kl: Kullback-Leibler divergence in nats, mean over masked positions.
    """

    n_positions: int
    top1_agreement: float
    mean_kl: float


@dataclass(frozen=True)
class LayerFigure:
    """How far the package has drifted from the reference at the end of a layer."""

    layer: str
    psnr_fp32: float
    psnr_fp16: float


@dataclass(frozen=True)
class Report:
    """What verification found.

    Attributes:
        activations: by layer, largest first.
        head: None without a masked-language-model head at hand.
        layers: only where they were asked for.
    """

    gates: tuple[GateResult, ...]
    activations: tuple[Activation, ...]
    head: HeadFigures | None = None
    layers: tuple[LayerFigure, ...] = field(default=())

    @property
    def flag(self) -> Verdict:
        """The worst verdict of all gates."""
        verdicts = {result.verdict for result in self.gates}
        return next(v for v in ("refused", "flagged", "expected") if v in verdicts)

    def as_dict(self) -> dict[str, Any]:
        """For the manifest and `--json`; every figure is finite or null."""
        return {
            "flag": self.flag,
            "gates": [result.as_dict() for result in self.gates],
            "activations": [_for_json(a) for a in self.activations if a.exceeds]
            or [_for_json(max(self.activations, key=lambda a: a.largest))],
            "head": None if self.head is None else _for_json(self.head),
            "layers": [_for_json(layer) for layer in self.layers],
        }

    def as_text(self) -> str:
        """A table for a terminal."""
        lines = [f"{r.verdict:9} {r.sentence()}" for r in self.gates]
        loudest = max(self.activations, key=lambda a: a.largest)
        lines.append(
            f"largest activation: {loudest.largest:g} ({loudest.type}, layer {loudest.layer})"
        )
        lines += [
            f"warning: {a.type} of layer {a.layer} reaches {a.largest:g}, beyond {a.exceeds[0]}"
            for a in self.activations
            if a.exceeds
        ]
        if self.head is not None:
            lines.append(
                f"masked tokens: same best token on {self.head.top1_agreement:.1%} of "
                f"{self.head.n_positions}, KL {self.head.mean_kl:.2e} nats"
            )
        if self.layers:
            lines.append("layer       fp32 dB  fp16 dB")
            lines += [f"{x.layer:10} {x.psnr_fp32:8.1f} {x.psnr_fp16:8.1f}" for x in self.layers]
        return "\n".join(lines)

    def require(self) -> None:
        """Raises FidelityError, naming gate and figures, if any gate refuses."""
        refused = [r.sentence() for r in self.gates if r.verdict == "refused"]
        if refused:
            raise FidelityError("The package is refused. " + "; ".join(refused) + ".")


def verify_bundle(
    bundle: Bundle,
    golden: Golden,
    *,
    re_authored: GateResult | None = None,
    head: tuple[MaskedLanguageModelHead, Tensor] | None = None,
    reference: GenaEncoder | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """Execute a bundle's package operation by operation and compare it with the reference.

    Args:
        golden: windows, and the reference's hidden states for them.
        re_authored: the gate of the network before packaging, to stand first in the report.
        head: the checkpoint's head and its word embeddings (V, H), to compare logits.
        reference: to find the layer where the package starts to diverge.
        progress: called with the fraction done, 0 to 1.

    Raises:
        UnknownOperationError, PackageError: the package cannot be executed.
    """
    compressed = bundle.manifest.options.weights != "fp16"
    exact = _Package(bundle, "fp32")
    results = {}
    for index, name in enumerate(golden.names):
        for length in exact.lengths_for(golden.n_tokens(index)):
            results[name, length] = exact.features(golden, index, length)
        progress(0.5 * (index + 1) / len(golden.names))
    repeated = exact.features(golden, 0, exact.lengths_for(golden.n_tokens(0))[0])
    activations = tuple(_audit(exact, golden))
    states = exact.states(golden, reference) if reference else None
    del exact  # its weights are large, and the next one brings its own

    rounded = _Package(bundle, "fp16")
    halves = {}
    for index, name in enumerate(golden.names):
        lengths = rounded.lengths_for(golden.n_tokens(index))
        # Every length once, by the window that fits all of them; the rest at their own length.
        for length in lengths if index == 0 else lengths[:1]:
            halves[name, length] = rounded.features(golden, index, length)
        progress(0.5 + 0.5 * (index + 1) / len(golden.names))
    rounded_states = rounded.states(golden, reference) if reference else None

    gates = [
        worst(
            COMPRESSED_FP32_ARITHMETIC if compressed else FP32_ARITHMETIC,
            _against(golden, results),
        ),
        worst(
            COMPRESSED_FP16_OPERATIONS if compressed else FP16_OPERATIONS,
            _against(golden, halves),
        ),
        worst(LENGTHS_AGREE, _lengths_agree(golden, results, repeated)),
    ]
    return Report(
        gates=tuple(([re_authored] if re_authored else []) + gates),
        activations=activations,
        head=_head_figures(golden, halves, *head) if head else None,
        layers=_layers(states, rounded_states) if states and rounded_states else (),
    )


class _Package:
    """A bundle's package, executed."""

    def __init__(self, bundle: Bundle, arithmetic: Any) -> None:
        self.bundle = bundle
        self.interface = bundle.interface
        self.executor = PackageExecutor(bundle.package, arithmetic=arithmetic)
        self.lengths = bundle.manifest.lengths

    def lengths_for(self, n_tokens: int) -> list[int]:
        return [length for length in self.lengths if length >= n_tokens]

    def run(self, golden: Golden, index: int, length: int, observe: Any = None) -> NDArray[Any]:
        input_ids = np.ascontiguousarray(golden.input_ids[index : index + 1, :length])
        outputs = self.executor.predict(
            self.interface.inputs(input_ids), self.interface.function(length), observe
        )
        features: NDArray[Any] = outputs[OUTPUT][0]
        return features

    def features(self, golden: Golden, index: int, length: int) -> NDArray[Any]:
        """Hidden states of the real tokens, (n, H)."""
        return self.run(golden, index, length)[: golden.n_tokens(index)].copy()

    def states(self, golden: Golden, reference: GenaEncoder) -> dict[str, float]:
        """PSNR of the value in the package that is closest to each of the reference's states.

        A package does not say which value is a layer's output; the closest one is.
        """
        index, n = 0, golden.n_tokens(0)
        length = self.lengths_for(n)[0]
        ids = torch.from_numpy(golden.input_ids[index : index + 1, :n].astype(np.int64))
        with torch.no_grad():
            truth = [state[0].numpy() for state in reference.hidden_states(ids)]
        best = [-math.inf] * len(truth)

        def closest(_name: str, value: Tensor) -> None:
            rows = _rows(value, truth[0].shape[1])
            if rows is None:
                return
            for i, state in enumerate(truth):
                best[i] = max(best[i], psnr(state, rows[:n]))

        self.run(golden, index, length, closest)
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


def _against(golden: Golden, results: dict[tuple[str, int], NDArray[Any]]) -> dict[str, Figures]:
    figures = {}
    for (name, length), result in results.items():
        truth = golden.reference[golden.names.index(name), : len(result)]
        figures[f"{name} at {length}"] = compare(truth, result)
    return figures


def _lengths_agree(
    golden: Golden, results: dict[tuple[str, int], NDArray[Any]], repeated: NDArray[Any]
) -> dict[str, Figures]:
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


def _audit(package: _Package, golden: Golden) -> Iterable[Activation]:
    """Largest magnitudes by layer and operation type, over a short and the longest window."""
    index = golden.names.index("full_length")
    n, length = golden.n_tokens(index), package.lengths[-1]
    function = load_program(package.bundle.package).functions[package.interface.function(length)]
    types = {output.name: op.type for op in function.operations for output in op.outputs}
    first_norm_of_layer = 2 if package.bundle.config.pre_layer_norm else 1
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

    package.run(golden, index, length, observe)
    return sorted(
        found.values(), key=lambda a: (a.layer != "embedding", a.layer.zfill(3), -a.largest)
    )


def _head_figures(
    golden: Golden,
    results: dict[tuple[str, int], NDArray[Any]],
    head: MaskedLanguageModelHead,
    word_embeddings: Tensor,
) -> HeadFigures:
    index = golden.names.index(MASKED)
    result = next(array for (name, _), array in results.items() if name == MASKED)
    unmasked = golden.input_ids[golden.names.index("coding")]
    positions = np.flatnonzero(golden.input_ids[index] != unmasked)
    with torch.no_grad():
        truth, found = (
            head(torch.from_numpy(rows[positions].astype(np.float32)), word_embeddings).double()
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


def _for_json(figures: Any) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(figures).items()
    }
