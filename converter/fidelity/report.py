"""What verification found: figures, verdicts, and how they are told."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from converter.errors import FidelityError
from converter.fidelity.gates import Figures, GateResult, Verdict
from converter.package.engine import EngineShare

# fp16's largest number, and the range of the fixed-point accumulators (Q15.16) of newer engines:
# beyond it a sum is infinite, beyond half of it there is no room for a larger input.
LIMITS = {
    "fp16": float(np.finfo(np.float16).max),
    "accumulator": 32768.0,
    "half the accumulator": 16384.0,
}


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
        engine: what the precisions cost, at the longest length.
        half_norms: with every operation in fp16 and every step inside the norms too, as an engine
            may compute them; for information, no gate.
        head: None without a masked-language-model head at hand.
        layers: only where they were asked for.
    """

    gates: tuple[GateResult, ...]
    activations: tuple[Activation, ...]
    engine: EngineShare
    half_norms: Figures
    head: HeadFigures | None = None
    layers: tuple[LayerFigure, ...] = ()

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
            "engine": asdict(self.engine),
            "half_norms": {
                "psnr_db": round(self.half_norms.psnr, 2) if self.half_norms.finite else None,
                "worst_cosine": round(self.half_norms.cosine, 6),
            },
            "activations": [_for_json(a) for a in self.activations if a.exceeds]
            or [_for_json(max(self.activations, key=lambda a: a.largest))],
            "head": None if self.head is None else _for_json(self.head),
            "layers": [_for_json(layer) for layer in self.layers],
        }

    def as_text(self) -> str:
        """A table for a terminal."""
        lines = [f"{r.verdict:9} {r.sentence()}" for r in self.gates]
        lines.append(self.engine.sentence())
        lines.append(
            f"norms computed in fp16 inside: {self.half_norms.psnr:.1f} dB"
            if self.half_norms.finite
            else "warning: norms computed in fp16 inside give NaN or infinity"
        )
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


def _for_json(figures: Any) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(figures).items()
    }
