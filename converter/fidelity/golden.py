"""Verification windows: real DNA with the reference's hidden states, stored in every bundle."""

from dataclasses import dataclass
from pathlib import Path

import dnaio
import numpy as np
import torch
from numpy.typing import NDArray

from converter.network.reference import GenaEncoder
from converter.tokenizer import MAX_TOKENS, WINDOW, DnaTokenizer, clean

_SEQUENCES = Path(__file__).with_name("verification.fa")
_CUT_TO_FULL_LENGTH = "full_length"
_MASKED_FROM = "coding"
MASKED = "masked"
# Every seventh token: about the 15 % that masked-language modelling hides.
_MASK_EVERY = 7


@dataclass(frozen=True)
class Golden:
    """Windows and what the reference makes of them.

    Attributes:
        names: what each window is, such as "coding" or "full_length".
        input_ids: (n, 512) int32, padded.
        reference: (n, 512, H) float32, fp32 reference network; rows of padding are zero.
        pad_id: of `input_ids`.
    """

    names: tuple[str, ...]
    input_ids: NDArray[np.int32]
    reference: NDArray[np.float32]
    pad_id: int

    def n_tokens(self, index: int) -> int:
        """Real rows of a window, specials included."""
        return int((self.input_ids[index] != self.pad_id).sum())

    def save(self, path: Path) -> None:
        np.savez_compressed(
            path, names=np.array(self.names), input_ids=self.input_ids, reference=self.reference
        )

    @classmethod
    def load(cls, path: Path, pad_id: int) -> "Golden":
        with np.load(path, allow_pickle=False) as arrays:
            names = tuple(str(name) for name in arrays["names"])
            return cls(names, arrays["input_ids"], arrays["reference"], pad_id)


def verification_windows(tokenizer: DnaTokenizer) -> dict[str, NDArray[np.int32]]:
    """The shipped sequences as windows (n,) int32 with specials, none longer than 512.

    "masked" is "coding" with every seventh token hidden, for the masked-language-model head.
    """
    windows = {}
    with dnaio.open(_SEQUENCES) as records:
        for record in records:
            ids = tokenizer.encode(clean(record.sequence).sequence).ids
            limit = MAX_TOKENS if record.id == _CUT_TO_FULL_LENGTH else WINDOW // 2
            windows[record.id] = tokenizer.window(ids[:limit])
    masked = windows[_MASKED_FROM].copy()
    masked[_MASK_EVERY:-1:_MASK_EVERY] = tokenizer.mask_id
    return {**windows, MASKED: masked}


def make_golden(network: GenaEncoder, tokenizer: DnaTokenizer) -> Golden:
    """Run the reference network on the verification windows."""
    windows = verification_windows(tokenizer)
    input_ids = np.stack([tokenizer.pad(ids, WINDOW) for ids in windows.values()])
    reference = np.zeros((*input_ids.shape, network.config.hidden_size), dtype=np.float32)
    for index, ids in enumerate(windows.values()):
        with torch.no_grad():
            reference[index, : len(ids)] = network(torch.from_numpy(ids[None].astype(np.int64)))[0]
    return Golden(tuple(windows), input_ids, reference, tokenizer.pad_id)
