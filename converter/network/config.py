"""A published `config.json` -> the configuration of its family. No torch in here."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from converter.errors import CheckpointError, UnsupportedModelError, brief_repr
from converter.network.gena_bert.config import GenaBertConfig
from converter.network.moderngena.config import ModernGenaConfig

# What a manifest may hold; a family more is a name more in these two.
AnyEncoderConfig = Annotated[GenaBertConfig | ModernGenaConfig, Field(discriminator="model_type")]
_FAMILIES: dict[str, type[GenaBertConfig] | type[ModernGenaConfig]] = {
    "bert": GenaBertConfig,
    "modernbert": ModernGenaConfig,
}
# Tokens that models of these families read at a time, ascending.
WINDOWS = tuple(sorted({family.window for family in _FAMILIES.values()}))


def read_encoder_config(raw: Mapping[str, Any]) -> AnyEncoderConfig:
    """Read a parsed `config.json` of whatever family.

    Raises:
        UnsupportedModelError: another architecture; the message names the key and its value.
        CheckpointError: a key is missing or has no sensible value.
    """
    model_type: Any = raw.get("model_type")
    known = ", ".join(_FAMILIES)
    if model_type is None:
        raise CheckpointError(f"config.json has no 'model_type'; expected one of {known}.")
    family = _FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise UnsupportedModelError(
            f"config.json says model_type={brief_repr(model_type)}; "
            f"this converter supports only {known}."
        )
    return family.from_dict(raw)
