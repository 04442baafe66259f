import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from converter.checkpoint.files import find_checkpoint
from converter.errors import CheckpointError, UnsupportedModelError
from converter.network.config import read_config
from converter.network.loading import Checkpoint, load_checkpoint
from tools.seeded_checkpoints import make_checkpoint

WORDS = "embeddings.word_embeddings.weight"
QUERY = "encoder.layer.1.attention.self.query.weight"
BIN = "pytorch_model.bin"
Edit = Callable[[dict[str, Tensor]], Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "checkpoint")


def load(folder: Path) -> Checkpoint:
    return load_checkpoint(find_checkpoint(str(folder)))


def stored(folder: Path) -> dict[str, Tensor]:
    """The file's tensors, read without the converter."""
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    loaded: dict[str, Tensor] = torch.load(folder / BIN, weights_only=True)
    return loaded


def edit(folder: Path, change: Edit) -> None:
    tensors = stored(folder)
    change(tensors)
    torch.save(tensors, folder / BIN)


@pytest.mark.parametrize("layout", ["bin", "safetensors"])
@pytest.mark.parametrize("prefix", ["bert.", ""])
@pytest.mark.parametrize("pre_layer_norm", [True, False])
def test_every_weight_of_the_network_is_the_tensor_of_the_file(
    tmp_path: Path, layout: Any, prefix: str, pre_layer_norm: bool
) -> None:
    folder = make_checkpoint(
        tmp_path / "c",
        layout=layout,
        prefix=prefix,
        pre_layer_norm=pre_layer_norm,
        last_layer_norm=True,
    )
    checkpoint = load(folder)
    tensors = stored(folder)
    state = checkpoint.encoder().state_dict()
    for name, loaded in state.items():
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, tensors[prefix + name]), name
    # Nothing of the encoder stays behind in the file.
    left = {n.removeprefix("bert.") for n in tensors} - state.keys()
    assert all(n.startswith(("cls.", "pooler.", "embeddings.position_ids")) for n in left), left
    assert "encoder.last_layer_ln.weight" in state
    norm = "pre_attention_ln" if pre_layer_norm else "attention.output.LayerNorm"
    assert f"encoder.layer.1.{norm}.weight" in state


def test_safetensors_are_preferred(folder: Path) -> None:
    make_checkpoint(folder, layout="safetensors", seed=7)
    found = load(folder).weights[QUERY]
    assert torch.equal(found, load_file(folder / "model.safetensors")["bert." + QUERY])
    assert not torch.equal(found, torch.load(folder / BIN)["bert." + QUERY])


def test_half_precision_files_are_widened_exactly(folder: Path) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        tensors.update({n: t.half() for n, t in tensors.items() if t.is_floating_point()})

    edit(folder, halve)
    network = load(folder).encoder()
    weight = network.state_dict()[QUERY]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, stored(folder)["bert." + QUERY].float())
    assert torch.equal(weight.half().float(), weight)


def test_the_network_is_for_inference(folder: Path) -> None:
    network = load(folder).encoder()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "cls.predictions.decoder.bias",
        "cls.seq_relationship.bias",
        "bert.pooler.dense.weight",
        "pooler.dense.weight",
        "classifier.weight",
        "classifier.dense.weight",
        "bert.embeddings.position_ids",
        "bert.embeddings.token_type_ids",
    ],
)
def test_known_tensors_outside_the_encoder_are_ignored(folder: Path, name: str) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors.pop("bert." + name, None)  # the fixture's own, by the other spelling
        tensors[name] = torch.full((3,), torch.nan)

    edit(folder, add)
    checkpoint = load(folder)
    assert not any(key in name for key in checkpoint.weights)


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.2.attention.self.query.weight",  # a layer more than the config says
        "bert.encoder.last_layer_ln.weight",  # a last norm that the config does not have
        "bert.encoder.layer.0.attention.self.rotary_emb.inv_freq",
        "bert.encoder.layer.0.attention.output.LayerNorm.weight",
        "model.bert.pooler.dense.weight",
        "encoder.layer.5.attention.self.query.weight",  # beside bert.: which one is meant?
        "optimizer",
    ],
)
def test_any_other_tensor_is_an_error(folder: Path, name: str) -> None:
    edit(folder, lambda tensors: tensors.update({name: torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=name.removeprefix("bert.")):
        load(folder)


def test_missing_weights_are_counted_and_named(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.pop("bert." + QUERY))
    with pytest.raises(CheckpointError, match=f"1 encoder weights are missing: {QUERY}"):
        load(folder)


def test_a_file_of_another_network_is_an_error(folder: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2)}, folder / BIN)
    with pytest.raises(CheckpointError, match=r"holds 0 encoder layers.*Does config.json belong"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [(QUERY, (64, 65)), (QUERY, (4096,)), (WORDS, (401, 64)), (WORDS, (1, 400, 64))],
)
def test_a_wrong_shape_is_an_error(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    edit(folder, lambda tensors: tensors.update({"bert." + name: torch.zeros(shape)}))
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert name in str(caught.value)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", [QUERY, WORDS, "embeddings.LayerNorm.bias"])
def test_numbers_that_are_not_finite_are_an_error(folder: Path, name: str, bad: float) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors["bert." + name].view(-1)[-1] = bad

    edit(folder, spoil)
    with pytest.raises(CheckpointError, match=f"{name}.*not finite"):
        load(folder)


def test_integers_are_no_weights(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({"bert." + QUERY: torch.ones(64, 64).int()}))
    with pytest.raises(CheckpointError, match=QUERY):
        load(folder)


def test_the_head_is_found_where_it_is_complete(folder: Path) -> None:
    tensors = stored(folder)
    head = load(folder).head
    assert head is not None
    for name, weight in head.items():
        assert torch.equal(weight, tensors["cls.predictions." + name]), name
    edit(folder, lambda t: t.pop("cls.predictions.transform.LayerNorm.bias"))
    assert load(folder).masked_language_model_head() is None


def test_the_head_brings_the_matrix_it_is_tied_to(folder: Path) -> None:
    """Logits by the published file's own tensors, the tied decoder written out in it included."""
    tensors = stored(folder)
    head = load(folder).masked_language_model_head()
    assert head is not None
    hidden = torch.randn(7, 64, generator=torch.Generator().manual_seed(0))
    part = {n.removeprefix("cls.predictions."): t for n, t in tensors.items()}
    transformed = nn.functional.gelu(
        hidden @ part["transform.dense.weight"].T + part["transform.dense.bias"]
    )
    normed = nn.functional.layer_norm(
        transformed,
        (64,),
        part["transform.LayerNorm.weight"],
        part["transform.LayerNorm.bias"],
        eps=1e-12,
    )
    torch.testing.assert_close(head(hidden), normed @ part["decoder.weight"].T + part["bias"])


def test_a_head_of_another_vocabulary_is_not_used(folder: Path) -> None:
    edit(folder, lambda t: t.update({"cls.predictions.bias": torch.zeros(17)}))
    assert load(folder).head is None


def test_a_head_that_is_not_finite_is_not_used(folder: Path) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors["cls.predictions.transform.dense.bias"][5] = torch.nan

    edit(folder, spoil)
    assert load(folder).head is None


def test_a_head_in_a_fine_tuned_file_without_one_is_none(folder: Path) -> None:
    def fine_tune(tensors: dict[str, Tensor]) -> None:
        for name in [n for n in tensors if n.startswith("cls.")]:
            del tensors[name]
        tensors["classifier.weight"], tensors["classifier.bias"] = torch.ones(2, 64), torch.ones(2)

    edit(folder, fine_tune)
    assert load(folder).masked_language_model_head() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"bert"', "\xff"])
def test_a_broken_config_is_an_error(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(folder)


def test_an_unsupported_config_is_refused_before_the_weights_are_read(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**raw, "position_embedding_type": "rotary"}))
    (folder / BIN).write_bytes(b"not read")
    with pytest.raises(UnsupportedModelError, match="rotary"):
        load(folder)


def test_a_config_of_another_size_is_an_error(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**raw, "num_hidden_layers": 1}))
    assert read_config(folder / "config.json").num_hidden_layers == 1
    with pytest.raises(CheckpointError, match=r"encoder\.layer\.1.*Does config\.json belong"):
        load(folder)


def test_safetensors_of_a_tensor_that_is_not_finite(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "c", layout="safetensors")
    tensors = stored(folder)
    tensors["bert." + QUERY][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        load(folder)
