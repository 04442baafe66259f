"""The verification windows: the DNA that ships with this, through tokenizer and reference."""

from pathlib import Path

import dnaio
import numpy as np
import torch
from numpy.typing import NDArray

from converter.errors import TokenizerError
from converter.fidelity.golden import CODING, FULL_LENGTH, MASKED, Golden
from converter.network.reference import ReferenceEncoder
from converter.tokenizer import DnaTokenizer, clean
from converter.tokenizer_file import BASES

_SEQUENCES = Path(__file__).with_name("verification.fa")
# Every seventh token: about the 15 % that masked-language modelling hides.
_MASK_EVERY = 7
# Of a window that is not to be a full one, before the specials.
_MOST_TOKENS = 256


def verification_windows(tokenizer: DnaTokenizer) -> dict[str, NDArray[np.int32]]:
    """The shipped sequences as windows (n,) int32 with specials, none longer than the model takes.

    "masked" is "coding" with every seventh token hidden, for the masked-language-model head.
    """
    windows = {}
    with dnaio.open(_SEQUENCES) as records:
        for record in records:
            ids = tokenizer.encode(clean(record.sequence).sequence).ids
            limit = tokenizer.max_own_tokens if record.id == FULL_LENGTH else _MOST_TOKENS
            windows[record.id] = tokenizer.window(ids[:limit])
    masked = windows[CODING].copy()
    masked[_MASK_EVERY:-1:_MASK_EVERY] = tokenizer.mask_id
    return {**windows, MASKED: masked}


def require_real_tokens(tokenizer: DnaTokenizer) -> None:
    """Make sure that the tokens of real DNA spell it.

    Raises:
        TokenizerError: they do not; a normalizer of the file makes something else of bases.
    """
    with dnaio.open(_SEQUENCES) as records:
        letters = "".join(clean(record.sequence).sequence for record in records)
    dna = "".join(letter for letter in letters if letter in BASES)
    encoding = tokenizer.encode(dna)
    if "".join(tokenizer.tokens(encoding.ids)) != dna:
        raise TokenizerError(
            "tokenizer.json makes something else of real DNA: its tokens do not spell it, and "
            f"{encoding.n_unknown} of {len(encoding.ids)} are [UNK]."
        )


def make_golden(network: ReferenceEncoder, tokenizer: DnaTokenizer) -> Golden:
    """Run the reference network on the verification windows."""
    windows = verification_windows(tokenizer)
    input_ids = np.stack(
        [tokenizer.pad(ids, tokenizer.model_max_length) for ids in windows.values()]
    )
    reference = np.zeros((*input_ids.shape, network.config.hidden_size), dtype=np.float32)
    for index, ids in enumerate(windows.values()):
        with torch.no_grad():
            reference[index, : len(ids)] = network(torch.from_numpy(ids[None].astype(np.int64)))[0]
    return Golden(tuple(windows), input_ids, reference, tokenizer.pad_id)
