import numpy as np
import torch

from tests.support.tiny_training import TINY
from tools.mini.network import untrained
from tools.mini.objective import mask_tokens
from tools.mini.recipe import Recipe


def test_the_untrained_network_depends_on_the_seed_only() -> None:
    first, again = untrained(TINY).state_dict(), untrained(TINY).state_dict()
    other = untrained(Recipe(**{**vars(TINY), "seed": 1})).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(first[name], other[name])


def test_logits_and_gradients_are_those_of_the_reference_network() -> None:
    """The last layer, computed at the chosen tokens only, is what the whole encoder gives there."""
    model = untrained(TINY).double()
    with torch.no_grad():  # scores and norms that matter
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    generator = np.random.default_rng(0)
    batch = mask_tokens(generator.integers(5, 64, size=(3, 46), dtype=np.int32), TINY, generator)

    def gradients(logits: torch.Tensor) -> list[torch.Tensor]:
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        return list(torch.autograd.grad(loss, list(model.parameters())))

    hidden_states = model.bert(batch.input_ids)[batch.chosen]
    words = model.bert.embeddings.word_embeddings.weight
    expected = model.cls["predictions"](hidden_states, words)
    logits = model(batch.input_ids, batch.chosen)
    torch.testing.assert_close(logits, expected)
    for ours, theirs in zip(gradients(logits), gradients(expected), strict=True):
        torch.testing.assert_close(ours, theirs)
