"""The families that this converter has."""

from converter.network.family import Family
from converter.network.gena_bert.family import GENA_BERT
from converter.network.moderngena.family import MODERNGENA
from converter.network.structure import EncoderConfig

_FAMILIES = {"bert": GENA_BERT, "modernbert": MODERNGENA}


def family_of(config: EncoderConfig) -> Family:
    """The family that a configuration belongs to."""
    return _FAMILIES[config.model_type]
