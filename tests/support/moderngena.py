"""modernGENA networks with seeded weights, ours and the one of transformers."""

from typing import Any

import torch
from torch import Tensor, nn

from converter.network.moderngena.config import ModernGenaConfig
from converter.network.moderngena.reference import ModernGenaEncoder
from tools.seeded_checkpoints import random_weights
from tools.seeded_moderngena import moderngena_config_dict

PAD = 3


def make_moderngena_reference(outliers: float = 1, **changes: Any) -> ModernGenaEncoder:
    """Small unless changed; norms are not the identity."""
    config = ModernGenaConfig.from_dict(moderngena_config_dict(**changes))
    network = ModernGenaEncoder(config)
    network.load_state_dict(random_weights(config, seed=3, outliers=outliers))
    return network.eval().requires_grad_(False)


def of_transformers(network: ModernGenaEncoder, implementation: str = "eager") -> nn.Module:
    """transformers' own model with the same weights, every one of them."""
    from transformers import ModernBertConfig, ModernBertModel

    config = network.config
    theirs = ModernBertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_position_embeddings,
        norm_eps=config.norm_eps,
        pad_token_id=config.pad_token_id,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        local_attention=config.local_attention,
        layer_types=[
            "full_attention" if config.is_global(index) else "sliding_attention"
            for index in range(config.num_hidden_layers)
        ],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": config.global_rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": config.local_rope_theta},
        },
    )
    model: ModernBertModel = ModernBertModel._from_config(  # type: ignore[no-untyped-call]
        theirs, attn_implementation=implementation
    ).eval()
    model.load_state_dict(network.state_dict())
    return model


def token_ids(n_tokens: int, length: int | None = None, seed: int = 0) -> Tensor:
    """(1, length or n_tokens) int64: specials, random tokens, padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((1, length or n_tokens), PAD)
    ids[0, :n_tokens] = torch.randint(5, 400, (n_tokens,), generator=generator)
    ids[0, 0], ids[0, n_tokens - 1] = 1, 2
    return ids
