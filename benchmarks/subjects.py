"""The networks whose speed is measured: geometry, cases and limits, and transformers' own model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

from converter.network.config import AnyEncoderConfig, read_encoder_config
from tools.seeded_checkpoints import BERT_BASE, config_dict
from tools.seeded_moderngena import MODERNGENA_BASE, moderngena_config_dict

# (windows, tokens of each).
Case = tuple[int, int]


@dataclass(frozen=True)
class Subject:
    """One geometry with random weights: speed is all that is asked of them.

    Attributes:
        lengths: of the package that is built, in tokens.
        cases: what is predicted -> of torch, the most times what transformers takes.
        min_share: of the machine's fp32 matrix peak, at the longest length.
        max_mil_ratio: of the executed package to transformers.
        peer: makes transformers' own model.
    """

    config: AnyEncoderConfig
    lengths: tuple[int, ...]
    cases: Mapping[Case, float | None]
    peer: Callable[[], torch.nn.Module]
    min_share: float = 0.0
    max_mil_ratio: float = float("inf")

    def gflop(self, windows: int, tokens: int) -> float:
        """Of all matrix products that have to be made, without padding."""
        config = self.config
        hidden, wide = config.hidden_size, config.intermediate_size
        total = 0
        for index in range(config.num_hidden_layers):
            layer = config.layer(index)
            products = 4 * hidden**2 + (3 if layer.gated else 2) * hidden * wide
            keys = tokens if layer.reach is None else min(tokens, 2 * layer.reach + 1)
            total += 2 * tokens * products + 4 * tokens * keys * hidden
        return windows * total / 1e9


def _bert() -> torch.nn.Module:
    return _with_sdpa(BertModel(BertConfig(vocab_size=32000), add_pooling_layer=False))


def _modernbert() -> torch.nn.Module:
    raw = moderngena_config_dict(**MODERNGENA_BASE, bos_token_id=1, eos_token_id=2)
    return _with_sdpa(ModernBertModel(ModernBertConfig(**raw)))


def _with_sdpa(model: Any) -> torch.nn.Module:
    if model.config._attn_implementation != "sdpa":
        raise SystemExit("transformers does not use SDPA here")
    found: torch.nn.Module = model.eval()
    return found


SUBJECTS = {
    "bert-base": Subject(
        config=read_encoder_config(config_dict(**BERT_BASE)),
        lengths=(128, 512),
        cases={
            (1, 20): 0.45,
            (1, 54): None,
            (1, 110): 0.72,
            (1, 128): None,
            (1, 256): None,
            (1, 512): 0.85,
            (32, 54): None,
        },
        peer=_bert,
        min_share=0.88,
        max_mil_ratio=1.25,
    ),
    "moderngena-base": Subject(
        config=read_encoder_config(moderngena_config_dict(**MODERNGENA_BASE)),
        lengths=(128, 1024),
        cases={(1, 20): None, (1, 128): 0.8, (1, 512): None, (1, 1024): 0.9, (8, 128): None},
        peer=_modernbert,
    ),
}
