import math

import numpy as np
import pytest

from converter.fidelity import gates
from converter.fidelity.gates import (
    COMPRESSED_FP16_OPERATIONS,
    COMPRESSED_FP32_ARITHMETIC,
    FP16_OPERATIONS,
    FP32_ARITHMETIC,
    LENGTHS_AGREE,
    ON_DEVICE,
    RE_AUTHORED,
    TORCH_RUNTIME,
    Figures,
    Gate,
    GateResult,
    compare,
    psnr,
    torch_runtime_gate,
    worst,
)
from tests.support.paths import ROOT

TRUTH = np.array([[3.0, -4.0], [0.0, 1.0]], dtype=np.float32)


def test_psnr_is_the_hand_computed_figure() -> None:
    # Errors 0.1, 0, 0, 0: rms 0.05 under a peak of 4: 20 log10(80).
    result = TRUTH + np.array([[0.1, 0], [0, 0]])
    assert psnr(TRUTH, result) == pytest.approx(38.0618, abs=1e-3)
    # The peak is the largest magnitude, whichever its sign; the error's sign does not matter.
    assert psnr(-TRUTH, -result) == pytest.approx(38.0618, abs=1e-3)
    # A thousandth of the error: 60 dB more.
    assert psnr(TRUTH, TRUTH + (result - TRUTH) / 1000) == pytest.approx(98.0618, abs=1e-3)


def test_psnr_of_equal_and_of_empty_truth() -> None:
    assert psnr(TRUTH, TRUTH) == math.inf
    assert psnr(np.zeros((2, 2)), np.zeros((2, 2))) == math.inf
    assert psnr(np.zeros((2, 2)), np.ones((2, 2))) == -math.inf


def test_psnr_does_not_hide_overflow() -> None:
    assert psnr(TRUTH, np.full((2, 2), np.inf)) == -math.inf
    huge = np.full((2, 2), 3e38, dtype=np.float32)  # its square overflows fp32
    assert math.isfinite(psnr(huge, huge / 2))


def test_cosine_is_that_of_the_worst_token() -> None:
    # The second token is turned by 60 degrees.
    result = np.array([[3.0, -4.0], [math.sqrt(3) / 2, 0.5]])
    assert compare(TRUTH, result).cosine == pytest.approx(0.5)
    assert compare(TRUTH, TRUTH * 2).cosine == pytest.approx(1.0)
    assert compare(TRUTH, -TRUTH).cosine == pytest.approx(-1.0)


def test_a_token_of_zeros_agrees_only_with_zeros() -> None:
    truth = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert compare(truth, truth).cosine == 1.0
    assert compare(np.ones((2, 2)), truth).cosine == 0.0
    assert compare(truth, np.ones((2, 2))).cosine == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_refused_by_every_gate(bad: float) -> None:
    result = TRUTH.copy()
    result[1, 1] = bad
    figures = compare(TRUTH, result)
    assert not figures.finite
    for gate in (RE_AUTHORED, FP32_ARITHMETIC, FP16_OPERATIONS, LENGTHS_AGREE, ON_DEVICE):
        assert gate.judge(figures) == "refused"
    assert COMPRESSED_FP16_OPERATIONS.judge(figures) == "refused"


@pytest.mark.parametrize(
    ("gate", "db", "cosine", "verdict"),
    [
        # At the limits and just below them.
        (RE_AUTHORED, 100, 1, "expected"),
        (RE_AUTHORED, 99.99, 1, "refused"),
        (FP32_ARITHMETIC, 60, 1, "expected"),
        (FP32_ARITHMETIC, 59.99, 1, "flagged"),
        (FP32_ARITHMETIC, 50, 1, "flagged"),
        (FP32_ARITHMETIC, 49.99, 1, "refused"),
        (FP16_OPERATIONS, 60, 0.9, "expected"),
        (FP16_OPERATIONS, 59.99, 0.999, "flagged"),
        (FP16_OPERATIONS, 59.99, 0.9989, "refused"),
        (FP16_OPERATIONS, 40, 0.999, "flagged"),
        (FP16_OPERATIONS, 39.99, 1, "refused"),
        (ON_DEVICE, 50, 1, "expected"),
        (ON_DEVICE, 40, 0.999, "flagged"),
        (ON_DEVICE, 39.99, 1, "refused"),
        (LENGTHS_AGREE, 80, 1, "expected"),
        (LENGTHS_AGREE, 79.99, 1, "refused"),
        (TORCH_RUNTIME, 100, 1, "expected"),
        (TORCH_RUNTIME, 99.99, 1, "refused"),
        (FP16_OPERATIONS, math.inf, 1, "expected"),
        (FP16_OPERATIONS, -math.inf, 1, "refused"),
    ],
)
def test_verdicts_at_the_limits(gate: Gate, db: float, cosine: float, verdict: str) -> None:
    assert gate.judge(Figures(psnr=db, cosine=cosine, finite=True)) == verdict


def test_the_worst_comparison_decides() -> None:
    figures = {
        "coding": Figures(80, 1.0, True),
        "repeats": Figures(45, 0.9995, True),
        "one_token": Figures(70, 0.99, True),
    }
    result = worst(FP16_OPERATIONS, figures)
    assert result.where == "repeats"
    # dB and cosine are each the worst of all windows, so the cosine of another one refuses here.
    assert (result.worst.psnr, result.worst.cosine) == (45, 0.99)
    assert result.verdict == "refused"


def test_a_window_with_nan_is_the_worst() -> None:
    nan = compare(TRUTH, np.full((2, 2), np.nan))
    result = worst(FP32_ARITHMETIC, {"bad": nan, "low": Figures(1, 0, True)})
    assert (result.where, result.verdict) == ("bad", "refused")
    assert "NaN" in result.sentence()


def test_the_sentence_names_gate_figures_place_and_limits() -> None:
    sentence = GateResult(FP16_OPERATIONS, Figures(38.061, 0.95, True), "coding at 512").sentence()
    for part in ("every operation in fp16", "38.1 dB", "0.95000", "coding at 512", "60", "40"):
        assert part in sentence


def test_the_page_says_what_the_gates_are() -> None:
    page = (ROOT / "docs" / "fidelity.md").read_text()
    for words, gate in {
        "re-authored network, fp32": gates.RE_AUTHORED,
        "package, fp32 arithmetic": gates.FP32_ARITHMETIC,
        "package, every operation in fp16": gates.FP16_OPERATIONS,
        "compressed package, fp32 arithmetic": gates.COMPRESSED_FP32_ARITHMETIC,
        "compressed package, fp16 operations": gates.COMPRESSED_FP16_OPERATIONS,
        "torch runtime against the executed package": gates.TORCH_RUNTIME,
        "package, lengths agree": gates.LENGTHS_AGREE,
        "on this Mac": gates.ON_DEVICE,
    }.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {words} |")]
        expected, flagged, refused = (cell.strip() for cell in row.split("|")[2:5])

        assert expected == f">= {gate.expected:g}"
        between = f"{gate.floor:g} to {gate.expected:g}" if gate.floor < gate.expected else ""
        assert flagged.startswith(between)
        assert bool(flagged) == bool(between)
        assert ("cosine" in flagged) == (gate.cosine > -1)
        assert (f"cosine >= {gate.cosine:g}" in flagged) == (gate.cosine > -1)
        assert refused.startswith(f"< {gate.floor:g}")
    words = " ".join(page.split())
    assert f"up to {45 - gates.on_device(45).expected:g} dB below its own figure" in words
    loaded = torch_runtime_gate({"gates": [{"gate": FP32_ARITHMETIC.name, "psnr_db": 70}]}, "fp32")
    assert f"in fp32 it may be up to {70 - loaded.floor:g} dB below the package's own" in words
    assert f"it needs {FP16_OPERATIONS.floor:g} dB" in words


@pytest.mark.parametrize(
    ("own", "found", "verdict"),
    [
        (23.4, 20.5, "expected"),
        (23.4, 20.3, "refused"),
        (45, 42.1, "expected"),
        (45, 41.9, "flagged"),
        (45, 39.9, "refused"),
        (70, 50, "expected"),
        (70, 49.9, "flagged"),
    ],
)
def test_on_a_mac_a_compressed_package_may_lose_a_little_of_what_it_has(
    own: float, found: float, verdict: str
) -> None:
    assert gates.on_device(own).judge(Figures(found, 0.9, True)) == verdict


@pytest.mark.parametrize(
    ("gate", "decibels", "compute", "floor", "cosine"),
    [
        (FP32_ARITHMETIC, 74.2, "fp32", 73.2, -1.0),
        # Equal to the reference, or nearly: what is rounded otherwise is all there is.
        (FP32_ARITHMETIC, None, "fp32", 99.0, -1.0),
        (FP32_ARITHMETIC, 140.0, "fp32", 99.0, -1.0),
        (FP32_ARITHMETIC, 74.2, "bf16", 40.0, 0.999),
        (COMPRESSED_FP32_ARITHMETIC, 33.5, "fp32", 32.5, -1.0),
        (COMPRESSED_FP32_ARITHMETIC, 33.5, "bf16", 30.5, -1.0),
    ],
)
def test_the_torch_runtime_has_to_be_as_good_as_its_package(
    gate: Gate, decibels: float | None, compute: str, floor: float, cosine: float
) -> None:
    found = [{"gate": gate.name, "psnr_db": decibels}, {"gate": "another", "psnr_db": 10.0}]
    needed = torch_runtime_gate({"gates": found}, compute)
    assert needed.floor == pytest.approx(floor)
    assert needed.cosine == cosine
