"""A good package passes, and one that was damaged does not, wherever the damage is."""

import copy
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from converter.bundle.opening import Bundle
from converter.checkpoint.files import find_checkpoint
from converter.errors import FidelityError
from converter.fidelity.gates import FP16_OPERATIONS, Figures, GateResult, compare
from converter.fidelity.golden import Golden
from converter.fidelity.report import Activation, Report
from converter.fidelity.verify import verify_package
from converter.network.loading import Checkpoint, load_checkpoint
from converter.package.engine import EngineShare

WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
DOWN = "encoder.layer.{}.output.dense.weight"
Damage = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(find_checkpoint(str(tiny_checkpoint)))


@pytest.fixture(scope="module")
def golden(tiny_bundle: Bundle) -> Golden:
    return Golden.load(tiny_bundle.golden(), tiny_bundle.manifest.pad_token_id)


@pytest.fixture(scope="module")
def head(checkpoint: Checkpoint) -> Any:
    return checkpoint.masked_language_model_head()


def verify(bundle: Bundle, golden: Golden, **more: Any) -> Report:
    return verify_package(bundle.package, bundle.interface, golden, **more)


@pytest.fixture(scope="module")
def report(tiny_bundle: Bundle, golden: Golden, checkpoint: Checkpoint, head: Any) -> Report:
    return verify(tiny_bundle, golden, head=head, reference=checkpoint.encoder())


@pytest.fixture
def damaged(tiny_bundle: Bundle, tmp_path: Path) -> Callable[[Tensor, Damage], Bundle]:
    """A copy of the bundle in whose weight file one tensor's bytes were changed."""

    def make(tensor: Tensor, damage: Damage) -> Bundle:
        shutil.copytree(tiny_bundle.path, tmp_path / "damaged")
        file = tmp_path / "damaged" / "model.mlpackage" / WEIGHTS
        content = bytearray(file.read_bytes())
        values = tensor.half().numpy()
        old = values.tobytes()
        assert content.count(old) == 1
        start = content.find(old)
        content[start : start + len(old)] = damage(values.copy()).astype(np.float16).tobytes()
        file.write_bytes(content)
        return Bundle(tmp_path / "damaged", tiny_bundle.manifest, tiny_bundle.tokenizer_json)

    return make


def spoil_one(values: np.ndarray) -> np.ndarray:
    values[3, 5] = 30
    return values


def gate(report: Report, part: str) -> GateResult:
    (result,) = [r for r in report.gates if part in r.gate.name]
    return result


def test_a_good_package_is_expected_by_every_gate(report: Report) -> None:
    assert [(r.gate.name, r.verdict) for r in report.gates] == [
        ("package, fp32 arithmetic", "expected"),
        ("package, every operation in fp16", "expected"),
        ("package, lengths agree", "expected"),
        ("torch runtime against the executed package", "expected"),
    ]
    report.require()
    assert report.flag == "expected"


def test_one_altered_weight_is_found_and_named(
    damaged: Any, checkpoint: Checkpoint, golden: Golden
) -> None:
    bundle = damaged(checkpoint.weights[DOWN.format(1)], spoil_one)
    report = verify(bundle, golden)
    assert report.flag == "refused"
    with pytest.raises(FidelityError) as caught:
        report.require()
    exact = gate(report, "fp32 arithmetic")
    assert exact.worst.psnr < 50
    assert "package, fp32 arithmetic" in str(caught.value)
    assert f"{exact.worst.psnr:.1f} dB" in str(caught.value)
    assert "50 dB" in str(caught.value)
    assert caught.value.code == "package.refused"
    # Every length has the same wrong weight: they agree with each other.
    assert gate(report, "lengths agree").verdict == "expected"


def test_the_figures_are_those_of_the_window_computed_here(
    damaged: Any, checkpoint: Checkpoint, golden: Golden
) -> None:
    """Against the reference network with the same damage: no executor involved."""
    tensor = checkpoint.weights[DOWN.format(1)]
    report = verify(damaged(tensor, spoil_one), golden)
    network = copy.deepcopy(checkpoint.encoder())  # its weights are the checkpoint's own
    with torch.no_grad():
        network.get_parameter(DOWN.format(1))[3, 5] = 30
        worst = math.inf
        for index in range(len(golden.names)):
            n = golden.n_tokens(index)
            ids = torch.from_numpy(golden.input_ids[index : index + 1, :n]).long()
            found = network(ids)[0].numpy()
            worst = min(worst, compare(golden.reference[index, :n], found).psnr)
    assert gate(report, "fp32 arithmetic").worst.psnr == pytest.approx(worst, abs=0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_and_the_report_stays_json(
    damaged: Any, checkpoint: Checkpoint, golden: Golden, head: Any, value: float
) -> None:
    def spoil(values: np.ndarray) -> np.ndarray:
        values[0, 0] = value
        return values

    bundle = damaged(checkpoint.weights[DOWN.format(0)], spoil)
    report = verify(bundle, golden, head=head, reference=checkpoint.encoder())
    assert report.flag == "refused"
    with pytest.raises(FidelityError, match="NaN or infinity"):
        report.require()
    text = json.dumps(report.as_dict(), allow_nan=False)
    assert json.loads(text)["flag"] == "refused"
    assert "refused" in report.as_text()


@pytest.mark.parametrize(
    ("layer", "intact", "broken"),
    [(0, ["embedding"], ["0", "1"]), (1, ["embedding", "0"], ["1"])],
)
def test_layers_show_where_it_starts(
    damaged: Any,
    checkpoint: Checkpoint,
    golden: Golden,
    layer: int,
    intact: list[str],
    broken: list[str],
) -> None:
    def shuffle(values: np.ndarray) -> np.ndarray:
        return values[::-1]

    bundle = damaged(checkpoint.weights[DOWN.format(layer)], shuffle)
    figures = {f.layer: f for f in verify(bundle, golden, reference=checkpoint.encoder()).layers}
    assert list(figures) == ["embedding", "0", "1"]
    for name in intact:
        assert figures[name].psnr_fp32 >= 70, figures
        assert figures[name].psnr_fp16 >= 60, figures
    for name in broken:
        assert figures[name].psnr_fp32 < 50, figures
        assert figures[name].psnr_fp16 < 50, figures


def test_layers_of_a_good_package_are_all_close(report: Report) -> None:
    assert [x.layer for x in report.layers] == ["embedding", "0", "1"]
    assert all(x.psnr_fp32 >= 70 and x.psnr_fp16 >= 60 for x in report.layers)
    assert all(x.psnr_fp16 <= x.psnr_fp32 + 0.1 for x in report.layers)


def test_padding_that_reaches_tokens_is_refused(tiny_bundle: Bundle, golden: Golden) -> None:
    """What a mask that leaks would do: padding counts as tokens, more of it in longer windows."""
    blind = replace(golden, input_ids=np.where(golden.input_ids == 3, 9, golden.input_ids))
    leaking = verify(
        tiny_bundle, _WithLengths(blind.names, blind.input_ids, golden.reference, 3, golden)
    )
    assert gate(leaking, "lengths agree").verdict == "refused"
    assert gate(leaking, "fp32 arithmetic").verdict == "refused"


class _WithLengths(Golden):
    """Windows whose padding looks like tokens, counted as the originals are."""

    def __init__(self, *fields: Any) -> None:
        *own, original = fields
        super().__init__(*own)
        object.__setattr__(self, "original", original)

    def n_tokens(self, index: int) -> int:
        n: int = self.original.n_tokens(index)  # type: ignore[attr-defined]
        return n


def test_features_of_another_reference_are_refused(tiny_bundle: Bundle, golden: Golden) -> None:
    other = replace(golden, reference=golden.reference[..., ::-1].copy())
    report = verify(tiny_bundle, other)
    verdicts = {result.gate.name: result.verdict for result in report.gates}
    # These two compare the package with itself.
    assert verdicts.pop("package, lengths agree") == "expected"
    assert verdicts.pop("torch runtime against the executed package") == "expected"
    assert set(verdicts.values()) == {"refused"}


def test_the_head_of_a_good_package_predicts_the_same(report: Report, golden: Golden) -> None:
    assert report.head is not None
    masked = golden.input_ids[golden.names.index("masked")]
    assert report.head.n_positions == int((masked == 4).sum()) > 10
    assert report.head.top1_agreement == 1.0
    assert 0 <= report.head.mean_kl < 1e-4


def test_the_head_shows_a_package_that_predicts_something_else(
    damaged: Any, checkpoint: Checkpoint, golden: Golden, head: Any
) -> None:
    bundle = damaged(checkpoint.weights[DOWN.format(1)], lambda values: -values)
    figures = verify(bundle, golden, head=head).head
    assert figures is not None
    assert figures.top1_agreement < 1.0
    assert figures.mean_kl > 1e-3


def test_without_a_head_there_are_no_figures_of_one(tiny_bundle: Bundle, golden: Golden) -> None:
    assert verify(tiny_bundle, golden).head is None


def test_the_audit_finds_the_largest_activation_of_each_layer(
    report: Report, checkpoint: Checkpoint, golden: Golden
) -> None:
    """The residual stream's and the pre-activations' peaks, computed with the reference."""
    index = golden.names.index("full_length")
    ids = torch.from_numpy(golden.input_ids[index : index + 1]).long()
    network = checkpoint.encoder()
    before_gelu = {}
    for number, layer in enumerate(network.encoder.layer):
        layer.intermediate.register_forward_hook(
            lambda _m, _i, output, n=number: before_gelu.update({n: float(output.abs().max())})
        )
    with torch.no_grad():
        states = network.hidden_states(ids)
    found = {(a.layer, a.type): a.largest for a in report.activations}
    assert {layer for layer, _ in found} == {"embedding", "0", "1"}
    for number in (0, 1):
        peak = float(states[number + 1].abs().max())
        assert found[str(number), "add"] >= 0.99 * peak
        assert found[str(number), "conv"] >= 0.99 * before_gelu[number]
    assert all(a.exceeds == () for a in report.activations)


def test_the_mask_is_no_activation(report: Report) -> None:
    assert all(a.largest < 1000 for a in report.activations)


def test_activations_beyond_a_limit_are_reported(
    damaged: Any, checkpoint: Checkpoint, golden: Golden
) -> None:
    bundle = damaged(checkpoint.weights[DOWN.format(1)], lambda values: values * 20_000)
    report = verify(bundle, golden)
    beyond = [a for a in report.activations if a.exceeds]
    assert {a.layer for a in beyond} == {"1"}
    assert any("half the accumulator" in a.exceeds for a in beyond)
    # Those that are beyond stand in the report, and only those.
    assert len(report.as_dict()["activations"]) == len(beyond)
    assert "warning: conv of layer 1" in report.as_text()
    assert gate(report, "fp16").verdict == "refused"


def test_the_report_names_the_largest_activation_where_all_is_well(report: Report) -> None:
    (loudest,) = report.as_dict()["activations"]
    assert loudest["largest"] == max(a.largest for a in report.activations)


def test_the_report_is_json_for_scripts_and_a_table_for_people(report: Report) -> None:
    document = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert document["flag"] == "expected"
    assert [g["gate"] for g in document["gates"]] == [r.gate.name for r in report.gates]
    assert all(g["psnr_db"] is None or g["psnr_db"] > 60 for g in document["gates"])
    assert len(document["layers"]) == 3
    text = report.as_text()
    for part in ("package, fp32 arithmetic", "largest activation", "same best token", "fp16 dB"):
        assert part in text


FINE = Figures(80.0, 1.0, True)


@pytest.mark.parametrize(
    ("verdicts", "flag"),
    [
        ((80.0, 80.0), "expected"),
        ((80.0, 50.0), "flagged"),
        ((30.0, 50.0), "refused"),
        ((80.0, math.nan), "refused"),
    ],
)
def test_the_worst_gate_is_the_flag(verdicts: tuple[float, ...], flag: str) -> None:
    gates = tuple(
        GateResult(FP16_OPERATIONS, Figures(psnr, 1.0, not math.isnan(psnr)), "coding")
        for psnr in verdicts
    )
    report = Report(
        gates, (Activation("0", "conv", "x", 1.0, ()),), EngineShare(1, 0, 0, 2, 0, 1), FINE
    )
    assert report.flag == flag
    if flag == "refused":
        with pytest.raises(FidelityError):
            report.require()
    else:
        report.require()
