"""What a checkpoint says of itself before its weights are read. No torch in here."""

from dataclasses import dataclass

from converter.checkpoint.files import SmallFiles
from converter.errors import CheckpointError
from converter.network.config import AnyEncoderConfig, read_config
from converter.tokenizer import DnaTokenizer


@dataclass(frozen=True)
class Description:
    """A configuration, and the tokenizer that belongs to it."""

    config: AnyEncoderConfig
    tokenizer: DnaTokenizer


def read_description(files: SmallFiles) -> Description:
    """Read and validate what is small.

    Raises:
        UnsupportedModelError: the configuration asks for another architecture.
        CheckpointError: it is damaged, or the tokenizer belongs to another network.
        TokenizerError: the tokenizer cannot be read, or is no GENA-LM tokenizer.
    """
    config = read_config(files.config)
    tokenizer = DnaTokenizer(files.tokenizer, model_max_length=config.window)
    _require_matching(tokenizer, config, files.source)
    return Description(config, tokenizer)


def _require_matching(tokenizer: DnaTokenizer, config: AnyEncoderConfig, source: str) -> None:
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{source}: tokenizer.json has {tokenizer.vocab_size} tokens, the network "
            f"only {config.vocab_size}. They do not belong together."
        )
    if tokenizer.pad_id != config.pad_token_id:
        raise CheckpointError(
            f"{source}: config.json pads with {config.pad_token_id}, tokenizer.json "
            f"with {tokenizer.pad_id}. They do not belong together."
        )
    if config.max_position_embeddings < config.window:
        raise CheckpointError(
            f"{source}: the network has {config.max_position_embeddings} positions; "
            f"windows of {config.window} tokens need as many."
        )
