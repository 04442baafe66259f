"""modernGENA's files are read as strictly as BERT's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from converter.checkpoint.files import find_checkpoint
from converter.errors import CheckpointError
from converter.network.heads import served_part
from converter.network.loading import Checkpoint, load_checkpoint
from tools.seeded_moderngena import make_moderngena

GATE = "layers.1.mlp.Wi.weight"
Edit = Callable[[dict[str, Tensor]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_moderngena(tmp_path / "checkpoint", num_hidden_layers=4)


def load(folder: Path) -> Checkpoint:
    return load_checkpoint(find_checkpoint(str(folder)))


def stored(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def edit(folder: Path, change: Edit) -> None:
    tensors = stored(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_every_weight_of_the_network_is_the_tensor_of_the_file(tmp_path: Path, prefix: str) -> None:
    folder = make_moderngena(tmp_path / "c", prefix=prefix, num_hidden_layers=4)
    checkpoint, tensors = load(folder), stored(folder)
    state = checkpoint.encoder().state_dict()
    for name, loaded in state.items():
        assert torch.equal(loaded, tensors[prefix + name]), name
    left = {name.removeprefix("model.") for name in tensors} - state.keys()
    assert left == {"head.dense.weight", "head.norm.weight", "decoder.bias"}
    assert "layers.0.attn_norm.weight" not in state
    assert checkpoint.head is not None


def test_what_is_left_out_is_told(folder: Path) -> None:
    assert served_part(load(folder).left_out) == (
        "the encoder; left out: masked-language-model decoder, prediction head"
    )


def test_a_tied_decoder_may_be_written_down(folder: Path) -> None:
    words = stored(folder)["model.embeddings.tok_embeddings.weight"]
    edit(folder, lambda tensors: tensors.update({"decoder.weight": words.clone()}))
    assert load(folder).head is not None


def test_a_classifier_is_left_out_by_name(folder: Path) -> None:
    def fine_tune(tensors: dict[str, Tensor]) -> None:
        del tensors["decoder.bias"]
        tensors |= {"classifier.weight": torch.ones(3, 64), "classifier.bias": torch.ones(3)}

    edit(folder, fine_tune)
    raw = json.loads((folder / "config.json").read_text())
    raw |= {"architectures": ["ModernBertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(raw))
    checkpoint = load(folder)
    assert "sequence classifier of 3 labels" in served_part(checkpoint.left_out)
    assert checkpoint.head is None


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.4.mlp.Wi.weight",  # a layer more than the config says
        "model.layers.0.attn_norm.weight",  # which the first layer has not
        "model.layers.1.mlp.Wi.bias",
        "model.final_norm.bias",
        "layers.5.attn.Wo.weight",  # beside model.: which one is meant?
        "model.bert.embeddings.word_embeddings.weight",
    ],
)
def test_any_other_tensor_is_an_error(folder: Path, name: str) -> None:
    edit(folder, lambda tensors: tensors.update({name: torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=name.removeprefix("model.")):
        load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("model." + GATE), f"1 encoder weights are missing: {GATE}"),
        (lambda tensors: tensors.update({"model." + GATE: torch.zeros(128, 64)}), "shape"),
        (lambda tensors: tensors["model." + GATE].fill_(torch.nan), "not finite"),
    ],
    ids=["missing", "not gated", "not finite"],
)
def test_a_weight_that_is_none_is_named(folder: Path, change: Edit, words: str) -> None:
    edit(folder, change)
    with pytest.raises(CheckpointError, match=GATE) as caught:
        load(folder)
    assert words in str(caught.value)


def test_more_layers_than_the_file_has_cost_nothing(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**raw, "num_hidden_layers": 10**7}))
    with pytest.raises(CheckpointError, match="holds 4 encoder layers"):
        load(folder)
