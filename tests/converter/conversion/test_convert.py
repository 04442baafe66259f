"""Checkpoint in, verified bundle out: what is built, when it is built again, what is refused."""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.bundle.opening import Bundle, open_bundle
from converter.checkpoint.files import SHIPPED_MODELS, find_checkpoint
from converter.conversion.convert import convert
from converter.errors import CheckpointError, CheckpointUnavailableError, FidelityError
from converter.options import BuildOptions
from tests.support.conversions import (
    BIN,
    GATES,
    ONE_LENGTH,
    edit,
    served_agreement,
    verdicts,
)
from tools.seeded_checkpoints import make_checkpoint, make_tokenizer


class Stages:
    """Collects what `convert` reports."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float, str]] = []

    def __call__(self, stage: str, fraction: float, message: str) -> None:
        self.seen.append((stage, fraction, message))

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(stage for stage, _, _ in self.seen))


def test_a_bundle_says_where_it_comes_from_and_how_good_it_is(
    tiny_bundle: Bundle, tiny_checkpoint: Path
) -> None:
    manifest = open_bundle(tiny_bundle.path).manifest
    assert manifest.model == tiny_checkpoint.name
    assert manifest.commit is None
    assert manifest.checkpoint_sha256 == find_checkpoint(str(tiny_checkpoint)).sha256
    assert manifest.lengths == [128, 256, 512]
    assert (manifest.hidden_size, manifest.pad_token_id) == (64, 3)
    assert manifest.precision == {
        "chosen": "fp16",
        "reason": "every gate passes as expected",
        "cures": [],
        "fp32_modules": [],
        "limited_by": [],
    }
    assert verdicts(tiny_bundle) == dict.fromkeys(GATES, "expected")
    assert manifest.fidelity["flag"] == "expected"
    engine = manifest.fidelity["engine"]
    assert (engine["segments"], engine["encoder_operations_off"]) == (1, 0)
    assert engine["floating_point_operations_off"] == 0
    assert manifest.fidelity["head"]["top1_agreement"] == 1.0
    assert {"torch", "coremltools", "numpy"} <= manifest.versions.keys()
    names = {path.name for path in tiny_bundle.path.iterdir()}
    assert names == {"model.mlpackage", "tokenizer.json", "golden.npz", "manifest.json"}
    umask = os.umask(0)
    os.umask(umask)
    for path in (tiny_bundle.path, *tiny_bundle.path.rglob("*")):
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    assert tiny_bundle.tokenizer_json == (tiny_checkpoint / "tokenizer.json").read_bytes()


def test_what_is_served_is_the_checkpoints_network(
    tiny_bundle: Bundle, tiny_checkpoint: Path
) -> None:
    assert served_agreement(tiny_bundle, tiny_checkpoint) >= 70


def test_a_bundle_that_is_up_to_date_is_not_built_again(
    tiny_bundle: Bundle, tiny_checkpoint: Path
) -> None:
    before = {p: p.stat().st_mtime_ns for p in tiny_bundle.path.rglob("*")}
    stages = Stages()
    again = convert(str(tiny_checkpoint), output=tiny_bundle.path, on_progress=stages)
    assert again.manifest == tiny_bundle.manifest
    assert stages.names == ["fetch", "publish"]
    assert stages.seen[-1][1] == 1.0
    assert {p: p.stat().st_mtime_ns for p in tiny_bundle.path.rglob("*")} == before


def test_changes_are_built_again(tmp_path: Path) -> None:
    """Other options; other weights; a damaged bundle: each is a new build, the rest is not."""
    folder = make_checkpoint(tmp_path / "c", num_hidden_layers=1)
    output = tmp_path / "out"

    def build(options: BuildOptions = ONE_LENGTH) -> tuple[Bundle, bool]:
        stages = Stages()
        bundle = convert(str(folder), output=output, options=options, on_progress=stages)
        return bundle, "convert" in stages.names

    first, built = build()
    assert built
    second, built = build(BuildOptions(target="macos14", ffn_chunks=4))
    assert built
    assert second.manifest.options.ffn_chunks == 4
    assert second.manifest.fingerprint != first.manifest.fingerprint
    assert verdicts(second) == dict.fromkeys(GATES, "expected")
    # New weights under the same name, as a new revision of a lab's own checkpoint.
    make_checkpoint(folder, num_hidden_layers=1, seed=9)
    third, built = build(BuildOptions(target="macos14", ffn_chunks=4))
    assert built
    assert third.manifest.checkpoint_sha256 != second.manifest.checkpoint_sha256
    assert served_agreement(third, folder) >= 70
    (output / "model.mlpackage" / "Manifest.json").write_text("{}")
    repaired, built = build(BuildOptions(target="macos14", ffn_chunks=4))
    assert built
    # Two builds of the same inputs have one fingerprint.
    assert repaired.manifest.fingerprint == third.manifest.fingerprint
    assert not build(BuildOptions(target="macos14", ffn_chunks=4))[1]
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith("lock")) == ["c", "out"]


def test_a_branch_that_moves_meanwhile_gives_a_bundle_of_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question to the hub finds another commit: what is read is what was found first."""
    commits = [
        make_checkpoint(tmp_path / name, num_hidden_layers=1, seed=seed)
        for name, seed in (("first", 0), ("second", 9))
    ]
    answers = iter(commits)
    monkeypatch.setattr("converter.checkpoint.files.fetch_files", lambda *_: next(answers))
    monkeypatch.setattr("converter.checkpoint.files.fetch_first", lambda *_: None)
    bundle = convert("lab/model", output=tmp_path / "out", options=ONE_LENGTH)
    assert (bundle.manifest.model, bundle.manifest.commit) == ("lab/model", "first")
    assert bundle.manifest.matches(find_checkpoint(str(commits[0])))
    assert served_agreement(bundle, commits[0]) >= 70


def test_a_checkpoint_that_changes_while_it_is_converted_is_refused(tmp_path: Path) -> None:
    """The manifest would name the weights that were there before, or those that came after."""
    folder = make_checkpoint(tmp_path / "c", num_hidden_layers=1)

    def change(stage: str, _fraction: float, _message: str) -> None:
        if stage == "verify":
            with (folder / BIN).open("ab") as file:
                file.write(b"\0")

    with pytest.raises(CheckpointError, match="changed while they were converted"):
        convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH, on_progress=change)
    assert not (tmp_path / "out").exists()


def test_there_is_no_manifest_before_the_package_is_verified(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c", num_hidden_layers=1)
    manifests: dict[str, int] = {}

    def look(stage: str, _fraction: float, _message: str) -> None:
        found = len(list(tmp_path.glob(".out.building-*/manifest.json")))
        manifests[stage] = max(found, manifests.get(stage, 0))

    convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH, on_progress=look)
    assert manifests == {"fetch": 0, "read": 0, "convert": 0, "verify": 0, "publish": 1}
    assert open_bundle(tmp_path / "out").manifest.fidelity["flag"] == "expected"


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_layer_norm": True, "last_layer_norm": True},
        {"pre_layer_norm": False},
        {"pre_layer_norm": True, "last_layer_norm": True, "layer_norm_eps": 1e-5},
    ],
    ids=["pre-LN with last norm", "post-LN", "eps 1e-5"],
)
def test_every_kind_of_model_converts_and_is_served(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "c", layout="safetensors", prefix="", **changes)
    bundle = convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)
    assert verdicts(bundle) == dict.fromkeys(GATES, "expected")
    assert bundle.config.last_layer_norm is changes.get("last_layer_norm", False)
    assert served_agreement(bundle, folder) >= 70


def test_the_embedding_on_the_host_is_served_the_same(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c", num_hidden_layers=1)
    options = BuildOptions(target="macos14", embedding="host")
    bundle = convert(str(folder), output=tmp_path / "out", options=options)
    table = np.load(bundle.path / "embeddings.npy")
    assert (table.shape, table.dtype) == ((400, 64), np.float16)
    assert verdicts(bundle) == dict.fromkeys(GATES, "expected")
    assert served_agreement(bundle, folder) >= 70


def test_the_shipped_model_converts(tmp_path: Path) -> None:
    folder = SHIPPED_MODELS["gena-mini"]
    if not (folder / "model.safetensors").is_file():
        pytest.skip("models/gena-mini is not here")
    bundle = convert("gena-mini", output=tmp_path / "out")
    assert bundle.manifest.model == "gena-mini"
    assert verdicts(bundle) == dict.fromkeys(GATES, "expected")
    assert bundle.manifest.fidelity["head"]["top1_agreement"] >= 0.95
    assert served_agreement(bundle, folder) >= 70


def test_a_fingerprint_does_not_depend_on_the_folders_name(tmp_path: Path) -> None:
    """Nor on the hub's commit: the same files are the same model."""
    folder = make_checkpoint(tmp_path / "K", num_hidden_layers=1)
    shutil.copytree(folder, tmp_path / "K2")
    first, second = (
        convert(str(tmp_path / name), output=tmp_path / f"out-{name}", options=ONE_LENGTH)
        for name in ("K", "K2")
    )
    assert (first.manifest.model, second.manifest.model) == ("K", "K2")
    assert first.manifest.fingerprint == second.manifest.fingerprint


def test_a_refusal_leaves_the_bundle_that_is_there(tiny_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle.path, tmp_path / "out")
    folder = make_checkpoint(tmp_path / "c", outliers=200)
    with pytest.raises(FidelityError):
        convert(
            str(folder),
            output=tmp_path / "out",
            options=BuildOptions(target="macos14", precision="fp16"),
        )
    assert open_bundle(tmp_path / "out").manifest == tiny_bundle.manifest


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c")
    make_tokenizer(500).save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"500 tokens, the network only 400"):
        convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)
    assert not (tmp_path / "out").exists()


def test_another_padding_id_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c", pad_token_id=0)
    with pytest.raises(CheckpointError, match=r"pads with 0, tokenizer\.json with 3"):
        convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)


def test_too_few_positions_are_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c", max_position_embeddings=256)
    with pytest.raises(CheckpointError, match="256 positions"):
        convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)


def test_a_network_that_overflows_in_fp32_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c", last_layer_norm=False)
    edit(folder, encoder__layer__1__output__dense__weight=3e38)
    with pytest.raises(CheckpointError, match=r"NaN or infinity|not finite"):
        convert(str(folder), output=tmp_path / "out", options=ONE_LENGTH)


def test_without_a_checkpoint_nothing_is_touched(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnavailableError):
        convert(str(tmp_path / "absent"), output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_is_plain_json(tiny_bundle: Bundle) -> None:
    text = (tiny_bundle.path / "manifest.json").read_text()

    def no_constants(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(text, parse_constant=no_constants)["model"] == "checkpoint"
