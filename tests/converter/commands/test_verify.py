"""`gena verify`, on a bundle that passes."""

import json
import shutil
from pathlib import Path

import pytest

from converter.bundle.opening import Bundle
from converter.cli import main
from tools.seeded_checkpoints import make_checkpoint


def test_verify_prints_the_report(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tiny_bundle.path)]) == 0
    shown = capsys.readouterr().out
    assert tiny_bundle.manifest.fingerprint in shown
    assert "expected  package, fp32 arithmetic" in shown
    assert "precision fp16: every gate passes as expected" in shown
    assert "(0 in the encoder), 0.0% of the arithmetic; 1 segment on it" in shown


def test_verify_as_json_with_layers_and_head(
    tiny_bundle: Bundle, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["verify", str(tiny_bundle.path), "--layers", "--model", str(tiny_checkpoint)]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["flag"] == "expected"
    assert [layer["layer"] for layer in document["layers"]] == ["embedding", "0", "1"]
    assert document["head"]["top1_agreement"] == 1.0
    assert document["engine"]["segments"] == 1
    assert document["precision"]["chosen"] == "fp16"


def test_verify_says_how_to_name_a_checkpoint_that_was_a_folder(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tiny_bundle.path), "--layers"]) == 1
    assert "with --model" in capsys.readouterr().err


def test_verify_wants_the_bundles_own_checkpoint(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", num_hidden_layers=1)
    assert main(["verify", str(tiny_bundle.path), "--model", str(checkpoint)]) == 1
    assert "is not the checkpoint" in capsys.readouterr().err


def test_verify_of_an_altered_bundle_is_an_error(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_bundle.path, tmp_path / "b")
    (weights,) = (tmp_path / "b").rglob("weight.bin")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert main(["verify", str(tmp_path / "b")]) == 1
    assert "weight.bin was altered" in capsys.readouterr().err
