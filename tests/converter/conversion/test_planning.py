"""What is measured before anything is built, and which precision a checkpoint gets."""

from pathlib import Path

import pytest
import torch

from converter.checkpoint.files import find_checkpoint
from converter.conversion.convert import convert
from converter.conversion.scaling import checked_scales
from converter.errors import FidelityError
from converter.fidelity.windows import make_golden
from converter.network.loading import load_checkpoint
from converter.network.neural_engine import Scales
from converter.options import BuildOptions
from converter.tokenizer import DnaTokenizer
from tests.support.conversions import BIN, GATES, ONE_LENGTH, edit, served_agreement, verdicts
from tools.seeded_checkpoints import make_checkpoint


def overflow_before_gelu(folder: Path) -> None:
    """Pre-activations beyond fp16's 65504 in the last layer; its output stays ordinary."""
    edit(
        folder,
        encoder__layer__1__intermediate__dense__weight=60_000.0,
        encoder__layer__1__output__dense__weight=1 / 60_000,
    )


def test_ordinary_activations_need_no_scale(tiny_checkpoint: Path) -> None:
    reference = load_checkpoint(find_checkpoint(str(tiny_checkpoint))).encoder()
    golden = make_golden(reference, DnaTokenizer(tiny_checkpoint / "tokenizer.json"))
    scales, gate = checked_scales(reference, golden, BuildOptions())
    assert scales == Scales(residual_log2=0, value_log2=4)
    assert gate.verdict == "expected"


def test_the_engine_comes_first_and_what_limits_it_is_said(tmp_path: Path) -> None:
    """Below the gate with every operation in fp16, and no prefix short enough: all of it on the
    engine, with a flag."""
    folder = make_checkpoint(tmp_path / "c")
    edit(folder, encoder__layer__0__attention__self__query__weight=60.0)
    bundle = convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)
    precision = bundle.manifest.precision
    assert (precision["chosen"], precision["fp32_modules"]) == ("fp16", [])
    assert "prefix is not enough" in precision["reason"]
    assert "blocks.0.attention" in [limit["module"] for limit in precision["limited_by"]]
    assert verdicts(bundle)["package, every operation in fp16"] == "flagged"
    assert bundle.manifest.fidelity["engine"]["encoder_operations_off"] == 0


def test_mixed_precision_is_the_users_choice_and_costs_the_engine(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c", outliers=20)
    options = BuildOptions(target="macos14", precision="mixed")
    bundle = convert(str(folder), output=tmp_path / "out", options=options)
    precision = bundle.manifest.precision
    assert precision["chosen"] in ("mixed", "fp32")
    assert precision["fp32_modules"]
    assert verdicts(bundle) == dict.fromkeys(GATES, "expected")
    engine = bundle.manifest.fidelity["engine"]
    assert engine["floating_point_operations_off"] > 0.1 * engine["floating_point_operations"]
    assert served_agreement(bundle, folder) >= 70


def test_a_cure_is_applied_where_it_helps(tmp_path: Path) -> None:
    """Values of all tokens that share a large part, which the output's bias takes out again."""
    folder = make_checkpoint(tmp_path / "c")
    tensors = torch.load(folder / BIN)
    generator = torch.Generator().manual_seed(5)
    for layer in range(2):
        attention = f"bert.encoder.layer.{layer}.attention."
        common = 30 * torch.randn(64, generator=generator)
        tensors[attention + "self.value.bias"] += common
        weight = tensors[attention + "output.dense.weight"]
        tensors[attention + "output.dense.bias"] -= weight @ common
    torch.save(tensors, folder / BIN)
    bundle = convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)
    assert bundle.manifest.precision["chosen"] == "fp16"
    assert bundle.manifest.precision["cures"] == ["centred keys and values"]
    assert verdicts(bundle) == dict.fromkeys(GATES, "expected")
    assert served_agreement(bundle, folder) >= 65


def test_fp16_on_request_is_published_with_a_flag_or_refused(tmp_path: Path) -> None:
    """Between the gates: published, flagged. Below: nothing is published, gate and figure named."""
    options = BuildOptions(target="macos14", precision="fp16")
    flagged = make_checkpoint(tmp_path / "flagged")
    edit(flagged, encoder__layer__0__attention__self__query__weight=60.0)
    bundle = convert(str(flagged), output=tmp_path / "out", options=options)
    assert bundle.manifest.fidelity["flag"] == "flagged"
    assert bundle.manifest.precision["chosen"] == "fp16"
    overflowing = make_checkpoint(tmp_path / "overflowing", pre_layer_norm=False)
    overflow_before_gelu(overflowing)
    with pytest.raises(FidelityError) as caught:
        convert(str(overflowing), output=tmp_path / "none", options=options)
    assert "package, every operation in fp16: holds NaN or infinity" in str(caught.value)
    assert not (tmp_path / "none").exists()
    assert not [p for p in tmp_path.iterdir() if "building" in p.name]


def test_an_overflowing_residual_is_cured_by_a_power_of_two(tmp_path: Path) -> None:
    """100 000 in the residual stream, beyond fp16: a power of two less, exactly undone."""
    folder = make_checkpoint(tmp_path / "c", last_layer_norm=True)
    reference = load_checkpoint(find_checkpoint(str(folder))).encoder()
    ids = torch.tensor([[1, *range(5, 100), 2]])
    peak = float(reference.encoder.layer[0](reference.embeddings(ids), torch.zeros(1)).abs().max())
    edit(folder, encoder__layer__0__output__dense__weight=100_000 / peak)
    bundle = convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)
    assert bundle.manifest.fidelity["graph"]["residual_scale_log2"] < -1
    assert verdicts(bundle) == dict.fromkeys(GATES, "expected")
    assert served_agreement(bundle, folder) >= 70


@pytest.mark.parametrize("pre_layer_norm", [True, False], ids=["pre-LN, last norm", "post-LN"])
def test_squares_inside_the_norms_fit_fp16(pre_layer_norm: bool, tmp_path: Path) -> None:
    """Outliers of 700 around the mean: their squares are beyond 65504, unless scaled, exactly."""
    folder = make_checkpoint(tmp_path / "c", pre_layer_norm=pre_layer_norm, last_layer_norm=True)
    reference = load_checkpoint(find_checkpoint(str(folder))).encoder()
    written: list[torch.Tensor] = []
    last = reference.encoder.layer[1]
    last.output.dense.register_forward_hook(lambda _m, _i, output: written.append(output))
    reference(torch.tensor([[1, *range(5, 100), 2]]))
    peak = float(written[0].abs().max())
    # What the last layer writes; a norm follows.
    edit(folder, encoder__layer__1__output__dense__weight=700 / peak)
    bundle = convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)
    assert bundle.manifest.fidelity["graph"]["residual_scale_log2"] <= -2
    assert verdicts(bundle) == dict.fromkeys(GATES, "expected")
    assert bundle.manifest.fidelity["half_norms"]["psnr_db"] >= 50


def test_an_overflow_that_no_scale_cures_gets_fp32(tmp_path: Path) -> None:
    """Pre-activations beyond 65504 in a post-LN network, whose residual takes no scale."""
    folder = make_checkpoint(tmp_path / "c", pre_layer_norm=False)
    overflow_before_gelu(folder)
    bundle = convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)
    assert bundle.manifest.precision["chosen"] in ("mixed", "fp32")
    assert bundle.manifest.fidelity["flag"] == "expected"
    loud = bundle.manifest.fidelity["activations"]
    assert any("fp16" in activation["exceeds"] for activation in loud)
    assert served_agreement(bundle, folder) >= 70


def test_a_checkpoint_with_huge_residuals_is_not_left_without_a_way_to_run(tmp_path: Path) -> None:
    """Ten million: a scale that brings it back would drown ordinary rows in fp16's least eps."""
    folder = make_checkpoint(tmp_path / "c", last_layer_norm=True)
    edit(folder, encoder__layer__1__output__dense__weight=1e7)
    bundle = convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)
    assert bundle.manifest.fidelity["flag"] == "expected"
    assert served_agreement(bundle, folder) >= 70
