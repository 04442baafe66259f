"""What a published `config.json` says about a GENA-LM encoder of the BERT family, validated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from converter.network.config_values import (
    heads,
    padding_id,
    positive_int,
    require_values,
    small_number,
    switch,
)
from converter.network.structure import EncoderConfig, LayerStructure

# Keys that change the arithmetic, with the only value that this converter has.
# Everything else in a published config (dropout rates, auto_map, torch_dtype, labels, ...)
# has no effect on inference and is ignored.
_SUPPORTED_VALUES: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "sparse_attention": None,
    "sparse_config_cls": None,
    "attention_type": "original_full",
    "is_decoder": False,
    "add_cross_attention": False,
    "rescale_embeddings": False,
    "use_bias": True,
}


@dataclass(frozen=True)
class GenaBertConfig(EncoderConfig):
    """Geometry and switches of a dense GENA-LM encoder; names as in `config.json`."""

    window: ClassVar[int] = 512  # what all of the family were trained on

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    pad_token_id: int
    pre_layer_norm: bool
    last_layer_norm: bool
    model_type: Literal["bert"] = "bert"

    def layer(self, index: int) -> LayerStructure:  # noqa: ARG002
        """See `EncoderConfig`: all are alike."""
        return LayerStructure(norms="before" if self.pre_layer_norm else "behind")

    @property
    def has_position_table(self) -> bool:
        return True

    @property
    def has_last_norm(self) -> bool:
        return self.last_layer_norm

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "GenaBertConfig":
        """Read a parsed `config.json`.

        Absent switches take the values of the published code: `pre_layer_norm` false,
        `last_layer_norm` as `pre_layer_norm`.

        Raises:
            UnsupportedModelError: another architecture; the message names the key and its value.
            CheckpointError: a key is missing or has no sensible value.
        """
        require_values(raw, _SUPPORTED_VALUES, "dense BERT models of the GENA-LM family")
        hidden_size, num_attention_heads = heads(raw)
        vocab_size = positive_int(raw, "vocab_size")
        pre_layer_norm = switch(raw, "pre_layer_norm", default=False)
        return cls(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=positive_int(raw, "num_hidden_layers"),
            num_attention_heads=num_attention_heads,
            intermediate_size=positive_int(raw, "intermediate_size"),
            max_position_embeddings=positive_int(raw, "max_position_embeddings"),
            type_vocab_size=positive_int(raw, "type_vocab_size"),
            layer_norm_eps=small_number(raw, "layer_norm_eps", default=1e-12),
            pad_token_id=padding_id(raw, vocab_size),
            pre_layer_norm=pre_layer_norm,
            last_layer_norm=switch(raw, "last_layer_norm", default=pre_layer_norm),
        )
