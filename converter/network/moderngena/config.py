"""What a published `config.json` says about a modernGENA encoder, validated.

Keys and defaults are those of transformers' `ModernBertConfig`, the older ones (one number for
which layers look everywhere, two for the thetas) and the newer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from converter.errors import CheckpointError, UnsupportedModelError, brief_repr
from converter.network.config_values import (
    heads,
    padding_id,
    positive_int,
    positive_number,
    require_values,
    small_number,
    switch,
)
from converter.network.structure import EncoderConfig, LayerStructure

# Keys that change the arithmetic, with the only value that this converter has. Everything else
# (dropout rates, ids of tokens that stand for beginnings and ends, ...) is ignored.
_SUPPORTED_VALUES: dict[str, Any] = {
    "model_type": "modernbert",
    "hidden_activation": "gelu",
    "attention_bias": False,
    "mlp_bias": False,
    "norm_bias": False,
    "is_decoder": False,
    "add_cross_attention": False,
    "rope_scaling": None,
    # Of the masked-language-model head.
    "classifier_activation": "gelu",
    "tie_word_embeddings": True,
}
# Of the engine's blocks: a last axis of at least 64 bytes, and no more than the shortest window.
_SMALLEST_BLOCK, _LARGEST_LOCAL = 64, 256
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
# The older key of each kind of layer.
_THETAS = {_GLOBAL: "global_rope_theta", _LOCAL: "local_rope_theta"}


@dataclass(frozen=True)
class ModernGenaConfig(EncoderConfig):
    """Geometry and switches of a modernGENA encoder; names as in `config.json` where it has them.

    Attributes:
        local_attention: tokens that a local layer looks at, half to each side.
        global_layers: numbers of the layers whose attention goes everywhere, ascending.
        classifier_bias: the first layer of the heads has a bias.
    """

    window: ClassVar[int] = 1024  # what both published sizes were trained on

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    norm_eps: float
    pad_token_id: int
    global_layers: tuple[int, ...]
    local_attention: int
    global_rope_theta: float
    local_rope_theta: float
    classifier_bias: bool
    model_type: Literal["modernbert"] = "modernbert"

    @property
    def reach(self) -> int:
        """How many tokens to either side a local layer looks, itself not counted."""
        return self.local_attention // 2

    @property
    def block(self) -> int:
        """Tokens of a block of the Neural Engine's local attention: a power of two, 64 or 128."""
        return max(_SMALLEST_BLOCK, 1 << (self.reach - 1).bit_length())

    def is_global(self, index: int) -> bool:
        """Whether a layer looks everywhere."""
        return index in self.global_layers

    def rope_theta(self, index: int) -> float:
        """Of a layer's rotary embedding."""
        return self.global_rope_theta if self.is_global(index) else self.local_rope_theta

    def layer(self, index: int) -> LayerStructure:
        """See `EncoderConfig`."""
        return LayerStructure(
            norms="before",
            attention_norm=index > 0,
            rotary=True,
            reach=None if self.is_global(index) else self.reach,
            gated=True,
        )

    @property
    def has_position_table(self) -> bool:
        return False

    @property
    def has_last_norm(self) -> bool:
        return True

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "ModernGenaConfig":
        """Read a parsed `config.json`.

        Raises:
            UnsupportedModelError: another architecture; the message names the key and its value.
            CheckpointError: a key is missing or has no sensible value.
        """
        require_values(raw, _SUPPORTED_VALUES, "modernGENA, a ModernBERT")
        hidden_size, num_attention_heads = heads(raw)
        head_size = hidden_size // num_attention_heads
        if head_size % 2:
            raise CheckpointError(
                f"config.json: {num_attention_heads} heads of {head_size} channels; "
                "a rotary embedding takes them in pairs."
            )
        _require_same(raw, "head_dim", head_size, f"there are {num_attention_heads} heads")
        vocab_size = positive_int(raw, "vocab_size")
        layers = positive_int(raw, "num_hidden_layers")
        return cls(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=num_attention_heads,
            intermediate_size=positive_int(raw, "intermediate_size"),
            max_position_embeddings=positive_int(raw, "max_position_embeddings"),
            norm_eps=small_number(raw, "norm_eps", default=1e-5),
            pad_token_id=padding_id(raw, vocab_size),
            global_layers=_global_layers(raw, layers),
            local_attention=_local_attention(raw),
            global_rope_theta=_theta(raw, _GLOBAL),
            local_rope_theta=_theta(raw, _LOCAL),
            classifier_bias=switch(raw, "classifier_bias", default=False),
        )


def _local_attention(raw: Mapping[str, Any]) -> int:
    tokens = positive_int(raw, "local_attention")
    if not 2 <= tokens <= _LARGEST_LOCAL:
        raise UnsupportedModelError(
            f"config.json says local_attention={tokens}; this converter supports 2 to "
            f"{_LARGEST_LOCAL} (128 in modernGENA)."
        )
    _require_same(raw, "sliding_window", tokens // 2, f"local_attention is {tokens}")
    return tokens


def _require_same(raw: Mapping[str, Any], key: str, value: int, because: str) -> None:
    """What transformers takes from `key` where it is there, though it never writes it."""
    if raw.get(key) not in (None, value):
        raise CheckpointError(
            f"config.json: {key} is {brief_repr(raw[key])}, and {because}, which makes it {value}. "
            "One of them has to be wrong."
        )


def _global_layers(raw: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    types: Any = raw.get("layer_types")
    if types is None:
        every = positive_int(raw, "global_attn_every_n_layers")
        return tuple(range(0, layers, every))
    if not isinstance(types, list) or len(types) != layers:
        raise CheckpointError(
            f"config.json: layer_types is {brief_repr(types)}; expected a kind for each of the "
            f"{layers} layers."
        )
    if unknown := [kind for kind in types if kind not in (_GLOBAL, _LOCAL)]:
        raise UnsupportedModelError(
            f"config.json says layer_types={brief_repr(unknown[0])}; this converter supports only "
            f"{_GLOBAL!r} and {_LOCAL!r}."
        )
    return tuple(index for index, kind in enumerate(types) if kind == _GLOBAL)


def _theta(raw: Mapping[str, Any], kind: str) -> float:
    """From where transformers takes it; but nothing is taken for granted where nobody says it."""
    key = _THETAS[kind]
    parameters: Any = raw.get("rope_parameters")
    if parameters is None:
        return positive_number(raw.get(key), key)
    own = parameters.get(kind) if isinstance(parameters, dict) else None
    if not isinstance(own, dict):
        raise CheckpointError(
            f"config.json: rope_parameters is {brief_repr(parameters)}; expected an object that "
            f"has one for {kind}."
        )
    if (rope_type := own.get("rope_type", "default")) != "default":
        raise UnsupportedModelError(
            f"config.json says rope_type={brief_repr(rope_type)} for {kind}; this converter "
            "supports only 'default'."
        )
    theta: Any = own.get("rope_theta", raw.get(key))
    if raw.get(key) not in (None, theta):
        raise CheckpointError(
            f"config.json: {key} is {brief_repr(raw[key])}, and rope_parameters says "
            f"{brief_repr(theta)} for {kind}. One of them has to be wrong."
        )
    return positive_number(theta, f"rope_theta of {kind}")
