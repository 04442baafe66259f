"""Masked-language modelling: batches of masked windows, and the loss of guessing them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from tools.mini.data import TokenStream
from tools.mini.network import MaskedLanguageModel
from tools.mini.recipe import CLS, MASK, SEP, SPECIAL_TOKENS, Recipe


@dataclass(frozen=True)
class Batch:
    """`input_ids` (B, L) after masking; `chosen` (B, L) bool; `labels` (N,): what was there."""

    input_ids: Tensor
    chosen: Tensor
    labels: Tensor


def mask_tokens(tokens: NDArray[np.int32], recipe: Recipe, generator: np.random.Generator) -> Batch:
    """Add [CLS] and [SEP] and mask as BERT does.

    Of each window the same number of tokens is chosen; of those 80 % become [MASK], 10 % a
    random token that is not special, 10 % stay.

    Args:
        tokens: (B, L - 2), no special tokens.
    """
    rows, length = tokens.shape
    count = max(1, round(length * recipe.masked_share))
    order = generator.random((rows, length)).argsort(axis=1)
    chosen = np.zeros((rows, length), dtype=bool)
    np.put_along_axis(chosen, order[:, :count], True, axis=1)
    fate = generator.random((rows, length))
    random_ids = generator.integers(
        len(SPECIAL_TOKENS), int(recipe.config["vocab_size"]), size=(rows, length)
    )
    masked = np.where(chosen & (fate < 0.8), MASK, tokens)
    masked = np.where(chosen & (fate >= 0.8) & (fate < 0.9), random_ids, masked)
    around = ((0, 0), (1, 1))
    input_ids = np.pad(masked, around)
    input_ids[:, 0], input_ids[:, -1] = CLS, SEP
    return Batch(
        torch.from_numpy(input_ids.astype(np.int64)),
        torch.from_numpy(np.pad(chosen, around)),
        torch.from_numpy(tokens[chosen].astype(np.int64)),
    )


def training_batch(
    streams: Mapping[str, TokenStream], recipe: Recipe, step: int, steps: int
) -> Batch:
    """Batch number `step`: windows of one length, species drawn in their shares."""
    generator = np.random.default_rng((recipe.seed, 2, step))
    decaying = step >= recipe.decay_start(steps)
    long_share = recipe.long_share_in_decay if decaying else recipe.long_share
    length = recipe.long_window if generator.random() < long_share else recipe.short_window
    rows = max(1, recipe.tokens_per_batch // length)
    counts = generator.multinomial(rows, list(recipe.species.values()))
    windows = [
        streams[species].sample(count, length - 2, generator)
        for species, count in zip(recipe.species, counts, strict=True)
        if count
    ]
    return mask_tokens(np.concatenate(windows), recipe, generator)


def masked_losses(
    model: MaskedLanguageModel, stream: TokenStream, recipe: Recipe, *, length: int, windows: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Guess the masked tokens of fixed random windows.

    Returns:
        losses in nats and what was masked, (W, K) each: W windows of `length` tokens with the
        special ones, K chosen tokens a window.
    """
    generator = np.random.default_rng((recipe.seed, 3, length))
    device = next(model.parameters()).device
    losses: list[Tensor] = []
    labels: list[Tensor] = []
    for first in range(0, windows, 8):
        rows = min(8, windows - first)
        batch = mask_tokens(stream.sample(rows, length - 2, generator), recipe, generator)
        with torch.inference_mode():
            logits = model(batch.input_ids.to(device), batch.chosen.to(device)).float().cpu()
        losses.append(F.cross_entropy(logits, batch.labels, reduction="none").view(rows, -1))
        labels.append(batch.labels.view(rows, -1))
    return torch.cat(losses).numpy(), torch.cat(labels).numpy()
