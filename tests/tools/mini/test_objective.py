import numpy as np
import pytest
import torch

from tests.support.tiny_training import TINY
from tools.mini.objective import mask_tokens
from tools.mini.recipe import MASK, SPECIAL_TOKENS


def test_masking_follows_bert() -> None:
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 64, size=(500, 100), dtype=np.int32)
    batch = mask_tokens(tokens, TINY, generator)
    assert batch.input_ids.shape == (500, 102)
    assert (batch.chosen.sum(dim=1) == 15).all()
    assert not batch.chosen[:, [0, -1]].any()
    inner = torch.from_numpy(tokens.astype(np.int64))
    assert torch.equal(batch.labels, inner[batch.chosen[:, 1:-1]])
    untouched = ~batch.chosen[:, 1:-1]
    assert torch.equal(batch.input_ids[:, 1:-1][untouched], inner[untouched])
    shown = batch.input_ids[batch.chosen]
    assert (shown == MASK).float().mean().item() == pytest.approx(0.8, abs=0.02)
    # One random token in 59 is the token itself.
    assert (shown == batch.labels).float().mean().item() == pytest.approx(0.1 + 0.1 / 59, abs=0.02)
    assert not ((shown < len(SPECIAL_TOKENS)) & (shown != MASK)).any()
