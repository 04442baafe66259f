"""What is known of the published checkpoints: the parts of their `config.json` that count.

From the training configurations of AIRI-Institute/GENA_LM and modernGENA's export code; the hub's
own files were not seen. docs/checkpoints.md tells what the converter makes of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 3,
    "position_embedding_type": "absolute",
    "pre_layer_norm": True,
    "last_layer_norm": False,
    "type_vocab_size": 2,
    "vocab_size": 32000,
}
_LAST_NORM = {"last_layer_norm": True}
_BERT_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-5,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
}
_SPARSE = {
    "max_position_embeddings": 4096,
    "position_embedding_type": "rotary",
    "sparse_attention": {"num_heads": 12, "block": 64},
}
_MODERN: dict[str, Any] = {
    "model_type": "modernbert",
    "hidden_activation": "gelu",
    "hidden_size": 768,
    "intermediate_size": 1152,
    "norm_eps": 1e-5,
    "max_position_embeddings": 1024,
    "num_attention_heads": 12,
    "num_hidden_layers": 22,
    "pad_token_id": 3,
    "global_attn_every_n_layers": 3,
    "local_attention": 128,
    "global_rope_theta": 10_000.0,
    "local_rope_theta": 10_000.0,
    "vocab_size": 32768,
}
_MODERN_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 2624,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
}


@dataclass(frozen=True)
class Published:
    """A checkpoint on the hub.

    Attributes:
        name: of the hub id, without its owner.
        config: the keys of its `config.json` that change the arithmetic.
        tokenizer: whose it is.
        is_certain: whether all of it is known; else where norms stand is not.
    """

    name: str
    config: Mapping[str, Any]
    tokenizer: str
    is_certain: bool = True


CONVERTED = (
    Published("gena-lm-bert-base", _BERT, "its own (human)"),
    Published("gena-lm-bert-base-t2t", _BERT, "t2t"),
    Published("gena-lm-bert-base-t2t-multi", _BERT, "t2t"),
    Published("gena-lm-bert-base-lastln-t2t", _BERT | _LAST_NORM, "t2t"),
    Published("gena-lm-bert-large-t2t", _BERT | _BERT_LARGE | _LAST_NORM, "t2t"),
    Published("gena-lm-bert-base-fly", _BERT, "its own", is_certain=False),
    Published("gena-lm-bert-base-athaliana", _BERT, "its own", is_certain=False),
    Published("gena-lm-bert-base-yeast", _BERT | _LAST_NORM, "its own"),
    Published("moderngena-base", _MODERN, "t2t"),
    Published("moderngena-large", _MODERN | _MODERN_LARGE, "t2t"),
)
REFUSED = (
    Published("gena-lm-bigbird-base-t2t", _BERT | {"model_type": "big_bird"}, "t2t"),
    Published("gena-lm-bigbird-base-sparse", _BERT | _SPARSE, "its own (human)"),
    Published("gena-lm-bigbird-base-sparse-t2t", _BERT | _SPARSE, "t2t"),
)
