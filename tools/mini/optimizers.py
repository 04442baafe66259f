"""Muon for the hidden matrices, AdamW for the rest."""

from typing import Any

import torch
from torch import nn

from tools.mini.recipe import Recipe


def make_optimizers(model: nn.Module, recipe: Recipe) -> tuple[torch.optim.Optimizer, ...]:
    """Both; biases and norms don't decay."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.ndim > 1 and id(p) not in tables]
    embeddings = [p for p in parameters if id(p) in tables]
    vectors = [p for p in parameters if p.ndim == 1]
    groups: list[dict[str, Any]] = [
        {"params": embeddings, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return (
        torch.optim.Muon(
            matrices,
            lr=recipe.muon_learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True),
    )
