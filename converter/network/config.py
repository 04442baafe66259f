"""What a published `config.json` says about the encoder, validated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converter.errors import CheckpointError, UnsupportedModelError, brief_repr

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
_REQUIRED = frozenset({"model_type"})
# Far above any model; the product of two, in bytes, is still a size that can be written down.
_LARGEST = 2**24
# A head costs a dozen operations a layer, however small it is; GENA-LM's have 64.
_SMALLEST_HEAD = 8


@dataclass(frozen=True)
class EncoderConfig:
    """Geometry and switches of a dense GENA-LM encoder; names as in `config.json`."""

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

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "EncoderConfig":
        """Read a parsed `config.json`.

        Absent switches take the values of the published code: `pre_layer_norm` false,
        `last_layer_norm` as `pre_layer_norm`.

        Raises:
            UnsupportedModelError: another architecture; the message names the key and its value.
            CheckpointError: a key is missing or has no sensible value.
        """
        _require_supported(raw)
        hidden_size = _positive_int(raw, "hidden_size")
        num_attention_heads = _positive_int(raw, "num_attention_heads")
        if hidden_size % num_attention_heads:
            raise CheckpointError(
                f"config.json: hidden_size {hidden_size} is not a multiple of "
                f"num_attention_heads {num_attention_heads}."
            )
        if hidden_size // num_attention_heads < _SMALLEST_HEAD:
            raise UnsupportedModelError(
                f"config.json: {num_attention_heads} heads of {hidden_size // num_attention_heads} "
                f"channels; this converter supports heads of {_SMALLEST_HEAD} and more."
            )
        vocab_size = _positive_int(raw, "vocab_size")
        pad_token_id: Any = raw.get("pad_token_id")
        if not _is_int(pad_token_id) or not 0 <= pad_token_id < vocab_size:
            raise CheckpointError(
                f"config.json: pad_token_id is {brief_repr(pad_token_id)}; "
                f"expected an id from 0 to {vocab_size - 1} (3 in GENA-LM)."
            )
        pre_layer_norm = _switch(raw, "pre_layer_norm", default=False)
        return cls(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=_positive_int(raw, "num_hidden_layers"),
            num_attention_heads=num_attention_heads,
            intermediate_size=_positive_int(raw, "intermediate_size"),
            max_position_embeddings=_positive_int(raw, "max_position_embeddings"),
            type_vocab_size=_positive_int(raw, "type_vocab_size"),
            layer_norm_eps=_layer_norm_eps(raw),
            pad_token_id=pad_token_id,
            pre_layer_norm=pre_layer_norm,
            last_layer_norm=_switch(raw, "last_layer_norm", default=pre_layer_norm),
        )


def _require_supported(raw: Mapping[str, Any]) -> None:
    for key, supported in _SUPPORTED_VALUES.items():
        if key in _REQUIRED and raw.get(key) is None:
            raise CheckpointError(f"config.json has no {key!r}; expected {supported!r}.")
        value = raw.get(key, supported)
        if value is not None and value != supported:
            raise UnsupportedModelError(
                f"config.json says {key}={brief_repr(value)}; this converter supports only "
                f"{key}={supported!r} (dense BERT models of the GENA-LM family)."
            )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _positive_int(raw: Mapping[str, Any], key: str) -> int:
    value: Any = raw.get(key)
    if not _is_int(value) or not 1 <= value <= _LARGEST:
        raise CheckpointError(
            f"config.json: {key} is {brief_repr(value)}; expected a positive integer, "
            f"at most {_LARGEST}."
        )
    return int(value)


def _switch(raw: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: {key} is {brief_repr(value)}; expected true or false.")
    return value


def _layer_norm_eps(raw: Mapping[str, Any]) -> float:
    value = raw.get("layer_norm_eps", 1e-12)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise CheckpointError(
            f"config.json: layer_norm_eps is {brief_repr(value)}; "
            "expected a number between 0 and 1."
        )
    return float(value)
