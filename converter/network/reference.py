"""What every family's reference network is: the truth for every comparison."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from converter.network.structure import EncoderConfig

# A head with the matrix it is tied to: logits (N, V) of hidden states (N, H).
Head = Callable[[Tensor], Tensor]
# Of the additive mask: far below any score.
LOWEST = torch.finfo(torch.float32).min


def embedding(rows: int, size: int) -> nn.Embedding:
    """A table (rows, size) of random numbers, as `nn.Embedding` draws them.

    On the meta device, where a second of the start goes, that one imports torch's compiler for it.
    """
    return nn.Embedding(rows, size, _weight=torch.randn(rows, size))


class ReferenceEncoder(nn.Module):
    """A network as published, in fp32 with plain PyTorch layers. Inference only: no dropout.

    Module names give parameters the names they have in a published file, less its prefix.
    """

    config: EncoderConfig

    def forward(self, input_ids: Tensor) -> Tensor:
        """Last hidden states.

        Args:
            input_ids: (B, L) int64, padded with `config.pad_token_id`; L at most
                `config.max_position_embeddings`.

        Returns:
            (B, L, H) float32. Rows of padding hold numbers without meaning.
        """
        return self.hidden_states(input_ids)[-1]

    def hidden_states(self, input_ids: Tensor, mask_value: float = LOWEST) -> list[Tensor]:
        """Embedding output, each layer's output, and last the network's output; (B, L, H) each.

        With a last norm the list has one entry more: the normalised output of the last layer.
        """
        raise NotImplementedError

    def key_mask(self, input_ids: Tensor, mask_value: float) -> Tensor:
        """The additive mask of BERT (B, 1, 1, L): 0 for tokens, `mask_value` for padding."""
        padding = input_ids == self.config.pad_token_id
        mask = torch.zeros(padding.shape, dtype=torch.float32, device=padding.device)
        return mask.masked_fill(padding, mask_value)[:, None, None, :]
