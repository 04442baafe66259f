"""How close two networks are: PSNR, cosine, and the gates that a package must pass."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["expected", "flagged", "refused"]
FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Gate:
    """What a figure means. PSNR in dB; cosine is the worst token's.

    Attributes:
        expected: from here on all is well.
        floor: below this a package is refused; in between it is published with a flag.
        cosine: below this a flagged figure is refused as well.
    """

    name: str
    expected: float
    floor: float
    cosine: float = -1.0

    def judge(self, figures: "Figures") -> Verdict:
        if not figures.finite or figures.psnr < self.floor:
            return "refused"
        if figures.psnr >= self.expected:
            return "expected"
        return "flagged" if figures.cosine >= self.cosine else "refused"


RE_AUTHORED = Gate("re-authored network, fp32", expected=100, floor=100)
FP32_ARITHMETIC = Gate("package, fp32 arithmetic", expected=60, floor=50)
FP16_OPERATIONS = Gate("package, every operation in fp16", expected=60, floor=40, cosine=0.999)
# Weights compressed on request lose what they lose; the figures say how much.
COMPRESSED_FP32_ARITHMETIC = Gate("compressed package, fp32 arithmetic", expected=60, floor=10)
COMPRESSED_FP16_OPERATIONS = Gate("compressed package, fp16 operations", expected=60, floor=10)
ON_DEVICE = Gate("on this Mac", expected=50, floor=40, cosine=0.999)
# How far below its own figure a compressed package may be on a Mac, in dB.
_DEVICE_LOSS = 3.0
TORCH_RUNTIME = Gate("torch runtime against the executed package", expected=100, floor=100)
# How far below the package's own figure the torch runtime's may be, in dB. Beyond the highest one
# that counts, sums that are rounded otherwise are all there is.
_ARRANGED_LOSS, _ARRANGED_MOST = 1.0, 100.0
LENGTHS_AGREE = Gate("package, lengths agree", expected=80, floor=80)


def on_device(compressed_psnr: float | None) -> Gate:
    """The gate for predictions on this Mac.

    Args:
        compressed_psnr: dB that verification found for a compressed package with every operation
            in fp16; None for a package that is not compressed.
    """
    if compressed_psnr is None:
        return ON_DEVICE
    own = compressed_psnr - _DEVICE_LOSS
    return Gate(
        "on this Mac, compressed package",
        expected=min(ON_DEVICE.expected, own),
        floor=min(ON_DEVICE.floor, own),
    )


def torch_runtime_gate(fidelity: Mapping[str, Any], compute: str) -> Gate:
    """The gate for the torch runtime's features against the reference, when it is loaded.

    Args:
        fidelity: of a manifest: what verification found for the package. Every conversion records
            it; without a figure the floor of a package is what counts.
        compute: "fp32", which has to be as good as the executed package; or what was asked for
            instead, which is flagged.
    """
    names = (FP32_ARITHMETIC.name, COMPRESSED_FP32_ARITHMETIC.name)
    found = [each["psnr_db"] for each in fidelity["gates"] if each["gate"] in names]
    # null where all was equal.
    package = _ARRANGED_MOST if None in found else min([_ARRANGED_MOST, *found])
    if compute != "fp32":
        # A compressed package is below already: then its own figure counts, as on a Mac.
        own = package - _DEVICE_LOSS
        cosine = FP16_OPERATIONS.cosine if own >= FP16_OPERATIONS.floor else -1.0
        floor = min(FP16_OPERATIONS.floor, own)
        return Gate(f"torch runtime, {compute}", FP16_OPERATIONS.expected, floor, cosine)
    least = package - _ARRANGED_LOSS if found else FP32_ARITHMETIC.floor
    return Gate("torch runtime, fp32", expected=least, floor=least)


@dataclass(frozen=True)
class Figures:
    """A comparison over real tokens.

    Attributes:
        psnr: 20 log10(max |reference| / rms error), in dB; infinite where all is equal.
        cosine: of the token that agrees least, -1 to 1.
        finite: no NaN, no infinity in the result.
    """

    psnr: float
    cosine: float
    finite: bool


def psnr(reference: FloatArray, result: FloatArray) -> float:
    """PSNR in dB of arrays of one shape; -inf where the result is not finite."""
    truth = np.asarray(reference, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        rms = math.sqrt(float(np.mean((truth - np.asarray(result, dtype=np.float64)) ** 2)))
    peak = float(np.abs(truth).max())
    if rms == 0:
        return math.inf
    return 20 * math.log10(peak / rms) if peak and math.isfinite(rms) else -math.inf


def compare(reference: FloatArray, result: FloatArray) -> Figures:
    """Compare hidden states (n, H) of the real tokens of one window."""
    finite = bool(np.isfinite(result).all())
    if not finite:
        return Figures(psnr=-math.inf, cosine=-1.0, finite=False)
    truth = np.asarray(reference, dtype=np.float64)
    found = np.asarray(result, dtype=np.float64)
    norms = np.linalg.norm(truth, axis=-1) * np.linalg.norm(found, axis=-1)
    dots = (truth * found).sum(-1)
    # A row of zeros has no direction; it agrees with a row of zeros only.
    equal = (truth == found).all(-1).astype(np.float64)
    cosines = np.divide(dots, norms, out=equal, where=norms > 0)
    return Figures(psnr=psnr(truth, found), cosine=float(cosines.min()), finite=True)


@dataclass(frozen=True)
class GateResult:
    """One gate over all windows: its worst figures and where they were found."""

    gate: Gate
    worst: Figures
    where: str

    @property
    def verdict(self) -> Verdict:
        return self.gate.judge(self.worst)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: infinite figures (equal arrays; or nothing in common) become null."""
        return {
            "gate": self.gate.name,
            "verdict": self.verdict,
            "psnr_db": round(self.worst.psnr, 2) if math.isfinite(self.worst.psnr) else None,
            "worst_cosine": round(self.worst.cosine, 6),
            "where": self.where,
            "limits": {k: v for k, v in asdict(self.gate).items() if k != "name"},
        }

    def sentence(self) -> str:
        figures = "holds NaN or infinity" if not self.worst.finite else f"{self.worst.psnr:.1f} dB"
        if self.worst.finite and self.gate.cosine > -1:
            figures += f" and cosine {self.worst.cosine:.5f}"
        return (
            f"{self.gate.name}: {figures} on {self.where} (expected {self.gate.expected:g} dB, "
            f"refused below {self.gate.floor:g} dB"
            + (f" or cosine {self.gate.cosine:g})" if self.gate.cosine > -1 else ")")
        )


def worst(gate: Gate, figures: dict[str, Figures]) -> GateResult:
    """The worst of several comparisons, by where each was made."""
    where = min(figures, key=lambda k: (figures[k].finite, figures[k].psnr, figures[k].cosine))
    lowest = min(f.cosine for f in figures.values())
    found = figures[where]
    return GateResult(gate, Figures(found.psnr, lowest, found.finite), where)
