"""Values of a published `config.json`, each checked as it is read."""

import sys
from collections.abc import Mapping
from typing import Any

from converter.errors import CheckpointError, UnsupportedModelError, brief_repr

# Far above any model; the product of two, in bytes, is still a size that can be written down.
_LARGEST = 2**24
# A head costs a dozen operations a layer, however small it is; published ones have 64.
_SMALLEST_HEAD = 8


def require_values(raw: Mapping[str, Any], supported: Mapping[str, Any], family: str) -> None:
    """Raises UnsupportedModelError: a key that changes the arithmetic has another value.

    Args:
        supported: keys that may be absent or null, with the only value that is computed here.
        family: which models those are, for people.
    """
    for key, value in supported.items():
        found = raw.get(key)
        if found is not None and found != value:
            raise UnsupportedModelError(
                f"config.json says {key}={brief_repr(found)}; this converter supports only "
                f"{key}={value!r} ({family})."
            )


def positive_int(raw: Mapping[str, Any], key: str) -> int:
    """Raises CheckpointError: it is none, or far beyond any model's."""
    value: Any = raw.get(key)
    if not _is_int(value) or not 1 <= value <= _LARGEST:
        raise CheckpointError(
            f"config.json: {key} is {brief_repr(value)}; expected a positive integer, "
            f"at most {_LARGEST}."
        )
    return int(value)


def positive_number(value: Any, key: str) -> float:
    """Raises CheckpointError: it is none, or beyond what a float holds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= sys.float_info.max:
        raise CheckpointError(
            f"config.json: {key} is {brief_repr(value)}; expected a positive number."
        )
    return float(value)


def switch(raw: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """Raises CheckpointError: neither true nor false."""
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: {key} is {brief_repr(value)}; expected true or false.")
    return value


def small_number(raw: Mapping[str, Any], key: str, *, default: float) -> float:
    """Raises CheckpointError: not between 0 and 1."""
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise CheckpointError(
            f"config.json: {key} is {brief_repr(value)}; expected a number between 0 and 1."
        )
    return float(value)


def heads(raw: Mapping[str, Any]) -> tuple[int, int]:
    """`hidden_size` and `num_attention_heads`.

    Raises:
        CheckpointError: one does not divide the other.
        UnsupportedModelError: a head is tiny.
    """
    hidden_size = positive_int(raw, "hidden_size")
    num_attention_heads = positive_int(raw, "num_attention_heads")
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
    return hidden_size, num_attention_heads


def padding_id(raw: Mapping[str, Any], vocab_size: int) -> int:
    """`pad_token_id`; CheckpointError if it is no id of the vocabulary."""
    value: Any = raw.get("pad_token_id")
    if not _is_int(value) or not 0 <= value < vocab_size:
        raise CheckpointError(
            f"config.json: pad_token_id is {brief_repr(value)}; "
            f"expected an id from 0 to {vocab_size - 1} (3 in GENA-LM)."
        )
    return int(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
