"""modernGENA as published, in fp32 with plain PyTorch layers: the truth for every comparison.

The arithmetic is that of transformers' `ModernBertModel`: pre-layer normalisation without biases,
rotary positions, attention that goes everywhere in some layers and a short way in the others, and
a gated feed-forward. Module names give parameters the names they have in a published file, less
the prefix `model.`.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from converter.network.moderngena.config import ModernGenaConfig
from converter.network.moderngena.rotary import out_of_reach, rotary_tables, rotated
from converter.network.reference import LOWEST, ReferenceEncoder, embedding


class ModernGenaEncoder(ReferenceEncoder):
    """Token ids to last hidden states."""

    config: ModernGenaConfig

    def __init__(self, config: ModernGenaConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(
            Layer(config, index) for index in range(config.num_hidden_layers)
        )
        self.final_norm = _norm(config)

    def hidden_states(self, input_ids: Tensor, mask_value: float = LOWEST) -> list[Tensor]:
        """See `ReferenceEncoder`."""
        everywhere = self.key_mask(input_ids, mask_value)
        far = torch.from_numpy(out_of_reach(int(input_ids.shape[1]), self.config.reach))
        nearby = everywhere + far.to(input_ids.device) * mask_value
        states = [self.embeddings(input_ids)]
        for index, layer in enumerate(self.layers):
            mask = everywhere if self.config.is_global(index) else nearby
            states.append(layer(states[-1], mask))
        states.append(self.final_norm(states[-1]))
        return states


class Embeddings(nn.Module):
    """A row a token, normalised."""

    def __init__(self, config: ModernGenaConfig) -> None:
        super().__init__()
        self.tok_embeddings = embedding(config.vocab_size, config.hidden_size)
        self.norm = _norm(config)

    def forward(self, input_ids: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.tok_embeddings(input_ids))
        return normalised


class Layer(nn.Module):
    """x = x + attention(norm(x)); x = x + feed_forward(norm(x)); the first has no first norm."""

    def __init__(self, config: ModernGenaConfig, index: int) -> None:
        super().__init__()
        self.attn_norm: Any = _norm(config) if index > 0 else None
        self.attn = Attention(config, config.rope_theta(index))
        self.mlp_norm = _norm(config)
        self.mlp = GatedFeedForward(config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(x if self.attn_norm is None else self.attn_norm(x), mask)
        result: Tensor = x + self.mlp(self.mlp_norm(x))
        return result


class Attention(nn.Module):
    """softmax(rotated Q rotated K^T / sqrt(head size) + mask) V, and the output projection."""

    def __init__(self, config: ModernGenaConfig, theta: float) -> None:
        super().__init__()
        self.num_heads, self.theta = config.num_attention_heads, theta
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.Wo = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.Wqkv(x).chunk(3, dim=-1)
        )
        head_size = query.shape[-1]
        tables = rotary_tables(int(x.shape[1]), int(head_size), self.theta)
        cos, sin = (torch.from_numpy(table).to(x.device) for table in tables)
        query, key = rotated(query, cos, sin), rotated(key, cos, sin)
        scores = query @ key.transpose(-1, -2) / math.sqrt(head_size) + mask
        result: Tensor = self.Wo((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        return result


class GatedFeedForward(nn.Module):
    """Wo(gelu(a) * b), where a and b are the halves of Wi(x)."""

    def __init__(self, config: ModernGenaConfig) -> None:
        super().__init__()
        self.Wi = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.Wo = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated, gate = self.Wi(x).chunk(2, dim=-1)
        result: Tensor = self.Wo(F.gelu(activated) * gate)
        return result


class MaskedLanguageModelHead(nn.Module):
    """`head` and `decoder` of `ModernBertForMaskedLM`; the decoder's matrix is the word table."""

    def __init__(self, config: ModernGenaConfig) -> None:
        super().__init__()
        self.head = PredictionHead(config)
        self.decoder = DecoderBias(config)

    def forward(self, hidden_states: Tensor, word_embeddings: Tensor) -> Tensor:
        """Logits (N, V) of hidden states (N, H), given the word embeddings (V, H)."""
        return F.linear(self.head(hidden_states), word_embeddings, self.decoder.bias)


class PredictionHead(nn.Module):
    """Dense, GELU, norm: what the head does before the decoder."""

    def __init__(self, config: ModernGenaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.classifier_bias)
        self.norm = _norm(config)

    def forward(self, hidden_states: Tensor) -> Tensor:
        result: Tensor = self.norm(F.gelu(self.dense(hidden_states)))
        return result


class DecoderBias(nn.Module):
    """The decoder's own part."""

    def __init__(self, config: ModernGenaConfig) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))


def _norm(config: ModernGenaConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=False)
