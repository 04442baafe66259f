"""The reference against networks that we did not write: transformers' BERT and pre-LN RoBERTa."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converter.network.gena_bert.config import GenaBertConfig
from converter.network.gena_bert.reference import GenaEncoder, MaskedLanguageModelHead
from tools.seeded_checkpoints import config_dict, head_weights, random_weights

PAD = 3
# Sums in another order differ in the last bits of fp32; the values are of the order of 1 to 10.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def settings(**changes: Any) -> tuple[GenaBertConfig, dict[str, Tensor]]:
    config = GenaBertConfig.from_dict(config_dict(**changes))
    return config, random_weights(config, seed=3)


def reference(config: GenaBertConfig, weights: dict[str, Tensor]) -> GenaEncoder:
    network = GenaEncoder(config)
    network.load_state_dict(weights)
    return network.eval()


def geometry(config: GenaBertConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "layer_norm_eps": config.layer_norm_eps,
        "hidden_act": "gelu",
        "attn_implementation": "eager",
    }


def load_all(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Every weight is used, and every parameter of the network is given."""
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected
    # BERT's buffers of ids are no weights.
    assert all(name.endswith(("position_ids", "token_type_ids")) for name in missing), missing


def batch() -> tuple[Tensor, Tensor]:
    """Ids (3, 40) with 40, 23 and 2 tokens, and the mask of tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 400, (3, 40), generator=generator)
    for row, length in enumerate((40, 23, 2)):
        ids[row, 0], ids[row, length - 1] = 1, 2
        ids[row, length:] = PAD
    return ids, (ids != PAD).long()


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.1])
@pytest.mark.parametrize("width", [{}, {"hidden_size": 48, "num_attention_heads": 3}])
def test_post_norm_is_bert(eps: float, width: dict[str, int]) -> None:
    from transformers import BertConfig, BertModel

    config, weights = settings(pre_layer_norm=False, layer_norm_eps=eps, **width)
    bert = BertModel(BertConfig(**geometry(config), pad_token_id=PAD), add_pooling_layer=False)
    load_all(bert.eval(), weights)
    ids, mask = batch()
    with torch.no_grad():
        expected = bert(ids, attention_mask=mask).last_hidden_state
        found = reference(config, weights)(ids)
    assert expected.abs().max() > 1
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], **CLOSE)


def roberta(config: GenaBertConfig, weights: dict[str, Tensor]) -> Any:
    """The same arithmetic under other names.

    Position ids are given at each call: RoBERTa's own begin after the padding id.
    """
    from transformers import RobertaPreLayerNormConfig, RobertaPreLayerNormModel

    network = RobertaPreLayerNormModel(
        RobertaPreLayerNormConfig(**geometry(config), pad_token_id=PAD), add_pooling_layer=False
    )
    renamed = {}
    for name, weight in weights.items():
        theirs = (
            name.replace("pre_attention_ln", "attention.LayerNorm")
            .replace("post_attention_ln", "intermediate.LayerNorm")
            .replace("encoder.last_layer_ln", "LayerNorm")
        )
        renamed[theirs] = weight
    assert len(renamed) == len(weights)
    load_all(network.eval(), renamed)
    return network


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.1])
def test_pre_norm_with_last_norm_is_pre_norm_roberta(eps: float) -> None:
    config, weights = settings(pre_layer_norm=True, last_layer_norm=True, layer_norm_eps=eps)
    ids, mask = batch()
    positions = torch.arange(ids.shape[1])[None].expand_as(ids)
    with torch.no_grad():
        expected = roberta(config, weights)(
            ids, attention_mask=mask, position_ids=positions
        ).last_hidden_state
        found = reference(config, weights)(ids)
    assert expected.abs().max() > 1
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], **CLOSE)


def test_without_last_norm_the_output_is_what_the_norm_would_take() -> None:
    config, weights = settings(pre_layer_norm=True, last_layer_norm=True)
    network = roberta(config, weights)
    network.LayerNorm = nn.Identity()
    plain_config, _ = settings(pre_layer_norm=True, last_layer_norm=False)
    plain = {n: w for n, w in weights.items() if "last_layer_ln" not in n}
    ids, mask = batch()
    positions = torch.arange(ids.shape[1])[None].expand_as(ids)
    with torch.no_grad():
        expected = network(ids, attention_mask=mask, position_ids=positions).last_hidden_state
        found = reference(plain_config, plain)(ids)
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], **CLOSE)


def test_post_norm_with_a_last_norm_normalises_once_more() -> None:
    config, weights = settings(pre_layer_norm=False, last_layer_norm=True)
    plain_config, _ = settings(pre_layer_norm=False, last_layer_norm=False)
    plain = {n: w for n, w in weights.items() if "last_layer_ln" not in n}
    ids, _ = batch()
    with torch.no_grad():
        inner = reference(plain_config, plain)(ids)
        found = reference(config, weights)(ids)
    expected = nn.functional.layer_norm(
        inner,
        (64,),
        weights["encoder.last_layer_ln.weight"],
        weights["encoder.last_layer_ln.bias"],
        config.layer_norm_eps,
    )
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize(
    ("switches", "has_last_norm"),
    [
        ({"pre_layer_norm": True}, True),
        ({"pre_layer_norm": False}, False),
        ({"pre_layer_norm": True, "last_layer_norm": False}, False),
        ({"pre_layer_norm": False, "last_layer_norm": True}, True),
    ],
)
def test_the_last_norm_follows_the_config(switches: dict[str, bool], has_last_norm: bool) -> None:
    raw = config_dict()
    del raw["pre_layer_norm"], raw["last_layer_norm"]
    config = GenaBertConfig.from_dict({**raw, **switches})
    names = GenaEncoder(config).state_dict().keys()
    assert ("encoder.last_layer_ln.weight" in names) is has_last_norm


@pytest.mark.parametrize("pre_layer_norm", [True, False])
def test_padding_and_neighbours_do_not_reach_real_tokens(pre_layer_norm: bool) -> None:
    network = reference(*settings(pre_layer_norm=pre_layer_norm))
    ids, _ = batch()
    with torch.no_grad():
        alone = network(ids[1:2, :23])
        together = network(ids)[1:2, :23]
    torch.testing.assert_close(together, alone, **CLOSE)


@pytest.mark.parametrize(
    "switches",
    [{"pre_layer_norm": True, "last_layer_norm": True}, {"pre_layer_norm": False}],
)
def test_hidden_states_are_those_of_each_layer(switches: dict[str, bool]) -> None:
    """One layer fewer gives the state before the last layer."""
    config, weights = settings(**switches)
    ids, _ = batch()
    with torch.no_grad():
        states = reference(config, weights).hidden_states(ids)
        output = reference(config, weights)(ids)
    has_last_norm = switches.get("last_layer_norm", False)
    assert len(states) == 1 + 2 + has_last_norm
    assert torch.equal(states[-1], output)
    shorter, _ = settings(**{**switches, "last_layer_norm": False, "num_hidden_layers": 1})
    kept = {n: w for n, w in weights.items() if "layer.1." not in n and "last_layer" not in n}
    with torch.no_grad():
        torch.testing.assert_close(states[1], reference(shorter, kept)(ids), rtol=0, atol=0)


def test_the_head_is_berts() -> None:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLMPredictionHead

    config, weights = settings(layer_norm_eps=1e-5)
    words = weights["embeddings.word_embeddings.weight"]
    ours, theirs = (
        MaskedLanguageModelHead(config),
        BertLMPredictionHead(BertConfig(**geometry(config))),
    )
    head = head_weights(config)
    ours.load_state_dict(head)
    load_all(theirs, {**head, "decoder.weight": words, "decoder.bias": head["bias"]})
    hidden_states = torch.randn(7, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = theirs.eval()(hidden_states), ours.eval()(hidden_states, words)
    assert found.shape == (7, 400)
    torch.testing.assert_close(found, expected, **CLOSE)
