"""Converting modernGENA: activations as large as ModernBERTs have them are scaled, exactly."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from converter.bundle.opening import Bundle
from converter.conversion.convert import convert
from converter.errors import CheckpointError, GenaError
from tests.support.conversions import GATES, ONE_LENGTH, verdicts
from tools.seeded_moderngena import make_moderngena


def converted(folder: Path) -> Bundle:
    return convert(str(folder), output=folder.with_name("bundle"), options=ONE_LENGTH)


def test_products_of_the_gate_beyond_fp16_are_scaled_and_nothing_is_lost(tmp_path: Path) -> None:
    """The gate 2^14 times larger, its output as much smaller: the network is the same."""
    folder = make_moderngena(tmp_path / "c")
    tensors = load_file(folder / "model.safetensors")
    for layer in (0, 1):
        up = tensors[f"model.layers.{layer}.mlp.Wi.weight"]
        up[len(up) // 2 :] *= 2.0**14
        tensors[f"model.layers.{layer}.mlp.Wo.weight"] /= 2.0**14
    save_file(tensors, folder / "model.safetensors")
    bundle = converted(folder)
    assert verdicts(bundle) == dict.fromkeys(GATES, "expected")
    fidelity = bundle.manifest.fidelity
    assert fidelity["graph"]["gate_scale_log2"] < 0
    assert all(not found["exceeds"] for found in fidelity["activations"])


def test_a_residual_stream_of_thirty_thousand_is_scaled(tmp_path: Path) -> None:
    """As in other ModernBERTs: what sub-layers add is large, and norms take it out again."""
    folder = make_moderngena(tmp_path / "c")
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if name.endswith("Wo.weight"):
            tensors[name] *= 4000.0
    save_file(tensors, folder / "model.safetensors")
    bundle = converted(folder)
    fidelity = bundle.manifest.fidelity
    assert fidelity["graph"]["residual_scale_log2"] < 0
    assert fidelity["flag"] == "expected"


def test_a_window_needs_its_positions(tmp_path: Path) -> None:
    folder = make_moderngena(tmp_path / "c", max_position_embeddings=512)
    with pytest.raises(CheckpointError, match="512 positions; windows of 1024"):
        converted(folder)


def test_chunks_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    folder = make_moderngena(tmp_path / "c")
    options = ONE_LENGTH.model_copy(update={"ffn_chunks": 3})
    with pytest.raises(GenaError, match=r"128 channels.*3 chunks"):
        convert(str(folder), output=tmp_path / "b", options=options)


def test_two_conversions_give_the_same_bytes(tmp_path: Path) -> None:
    folder = make_moderngena(tmp_path / "c")
    first = convert(str(folder), output=tmp_path / "one", options=ONE_LENGTH)
    second = convert(str(folder), output=tmp_path / "two", options=ONE_LENGTH)
    assert first.manifest.fingerprint == second.manifest.fingerprint
