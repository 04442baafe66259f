"""The network while it is trained: the encoder and the head, at the tokens that are asked for."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from converter.network.gena_bert.config import GenaBertConfig
from converter.network.gena_bert.reference import GenaEncoder, MaskedLanguageModelHead, PreNormLayer
from tools.mini.recipe import Recipe


class MaskedLanguageModel(nn.Module):
    """GENA-LM's encoder and BERT's masked-language-model head; names as in a published file."""

    def __init__(self, config: GenaBertConfig) -> None:
        super().__init__()
        self.bert = GenaEncoder(config)
        self.cls = nn.ModuleDict({"predictions": MaskedLanguageModelHead(config)})

    def forward(self, input_ids: Tensor, chosen: Tensor) -> Tensor:
        """Logits (N, V) at the N chosen tokens, row by row.

        Args:
            input_ids: (B, L), no padding.
            chosen: (B, L) bool, the same number of tokens in each row.
        """
        x = self.bert.embeddings(input_ids)
        *layers, last = cast("list[PreNormLayer]", list(self.bert.encoder.layer))
        for layer in layers:
            x = _layer_output(layer, x)
        # No other row of the last layer reaches the loss.
        x = _layer_output(last, x, chosen.nonzero()[:, 1].view(len(chosen), -1))
        words = self.bert.embeddings.word_embeddings.weight
        logits: Tensor = self.cls["predictions"](x.flatten(0, 1), words)
        return logits


def _layer_output(layer: PreNormLayer, x: Tensor, positions: Tensor | None = None) -> Tensor:
    """`layer(x)` for windows without padding, or its rows at some positions only.

    Args:
        x: (B, L, H).
        positions: (B, K) int64.
    """
    attention = layer.attention.self
    context = layer.pre_attention_ln(x)
    asking = context
    if positions is not None:
        index = positions[:, :, None].expand(-1, -1, x.shape[-1])
        x, asking = x.gather(1, index), context.gather(1, index)
    query, key, value = (
        projection(states).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for projection, states in (
            (attention.query, asking),
            (attention.key, context),
            (attention.value, context),
        )
    )
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x + layer.attention.output(mixed)
    result: Tensor = x + layer.output(F.gelu(layer.intermediate(layer.post_attention_ln(x))))
    return result


def untrained(recipe: Recipe) -> MaskedLanguageModel:
    """The network before its first step: BERT's initialisation from the recipe's seed."""
    generator = torch.Generator().manual_seed(recipe.seed)
    model = MaskedLanguageModel(GenaBertConfig.from_dict(recipe.config))
    std = float(recipe.config["initializer_range"])
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(0.0, std, generator=generator)
            if isinstance(module, nn.Linear):
                module.bias.zero_()
    return model
