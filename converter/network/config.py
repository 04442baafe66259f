"""A published `config.json` -> the configuration of its family. No torch in here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from converter.checkpoint.files import MOST_CONFIG_BYTES
from converter.errors import CheckpointError, UnsupportedModelError, brief_repr
from converter.json_files import UnreadableJsonError, read_json_object
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


def read_config(path: Path) -> AnyEncoderConfig:
    """Parse and validate a `config.json`.

    Raises:
        UnsupportedModelError, CheckpointError: as `read_raw_config` and `read_encoder_config`.
    """
    return read_encoder_config(read_raw_config(path))


def read_raw_config(path: Path) -> dict[str, Any]:
    """Parse a `config.json`.

    Raises:
        CheckpointError: it cannot be read, or holds no JSON object.
    """
    try:
        return read_json_object(path, MOST_CONFIG_BYTES)
    except UnreadableJsonError as error:
        raise CheckpointError(f"{path} {error}.") from error


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
