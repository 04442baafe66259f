"""GENA-LM as published, in fp32 with plain PyTorch layers: the truth for every comparison.

The arithmetic is that of the published `modeling_bert.py` (AIRI-Institute/GENA_LM): BERT with
optional pre-layer normalisation and an optional norm after the last layer. Module names give
parameters the names they have in a published file, less the prefix `bert.`.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from converter.network.gena_bert.config import GenaBertConfig
from converter.network.reference import LOWEST, ReferenceEncoder, embedding


class GenaEncoder(ReferenceEncoder):
    """Token ids to last hidden states."""

    config: GenaBertConfig

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)

    def hidden_states(self, input_ids: Tensor, mask_value: float = LOWEST) -> list[Tensor]:
        """See `ReferenceEncoder`."""
        mask = self.key_mask(input_ids, mask_value)
        states = [self.embeddings(input_ids)]
        for layer in self.encoder.layer:
            states.append(layer(states[-1], mask))
        if self.encoder.last_layer_ln is not None:
            states.append(self.encoder.last_layer_ln(states[-1]))
        return states


class Embeddings(nn.Module):
    """Word + position + token type 0, normalised (in pre-LN models as well)."""

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        self.word_embeddings = embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        total = self.word_embeddings(input_ids) + positions + self.token_type_embeddings.weight[0]
        normalised: Tensor = self.LayerNorm(total)
        return normalised


class Encoder(nn.Module):
    """The stack of layers and, where the model has one, the norm after it."""

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        layer = PreNormLayer if config.pre_layer_norm else PostNormLayer
        self.layer = nn.ModuleList(layer(config) for _ in range(config.num_hidden_layers))
        self.last_layer_ln = (
            nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            if config.last_layer_norm
            else None
        )


class PreNormLayer(nn.Module):
    """x = x + attention(norm(x)); x = x + feed_forward(norm(x))."""

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        self.pre_attention_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Attention(config)
        self.post_attention_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.intermediate = Dense(config.hidden_size, config.intermediate_size)
        self.output = Dense(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.pre_attention_ln(x), mask)
        result: Tensor = x + self.output(F.gelu(self.intermediate(self.post_attention_ln(x))))
        return result


class PostNormLayer(nn.Module):
    """Classic BERT: x = norm(x + attention(x)); x = norm(x + feed_forward(x))."""

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention.output = NormedDense(config.hidden_size, config.hidden_size, config)
        self.intermediate = Dense(config.hidden_size, config.intermediate_size)
        self.output = NormedDense(config.intermediate_size, config.hidden_size, config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention.output.LayerNorm(x + self.attention(x, mask))
        result: Tensor = self.output.LayerNorm(x + self.output(F.gelu(self.intermediate(x))))
        return result


class Dense(nn.Module):
    """One linear layer, named `dense` as BERT names it."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.dense(x)
        return result


class NormedDense(Dense):
    """A linear layer and the norm that post-LN applies after the residual is added."""

    def __init__(self, in_features: int, out_features: int, config: GenaBertConfig) -> None:
        super().__init__(in_features, out_features)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class SelfAttention(nn.Module):
    """The three projections and softmax(Q K^T / sqrt(head size) + mask) V."""

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + mask
        result: Tensor = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return result


class Attention(nn.Module):
    """Self-attention and its output projection."""

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output: Any = Dense(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        result: Tensor = self.output(self.self(x, mask))
        return result


class MaskedLanguageModelHead(nn.Module):
    """BERT's `cls.predictions`; the decoder's matrix is the word embeddings."""

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        self.transform = HeadTransform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: Tensor, word_embeddings: Tensor) -> Tensor:
        """Logits (N, V) of hidden states (N, H), given the word embeddings (V, H)."""
        return F.linear(self.transform(hidden_states), word_embeddings, self.bias)


class HeadTransform(nn.Module):
    """Dense, GELU, norm: what the head does before the decoder."""

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: Tensor) -> Tensor:
        result: Tensor = self.LayerNorm(F.gelu(self.dense(hidden_states)))
        return result
