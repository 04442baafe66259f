"""Every value is read from the file, and what is not understood is refused."""

import dataclasses
from typing import Any

import pytest

from converter.errors import CheckpointError, UnsupportedModelError
from converter.network.config import read_encoder_config
from converter.network.moderngena.config import ModernGenaConfig
from tools.seeded_moderngena import MODERNGENA_BASE, MODERNGENA_LARGE, moderngena_config_dict

OF_BOTH = {"full_attention": {"rope_theta": 1e4}, "sliding_attention": {"rope_theta": 5e3}}


def read(**changes: Any) -> ModernGenaConfig:
    config = read_encoder_config(moderngena_config_dict(**changes))
    assert isinstance(config, ModernGenaConfig)
    return config


def without(*keys: str, **changes: Any) -> dict[str, Any]:
    raw = moderngena_config_dict(**changes)
    return {key: value for key, value in raw.items() if key not in keys}


@pytest.mark.parametrize("geometry", [MODERNGENA_BASE, MODERNGENA_LARGE], ids=["base", "large"])
def test_the_published_sizes_are_read(geometry: dict[str, int]) -> None:
    config = read(**geometry)
    for key, value in geometry.items():
        assert getattr(config, key) == value
    assert (config.window, config.head_size, config.reach) == (1024, 64, 64)
    assert config.global_layers == tuple(range(0, geometry["num_hidden_layers"], 3))
    structures = [config.layer(index) for index in range(4)]
    assert [s.attention_norm for s in structures] == [False, True, True, True]
    assert [s.reach for s in structures] == [None, 64, 64, None]


@pytest.mark.parametrize("thetas", [(1e4, 1e4), (160_000.0, 1e4)])
def test_what_transformers_writes_is_what_transformers_reads(thetas: tuple[float, float]) -> None:
    """Old keys through the library's own class, and back as it writes them today."""
    from transformers import ModernBertConfig

    old = moderngena_config_dict(
        num_hidden_layers=7, global_rope_theta=thetas[0], local_rope_theta=thetas[1]
    )
    written = ModernBertConfig(**old).to_dict()
    assert "rope_parameters" in written
    config = read_encoder_config(written)
    assert config == read_encoder_config(old)
    assert isinstance(config, ModernGenaConfig)
    assert (config.global_rope_theta, config.local_rope_theta) == thetas
    assert config.global_layers == (0, 3, 6)


def test_kinds_of_layers_may_stand_one_by_one() -> None:
    kinds = ["sliding_attention", "full_attention"]
    assert read(layer_types=kinds, global_attn_every_n_layers=None).global_layers == (1,)


def test_ids_beyond_the_vocabulary_and_what_is_for_training_are_ignored() -> None:
    plain = read()
    decorated = read(
        bos_token_id=10**6,
        eos_token_id=None,
        embedding_dropout=0.5,
        reference_compile=True,
        repad_logits_with_grad=False,
        position_embedding_type="absolute",  # which ModernBERT's own files say, and nobody reads
        layer_norm_eps=1e-12,
        auto_map={"AutoModel": "evil.Model"},
        sliding_window=64,  # which is what local_attention says
        head_dim=32,
    )
    assert decorated == plain


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_activation", "silu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("norm_bias", True),
        ("is_decoder", True),
        ("rope_scaling", {"rope_type": "yarn"}),
        ("tie_word_embeddings", False),
        ("classifier_activation", "relu"),
        ("layer_types", ["full_attention", "chunked_attention"]),
    ],
)
def test_other_arithmetic_is_refused_with_its_key_and_value(key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{key}="):
        read(**{key: value})


@pytest.mark.parametrize("kind", ["full_attention", "sliding_attention"])
def test_another_rotary_embedding_is_refused(kind: str) -> None:
    parameters = {**OF_BOTH, kind: {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}
    with pytest.raises(UnsupportedModelError, match=f"rope_type='linear' for {kind}"):
        read_encoder_config(
            without("global_rope_theta", "local_rope_theta", rope_parameters=parameters)
        )


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        ("global_rope_theta", "global_rope_theta"),
        ("local_rope_theta", "local_rope_theta"),
        ("local_attention", "local_attention"),
        ("global_attn_every_n_layers", "global_attn_every_n_layers"),
        ("pad_token_id", "pad_token_id"),
    ],
)
def test_nothing_is_taken_for_granted(removed: str, named: str) -> None:
    """transformers' default thetas are not those that modernGENA was trained with."""
    with pytest.raises(CheckpointError, match=named):
        read_encoder_config(without(removed))


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": OF_BOTH},  # local: 5,000 here and 10,000 there
        {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
        {"rope_parameters": [1e4]},
        {"global_rope_theta": "10000"},
        {"local_rope_theta": 0},
        {"local_rope_theta": float("inf")},
        {"local_rope_theta": 10**400},  # which JSON can say, and no float
        {"sliding_window": 8},  # transformers then looks as far, whatever local_attention says
        {"head_dim": 16},  # and turns as many channels of each head
        {"local_attention": 0},
        {"layer_types": ["full_attention"]},
        {"layer_types": "full_attention"},
        {"num_attention_heads": 64, "hidden_size": 64 * 9},  # an odd head
        {"norm_eps": 0},
    ],
    ids=str,
)
def test_values_without_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        read(**changes)


def test_the_newer_keys_are_enough() -> None:
    raw = without("global_rope_theta", "local_rope_theta", rope_parameters=OF_BOTH)
    config = read_encoder_config(raw)
    assert config == dataclasses.replace(read(), local_rope_theta=5e3)


@pytest.mark.parametrize("model_type", ["t5", "nomic_bert", "", 7, ["bert"]])
def test_any_other_kind_is_refused_by_name(model_type: Any) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        read_encoder_config({**moderngena_config_dict(), "model_type": model_type})
    assert f"model_type={model_type!r}" in str(caught.value)
    assert "bert, modernbert" in str(caught.value)
