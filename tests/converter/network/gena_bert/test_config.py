import json
from typing import Any

import pytest

from converter.errors import CheckpointError, UnsupportedModelError
from converter.network.config import read_encoder_config
from converter.network.gena_bert.config import GenaBertConfig
from tests.support.paths import SHARED
from tools.seeded_checkpoints import config_dict

OFFICIAL = SHARED / "data" / "configs"


def official(name: str) -> dict[str, Any]:
    path = OFFICIAL / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    raw: dict[str, Any] = json.loads(path.read_text())
    return raw


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "L12-H768-A12-V32k-preln",
            GenaBertConfig(32000, 768, 12, 12, 3072, 512, 2, 1e-12, 3, True, False),
        ),
        (
            "L12-H768-A12-V32k-preln-lastln",
            GenaBertConfig(32000, 768, 12, 12, 3072, 512, 2, 1e-12, 3, True, True),
        ),
        (
            "L24-H1024-A16-V32k-preln-lastln",
            GenaBertConfig(32000, 1024, 24, 16, 4096, 512, 2, 1e-5, 3, True, True),
        ),
    ],
)
def test_official_dense_models_are_read_as_published(name: str, expected: GenaBertConfig) -> None:
    found = read_encoder_config(official(name))
    assert found == expected
    assert found.head_size == 64


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("L12-H768-A12-V32k-L4096-preln-sparse-rope", "position_embedding_type='rotary'"),
        ("hf_bigbird_L12-H768-A12-V32k-L4096", "model_type='big_bird'"),
    ],
)
def test_official_sparse_models_are_refused_by_name(name: str, key: str) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        read_encoder_config(official(name))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "big_bird"),
        ("model_type", "roberta"),
        ("hidden_act", "gelu_new"),
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
        ("position_embedding_type", "relative_key_query"),
        ("position_embedding_type", "rotary"),
        ("sparse_attention", {"block": 64}),
        ("sparse_config_cls", "deepspeed.ops.sparse_attention:BigBirdSparsityConfig"),
        ("attention_type", "block_sparse"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("use_bias", False),
    ],
)
def test_other_arithmetic_is_refused_with_its_key_and_value(key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read_encoder_config(config_dict(**{key: value}))
    assert f"{key}=" in str(caught.value)
    assert str(value)[:20] in str(caught.value)
    assert caught.value.code == "checkpoint.unsupported"


def test_keys_without_effect_on_inference_are_ignored() -> None:
    plain = read_encoder_config(config_dict())
    decorated = config_dict(
        auto_map={"AutoModel": "evil.Model"},
        torch_dtype="float16",
        hidden_dropout_prob=0.5,
        id2label={"0": "promoter"},
        problem_type="single_label_classification",
        sparse_attention=None,
        hidden_act=None,
    )
    assert read_encoder_config(decorated) == plain


def test_absent_switches_take_the_published_defaults() -> None:
    raw = config_dict()
    for key in ("pre_layer_norm", "last_layer_norm", "layer_norm_eps"):
        del raw[key]
    classic = read_encoder_config(raw)
    assert (classic.pre_layer_norm, classic.last_layer_norm) == (False, False)
    assert classic.layer_norm_eps == 1e-12
    # `last_layer_norm` follows `pre_layer_norm`, and only where nothing else is said.
    assert read_encoder_config({**raw, "pre_layer_norm": True}).last_layer_norm
    assert not read_encoder_config(
        {**raw, "pre_layer_norm": True, "last_layer_norm": False}
    ).last_layer_norm
    assert read_encoder_config({**raw, "last_layer_norm": True}).last_layer_norm


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", "768"),
        ("hidden_size", 64.0),
        ("hidden_size", True),
        ("hidden_size", 0),
        ("hidden_size", 65),  # two heads
        ("num_attention_heads", -2),
        ("num_hidden_layers", None),
        ("intermediate_size", []),
        ("vocab_size", {}),
        ("max_position_embeddings", 0),
        ("type_vocab_size", 0),
        ("pad_token_id", None),
        ("pad_token_id", 400),
        ("pad_token_id", -1),
        ("pad_token_id", True),
        ("pre_layer_norm", "true"),
        ("pre_layer_norm", 1),
        ("last_layer_norm", 0),
        ("layer_norm_eps", "1e-12"),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", 1.0),
        ("layer_norm_eps", float("nan")),
        ("layer_norm_eps", True),
        ("layer_norm_eps", None),
    ],
)
def test_values_without_sense_are_refused_by_key(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=key):
        read_encoder_config(config_dict(**{key: value}))


@pytest.mark.parametrize(
    "key", ["model_type", "hidden_size", "num_hidden_layers", "vocab_size", "pad_token_id"]
)
def test_a_missing_key_is_named(key: str) -> None:
    raw = config_dict()
    del raw[key]
    with pytest.raises(CheckpointError, match=key):
        read_encoder_config(raw)


def test_a_long_value_does_not_flood_the_message() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read_encoder_config(config_dict(sparse_attention={"layout": list(range(10_000))}))
    assert len(str(caught.value)) < 300
